-- Jobs number $1 to $2, due on one of the next thirty days, like one that is there.
insert into jobs (
    tenant_id, id, lane, share_id, state, run_at, priority, attempts_max, queue, kind, args
)
select
    j.tenant_id, (lpad(to_hex(n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid, j.lane, j.share_id,
    'scheduled', now() + interval '1 day' * (1 + n % 30), j.priority, j.attempts_max, j.queue, j.kind, j.args
from generate_series($1::bigint, $2::bigint) as n
cross join (select * from jobs where state = 'ready' limit 1) as j
