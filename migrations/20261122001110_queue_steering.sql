-- What operators ask of workers. Only crates/queue reads or writes these columns and this table.

-- What was asked of a process: to claim nothing more, or to end as it does when it is terminated. Null: nothing.
alter table worker_processes
    add column asked text check (asked in ('quiet', 'stop')),
    add column asked_by text,
    add column asked_at timestamptz;

-- How many jobs of a queue each worker process runs at once, at most its slots. Queues that are not here have no such bound.
create table job_queue_bounds (
    queue           text        primary key collate "C",
    concurrency_max integer     not null check (concurrency_max > 0),
    set_by          text        not null,
    set_at          timestamptz not null default now()
);
