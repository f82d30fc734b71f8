-- Moves jobs from history back to work. What ended a job without an attempt of its own, such as a deadline, joins its
-- history of errors, so that nothing is forgotten and who was redriven can be told from who is new.
with back as (
    delete from jobs_finished f
    using unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::uuid[])
        as i (tenant_id, id, finished_at, run_at, batch_id)
    where f.tenant_id = i.tenant_id and f.id = i.id and f.finished_at = i.finished_at
    returning f.*, coalesce(i.run_at, now()) as run_at, i.batch_id as open_batch
)
insert into jobs (
    tenant_id, id, lane, share_id, queue, kind, key, state, priority, run_at, attempts_max, batch_id, unique_key,
    subject_id, request_id, traceparent, redact, created_at, args, errors
)
select
    tenant_id, id, lane, share_id, queue, kind, key,
    case when run_at > now() then 'scheduled' else 'ready' end::job_state,
    priority, run_at, attempts_max, open_batch, unique_key, subject_id, request_id, traceparent, redact, created_at,
    args, coalesce(errors, jsonb_build_array(error || jsonb_build_object('at', finished_at)))
from back
returning id
