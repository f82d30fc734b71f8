-- What a partner's account knows beyond its name: people to write to, several named keys, a period, a quota, and what
-- was requested. Written by crates/partners.

-- Sealed (AES-256-GCM), as all contact details are.
alter table partners
    add column contact_name  bytea,
    add column contact_email bytea,
    add column contact_phone bytea;

alter table partner_api_keys
    add column name         text,
    -- To the minute: exact times would cost a write per request.
    add column last_used_at timestamptz,
    add constraint partner_api_keys_name_length check (char_length(name) between 1 and 200);

alter table partner_subscriptions
    add column start_date    timestamptz not null default now(),
    -- None: it never ends.
    add column end_date      timestamptz,
    add column auto_renew    boolean     not null default false,
    -- Instead of what the tier allows, until it is changed or the tier is.
    add column monthly_quota integer,
    add constraint partner_subscriptions_period check (end_date > start_date),
    add constraint partner_subscriptions_monthly_quota check (monthly_quota between 0 and 1000000);
update partner_subscriptions set start_date = created_at;

-- What was used of a month's quota. The row's lock puts a partner's requests in order.
create table partner_quota_months (
    tenant_id    uuid        not null,
    -- Its first day, in the quota's time zone.
    month        date        not null,
    -- Influencers charged; each has its line in influencer_request_items.
    charged      integer     not null default 0,
    -- What an admin added or took off by hand.
    adjusted     integer     not null default 0,
    -- When the partner was told that 80% and all of it is used; each once a month.
    warned_at    timestamptz,
    exhausted_at timestamptz,
    primary key (tenant_id, month),
    constraint partner_quota_months_charged check (charged >= 0),
    constraint partner_quota_months_used check (charged + adjusted >= 0)
);

-- Requests for influencers, approved or not: the audit trail of who got whose contact details.
create table influencer_requests (
    tenant_id      uuid        not null,
    id             uuid        not null,
    api_key_id     uuid        not null,
    reason         text,
    status         text        not null,
    approved_count integer     not null,
    denied_count   integer     not null,
    month          date        not null,
    -- The quota as it stood after this request; a repeated answer tells the same.
    quota_used     integer     not null,
    quota_limit    integer,
    requested_at   timestamptz not null,
    primary key (tenant_id, id),
    constraint influencer_requests_status check (status in ('pending', 'approved', 'denied', 'partial')),
    constraint influencer_requests_reason_length check (char_length(reason) between 1 and 500)
);
create index influencer_requests_time on influencer_requests (tenant_id, requested_at desc, id desc);

create table influencer_request_items (
    tenant_id     uuid     not null,
    request_id    uuid     not null,
    influencer_id uuid     not null,
    -- Where it stood in the request.
    position      smallint not null,
    outcome       text     not null,
    is_charged    boolean  not null,
    month         date     not null,
    -- The calendar day in the quota's time zone.
    day           date     not null,
    primary key (tenant_id, request_id, influencer_id),
    foreign key (tenant_id, request_id) references influencer_requests (tenant_id, id),
    constraint influencer_request_items_outcome check (outcome in ('approved', 'quota_exceeded', 'not_found')),
    constraint influencer_request_items_charged check (not is_charged or outcome = 'approved')
);
-- One influencer costs a partner one unit a month, whoever asks how often.
create unique index influencer_request_items_charged_once
    on influencer_request_items (tenant_id, month, influencer_id) where is_charged;
create index influencer_request_items_days on influencer_request_items (tenant_id, day) where is_charged;
create index influencer_request_items_influencer on influencer_request_items (influencer_id, tenant_id);

-- A key may stand for a request for influencers instead of a job.
alter table idempotency_keys
    alter column job_id drop not null,
    add column influencer_request_id uuid,
    add constraint idempotency_keys_effect check (num_nonnulls(job_id, influencer_request_id) = 1);
