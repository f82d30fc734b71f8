-- Picks the head of a queue by priority and time (index jobs_ready), skipping rows that others are picking.
with picked as (
    select tenant_id, id
    from jobs
    where queue = $1 and state = 'ready' and run_at <= now()
      and exists (select from worker_processes where id = $2)
    order by priority, run_at, id
    limit $3
    for update skip locked
)
update jobs j
set state = 'running',
    attempt = j.attempt + 1,
    lease_token = j.lease_token + 1,
    leased_by = $2,
    leased_at = now(),
    started_at = coalesce(j.started_at, now())
from picked p
where j.tenant_id = p.tenant_id and j.id = p.id
returning j.tenant_id, j.id, j.lease_token, j.kind, j.attempt, j.attempts_max, j.args, j.request_id,
    j.cancel_requested
