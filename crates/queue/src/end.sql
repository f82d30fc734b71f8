-- Ends jobs: moves them to history, lets those that share their end end with them, and makes ready those that
-- wait to run after them. The caller has locked the jobs and their sharers before, so that this statement's
-- snapshot sees every waiter. A null token ends a job that no worker holds.
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
    where j.tenant_id = i.tenant_id and j.id = i.id
      and (
          (i.lease_token = j.lease_token and j.state = 'running')
          or (i.lease_token is null and j.state <> 'running')
      )
    returning
        j.*, i.ended, i.result, i.error, coalesce(i.about, j.subject_id) as about, j.errors || case
            when i.entry is null then '[]' else jsonb_build_array(i.entry || jsonb_build_object('at', now()))
        end as all_errors
),
sharers as (
    delete from jobs w
    using enders e
    where w.waiting_on = e.id and w.state = 'waiting' and w.shares_end
    returning
        w.tenant_id, w.id, w.queue, w.kind, w.priority, e.attempt, e.attempts_max, w.taken_back,
        coalesce(e.about, w.subject_id) as about, w.request_id, w.unique_key, w.created_at,
        w.started_at, w.args, e.ended, e.result, e.error, w.errors || e.all_errors as all_errors
),
everyone as (
    select
        tenant_id, id, queue, kind, priority, attempt, attempts_max, taken_back, about, request_id,
        unique_key, created_at, started_at, args, ended, result, error, all_errors
    from enders
    union all
    select * from sharers
),
keys as (
    delete from job_unique_keys k
    using everyone e
    where e.unique_key is not null
      and k.tenant_id = e.tenant_id and k.kind = e.kind and k.key = e.unique_key and k.job_id = e.id
      and (k.held_until is null or k.held_until <= now())
),
released as (
    update jobs w
    set state = 'ready', waiting_on = null, waiting_on_tenant = null, run_at = now()
    from everyone e
    where w.waiting_on = e.id and w.state = 'waiting' and not w.shares_end
    returning w.queue
),
history as (
    insert into jobs_finished (
        tenant_id, id, queue, kind, ended, priority, attempt, attempts_max, taken_back, subject_id, request_id,
        unique_key, created_at, started_at, args, result, error, errors
    )
    select
        tenant_id, id, queue, kind, ended::job_end, priority, attempt, attempts_max, taken_back, about,
        request_id, unique_key, created_at, started_at, args, result, error, all_errors
    from everyone
)
select
    (select coalesce(array_agg(id), '{}') from enders) as "ended!: Vec<Uuid>",
    (select coalesce(array_agg(distinct queue), '{}') from released) as "released!: Vec<String>"
