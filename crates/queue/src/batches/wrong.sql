-- Open batches to be repaired. History forgets: of a batch that is older than the oldest week kept, the live children
-- alone say whether it is finished.
with open as (
    select id, created_at, total, completed, failed, cancelled from job_batches where finished_at is null
),
kept as (
    select min(to_date(right(c.relname, 7), 'IYYY"w"IW'))::timestamp at time zone 'UTC' as since
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'jobs_finished'::regclass and c.relname ~ '^jobs_finished_[0-9]{4}w[0-9]{2}$'
)
select b.id as "id!"
from open b
where not exists (select from jobs j where j.batch_id = b.id)
   or case
        when b.created_at < (select since from kept) then false
        when random() > $1::double precision / greatest((select sum(total) from open), 1) then false
        else row(b.total - b.completed - b.failed - b.cancelled, b.completed, b.failed, b.cancelled) <> (
            select (select count(*) from jobs j where j.batch_id = b.id), count(*) filter (where f.ended = 'completed'),
                count(*) filter (where f.ended = 'failed'), count(*) filter (where f.ended = 'cancelled')
            from jobs_finished f
            where f.batch_id = b.id
        )
      end
order by b.created_at
limit $2
