-- Stores jobs that differ in nothing but id and arguments, that have no unique key, wait for nobody and whose ids are
-- new.
insert into jobs (
    tenant_id, id, lane, share_id, queue, kind, key, state, priority, run_at, deadline_at, attempts_max, awaited,
    batch_id, subject_id, request_id, traceparent, redact, args
)
select
    $1::uuid, t.id, $2::uuid, $3::uuid, $4::text, $5::text, $6::text,
    case when $7::bigint > 0 then 'scheduled' else 'ready' end::job_state, $8::smallint,
    now() + $7::bigint * interval '1 millisecond', now() + $9::bigint * interval '1 millisecond', $10::smallint,
    $11::boolean, $12::uuid, $13::uuid, $14::text, $15::text, $16::text[], t.args::json
from unnest($17::uuid[], $18::text[]) as t (id, args)
