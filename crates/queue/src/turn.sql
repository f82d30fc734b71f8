-- What a pool's jobs came to goes in, refusals and claimed jobs come out: see `job_turn`.
select
    refused, ended, released, due_ms, again, only_limits, since,
    tenant_id, id, tid::text as "tid: RowId", lease_token, kind, attempt, attempts_max, args::text as args, request_id, traceparent,
    cancel_requested, lane, priority, share_id, weight, deadline_ms, run_at
from job_turn(
    $1::uuid, $2::text, $3::uuid, $4::uuid, $5::uuid, $6::timestamptz, $7::integer, $8::uuid[], $9::double precision[],
    $26::uuid[], $27::smallint[],
    $10::uuid[], $11::uuid[], $12::text[]::tid[], $13::integer[], $14::text[], $15::text[], $16::jsonb[], $17::jsonb[],
    $18::uuid[], $19::uuid[], $20::uuid[], $21::integer[], $22::boolean[], $23::bigint[], $24::smallint[],
    $25::jsonb[]
)
