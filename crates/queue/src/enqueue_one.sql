-- Stores one job that has no unique key, waits for nobody and whose id is new.
insert into jobs (
    tenant_id, id, lane, share_id, queue, kind, key, state, priority, run_at, deadline_at, attempts_max, awaited,
    batch_id, subject_id, request_id, traceparent, redact, args
)
values (
    $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::text, $6::text, $7::text,
    case when $8::bigint > 0 then 'scheduled' else 'ready' end::job_state, $9::smallint,
    now() + $8::bigint * interval '1 millisecond', now() + $10::bigint * interval '1 millisecond', $11::smallint,
    $12::boolean, $13::uuid, $14::uuid, $15::text, $16::text,
    $17::text[], $18::text::json
)
