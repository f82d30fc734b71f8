-- What is sent to addresses that others gave us, and every attempt at it. Written by crates/webhooks.

create table webhook_deliveries (
    tenant_id    uuid        not null,
    -- Derived from the job it reports, so that a repeated step finds the same delivery.
    id           uuid        not null,
    job_id       uuid        not null,
    url          text        not null,
    status       text        not null default 'pending',
    subject_id   uuid,
    created_at   timestamptz not null default now(),
    ended_at     timestamptz,
    primary key (tenant_id, id),
    constraint webhook_deliveries_status check (status in ('pending', 'delivered', 'failed'))
);
create index webhook_deliveries_job on webhook_deliveries (tenant_id, job_id);
create index webhook_deliveries_created on webhook_deliveries (created_at);
create index webhook_deliveries_subject on webhook_deliveries (subject_id) where subject_id is not null;

create table webhook_attempts (
    tenant_id       uuid        not null,
    delivery_id     uuid        not null,
    attempt         integer     not null,
    sent_at         timestamptz not null,
    duration_ms     integer     not null,
    response_status smallint,
    -- At most 16 KiB of what the receiver answered.
    response_body   text,
    -- Why no answer came, when none did.
    error           text,
    primary key (tenant_id, delivery_id, attempt),
    foreign key (tenant_id, delivery_id) references webhook_deliveries (tenant_id, id) on delete cascade
);
