-- The queue engine's tables. Only crates/queue reads or writes them.
--
-- Unfinished jobs live in `jobs`, which stays small; the statement that ends a job moves it to
-- `jobs_finished`, weekly partitions by finish time that are dropped whole. Keys start with the tenant, so
-- that the tables can be distributed by it. Short names compare by byte (collate "C"): they stand in indexes
-- that every job passes through.

create type job_state as enum ('ready', 'scheduled', 'running', 'waiting', 'parked');
create type job_end as enum ('completed', 'failed', 'cancelled');

create table jobs (
    tenant_id         uuid        not null,
    id                uuid        not null,
    -- What is claimed together: queue, share, kind and key, hashed; the first byte is the queue's number.
    lane              uuid        not null,
    -- Whose share of the workers it uses up: its owner, or whom it is done for.
    share_id          uuid        not null,
    run_at            timestamptz not null default now(),
    created_at        timestamptz not null default now(),
    started_at        timestamptz,
    leased_at         timestamptz,
    -- Set exactly while the state is running.
    leased_by         uuid,
    -- Past this instant the job fails instead of running (again).
    deadline_at       timestamptz,
    state             job_state   not null default 'ready',
    -- The fencing token: grows by one with every claim; each write of a worker names the one it was given.
    lease_token       integer     not null default 0,
    -- Lower runs first.
    priority          smallint    not null default 0,
    attempt           smallint    not null default 0,
    attempts_max      smallint    not null,
    -- How often a dead worker's lease on this job was taken back.
    taken_back        smallint    not null default 0,
    -- Other jobs wait for this one's end, so ending it must look for them.
    awaited           boolean     not null default false,
    -- A waiting job that shares the end (result or error) of the job it waits for, instead of running after it.
    shares_end        boolean     not null default false,
    cancel_requested  boolean     not null default false,
    -- What a waiting job waits for: another job, of whatever tenant, or a batch.
    waiting_on        uuid,
    waiting_on_tenant uuid,
    batch_id          uuid,
    -- The creator whom the arguments or the result describe, for erasure.
    subject_id        uuid,
    queue             text        not null collate "C",
    kind              text        not null collate "C",
    -- Jobs of one kind and key may have a common bound of how many run at once.
    key               text        collate "C",
    unique_key        text        collate "C",
    request_id        text        collate "C",
    traceparent       text        collate "C",
    -- Fields of the arguments that history does not keep.
    redact            text[],
    args              json        not null,
    -- {done, total, note, at}: what the handler said last.
    progress          jsonb,
    -- One entry per failed attempt; null while there is none.
    errors            jsonb,
    primary key (tenant_id, id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create index jobs_ready on jobs (lane, priority, run_at, id) where state = 'ready';
create index jobs_scheduled on jobs (queue, run_at) where state = 'scheduled';
-- Bounded by the fleet's slots. Sweeps, counts of what a tenant or a lane runs, and cancels read all of it.
create index jobs_running on jobs (leased_by) where state = 'running';
create index jobs_waiting on jobs (waiting_on) where state = 'waiting';
create index jobs_parked on jobs (kind) where state = 'parked';
create index jobs_deadline on jobs (deadline_at) where deadline_at is not null;
create index jobs_subject on jobs (subject_id) where subject_id is not null;
create index jobs_batch on jobs (batch_id) where batch_id is not null;

create table jobs_finished (
    tenant_id    uuid        not null,
    id           uuid        not null,
    lane         uuid        not null,
    share_id     uuid        not null,
    created_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz not null default now(),
    ended        job_end     not null,
    priority     smallint    not null,
    attempt      smallint    not null,
    attempts_max smallint    not null,
    taken_back   smallint    not null,
    batch_id     uuid,
    subject_id   uuid,
    queue        text        not null collate "C",
    kind         text        not null collate "C",
    key          text        collate "C",
    unique_key   text        collate "C",
    request_id   text        collate "C",
    traceparent  text        collate "C",
    -- Fields of the arguments to be shown to nobody; of completed jobs they are blotted out.
    redact       text[],
    args         json        not null,
    result       json,
    -- {code, message}: why it failed or who cancelled it.
    error        jsonb,
    errors       jsonb,
    primary key (tenant_id, id, finished_at)
) partition by range (finished_at);

-- A sample, for estimates: an index entry for every job would cost each a twentieth of its time in the database.
create index jobs_finished_sample on jobs_finished (kind, finished_at) where uuid_hash(id) & 7 = 0;
create index jobs_finished_time on jobs_finished using brin (finished_at) with (pages_per_range = 32);
create index jobs_finished_dead on jobs_finished (finished_at) where ended = 'failed';
create index jobs_finished_subject on jobs_finished (subject_id) where subject_id is not null;
create index jobs_finished_batch on jobs_finished (batch_id) where batch_id is not null;

-- Catches rows of a week whose partition is missing, so that a late reconciler never stops completions.
create table jobs_finished_overflow partition of jobs_finished default;

-- Uniqueness cannot be an index on history that is partitioned by time: keys are rows of their own.
create table job_unique_keys (
    tenant_id  uuid not null,
    kind       text not null collate "C",
    key        text not null collate "C",
    job_id     uuid not null,
    -- Null: until the job ends. Else: until it has ended and this instant has passed.
    held_until timestamptz,
    -- Free again once the first attempt begins.
    until_started boolean not null default false,
    primary key (tenant_id, kind, key)
);
create index job_unique_keys_until_started on job_unique_keys (job_id) where until_started;

-- Many jobs with one end: children count down, the completion job waits for the batch's id.
create table job_batches (
    tenant_id    uuid        not null,
    id           uuid        not null,
    total        integer     not null,
    completed    integer     not null default 0,
    failed       integer     not null default 0,
    cancelled    integer     not null default 0,
    request_id   text        collate "C",
    -- Who called it off: no child begins, and those that run are asked to stop.
    cancelled_by text,
    created_at   timestamptz not null default now(),
    finished_at  timestamptz,
    primary key (tenant_id, id)
) with (fillfactor = 50);
create index job_batches_open on job_batches (created_at) where finished_at is null;
create index job_batches_id on job_batches (id);

-- One row per process start; leases belong to it and live as long as its heartbeat.
create table worker_processes (
    id           uuid        primary key,
    host         text        not null,
    pid          integer     not null,
    queues       text[]      not null,
    version      text        not null default '',
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    draining     boolean     not null default false
);

-- Who does what only one should do at a time. The term grows with every change of holder.
create table job_leaders (
    name       text        primary key,
    holder     uuid        not null,
    term       bigint      not null default 1,
    expires_at timestamptz not null
);

-- What a tenant may have of the workers; a tenant without a row has weight 1 and no cap.
create table job_tenants (
    tenant_id       uuid     primary key,
    weight          smallint not null default 1 check (weight between 1 and 1000),
    -- Jobs of this tenant's share running at once, in all queues.
    concurrency_max integer  check (concurrency_max > 0)
);

-- Queues (kind = '') and kinds that are not claimed for now.
create table job_pauses (
    queue     text        not null collate "C",
    kind      text        not null default '' collate "C",
    paused_by text        not null,
    paused_at timestamptz not null default now(),
    primary key (queue, kind)
);

-- What workers know of their kinds and every claim must respect; written by workers when they start.
create table job_kinds (
    kind                text    primary key collate "C",
    -- Jobs of one key of this kind running at once.
    key_concurrency_max integer check (key_concurrency_max > 0)
);

-- Named limits on what jobs use of others. The value is in calls, slots or minor units of money.
create table job_limits (
    name      text     primary key collate "C",
    shape     text     not null check (shape in ('rate', 'concurrency', 'budget')),
    max       bigint   not null check (max >= 0),
    -- Of a rate: the vendor's fixed window.
    window_ms bigint   check (window_ms > 0),
    -- Of a budget.
    period    text     check (period in ('day', 'month')),
    -- An operator changed it: defaults from code no longer overwrite it.
    edited    boolean  not null default false,
    check ((shape = 'rate') = (window_ms is not null)),
    check ((shape = 'budget') = (period is not null))
);

-- Which limits a kind draws on; `keyed`: a bucket for each key of its jobs.
create table job_kind_limits (
    kind  text    not null collate "C",
    name  text    not null collate "C" references job_limits,
    keyed boolean not null default false,
    -- Of a budget: what one job is expected to cost, reserved when it is claimed.
    cost  bigint  not null default 0 check (cost >= 0),
    primary key (kind, name)
);
create index job_kind_limits_name on job_kind_limits (name);

-- The state of a limit, one bucket per key ('' when the limit is not keyed).
create table job_limit_buckets (
    name          text        not null collate "C",
    key           text        not null default '' collate "C",
    -- Of a rate or budget: when the present window or period began.
    window_start  timestamptz not null default '-infinity',
    -- Drawn in the present window, or spent and reserved in the present period.
    used          bigint      not null default 0,
    -- The other side said stop: nothing is drawn before.
    blocked_until timestamptz not null default '-infinity',
    primary key (name, key)
) with (fillfactor = 50);

-- What running attempts have reserved: places in rates and among slots until they draw, money of budgets until it is
-- settled to what they spent.
create table job_limit_reservations (
    tenant_id    uuid        not null,
    job_id       uuid        not null,
    lease_token  integer     not null,
    name         text        not null collate "C",
    key          text        not null default '' collate "C",
    -- Of a budget: the period.
    window_start timestamptz not null,
    cost         bigint      not null,
    process_id   uuid        not null,
    reserved_at  timestamptz not null default now(),
    primary key (tenant_id, job_id, lease_token, name)
);
create index job_limit_reservations_process on job_limit_reservations (process_id);
create index job_limit_reservations_bucket on job_limit_reservations (name, key);

-- Slots of concurrency limits in use. A holder whose process is gone no longer counts.
create table job_limit_holds (
    id         uuid        primary key,
    name       text        not null collate "C",
    key        text        not null default '' collate "C",
    process_id uuid        not null,
    held_at    timestamptz not null default now()
);
create index job_limit_holds_bucket on job_limit_holds (name, key);

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

select create_jobs_finished_partition(now() + n * interval '7 days') from generate_series(0, 4) as n;
