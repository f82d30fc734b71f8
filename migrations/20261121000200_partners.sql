-- Partners, their keys, subscriptions, request windows and idempotency keys. Written by crates/partners.
-- A partner is a tenant: its id is the tenant id.

create table partners (
    id                    uuid        primary key,
    code                  text        not null,
    name                  text        not null,
    is_active             boolean     not null default true,
    rate_limit_per_minute integer     not null default 100,
    -- Sealed (AES-256-GCM): it signs what we send, so it must be readable by us.
    webhook_secret        bytea       not null,
    created_at            timestamptz not null default now(),
    updated_at            timestamptz not null default now(),
    -- To the minute: exact times would cost a write per request.
    last_api_call_at      timestamptz,
    constraint partners_code_key unique (code),
    constraint partners_code_form check (code ~ '^[a-z0-9-]{2,64}$'),
    constraint partners_name_length check (char_length(name) between 1 and 200),
    constraint partners_rate_limit_range check (rate_limit_per_minute between 1 and 1000000)
);

create table partner_subscriptions (
    tenant_id  uuid        primary key references partners (id),
    tier       text        not null default 'free',
    status     text        not null default 'active',
    -- How much of the workers the partner may have beside others; null: as its tier says.
    share_weight smallint,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint partner_subscriptions_share_weight check (share_weight between 1 and 1000),
    constraint partner_subscriptions_tier check (tier in ('free', 'basic', 'premium', 'enterprise')),
    constraint partner_subscriptions_status check (status in ('active', 'expired', 'suspended', 'grace_period'))
);

-- Several keys a partner, so that rotation can overlap and each can be revoked or expire alone.
create table partner_api_keys (
    tenant_id   uuid        not null references partners (id),
    id          uuid        not null,
    -- The part that may be shown to recognise a key.
    prefix      text        not null,
    secret_hash bytea       not null,
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,
    revoked_at  timestamptz,
    primary key (tenant_id, id),
    constraint partner_api_keys_hash unique (tenant_id, secret_hash)
);

-- One row a partner, overwritten each clock minute. Unlogged: a crash forgets at most one minute's count,
-- and counting costs no WAL flush.
create unlogged table partner_rate_windows (
    tenant_id uuid        primary key,
    minute    timestamptz not null,
    used      integer     not null
) with (fillfactor = 50);

create table idempotency_keys (
    tenant_id   uuid        not null,
    key         text        not null,
    -- SHA-256 of method, path and body.
    fingerprint bytea       not null,
    job_id      uuid        not null,
    -- The creator whom the job turned out to be about, for erasure.
    subject_id  uuid,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, key)
);
create index idempotency_keys_created on idempotency_keys (created_at);
create index idempotency_keys_job on idempotency_keys (tenant_id, job_id);
create index idempotency_keys_subject on idempotency_keys (subject_id) where subject_id is not null;
