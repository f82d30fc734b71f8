-- What partners are told about, in the transaction in which it happened; fanned out to whoever listens. Written by
-- crates/webhooks.
create table webhook_events (
    tenant_id   uuid        not null,
    id          uuid        not null,
    event_type  text        not null,
    occurred_at timestamptz not null,
    data        jsonb       not null,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint webhook_events_type check (event_type ~ '^[a-z_]+(\.[a-z_]+)+$')
);
