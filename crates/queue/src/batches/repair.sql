-- Writes a locked open batch's counters anew, and answers whether it is finished. What history has forgotten stays
-- counted.
with kept as (
    select min(to_date(right(c.relname, 7), 'IYYY"w"IW'))::timestamp at time zone 'UTC' as since
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'jobs_finished'::regclass and c.relname ~ '^jobs_finished_[0-9]{4}w[0-9]{2}$'
),
live as (
    select count(*)::integer as jobs from jobs where batch_id = $1
),
counted as (
    select
        count(*) filter (where ended = 'completed')::integer as completed,
        count(*) filter (where ended = 'failed')::integer as failed,
        count(*) filter (where ended = 'cancelled')::integer as cancelled
    from jobs_finished
    where batch_id = $1
),
-- What each counter is at least.
base as (
    select
        case when b.created_at < kept.since then b.completed else 0 end as completed,
        case when b.created_at < kept.since then b.failed else 0 end as failed,
        case when b.created_at < kept.since then b.cancelled else 0 end as cancelled
    from job_batches b, kept
    where b.id = $1
)
update job_batches b
set completed = greatest(base.completed, c.completed),
    failed = greatest(base.failed, c.failed),
    cancelled = greatest(base.cancelled, c.cancelled),
    total = live.jobs + greatest(base.completed, c.completed) + greatest(base.failed, c.failed)
        + greatest(base.cancelled, c.cancelled),
    finished_at = case when live.jobs = 0 then now() end
from live, counted c, base
where b.id = $1
returning b.finished_at is not null as "is_finished!"
