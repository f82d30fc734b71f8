-- The queue engine's hot statements, as functions, so that one round trip acknowledges and claims, and so that
-- their plans are fixed: with these settings the planner has one sensible plan left for each statement,
-- whatever the statistics say. Only crates/queue calls them.
--
-- Locks are taken in the order jobs, batches, buckets; claims never wait for a lock on a job.
--
-- This file: how jobs end, or go back to wait for another attempt.

-- A history of errors with one more entry; the last fifty are kept.
create function job_errors(history jsonb, entry jsonb) returns jsonb
language sql immutable as $$
    select case
        when entry is null then history
        when jsonb_array_length(history) >= 50 then (history - 0) || jsonb_build_array(entry)
        else coalesce(history, '[]') || jsonb_build_array(entry)
    end
$$;

-- Arguments as history keeps them: the given top-level fields are blotted out. `jsonb` cannot hold the escape of NUL,
-- and a job must not fail to end because of one: it becomes the replacement character.
create function job_redacted(args json, fields text[]) returns json
language sql immutable as $$
    select (a.args || coalesce(
        (select jsonb_object_agg(field, '[redacted]') from unnest(fields) as field where a.args ? field), '{}'
    ))::json
    from (select replace(args::text, '\u0000', '\ufffd')::jsonb as args) as a
$$;

-- Ends jobs, each fenced by its token (null: a job that no worker holds): moves them to history, frees their
-- unique keys, ends with them those that share their end, makes ready those that wait for them, counts them in
-- their batches. Answers which ended, and the queues in which jobs became ready.
--
-- `p_tids` says where the rows were when they were claimed (null: look them up): nearly always they still are there,
-- and finding them costs a third less than by key.
create function job_end(
    p_tenants uuid[], p_ids uuid[], p_tids tid[], p_tokens integer[], p_ends text[], p_results text[],
    p_failures jsonb[], p_entries jsonb[], p_subjects uuid[],
    out ended uuid[], out released text[]
)
language plpgsql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_ended uuid[];
    v_more uuid[];
    v_batches uuid[];
    k_tenants uuid[];
    k_ids uuid[];
    k_kinds text[];
    k_keys text[];
