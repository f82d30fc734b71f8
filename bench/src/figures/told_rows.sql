-- Two days of history by the minute and four weeks by the hour, of two kinds and ten owners.
with told as (
    update queue_history_progress
    set minutes_until = date_trunc('minute', now(), 'UTC'), hours_until = date_trunc('hour', now(), 'UTC')
),
buckets as (
    insert into queue_history_buckets (step_s, at)
    select 60, at from generate_series(
        date_trunc('hour', now(), 'UTC') - interval '47 hours', now() - interval '1 minute', interval '1 minute'
    ) as at
    union all
    select 3600, at from generate_series(
        date_trunc('hour', now(), 'UTC') - interval '28 days', now() - interval '1 hour', interval '1 hour'
    ) as at
    on conflict do nothing
    returning step_s, at
)
insert into queue_history (
    step_s, at, queue, kind, tenant_id, completed, failed, cancelled, attempts, taken_back, begun, wait_ms, wait_ms_max, run_ms,
    run_ms_max, wait_buckets, wait_counts, run_buckets, run_counts
)
select
    step_s, at, 'enrich', k.kind, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
    case when k.kind = 'bench.past' then step_s / 2 else 0 end,
    case when k.kind = 'bench.dead' then step_s / 4 else 0 end, 0, step_s, 0, step_s, step_s * 20, 400, step_s * 10, 200,
    '{3,4,5,6}', array[step_s / 4, step_s / 4, step_s / 4, step_s / 4], '{2,3,4}',
    array[step_s / 3, step_s / 3, step_s / 3]
from buckets
cross join (values ('bench.past'), ('bench.dead')) as k (kind)
cross join generate_series(0, 9) as n
