-- Acknowledges jobs that nobody waits for: out of the live table, into history, unique keys freed.
with input as (
    select *
    from unnest(
        $1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::jsonb[], $6::jsonb[], $7::jsonb[],
        $8::uuid[]
    ) as t (tenant_id, id, lease_token, ended, result, error, entry, about)
),
enders as (
    delete from jobs j
    using input i
    where j.tenant_id = i.tenant_id and j.id = i.id and j.lease_token = i.lease_token
      and j.state = 'running' and not j.awaited
    returning
        j.*, i.ended, i.result, i.error, coalesce(i.about, j.subject_id) as about, j.errors || case
            when i.entry is null then '[]' else jsonb_build_array(i.entry || jsonb_build_object('at', now()))
        end as all_errors
),
keys as (
    delete from job_unique_keys k
    using enders e
    where e.unique_key is not null
      and k.tenant_id = e.tenant_id and k.kind = e.kind and k.key = e.unique_key and k.job_id = e.id
      and (k.held_until is null or k.held_until <= now())
)
insert into jobs_finished (
    tenant_id, id, queue, kind, ended, priority, attempt, attempts_max, taken_back, subject_id, request_id,
    unique_key, created_at, started_at, args, result, error, errors
)
select
    tenant_id, id, queue, kind, ended::job_end, priority, attempt, attempts_max, taken_back, about,
    request_id, unique_key, created_at, started_at, args, result, error, all_errors
from enders
returning id
