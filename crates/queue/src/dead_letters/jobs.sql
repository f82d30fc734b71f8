-- Dead jobs, the last that failed first.
select
    tenant_id, id, kind, queue, attempt, taken_back, error, created_at, finished_at
from jobs_finished
where ended = 'failed'
  and ($1::uuid is null or tenant_id = $1)
  and (cardinality($2::text[]) = 0 or kind = any($2))
  and ($3::text is null or queue = $3)
  and ($4::text is null or error ->> 'code' = $4)
  and finished_at >= coalesce($5::timestamptz, '-infinity')
  and finished_at < coalesce($6::timestamptz, 'infinity')
  and (cardinality($7::uuid[]) = 0 or id = any($7))
order by finished_at desc, id desc
limit $8
