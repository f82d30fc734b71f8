-- Stores the jobs whose unique key is free, or that have none, and answers the ids that were stored.
-- `on conflict do nothing` on the keys never locks the holder's row: locking it here while the statement that
-- ends the holder deletes it would be a deadlock.
with input as (
    select *
    from unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::bigint[],
        $8::jsonb[], $9::text[], $10::timestamptz[], $11::uuid[], $12::uuid[], $13::boolean[], $14::uuid[],
        $15::text[]
    ) as t (
        tenant_id, id, queue, kind, priority, attempts_max, delay_ms, args, unique_key, held_until,
        waiting_on, waiting_on_tenant, awaited, subject_id, request_id
    )
),
keyed as (
    insert into job_unique_keys (tenant_id, kind, key, job_id, held_until)
    select tenant_id, kind, unique_key, id, held_until
    from input
    where unique_key is not null
    on conflict do nothing
    returning job_id
)
insert into jobs (
    tenant_id, id, queue, kind, state, priority, run_at, attempts_max, awaited, waiting_on, waiting_on_tenant,
    unique_key, subject_id, request_id, args
)
select
    tenant_id, id, queue, kind,
    case when waiting_on is null then 'ready' else 'waiting' end::job_state,
    priority, now() + delay_ms * interval '1 millisecond', attempts_max, awaited, waiting_on,
    waiting_on_tenant, unique_key, subject_id, request_id, args
from input
where unique_key is null or id in (select job_id from keyed)
on conflict do nothing
returning id
