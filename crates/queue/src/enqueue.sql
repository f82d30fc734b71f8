-- Stores the jobs whose unique key is free, or that have none, and answers the ids that were stored.
-- `on conflict do nothing` on the keys never locks the holder's row: locking it here while the statement that
-- ends the holder deletes it would be a deadlock.
with input as (
    select *
    from unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::smallint[],
        $9::smallint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::timestamptz[], $15::bigint[],
        $16::boolean[], $17::uuid[], $18::uuid[], $19::boolean[], $20::uuid[], $21::uuid[], $22::text[],
        $23::text[], $24::jsonb[]
    ) as t (
        tenant_id, id, lane, share_id, queue, kind, key, priority, attempts_max, delay_ms, deadline_ms, args,
        unique_key, held_until, held_ms, until_started, waiting_on, waiting_on_tenant, awaited, batch_id,
        subject_id, request_id, traceparent, redact
    )
),
keyed as (
    insert into job_unique_keys (tenant_id, kind, key, job_id, held_until, until_started)
    select tenant_id, kind, unique_key, id, coalesce(held_until, now() + held_ms * interval '1 millisecond'),
        until_started
    from input
    where unique_key is not null
    on conflict do nothing
    returning job_id
)
insert into jobs (
    tenant_id, id, lane, share_id, queue, kind, key, state, priority, run_at, deadline_at, attempts_max, awaited,
    waiting_on, waiting_on_tenant, batch_id, unique_key, subject_id, request_id, traceparent, redact, args
)
select
    tenant_id, id, lane, share_id, queue, kind, key,
    case when waiting_on is not null then 'waiting' when delay_ms > 0 then 'scheduled' else 'ready' end::job_state,
    priority, now() + delay_ms * interval '1 millisecond', now() + deadline_ms * interval '1 millisecond',
    attempts_max, awaited, waiting_on, waiting_on_tenant, batch_id, unique_key, subject_id, request_id, traceparent,
    case when redact is not null then array(select jsonb_array_elements_text(redact)) end, args::json
from input
where unique_key is null or id in (select job_id from keyed)
on conflict do nothing
returning id
