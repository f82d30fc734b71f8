-- Until when the jobs that were redriven before, and match the filter, are spaced out: those that wait for their time,
-- were never claimed in this life and yet have errors.
select max(last.run_at)
from unnest($1::text[]) as q (queue)
cross join lateral (
    select run_at from jobs
    where state = 'scheduled' and queue = q.queue and run_at > now()
      and lease_token = 0 and errors is not null and created_at < $2
      and ($3::uuid is null or tenant_id = $3)
      and (cardinality($4::text[]) = 0 or kind = any($4))
    order by run_at desc
    limit 1
) as last