begin
    released := '{}';
    if p_tids is null then
        p_tids := array(
            select (select j.ctid from jobs j where j.tenant_id = i.tenant_id and j.id = i.id)
            from unnest(p_tenants, p_ids) with ordinality as i (tenant_id, id, n)
            order by i.n
        );
    end if;
    -- Nearly all: nobody waits for them, so one statement does it.
    with enders as (
        delete from jobs j
        using unnest(p_tids, p_tenants, p_ids, p_tokens, p_ends, p_results, p_failures, p_entries, p_subjects)
            as i (tid, tenant_id, id, lease_token, ended, result, error, entry, about)
        where j.ctid = i.tid and j.tenant_id = i.tenant_id and j.id = i.id
          and case when i.lease_token is null then j.leased_by is null
              else i.lease_token = j.lease_token and j.leased_by is not null end
          and not j.awaited and j.batch_id is null
        returning j.*, i.ended, i.result, i.error, i.entry, i.about
    ),
    history as (
        insert into jobs_finished (
            tenant_id, id, lane, share_id, created_at, started_at, ended, priority, attempt, attempts_max,
            taken_back, subject_id, queue, kind, key, unique_key, request_id, traceparent, redact,
            args, result, error, errors
        )
        select
            tenant_id, id, lane, share_id, created_at, started_at, ended::job_end, priority, attempt,
            attempts_max, taken_back, coalesce(about, subject_id), queue, kind, key, unique_key, request_id,
            traceparent, redact,
            case when redact is null or ended <> 'completed' then args else job_redacted(args, redact) end,
            result::json, error,
            case when entry is null then errors
                 else job_errors(errors, entry || jsonb_build_object('at', now())) end
        from enders
        returning tenant_id, id, kind, unique_key
    )
    select coalesce(array_agg(id), '{}'),
        array_agg(tenant_id) filter (where unique_key is not null),
        array_agg(id) filter (where unique_key is not null),
        array_agg(kind) filter (where unique_key is not null),
        array_agg(unique_key) filter (where unique_key is not null)
    into v_ended, k_tenants, k_ids, k_kinds, k_keys
    from history;
    if k_ids is not null then
        delete from job_unique_keys k
        using unnest(k_tenants, k_ids, k_kinds, k_keys) as e (tenant_id, id, kind, unique_key)
        where k.tenant_id = e.tenant_id and k.kind = e.kind and k.key = e.unique_key and k.job_id = e.id
          and (k.held_until is null or k.held_until <= now());
    end if;
    ended := v_ended;
    if cardinality(v_ended) = cardinality(p_ids) then
        return;
    end if;

    -- The rest. Whoever registers as waiting holds a lock on the job it will wait for, so after these locks the
    -- acting statement's snapshot sees every waiter.
    perform from jobs j
    join unnest(p_tenants, p_ids) as i (tenant_id, id) on j.tenant_id = i.tenant_id and j.id = i.id
    order by j.tenant_id, j.id
    for update of j;
    if not found then
        return;
    end if;
    perform from jobs
    where waiting_on = any(p_ids) and state = 'waiting' and shares_end
    order by tenant_id, id
    for update;
    select array_agg(distinct b.batch_id) into v_batches
    from (
        select j.batch_id
        from unnest(p_tenants, p_ids) as i (tenant_id, id)
        join jobs j on j.tenant_id = i.tenant_id and j.id = i.id
        union all
        select batch_id from jobs where waiting_on = any(p_ids) and state = 'waiting' and shares_end
    ) as b
    where b.batch_id is not null;
    if v_batches is not null then
        perform from job_batches where id = any(v_batches) order by tenant_id, id for no key update;
    end if;

    with enders as (
        delete from jobs j
        using unnest(p_tenants, p_ids, p_tokens, p_ends, p_results, p_failures, p_entries, p_subjects)
            as i (tenant_id, id, lease_token, ended, result, error, entry, about)
        where j.tenant_id = i.tenant_id and j.id = i.id
          and case when i.lease_token is null then j.leased_by is null
              else i.lease_token = j.lease_token and j.leased_by is not null end
        returning
            j.*, i.ended, i.result, i.error, coalesce(i.about, j.subject_id) as about,
            case when i.entry is null then j.errors
                 else job_errors(j.errors, i.entry || jsonb_build_object('at', now())) end as all_errors
    ),
    sharers as (
        delete from jobs w
        using enders e
        where w.waiting_on = e.id and w.state = 'waiting' and w.shares_end
        returning
            w.*, e.ended, e.result, e.error, coalesce(e.about, w.subject_id) as about, e.attempt as e_attempt,
            e.attempts_max as e_attempts_max,
            case when e.all_errors is null then w.errors else coalesce(w.errors, '[]') || e.all_errors end
                as all_errors
    ),
    everyone as (
        select
            tenant_id, id, lane, share_id, created_at, started_at, ended, priority, attempt, attempts_max,
            taken_back, batch_id, about, queue, kind, key, unique_key, request_id, traceparent, redact, args,
            result, error, all_errors
        from enders
        union all
        select
            tenant_id, id, lane, share_id, created_at, started_at, ended, priority, e_attempt, e_attempts_max,
            taken_back, batch_id, about, queue, kind, key, unique_key, request_id, traceparent, redact, args,
            result, error, all_errors
        from sharers
    ),
    keys as (
        delete from job_unique_keys k
        using everyone e
        where e.unique_key is not null
          and k.tenant_id = e.tenant_id and k.kind = e.kind and k.key = e.unique_key and k.job_id = e.id
          and (k.held_until is null or k.held_until <= now())
    ),
    freed as (
        update jobs w
        set state = 'ready', waiting_on = null, waiting_on_tenant = null, run_at = now()
        from everyone e
        where w.waiting_on = e.id and w.state = 'waiting' and not w.shares_end
        returning w.queue
    ),
    counted as (
        update job_batches b
        set completed = b.completed + c.completed, failed = b.failed + c.failed,
            cancelled = b.cancelled + c.cancelled,
            finished_at = case
                when b.completed + b.failed + b.cancelled + c.completed + c.failed + c.cancelled >= b.total
                then coalesce(b.finished_at, now()) else b.finished_at end
        from (
            select batch_id,
                count(*) filter (where ended = 'completed') as completed,
                count(*) filter (where ended = 'failed') as failed,
                count(*) filter (where ended = 'cancelled') as cancelled
            from everyone
            where batch_id is not null
            group by batch_id
        ) as c
        where b.id = c.batch_id
    ),
    history as (
        insert into jobs_finished (
            tenant_id, id, lane, share_id, created_at, started_at, ended, priority, attempt, attempts_max,
            taken_back, batch_id, subject_id, queue, kind, key, unique_key, request_id, traceparent, redact,
            args, result, error, errors
        )
        select
            tenant_id, id, lane, share_id, created_at, started_at, ended::job_end, priority, attempt,
            attempts_max, taken_back, batch_id, about, queue, kind, key, unique_key, request_id, traceparent,
            redact, case when redact is null or ended <> 'completed' then args else job_redacted(args, redact) end,
            result::json, error, all_errors
        from everyone
    )
    select
        (select coalesce(array_agg(id), '{}') from enders),
        (select coalesce(array_agg(distinct queue), '{}') from freed)
    into v_more, released;
    ended := v_ended || v_more;

    if v_batches is not null then
        released := released || job_release_batches(v_batches);
    end if;
