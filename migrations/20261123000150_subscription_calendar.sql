-- What a subscription's calendar has led to so far, how subscriptions came to be as they are, and keys that partners
-- fetch for themselves. Written by crates/partners.

alter table partner_subscriptions
    -- The end of which the partner was told ahead; another end is told anew.
    add column told_of_end timestamptz;
create index partner_subscriptions_end on partner_subscriptions (end_date) where end_date is not null;

-- Every change of a subscription or of its quota, by whomever, with the reason that was given for it.
create table partner_subscription_changes (
    tenant_id  uuid        not null references partners (id),
    id         bigint      generated always as identity,
    changed_at timestamptz not null default now(),
    changed_by text        not null,
    action     text        not null,
    before     jsonb       not null,
    after      jsonb       not null,
    reason     text,
    primary key (tenant_id, id),
    constraint partner_subscription_changes_reason_length check (char_length(reason) between 1 and 500)
);

-- A new partner's key waits here, sealed, until whoever has the code from the onboarding mail fetches it, once.
create table partner_key_reveals (
    tenant_id  uuid        not null references partners (id),
    key_id     uuid        not null,
    -- SHA-256 of the code.
    code_hash  bytea       not null,
    sealed_key bytea       not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (tenant_id, key_id),
    constraint partner_key_reveals_code_key unique (code_hash)
);
create index partner_key_reveals_expires on partner_key_reveals (expires_at);
