-- The shared pool of creators (S0 6.4) and the record of crawls that makes results reusable. Reference data
-- shared by all tenants. Written by crates/pool.

create table pool_influencers (
    id                  uuid         primary key,
    -- The vendor's own text, never parsed.
    vb_profile_id       text,
    platform            text         not null,
    username            text         not null,
    display_name        text         not null,
    avatar_url          text,
    bio                 text,
    followers           bigint       not null default 0,
    following           bigint       not null default 0,
    -- Percent.
    engagement          numeric(9, 4) not null default 0,
    avg_views           bigint,
    avg_likes           bigint,
    avg_comments        bigint,
    score               integer      not null default 0,
    score_reach         integer,
    score_engagement    integer,
    score_authenticity  integer,
    category            text,
    tier                text         not null default 'STANDARD',
    -- An admin's choice of tier outlives new follower counts.
    tier_set_by_admin   boolean      not null default false,
    visibility          text         not null default 'PUBLIC',
    -- Sealed (AES-256-GCM).
    contact_email       bytea,
    contact_phone       bytea,
    added_by            text,
    added_by_partner_id uuid,
    source              text         not null default 'MANUAL',
    sync_status         text         not null default 'ACTIVE',
    synced_at           timestamptz,
    sync_error          text,
    created_at          timestamptz  not null default now(),
    updated_at          timestamptz  not null default now(),
    constraint pool_influencers_vb_profile_id_key unique (vb_profile_id),
    constraint pool_influencers_platform check (platform in ('tiktok', 'youtube', 'instagram', 'facebook')),
    constraint pool_influencers_category
        check (category in ('beauty', 'tech', 'lifestyle', 'food', 'travel', 'gaming')),
    constraint pool_influencers_tier check (tier in ('STANDARD', 'PREMIUM', 'VIP')),
    constraint pool_influencers_visibility check (visibility in ('PUBLIC', 'PRIVATE')),
    constraint pool_influencers_source check (source in ('MANUAL', 'PARTNER', 'BULK_IMPORT')),
    constraint pool_influencers_sync_status check (sync_status in ('ACTIVE', 'PAUSED', 'FAILED', 'ARCHIVED')),
    constraint pool_influencers_score check (score between 0 and 100)
);

-- Platforms treat names without regard to case; we show the original.
create unique index pool_influencers_platform_username_key on pool_influencers (platform, lower(username));
create index pool_influencers_platform_visibility on pool_influencers (platform, visibility);
create index pool_influencers_category_visibility on pool_influencers (category, visibility);
create index pool_influencers_score on pool_influencers (score);
create index pool_influencers_followers on pool_influencers (followers);

-- The last successful crawl for each way a profile was named (a channel id and a handle may mean one creator).
create table pool_crawls (
    platform      text        not null,
    lookup_key    text        not null,
    influencer_id uuid        not null references pool_influencers (id),
    crawled_at    timestamptz not null,
    primary key (platform, lookup_key)
);
create index pool_crawls_influencer on pool_crawls (influencer_id);

-- Profiles that the vendor lately said it cannot find, so that asking again at once costs no call.
create table pool_misses (
    platform   text        not null,
    lookup_key text        not null,
    missed_at  timestamptz not null,
    primary key (platform, lookup_key)
);
