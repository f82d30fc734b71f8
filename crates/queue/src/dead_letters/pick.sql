-- The next dead jobs to redrive, the oldest first, locked. Whoever redrives the same ones waits here, and then finds
-- them gone.
select
    tenant_id, id, finished_at, ended::text as "ended!", kind, queue, unique_key, batch_id, args::text as "args!"
from jobs_finished
where ended = 'failed'
  and ($1::uuid is null or tenant_id = $1)
  and (cardinality($2::text[]) = 0 or kind = any($2))
  and ($3::text is null or queue = $3)
  and ($4::text is null or error ->> 'code' = $4)
  and finished_at >= $5 and (finished_at, id) > ($5, $6::uuid)
  and finished_at < $7
  and (cardinality($8::uuid[]) = 0 or id = any($8))
order by finished_at, id
limit $9
for update
