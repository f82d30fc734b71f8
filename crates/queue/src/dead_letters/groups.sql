-- The newest dead jobs, counted by message.
select
    kind as "kind!", code as "code!", message as "message!", count(*) as "jobs!",
    min(finished_at) as "first_at!", max(finished_at) as "last_at!",
    (array_agg(id order by finished_at desc, id desc))[1:3] as "samples!"
from (
    select
        id, kind, finished_at, coalesce(error ->> 'code', '') as code,
        left(coalesce(error ->> 'message', ''), 500) as message
    from jobs_finished
    where ended = 'failed'
      and ($1::uuid is null or tenant_id = $1)
      and (cardinality($2::text[]) = 0 or kind = any($2))
      and ($3::text is null or queue = $3)
      and ($4::text is null or error ->> 'code' = $4)
      and finished_at >= coalesce($5::timestamptz, '-infinity')
      and finished_at < coalesce($6::timestamptz, 'infinity')
      and (cardinality($7::uuid[]) = 0 or id = any($7))
      and ($9::text is null or starts_with(coalesce(error ->> 'message', ''), $9))
    order by finished_at desc
    limit $8
) as dead
group by kind, code, message
order by max(finished_at) desc
