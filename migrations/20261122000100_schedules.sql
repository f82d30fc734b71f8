-- Schedules as data, and what became of each tick. Written by crates/schedules alone.

create table schedules (
    name          text        primary key collate "C",
    cron          text        not null,
    time_zone     text        not null,
    kind          text        not null collate "C",
    args          json        not null,
    -- skip, once or backfill:N: what becomes of ticks that nobody stored in time.
    missed        text        not null,
    jitter_ms     integer     not null check (jitter_ms >= 0),
    enabled       boolean     not null,
    -- The definition in code, as it was declared last; null when an operator made the schedule. What differs from it
    -- in the columns above are edits, which later declarations keep.
    declared      json,
    -- When a running scheduler last said that its code still declares it.
    declared_at   timestamptz,
    edited_by     text,
    edited_at     timestamptz,
    -- Every tick up to here was decided: stored as a job, or recorded as missed.
    ticked_until  timestamptz not null,
    -- The first tick after that; null when it does not tick.
    next_at       timestamptz,
    last_tick_at  timestamptz,
    last_job_id   uuid,
    last_run_at   timestamptz,
    missed_ticks  bigint      not null default 0,
    -- Why its ticks cannot be made into jobs, while they cannot.
    error         text,
    error_at      timestamptz,
    created_at    timestamptz not null default now()
) with (fillfactor = 50);

create index schedules_next on schedules (next_at) where enabled;

-- No foreign key: the record of a schedule that is gone ends by its age.
create table schedule_ticks (
    schedule    text        not null collate "C",
    tick_at     timestamptz not null,
    -- enqueued: it has a job. missed: it has none. manual: somebody asked for it, at whatever instant.
    outcome     text        not null check (outcome in ('enqueued', 'missed', 'manual')),
    -- Of many missed ticks recorded as one: the last of them, and how many.
    last_at     timestamptz,
    ticks       bigint      not null default 1,
    job_id      uuid,
    -- Who asked for it, of a manual one.
    asked_by    text,
    decided_at  timestamptz not null,
    primary key (schedule, tick_at),
    check ((outcome = 'missed') = (job_id is null))
);
create index schedule_ticks_age on schedule_ticks (tick_at);
