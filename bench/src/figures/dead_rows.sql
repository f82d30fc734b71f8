-- Failed jobs number 1 to $1, spread over the last four weeks and a hundred owners, like a finished one that is there.
insert into jobs_finished (
    tenant_id, id, lane, share_id, created_at, started_at, finished_at, ended, priority, attempt, attempts_max,
    taken_back, queue, kind, args, error
)
select
    ('00000000-0000-7000-8000-' || lpad(to_hex(n % 100), 12, '0'))::uuid,
    (lpad(to_hex((extract(epoch from t.at) * 1000)::bigint), 12, '0') || '7000' || 'a' || lpad(to_hex(n), 15, '0'))::uuid,
    f.lane, f.share_id, t.at, t.at, t.at, 'failed', f.priority, f.attempts_max, f.attempts_max, f.taken_back, f.queue,
    'bench.dead', f.args,
    jsonb_build_object('code', 'VENDOR_DOWN', 'message', 'the vendor answered ' || 500 + n % 10 || ' to call ' || n)
from generate_series(1, $1::bigint) as n
cross join lateral (select now() - interval '28 days' * (1 - n / $1::bigint::double precision) as at) as t
cross join (select * from jobs_finished where kind = 'bench.past' limit 1) as f
