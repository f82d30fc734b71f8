-- Buckets of history as they were added up over owners.
select
    at, completed, failed, cancelled, attempts, taken_back, begun, wait_ms, wait_ms_max, run_ms, run_ms_max,
    wait_buckets, wait_counts, run_buckets, run_counts
from queue_history_sums
where step_s = $1 and at >= $2 and at < $3 and queue = coalesce($4::text, '') and kind = coalesce($5::text, '')
