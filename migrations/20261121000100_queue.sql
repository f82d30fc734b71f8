-- The queue engine's tables. Only crates/queue reads or writes them.
--
-- Unfinished jobs live in `jobs`, which stays small; the statement that ends a job moves it to
-- `jobs_finished`, weekly partitions by finish time that are dropped whole. Keys start with the tenant, so
-- that the tables can be distributed by it.

create type job_state as enum ('ready', 'running', 'waiting', 'parked');
create type job_end as enum ('completed', 'failed', 'cancelled');

create table jobs (
    tenant_id        uuid        not null,
    id               uuid        not null,
    queue            text        not null,
    kind             text        not null,
    state            job_state   not null default 'ready',
    -- Lower runs first.
    priority         smallint    not null default 0,
    run_at           timestamptz not null default now(),
    attempt          smallint    not null default 0,
    attempts_max     smallint    not null,
    -- How often a dead worker's lease on this job was taken back.
    taken_back       smallint    not null default 0,
    -- The fencing token: grows by one with every claim; each write of a worker names the one it was given.
    lease_token      integer     not null default 0,
    leased_by        uuid,
    leased_at        timestamptz,
    -- Other jobs wait for this one's end, so ending it must look for them.
    awaited          boolean     not null default false,
    -- What a waiting job waits for: another job, of whatever tenant.
    waiting_on       uuid,
    waiting_on_tenant uuid,
    -- A waiting job that shares the end (result or error) of the job it waits for, instead of running after it.
    shares_end       boolean     not null default false,
    cancel_requested boolean     not null default false,
    unique_key       text,
    -- The creator whom the arguments or the result describe, for erasure.
    subject_id       uuid,
    request_id       text,
    created_at       timestamptz not null default now(),
    started_at       timestamptz,
    args             jsonb       not null,
    errors           jsonb       not null default '[]',
    primary key (tenant_id, id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index jobs_ready on jobs (queue, priority, run_at, id) where state = 'ready';
create index jobs_running on jobs (leased_by) where state = 'running';
create index jobs_waiting on jobs (waiting_on) where state = 'waiting';
create index jobs_subject on jobs (subject_id) where subject_id is not null;

create table jobs_finished (
    tenant_id    uuid        not null,
    id           uuid        not null,
    queue        text        not null,
    kind         text        not null,
    ended        job_end     not null,
    priority     smallint    not null,
    attempt      smallint    not null,
    attempts_max smallint    not null,
    taken_back   smallint    not null,
    subject_id   uuid,
    request_id   text,
    unique_key   text,
    created_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz not null default now(),
    args         jsonb       not null,
    result       jsonb,
    -- {code, message}: why it failed or who cancelled it.
    error        jsonb,
    errors       jsonb       not null,
    primary key (tenant_id, id, finished_at)
) partition by range (finished_at);

create index jobs_finished_kind on jobs_finished (kind, finished_at);
create index jobs_finished_subject on jobs_finished (subject_id) where subject_id is not null;

-- Catches rows of a week whose partition is missing, so that a late reconciler never stops completions.
create table jobs_finished_overflow partition of jobs_finished default;

-- Uniqueness cannot be an index on history that is partitioned by time: keys are rows of their own.
create table job_unique_keys (
    tenant_id  uuid not null,
    kind       text not null,
    key        text not null,
    job_id     uuid not null,
    -- Null: until the job ends. Else: until it has ended and this instant has passed.
    held_until timestamptz,
    primary key (tenant_id, kind, key)
);

-- One row per process start; leases belong to it and live as long as its heartbeat.
create table worker_processes (
    id           uuid        primary key,
    host         text        not null,
    pid          integer     not null,
    queues       text[]      not null,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    draining     boolean     not null default false
);

-- Creates the weekly partition of history that holds an instant, moving what the overflow caught for it.
-- Answers whether it had to. Weeks are ISO weeks in UTC, named like jobs_finished_2026w47.
create function create_jobs_finished_partition(instant timestamptz) returns boolean
language plpgsql as $$
declare
    week_start timestamptz := date_trunc('week', instant, 'UTC');
    week_end timestamptz := week_start + interval '7 days';
    partition text := 'jobs_finished_' || to_char(week_start at time zone 'UTC', 'IYYY"w"IW');
begin
    perform pg_advisory_xact_lock(hashtext('jobs_finished partitions'));
    if to_regclass(partition) is not null then
        return false;
    end if;
    execute format('create table %I (like jobs_finished including defaults)', partition);
    execute format(
        'with moved as (
             delete from jobs_finished_overflow where finished_at >= %L and finished_at < %L returning *
         )
         insert into %I select * from moved',
        week_start, week_end, partition
    );
    execute format(
        'alter table jobs_finished attach partition %I for values from (%L) to (%L)',
        partition, week_start, week_end
    );
    return true;
end
$$;

-- Drops the weekly partitions of history that ended before an instant, and answers how many.
create function drop_jobs_finished_before(instant timestamptz) returns integer
language plpgsql as $$
declare
    partition record;
    dropped integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('jobs_finished partitions'));
    for partition in
        select c.relname as name
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'jobs_finished'::regclass and c.relname ~ '^jobs_finished_[0-9]{4}w[0-9]{2}$'
          and to_date(right(c.relname, 7), 'IYYY"w"IW') + 7 <= (instant at time zone 'UTC')::date
    loop
        execute format('drop table %I', partition.name);
        dropped := dropped + 1;
    end loop;
    delete from jobs_finished_overflow where finished_at < instant;
    return dropped;
end
$$;

select create_jobs_finished_partition(now() + n * interval '7 days') from generate_series(0, 4) as n;
