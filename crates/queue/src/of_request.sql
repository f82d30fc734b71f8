-- The jobs of one request, live and finished, the oldest first.
select
    j.tenant_id as "tenant_id!", j.id as "id!", j.queue as "queue!", j.kind as "kind!",
    case when j.started_at is null then 'queued' else 'processing' end as "status!",
    j.attempt as "attempt!", j.attempts_max as "attempts_max!", j.taken_back as "taken_back!", j.subject_id,
    j.request_id, j.created_at as "created_at!", j.started_at, j.run_at, null::timestamptz as finished_at,
    j.args::text as "args!", j.redact, j.progress, j.traceparent, null::text as result, null::jsonb as error, j.errors
from jobs j
where j.request_id = $1
union all
select
    f.tenant_id, f.id, f.queue, f.kind, f.ended::text, f.attempt, f.attempts_max, f.taken_back, f.subject_id,
    f.request_id, f.created_at, f.started_at, null, f.finished_at, f.args::text, f.redact, null, f.traceparent,
    f.result::text, f.error, f.errors
from jobs_finished f
where f.request_id = $1
order by 11, 2
limit $2
