-- Two hundred thousand entries of the audit log, over the last four weeks.
insert into audit_log (id, at, actor_kind, actor, action, target, tenant_id, after, tag)
select
    (lpad(to_hex((extract(epoch from t.at) * 1000)::bigint), 12, '0') || '7000' || '9' || lpad(to_hex(n), 15, '0'))::uuid,
    t.at, 'cli', 'bench', (array['queues.pause', 'queues.resume', 'jobs.retry', 'limits.set'])[1 + n % 4], 'queue ' || n % 50,
    '00000000-0000-0000-0000-000000000000', '{"n": 1}', 'none'
from generate_series(1, 200000) as n
cross join lateral (select now() - interval '28 days' * (1 - n / 200000.0) as at) as t
