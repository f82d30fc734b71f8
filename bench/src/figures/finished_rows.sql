-- Finished jobs number $1 to $2 of $3, spread over the last four weeks in the order of their ids, like one that is there.
insert into jobs_finished (
    tenant_id, id, lane, share_id, created_at, started_at, finished_at, ended, priority, attempt, attempts_max,
    taken_back, queue, kind, args
)
select
    f.tenant_id,
    (lpad(to_hex((extract(epoch from t.at) * 1000)::bigint), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid,
    f.lane, f.share_id, t.at, t.at, t.at, 'completed', f.priority, f.attempt, f.attempts_max,
    f.taken_back, f.queue, 'bench.past', f.args
from generate_series($1::bigint, $2::bigint) as n
cross join lateral (
    select now() - interval '28 days' * (1 - n / $3::bigint::double precision) as at
) as t
cross join (select * from jobs_finished where kind = 'bench.noop' and finished_at > now() - interval '1 hour' limit 1) as f
