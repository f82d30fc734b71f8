-- What a pool's jobs came to goes in, refusals and claimed jobs come out: see `job_turn`.
select
    refused, ended, released, due_ms, again,
    tenant_id, id, tid::text as "tid: RowId", lease_token, kind, attempt, attempts_max, args::text as args, request_id, traceparent,
    cancel_requested, lane, share_id, weight, deadline_ms
from job_turn(
    $1::uuid, $2::text, $3::uuid, $4::uuid, $5::uuid, $6::integer, $7::uuid[], $8::double precision[],
    $9::uuid[], $10::uuid[], $11::text[]::tid[], $12::integer[], $13::text[], $14::text[], $15::jsonb[], $16::jsonb[],
    $17::uuid[], $18::uuid[], $19::uuid[], $20::integer[], $21::boolean[], $22::bigint[], $23::smallint[],
    $24::jsonb[]
)
