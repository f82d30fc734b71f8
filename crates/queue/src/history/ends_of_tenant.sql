-- Buckets of history of one owner, added up over what the filter leaves open.
with picked as materialized (
    select * from queue_history
    where step_s = $1 and at >= $2 and at < $3
      and ($4::text is null or queue = $4)
      and ($5::text is null or kind = $5)
      and tenant_id = $6
),
waits as (
    select w.at, array_agg(w.bucket order by w.bucket) as buckets, array_agg(w.jobs order by w.bucket) as counts
    from (
        select p.at, h.bucket, sum(h.jobs)::bigint as jobs
        from picked p
        cross join lateral unnest(p.wait_buckets, p.wait_counts) as h (bucket, jobs)
        group by 1, 2
    ) as w
    group by 1
),
runs as (
    select r.at, array_agg(r.bucket order by r.bucket) as buckets, array_agg(r.jobs order by r.bucket) as counts
    from (
        select p.at, h.bucket, sum(h.jobs)::bigint as jobs
        from picked p
        cross join lateral unnest(p.run_buckets, p.run_counts) as h (bucket, jobs)
        group by 1, 2
    ) as r
    group by 1
),
totals as (
    select at, sum(completed)::bigint as completed, sum(failed)::bigint as failed, sum(cancelled)::bigint as cancelled,
        sum(attempts)::bigint as attempts, sum(taken_back)::bigint as taken_back, sum(begun)::bigint as begun,
        sum(wait_ms)::bigint as wait_ms, max(wait_ms_max) as wait_ms_max,
        sum(run_ms)::bigint as run_ms, max(run_ms_max) as run_ms_max
    from picked
    group by at
)
select
    t.at as "at!", t.completed as "completed!", t.failed as "failed!", t.cancelled as "cancelled!",
    t.attempts as "attempts!", t.taken_back as "taken_back!", t.begun as "begun!",
    t.wait_ms as "wait_ms!", t.wait_ms_max as "wait_ms_max!", t.run_ms as "run_ms!", t.run_ms_max as "run_ms_max!",
    coalesce(w.buckets, '{}') as "wait_buckets!", coalesce(w.counts, '{}') as "wait_counts!",
    coalesce(r.buckets, '{}') as "run_buckets!", coalesce(r.counts, '{}') as "run_counts!"
from totals t
left join waits w using (at)
left join runs r using (at)
