-- Jobs, the newest first: ids are time-ordered, so the primary keys give the order and the cursor.
select
    tenant_id as "tenant_id!", id as "id!", queue as "queue!", kind as "kind!", status as "status!",
    attempt as "attempt!", attempts_max as "attempts_max!", taken_back as "taken_back!", subject_id, request_id,
    created_at as "created_at!", started_at, run_at, finished_at, args as "args!", redact, progress, traceparent, result, error,
    errors
from (
    (
        select
            tenant_id, id, queue, kind,
            case when started_at is null then 'queued' else 'processing' end as status,
            attempt, attempts_max, taken_back, subject_id, request_id, created_at, started_at, run_at,
            null::timestamptz as finished_at, args::text as args, redact, progress, traceparent,
            null::text as result, null::jsonb as error, errors
        from jobs
        where ($1::uuid is null or tenant_id = $1)
          and (cardinality($2::text[]) = 0 or kind = any($2))
          and ($3::text is null or $3 = case when started_at is null then 'queued' else 'processing' end)
          and ($4::timestamptz is null or created_at >= $4)
          and ($5::timestamptz is null or created_at < $5)
          and ($6::uuid is null or id < $6)
        order by id desc
        limit $7
    )
    union all
    (
        select
            tenant_id, id, queue, kind, ended::text, attempt, attempts_max, taken_back, subject_id, request_id, created_at,
            started_at, null, finished_at, args::text, redact, null, traceparent, result::text, error, errors
        from jobs_finished
        where ($1::uuid is null or tenant_id = $1)
          and (cardinality($2::text[]) = 0 or kind = any($2))
          and ($3::text is null or $3 = ended::text)
          and ($4::timestamptz is null or created_at >= $4)
          and ($5::timestamptz is null or created_at < $5)
          and ($6::uuid is null or id < $6)
        order by id desc
        limit $7
    )
) as every
order by id desc
limit $7
