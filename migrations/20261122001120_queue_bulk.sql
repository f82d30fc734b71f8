-- How far bulk changes of jobs are. Only crates/queue reads or writes this table.

-- One row per bulk job, written in the transactions of what it did: so it goes on behind that, whoever carries it on.
create table job_bulks (
    job_id     uuid        primary key,
    -- The cursor of the search, behind which nothing was done; null at the beginning.
    behind     jsonb,
    -- The next one may run at this time; null without a rate.
    next_at    timestamptz,
    -- Jobs that matched, by what became of them: they live again or were called off, were asked to stop while they ran, had
    -- their unique key taken by another, or were gone when their turn came.
    changed    bigint      not null default 0,
    asked      bigint      not null default 0,
    key_taken  bigint      not null default 0,
    gone       bigint      not null default 0,
    -- All that match were met.
    is_over    boolean     not null default false,
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
create index job_bulks_updated on job_bulks (updated_at);