end
$$;

-- Makes ready the completion jobs of those of the given batches that are finished; answers their queues. The
-- caller has locked the batches.
create function job_release_batches(p_batches uuid[]) returns text[]
language plpgsql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_queues text[];
begin
    with freed as (
        update jobs w
        set state = 'ready', waiting_on = null, waiting_on_tenant = null, run_at = now()
        from job_batches b
        where b.id = any(p_batches) and b.finished_at is not null
          and w.waiting_on = b.id and w.state = 'waiting' and not w.shares_end
        returning w.queue
    )
    select coalesce(array_agg(distinct queue), '{}') into v_queues from freed;
    return v_queues;
end
$$;

-- Puts jobs that did not end back, ready, scheduled or parked, each fenced by its token. Answers which.
create function job_put_back(
    p_tenants uuid[], p_ids uuid[], p_tokens integer[], p_parks boolean[], p_delays_ms bigint[],
    p_used smallint[], p_entries jsonb[]
) returns uuid[]
language plpgsql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_back uuid[];
begin
    with back as (
        update jobs j
        set state = case
                when i.parks then 'parked'
                -- Whoever cancelled it meanwhile does not wait for its next attempt.
                when i.delay_ms <= 0 or j.cancel_requested then 'ready'
                else 'scheduled'
            end::job_state,
            -- A job whose deadline comes first is looked at then, to be ended.
            run_at = case
                when j.cancel_requested then now()
                else least(
                    now() + i.delay_ms * interval '1 millisecond',
                    case when j.deadline_at is not null then greatest(j.deadline_at, now()) end
                )
            end,
            attempt = j.attempt - 1 + i.used,
            leased_by = null,
            leased_at = null,
            errors = case when i.entry is null then j.errors
                else job_errors(j.errors, i.entry || jsonb_build_object('at', now())) end
        from unnest(p_tenants, p_ids, p_tokens, p_parks, p_delays_ms, p_used, p_entries)
            as i (tenant_id, id, lease_token, parks, delay_ms, used, entry)
        where j.tenant_id = i.tenant_id and j.id = i.id and j.lease_token = i.lease_token
          and j.leased_by is not null
        returning j.id
    )
    select coalesce(array_agg(id), '{}') into v_back from back;
    return v_back;
end
$$;

-- Whether a process has been silent for longer than its lease, or a job runs whose process is gone. Such a job is looked
-- for between the ids of the processes there are, so that nobody walks past all that run.
create function job_anybody_lost(p_lease interval) returns boolean
language sql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    select exists (select from worker_processes where heartbeat_at < now() - p_lease)
        or exists (
            select from (
                select p.id as after, lead(p.id) over (order by p.id) as before
                from (select id from worker_processes union all select '00000000-0000-0000-0000-000000000000') as p
            ) as gap
            cross join lateral (
                select from jobs j
                where j.state = 'running' and j.leased_by > gap.after
                  and j.leased_by < coalesce(gap.before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                limit 1
            ) as orphan
        )
$$;

-- Whether the deadline of a job that no worker holds has passed. `exists` would forget the order, and with it the index.
create function job_anybody_late() returns boolean
language sql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    select coalesce(
        (select true from jobs where deadline_at <= now() and leased_by is null order by deadline_at limit 1), false
    )
$$;
