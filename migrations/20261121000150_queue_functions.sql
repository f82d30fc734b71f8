-- The queue engine's hot statements, as functions, so that one round trip acknowledges and claims, and so that
-- their plans are fixed: with these settings the planner has one sensible plan left for each statement,
-- whatever the statistics say. Only crates/queue calls them.
--
-- Locks are taken in the order jobs, batches, buckets; claims never wait for a lock on a job.

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
language sql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    with freed as (
        update jobs w
        set state = 'ready', waiting_on = null, waiting_on_tenant = null, run_at = now()
        from job_batches b
        where b.id = any(p_batches) and b.finished_at is not null
          and w.waiting_on = b.id and w.state = 'waiting' and not w.shares_end
        returning w.queue
    )
    select coalesce(array_agg(distinct queue), '{}') from freed
$$;

-- Puts jobs that did not end back, ready, scheduled or parked, each fenced by its token. Answers which.
create function job_put_back(
    p_tenants uuid[], p_ids uuid[], p_tokens integer[], p_parks boolean[], p_delays_ms bigint[],
    p_used smallint[], p_entries jsonb[]
) returns uuid[]
language sql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
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
    select coalesce(array_agg(id), '{}') from back
$$;

-- Whether a process has been silent for longer than its lease, or a job runs whose process is gone.
create function job_anybody_lost(p_lease interval) returns boolean
language sql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    select exists (select from worker_processes where heartbeat_at < now() - p_lease)
        or exists (
            select from jobs j
            where j.state = 'running' and not exists (select from worker_processes p where p.id = j.leased_by)
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

-- Start-time fair queueing (Goyal, Vin, Cheng 1996): the next job goes to the share whose virtual time, its pass, is
-- the least, of equals to the first, and adds 1 / weight to it. Answers how many of `p_count` jobs the n-th share is
-- given, without those that are given none; none gets more than its room. `queue::fair_share` is the same rule in Rust.
create function job_allocate(
    p_count integer, p_weights smallint[], p_passes double precision[], p_rooms integer[]
) returns table (n integer, jobs integer)
language sql immutable as $$
    with shares as (
        select s.n, s.weight::double precision as weight, s.pass, least(s.room, p_count) as room
        from unnest(p_weights, p_passes, p_rooms) with ordinality as s (weight, pass, room, n)
        where s.room > 0
    ),
    -- As if jobs flowed: from its pass on until its room is used up, a share takes `weight` jobs per unit of virtual
    -- time. By the time at which all are given, each share has started at the most one job more than has flowed.
    bends as (
        select b.at, sum(b.slope) over w as slope, lead(b.at) over w as next_at
        from (
            select pass as at, weight as slope, n from shares
            union all
            select pass + room / weight, -weight, n from shares
        ) as b
        window w as (order by b.at, b.slope desc, b.n rows unbounded preceding)
    ),
    flow as (
        select b.at, b.next_at, b.slope,
            sum(b.slope * (b.next_at - b.at)) over (order by b.at, b.next_at rows unbounded preceding) as flowed
        from bends b
        where b.next_at > b.at
    ),
    horizon as (
        select f.next_at - (f.flowed - p_count) / f.slope + 1e-6 as at
        from flow f
        -- Where nothing flows, nothing is reached either; what is left of a slope there is a rounding error.
        where f.flowed >= p_count and f.slope > 1e-6
        order by f.at
        limit 1
    ),
    picked as (
        select s.n
        from shares s
        left join horizon h on h.at is not null
        cross join lateral generate_series(
            1, case
                when h.at is null then s.room
                when h.at >= s.pass then least(s.room, floor((h.at - s.pass) * s.weight) + 2)
                else 0
            end::integer
        ) as k
        order by s.pass + (k - 1) / s.weight, s.n
        limit p_count
    )
    select p.n::integer, count(*)::integer from picked p group by p.n
$$;

-- How many more jobs of a lane may run, as far as pauses, caps and limits say; at most `p_wanted`. -1: another claim is
-- deciding about the same cap at this moment. Less: none, and not before so many milliseconds have passed. `p_tids` are
-- jobs that this claim takes already: they count as running.
create function job_lane_room(
    p_queue text, p_lane uuid, p_share uuid, p_kind text, p_key text, p_wanted integer, p_tids tid[] default '{}'
) returns integer
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_room integer := p_wanted;
    v_max integer;
    v_limit record;
    v_clears_at timestamptz;
begin
    if exists (select from job_pauses where queue = p_queue and kind in ('', p_kind)) then
        return 0;
    end if;
    select concurrency_max into v_max from job_tenants where tenant_id = p_share and concurrency_max is not null;
    if found then
        if not pg_try_advisory_xact_lock(hashtextextended('millpond share ' || p_share, 0)) then
            return -1;
        end if;
        v_room := least(v_room, v_max - (
            select count(*) from jobs where state = 'running' and share_id = p_share
        ) - (
            select count(*) from jobs where ctid = any(p_tids) and share_id = p_share
        ));
    end if;
    if p_key is not null then
        select key_concurrency_max into v_max from job_kinds
        where kind = p_kind and key_concurrency_max is not null;
        if found then
            if not pg_try_advisory_xact_lock(hashtextextended('millpond key ' || p_kind || ' ' || p_key, 0)) then
                return -1;
            end if;
            v_room := least(v_room, v_max - (
                select count(*) from jobs where state = 'running' and kind = p_kind and key = p_key
            ) - (
                select count(*) from jobs where ctid = any(p_tids) and kind = p_kind and key = p_key
            ));
        end if;
    end if;
    for v_limit in
        select l.shape, kl.cost, r.room, r.clears_at
        from job_kind_limits kl
        join job_limits l on l.name = kl.name
        cross join lateral (select case when kl.keyed then coalesce(p_key, '') else '' end as key) as k
        cross join lateral job_limit_room(l.name, k.key) as r
        where kl.kind = p_kind
        order by l.name
    loop
        if v_limit.shape = 'budget' and v_limit.cost > 0 then
            v_limit.room := v_limit.room / v_limit.cost;
        end if;
        if v_limit.room < 1 then
            v_clears_at := greatest(v_clears_at, v_limit.clears_at);
        end if;
        v_room := least(v_room, v_limit.room);
    end loop;
    if v_room < 1 and v_clears_at is not null then
        return -least(greatest(ceil(extract(epoch from v_clears_at - now()) * 1000), 2), 60000);
    end if;
    return greatest(v_room, 0);
end
$$;

-- The window or period of a limit that holds an instant. Windows are counted from the Unix epoch, as vendors that
-- document fixed windows do; periods are days and months in UTC. A concurrency limit has none.
create function job_limit_window(
    p_limit job_limits, p_at timestamptz, out began timestamptz, out ends timestamptz
)
language sql stable as $$
    select w.began, case p_limit.shape
        when 'rate' then w.began + p_limit.window_ms * interval '1 millisecond'
        when 'budget' then w.began + ('1 ' || p_limit.period)::interval
    end
    from (
        select case p_limit.shape
            when 'rate' then to_timestamp(
                floor(extract(epoch from p_at) * 1000 / p_limit.window_ms) * p_limit.window_ms / 1000.0
            )
            when 'budget' then date_trunc(p_limit.period, p_at, 'UTC')
        end as began
    ) as w
$$;

-- For how many more claims (of a budget: for how much) a limit's bucket has room now, and, if it has none, when it may
-- have some at the earliest as far as that is known. Claimed jobs that have not drawn yet have their place in it: they
-- would only wait for each other in slots that others could use. For slots a few jobs more are claimed than there are,
-- so that none stays empty while the next job is fetched.
create function job_limit_room(p_name text, p_key text, out room bigint, out clears_at timestamptz)
language sql stable as $$
    select case
            when b.blocked_until > n.now then 0
            when l.shape = 'budget' then greatest(l.max - u.used, 0)
            when l.shape = 'rate' then greatest(l.max - u.used - u.claimed, 0)
            when l.max = 0 then 0
            else greatest(l.max + l.max / 4 + 1 - u.claimed - (
                select count(*) from job_limit_holds h
                where h.name = p_name and h.key = p_key
                  and exists (select from worker_processes p where p.id = h.process_id)
            ), 0)
        end,
        case when b.blocked_until > n.now then b.blocked_until else w.ends end
    from job_limits l
    cross join (select clock_timestamp() as now) as n
    cross join lateral job_limit_window(l, n.now) as w
    left join job_limit_buckets b on b.name = l.name and b.key = p_key
    cross join lateral (
        select case when b.window_start >= w.began then b.used else 0 end as used,
            case when l.shape <> 'budget' then (
                select count(*) from job_limit_reservations r
                where r.name = p_name and r.key = p_key
                  and exists (select from worker_processes p where p.id = r.process_id)
            ) end as claimed
    ) as u
    where l.name = p_name
$$;

-- Reserves for the given jobs a place in the limits of their kinds, in budgets what they are expected to cost. Answers
-- those of them for which there was room; the others are not to be claimed now.
create function job_reserve(p_tids tid[], p_process uuid) returns tid[]
language plpgsql
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
    v_kept tid[];
begin
    if not exists (
        select from jobs j join job_kind_limits kl on kl.kind = j.kind where j.ctid = any(p_tids)
    ) then
        return p_tids;
    end if;
    insert into job_limit_buckets (name, key)
    select distinct kl.name, case when kl.keyed then coalesce(j.key, '') else '' end
    from jobs j
    join job_kind_limits kl on kl.kind = j.kind
    where j.ctid = any(p_tids)
    order by 1, 2
    on conflict do nothing;
    perform from job_limit_buckets b
    where exists (
        select from jobs j
        join job_kind_limits kl on kl.kind = j.kind
        where j.ctid = any(p_tids) and b.name = kl.name
          and b.key = case when kl.keyed then coalesce(j.key, '') else '' end
    )
    order by b.name, b.key
    for no key update;

    v_kept := array(
        select t.tid
        from unnest(p_tids) as t (tid)
        left join (
            select j.ctid as tid,
                sum(case when l.shape = 'budget' then kl.cost else 1 end) over (
                    partition by b.name, b.key order by j.priority, j.run_at, j.id
                ) <= r.room as fits
            from jobs j
            join job_kind_limits kl on kl.kind = j.kind
            join job_limits l on l.name = kl.name
            join job_limit_buckets b
                on b.name = l.name and b.key = case when kl.keyed then coalesce(j.key, '') else '' end
            cross join lateral job_limit_room(b.name, b.key) as r
            where j.ctid = any(p_tids)
        ) as w on w.tid = t.tid
        group by t.tid
        having bool_and(coalesce(w.fits, true))
    );
    with reserved as (
        insert into job_limit_reservations (
            tenant_id, job_id, lease_token, name, key, window_start, cost, process_id
        )
        select j.tenant_id, j.id, j.lease_token + 1, l.name,
            case when kl.keyed then coalesce(j.key, '') else '' end, coalesce(w.began, '-infinity'),
            case when l.shape = 'budget' then kl.cost else 0 end, p_process
        from jobs j
        join job_kind_limits kl on kl.kind = j.kind
        join job_limits l on l.name = kl.name
        cross join lateral job_limit_window(l, clock_timestamp()) as w
        where j.ctid = any(v_kept)
        returning name, key, window_start, cost
    )
    update job_limit_buckets b
    set used = r.cost + case when b.window_start >= r.window_start then b.used else 0 end,
        window_start = greatest(b.window_start, r.window_start)
    from (
        select r.name, r.key, r.window_start, sum(r.cost) as cost
        from reserved r join job_limits l on l.name = r.name and l.shape = 'budget'
        group by r.name, r.key, r.window_start
    ) as r
    where b.name = r.name and b.key = r.key;
    return v_kept;
end
$$;

-- How long until the given buckets may all give a permit (0: now), which of them takes longest, and within how long a
-- permit given now must be used. None is given at the edges of a window, so that a call counts there in the window it
-- was counted in here.
create function job_draw_wait(
    p_names text[], p_keys text[], p_tenant uuid, p_job uuid, p_token integer,
    out wait_ms bigint, out blocked_by text, out use_within_ms bigint
)
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
    v_one record;
    v_used bigint;
    v_until timestamptz;
    v_guard interval;
begin
    wait_ms := 0;
    use_within_ms := 1000;
    for v_one in
        select l.*, w.began, w.ends, b.used, b.window_start, b.blocked_until,
            r.window_start as reserved_in, r.cost as reserved,
            case when l.shape = 'concurrency' then (
                select count(*) from job_limit_holds h
                where h.name = l.name and h.key = i.key
                  and exists (select from worker_processes p where p.id = h.process_id)
            ) end as held
        from unnest(p_names, p_keys) as i (name, key)
        join job_limits l on l.name = i.name
        cross join lateral job_limit_window(l, v_now) as w
        left join job_limit_buckets b on b.name = i.name and b.key = i.key
        left join job_limit_reservations r
            on r.tenant_id = p_tenant and r.job_id = p_job and r.lease_token = p_token and r.name = i.name
    loop
        v_until := v_one.blocked_until;
        v_used := case when v_one.window_start >= v_one.began then v_one.used else 0 end;
        if v_one.shape = 'rate' then
            v_guard := least(v_one.window_ms / 20, 50) * interval '1 millisecond';
            if v_used >= v_one.max or v_now >= v_one.ends - v_guard then
                v_until := greatest(v_until, v_one.ends + v_guard);
            elsif v_now < v_one.began + v_guard then
                v_until := greatest(v_until, v_one.began + v_guard);
            end if;
            use_within_ms := least(
                use_within_ms, extract(epoch from v_one.ends - v_guard / 2 - v_now) * 1000
            );
        elsif v_one.shape = 'concurrency' then
            if v_one.held >= v_one.max then
                v_until := greatest(v_until, v_now + interval '20 milliseconds');
            end if;
        elsif v_one.reserved_in < v_one.began then
            -- Reserved before the period turned: what it spends, it spends in this one.
            if v_used + v_one.reserved > v_one.max then
                v_until := greatest(v_until, v_one.ends);
            end if;
        elsif v_used > v_one.max or (v_one.reserved_in is null and v_used = v_one.max) then
            v_until := greatest(v_until, v_one.ends);
        end if;
        if v_until > v_now and ceil(extract(epoch from v_until - v_now) * 1000) > wait_ms then
            wait_ms := least(ceil(extract(epoch from v_until - v_now) * 1000), 3200000000);
            blocked_by := v_one.name;
        end if;
    end loop;
end
$$;

-- Draws one permit from each of the given buckets, or from none, for a live process and, if one is named, the job that
-- it holds under that token. A rate's permit and a slot are taken from here; a budget was reserved at the claim and is
-- only looked at. `standing` is false when process or job lost their lease; `held` are the slots that were taken, of the
-- ids that were offered.
create function job_draw(
    p_process uuid, p_tenant uuid, p_job uuid, p_token integer, p_names text[], p_keys text[], p_holds uuid[],
    out granted boolean, out standing boolean, out wait_ms bigint, out blocked_by text, out use_within_ms bigint,
    out held uuid[]
)
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
begin
    granted := false;
    -- Who must wait is told so without a lock; who may go is looked at again under them.
    for v_look in 1..2 loop
        standing := exists (select from worker_processes where id = p_process)
            and (p_job is null or exists (
                select from jobs
                where tenant_id = p_tenant and id = p_job and lease_token = p_token and leased_by = p_process
            ));
        if not standing then
            return;
        end if;
        select w.wait_ms, w.blocked_by, w.use_within_ms into wait_ms, blocked_by, use_within_ms
        from job_draw_wait(p_names, p_keys, p_tenant, p_job, p_token) as w;
        if wait_ms > 0 then
            return;
        end if;
        exit when v_look = 2;
        insert into job_limit_buckets (name, key)
        select i.name, i.key from unnest(p_names, p_keys) as i (name, key)
        where exists (select from job_limits l where l.name = i.name)
          and not exists (select from job_limit_buckets b where b.name = i.name and b.key = i.key)
        order by 1, 2
        on conflict do nothing;
        perform from job_limit_buckets b
        join unnest(p_names, p_keys) as i (name, key) on b.name = i.name and b.key = i.key
        order by b.name, b.key
        for no key update of b;
    end loop;
    granted := true;
    v_now := clock_timestamp();
    update job_limit_buckets b
    set used = 1 + case when b.window_start >= w.began then b.used else 0 end,
        window_start = greatest(b.window_start, w.began)
    from unnest(p_names, p_keys) as i (name, key), job_limits l, lateral job_limit_window(l, v_now) as w
    where l.name = i.name and l.shape = 'rate' and b.name = i.name and b.key = i.key;
    with held as (
        insert into job_limit_holds (id, name, key, process_id)
        select i.hold, i.name, i.key, p_process
        from unnest(p_names, p_keys, p_holds) as i (name, key, hold)
        join job_limits l on l.name = i.name and l.shape = 'concurrency'
        returning id
    )
    select array_agg(id) into held from held;
    if p_job is not null then
        -- What was claimed is drawn. Budgets are settled when the attempt is over.
        delete from job_limit_reservations r
        using unnest(p_names) as i (name), job_limits l
        where l.name = i.name and l.shape <> 'budget'
          and r.tenant_id = p_tenant and r.job_id = p_job and r.lease_token = p_token and r.name = i.name;
        with moved as (
            update job_limit_reservations r
            set window_start = w.began
            from unnest(p_names) as i (name), job_limits l, lateral job_limit_window(l, v_now) as w
            where l.name = i.name and l.shape = 'budget'
              and r.tenant_id = p_tenant and r.job_id = p_job and r.lease_token = p_token and r.name = i.name
              and r.window_start < w.began
            returning r.name, r.key, r.window_start, r.cost
        )
        update job_limit_buckets b
        set used = m.cost + case when b.window_start >= m.window_start then b.used else 0 end,
            window_start = greatest(b.window_start, m.window_start)
        from moved m
        where b.name = m.name and b.key = m.key;
    end if;
end
$$;

-- Ends reservations of attempts that are over. Of each attempt: whether what it reserved and said nothing of goes back
-- (it spent nothing) or stays (it may have). `s_…` are what attempts said they spent. Buckets that have gone on to
-- another period are left alone.
create function job_settle_reservations(
    p_tenants uuid[], p_jobs uuid[], p_tokens integer[], p_goes_back boolean[],
    s_jobs uuid[], s_tokens integer[], s_names text[], s_amounts bigint[]
) returns void
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    perform from job_limit_buckets b
    where (b.name, b.key) in (
        select r.name, r.key
        from job_limit_reservations r
        join unnest(p_tenants, p_jobs, p_tokens) as i (tenant_id, job_id, lease_token)
            using (tenant_id, job_id, lease_token)
    )
    order by b.name, b.key
    for no key update;
    with ended as (
        delete from job_limit_reservations r
        using unnest(p_tenants, p_jobs, p_tokens, p_goes_back) as i (tenant_id, job_id, lease_token, goes_back)
        where r.tenant_id = i.tenant_id and r.job_id = i.job_id and r.lease_token = i.lease_token
        returning r.*, i.goes_back
    ),
    spent as (
        select job_id, lease_token, name, sum(amount) as amount
        from unnest(s_jobs, s_tokens, s_names, s_amounts) as i (job_id, lease_token, name, amount)
        group by 1, 2, 3
    )
    update job_limit_buckets b
    set used = greatest(b.used + c.change, 0)
    from (
        select e.name, e.key, e.window_start,
            sum(coalesce(s.amount, case when e.goes_back then 0 else e.cost end) - e.cost) as change
        from ended e
        join job_limits l on l.name = e.name and l.shape = 'budget'
        left join spent s on s.job_id = e.job_id and s.lease_token = e.lease_token and s.name = e.name
        group by 1, 2, 3
    ) as c
    where b.name = c.name and b.key = c.key and b.window_start = c.window_start and c.change <> 0;
end
$$;

-- The last lane that a share may have in a queue: lanes begin with the queue's number and the share's last bytes.
create function job_share_end(lane uuid) returns uuid
language sql immutable as $$
    select (left(lane::text, 18) || '-ffff-ffffffffffff')::uuid
$$;

-- Chooses and locks up to `p_count` ready jobs of a queue in which more than one lane has any: first how many of each
-- share, then its most urgent ones. Shares are looked at in a circle that begins after that of `p_lane_after`, 256 at
-- the most; of a share that has more lanes than can be looked at, a stretch that begins anywhere. Only `job_turn`
-- calls it, under its settings.
--
-- Answers the jobs, where the next look begins, whether to look again at once, and when a limit that holds jobs back
-- clears.
create function job_pick(
    p_queue text, p_lane_from uuid, p_lane_to uuid, p_lane_after uuid, p_count integer,
    p_shares uuid[], p_passes double precision[], p_controlled boolean,
    out tids tid[], out lane_after uuid, out again boolean, out clears_at timestamptz
)
language plpgsql
as $$
#variable_conflict use_column
declare
    c_shares_max constant integer := 256;
    c_lanes_max constant integer := 8;
    c_looks_max constant integer := 512;
    v_stop uuid := job_share_end(p_lane_after);
    v_cut boolean;
    v_lanes_max integer;
    v_open integer := p_count;
    v_room integer;
    v_got tid[];
    v_last integer := 0;
    v_given record;
    v_lane record;
    -- Of lanes: where, whose (position among the shares), which of the share's, and how they stand.
    l_lanes uuid[];
    l_owners integer[];
    l_nths integer[];
    l_kinds text[];
    l_keys text[];
    l_capped boolean[];
    l_rooms integer[];
    l_spent boolean[];
    l_taken integer[];
    -- Of shares, in the order of the circle.
    s_shares uuid[];
    s_weights smallint[];
    s_passes double precision[];
    s_rooms integer[];
    s_given integer[];
begin
    tids := '{}';
    with recursive walk as (
        (
            select f.lane, f.share_id, f.kind, f.key, f.wrapped, 1 as owner, 1 as nth, 1 as n
            from (
                (
                    select lane, share_id, kind, key, false as wrapped from jobs
                    where state = 'ready' and lane > v_stop and lane < p_lane_to
                    order by lane, priority, run_at, id limit 1
                )
                union all
                (
                    select lane, share_id, kind, key, true from jobs
                    where state = 'ready' and lane >= p_lane_from and lane <= v_stop
                    order by lane, priority, run_at, id limit 1
                )
                limit 1
            ) as f
        )
        union all
        select next.lane, next.share_id, next.kind, next.key, next.wrapped,
            case when i.is_same then w.owner else w.owner + 1 end, case when i.is_same then w.nth + 1 else 1 end,
            w.n + 1
        from walk w
        cross join lateral (
            select case when w.nth < c_lanes_max then w.lane else job_share_end(w.lane) end as after
        ) as b
        cross join lateral (
            (
                select lane, share_id, kind, key, false as wrapped from jobs
                where not w.wrapped and state = 'ready' and lane > b.after and lane < p_lane_to
                order by lane, priority, run_at, id limit 1
            )
            union all
            (
                select lane, share_id, kind, key, true from jobs
                where state = 'ready' and lane > case when w.wrapped then b.after else p_lane_from end
                  and lane <= v_stop
                order by lane, priority, run_at, id limit 1
            )
            limit 1
        ) as next
        cross join lateral (
            select next.lane > w.lane and next.lane <= job_share_end(w.lane) as is_same
        ) as i
        where w.owner <= c_shares_max and w.n < c_looks_max
    )
    select array_agg(lane order by n), array_agg(owner order by n), array_agg(nth order by n),
        array_agg(kind order by n), array_agg(key order by n), array_agg(share_id order by n) filter (where nth = 1),
        max(n) >= c_looks_max or (select max(owner) > c_shares_max from walk)
    into l_lanes, l_owners, l_nths, l_kinds, l_keys, s_shares, v_cut
    from walk
    where owner <= c_shares_max;
    if l_lanes is null then
        -- Others were quicker.
        lane_after := p_lane_after;
        again := false;
        return;
    end if;

    if c_lanes_max = any(l_nths) then
        -- Some have more lanes than were looked at: of these, other ones each time.
        v_lanes_max := greatest(c_looks_max / 2 / cardinality(s_shares), c_lanes_max / 2);
        with recursive many as materialized (
            select l.owner, l.lane as first, (left(l.lane::text, 18) || '-0000-000000000000')::uuid as base,
                (left(l.lane::text, 18) || '-' || right(md5(random()::text)::uuid::text, 17))::uuid as middle
            from unnest(l_lanes, l_owners, l_nths) as l (lane, owner, nth)
            where l.nth = 1
              and l.owner in (select m.owner from unnest(l_owners, l_nths) as m (owner, nth) where m.nth = c_lanes_max)
        ),
        walk as (
            select m.owner, m.first, m.base, m.middle, f.lane, f.kind, f.key, f.wrapped, 1 as nth
            from many m
            cross join lateral (
                (
                    select lane, kind, key, false as wrapped from jobs
                    where state = 'ready' and lane > m.middle and lane <= job_share_end(m.first)
                    order by lane, priority, run_at, id limit 1
                )
                union all
                (
                    select lane, kind, key, true from jobs
                    where state = 'ready' and lane > m.base and lane <= m.middle
                    order by lane, priority, run_at, id limit 1
                )
                limit 1
            ) as f
            union all
            select w.owner, w.first, w.base, w.middle, next.lane, next.kind, next.key, next.wrapped, w.nth + 1
            from walk w
            cross join lateral (
                (
                    select lane, kind, key, false as wrapped from jobs
                    where not w.wrapped and state = 'ready' and lane > w.lane and lane <= job_share_end(w.first)
                    order by lane, priority, run_at, id limit 1
                )
                union all
                (
                    select lane, kind, key, true from jobs
                    where state = 'ready' and lane > case when w.wrapped then w.lane else w.base end
                      and lane <= w.middle
                    order by lane, priority, run_at, id limit 1
                )
                limit 1
            ) as next
            where w.nth < v_lanes_max
        ),
        lanes as (
            select w.lane, w.owner, w.kind, w.key from walk w
            union all
            select l.lane, l.owner, l.kind, l.key
            from unnest(l_lanes, l_owners, l_kinds, l_keys) as l (lane, owner, kind, key)
            where l.owner not in (select m.owner from many m)
        )
        select array_agg(lane), array_agg(owner), array_agg(kind), array_agg(key)
        into l_lanes, l_owners, l_kinds, l_keys
        from lanes;
    end if;

    -- Jobs of capped lanes are counted one lane after the other, since caps reach over lanes.
    select array_agg(greatest(r.room, 0) order by r.n), array_agg(r.capped order by r.n),
        array_agg(false order by r.n), array_agg(0 order by r.n), coalesce(bool_or(r.room = -1), false),
        now() - max(r.room) filter (where r.room < -1) * interval '1 millisecond'
    into l_rooms, l_capped, l_spent, l_taken, again, clears_at
    from (
        select l.n, c.capped,
            case when c.capped then job_lane_room(
                p_queue, l.lane, s_shares[l.owner], l.kind, l.key, p_count, '{}'
            ) else p_count end as room
        from unnest(l_lanes, l_owners, l_kinds, l_keys) with ordinality as l (lane, owner, kind, key, n)
        cross join lateral (
            select p_controlled and (
                exists (select from job_pauses where queue = p_queue and kind = '')
                or exists (select from job_pauses where queue = p_queue and kind = l.kind)
                or exists (select from job_kind_limits where kind = l.kind)
                or l.key is not null
                    and exists (select from job_kinds where kind = l.kind and key_concurrency_max is not null)
                or exists (
                    select from job_tenants where tenant_id = s_shares[l.owner] and concurrency_max is not null
                )
            ) as capped
        ) as c
    ) as r;
    select array_agg(coalesce(t.weight, 1::smallint) order by s.n), array_agg(s.pass order by s.n)
    into s_weights, s_passes
    from (
        select b.share_id, max(b.n) as n, coalesce(max(b.pass), 0) as pass
        from (
            select share_id, n, null as pass from unnest(s_shares) with ordinality as s (share_id, n)
            union all
            select share_id, null, pass from unnest(p_shares, p_passes) as p (share_id, pass)
        ) as b
        group by b.share_id
        having max(b.n) is not null
    ) as s
    left join job_tenants t on t.tenant_id = s.share_id;

    -- Shares that turn out to have less than they were given leave it to the others, in the next round.
    for v_round in 1..10 loop
        s_rooms := array_fill(0, array[cardinality(s_shares)]);
        for v_lane in
            select l.owner, least(sum(l.room), p_count)::integer as room
            from unnest(l_owners, l_rooms, l_spent) as l (owner, room, spent)
            where l.room > 0 and not l.spent
            group by l.owner
        loop
            s_rooms[v_lane.owner] := v_lane.room;
        end loop;
        s_given := array_fill(0, array[cardinality(s_shares)]);
        for v_given in select n, jobs from job_allocate(v_open, s_weights, s_passes, s_rooms) loop
            s_given[v_given.n] := v_given.jobs;
        end loop;
        exit when 0 = all(s_given);
        -- A share's most urgent jobs, wherever among its lanes they stand. They are read without locks first:
        -- locking them here would hide from others what is not taken.
        for v_lane in
            select w.n, w.owner, w.jobs,
                case when not l_capped[w.n] then array(
                    select ctid from jobs
                    where lane = l_lanes[w.n] and state = 'ready'
                    order by priority, run_at, id
                    -- The first of the lane were taken in an earlier round.
                    limit w.jobs offset l_taken[w.n]
                    for update skip locked
                ) end as got
            from (
                select h.n, h.owner, count(*)::integer as jobs
                from (
                    select l.n, l.owner, row_number() over (
                        partition by l.owner order by head.priority, head.run_at, head.id
                    ) as rank
                    from unnest(l_lanes, l_owners, l_rooms, l_spent, l_taken) with ordinality
                        as l (lane, owner, room, spent, taken, n)
                    cross join lateral (
                        select j.priority, j.run_at, j.id from jobs j
                        where j.lane = l.lane and j.state = 'ready'
                        order by j.priority, j.run_at, j.id
                        limit least(l.room, s_given[l.owner]) offset l.taken
                    ) as head
                    where s_given[l.owner] > 0 and l.room > 0 and not l.spent
                ) as h
                where h.rank <= s_given[h.owner]
                group by h.n, h.owner
            ) as w
        loop
            v_got := v_lane.got;
            if v_got is null then
                v_room := job_lane_room(
                    p_queue, l_lanes[v_lane.n], s_shares[v_lane.owner], l_kinds[v_lane.n], l_keys[v_lane.n],
                    v_lane.jobs, tids
                );
                v_got := array(
                    select ctid from jobs
                    where lane = l_lanes[v_lane.n] and state = 'ready'
                    order by priority, run_at, id
                    limit greatest(v_room, 0) offset l_taken[v_lane.n]
                    for update skip locked
                );
            end if;
            if cardinality(v_got) > 0 then
                tids := tids || v_got;
                v_last := greatest(v_last, v_lane.owner);
            end if;
            s_given[v_lane.owner] := s_given[v_lane.owner] - v_lane.jobs;
            s_passes[v_lane.owner] := s_passes[v_lane.owner] + cardinality(v_got) / s_weights[v_lane.owner]::float;
            l_rooms[v_lane.n] := l_rooms[v_lane.n] - cardinality(v_got);
            l_taken[v_lane.n] := l_taken[v_lane.n] + cardinality(v_got);
            l_spent[v_lane.n] := cardinality(v_got) < v_lane.jobs;
        end loop;
        v_open := p_count - cardinality(tids);
        exit when v_open = 0;
        -- Who has fewer heads than it was given has no more.
        l_spent := array(
            select l.spent or s_given[l.owner] > 0
            from unnest(l_spent, l_owners) with ordinality as l (spent, owner, n)
            order by l.n
        );
    end loop;

    -- The circle goes on after the last share that was given something, so that of equals none is always the last.
    if v_last = 0 then
        v_last := cardinality(s_shares);
        -- These wait; there are others, unless the circle has just come around.
        again := again or (v_cut and exists (
            select from unnest(l_lanes, l_owners) as l (lane, owner) where l.owner = v_last and l.lane > v_stop
        ));
    end if;
    lane_after := (select l.lane from unnest(l_lanes, l_owners) as l (lane, owner) where l.owner = v_last limit 1);
end
$$;

-- One turn of a worker's pool: acknowledges what its jobs came to, then claims up to `p_count` ready jobs of its
-- queue, choosing the share first and then its most urgent job.
--
-- The first row answers for the turn: which acknowledged jobs were refused (their lease was lost), how many
-- ended, the queues in which jobs became ready, how long until the next scheduled job of this queue is due,
-- whether to look again at once although fewer jobs than wanted were there, and the lane after which the next turn
-- goes on. Each further row is a claimed job.
create function job_turn(
    p_process uuid, p_queue text, p_lane_from uuid, p_lane_to uuid, p_lane_after uuid, p_count integer,
    p_shares uuid[], p_passes double precision[],
    e_tenants uuid[], e_ids uuid[], e_tids tid[], e_tokens integer[], e_ends text[], e_results text[], e_failures jsonb[],
    e_entries jsonb[], e_subjects uuid[],
    b_tenants uuid[], b_ids uuid[], b_tokens integer[], b_parks boolean[], b_delays_ms bigint[],
    b_used smallint[], b_entries jsonb[]
) returns table (
    refused uuid[], ended integer, released text[], due_ms bigint, again boolean,
    tenant_id uuid, id uuid, tid tid, lease_token integer, kind text, attempt smallint, attempts_max smallint, args json,
    request_id text, traceparent text, cancel_requested boolean, lane uuid, share_id uuid, weight smallint,
    deadline_ms bigint
)
language plpgsql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_done uuid[];
    v_back uuid[];
    v_refused uuid[] := '{}';
    v_released text[] := '{}';
    v_due timestamptz;
    v_again boolean := false;
    v_tids tid[] := '{}';
    v_controlled boolean;
    v_alone boolean := false;
    v_weight smallint;
    v_first record;
    v_room integer;
    v_got tid[];
    v_lane_after uuid := p_lane_after;
begin
    if cardinality(e_ids) > 0 then
        select f.ended, f.released into v_done, v_released
        from job_end(e_tenants, e_ids, e_tids, e_tokens, e_ends, e_results, e_failures, e_entries, e_subjects) as f;
        if cardinality(v_done) < cardinality(e_ids) then
            v_refused := array(select i from unnest(e_ids) as i where i <> all(v_done));
        end if;
    end if;
    if cardinality(b_ids) > 0 then
        v_back := job_put_back(b_tenants, b_ids, b_tokens, b_parks, b_delays_ms, b_used, b_entries);
        if cardinality(v_back) < cardinality(b_ids) then
            v_refused := v_refused || array(select i from unnest(b_ids) as i where i <> all(v_back));
        end if;
    end if;

    -- Scheduled jobs whose time has come.
    select run_at into v_due from jobs where queue = p_queue and state = 'scheduled' order by run_at limit 1;
    if v_due <= now() then
        update jobs set state = 'ready'
        where ctid = any(array(
            select ctid from jobs
            where queue = p_queue and state = 'scheduled' and run_at <= now()
            order by run_at
            limit 500
            for update skip locked
        ));
        select run_at into v_due from jobs where queue = p_queue and state = 'scheduled' order by run_at limit 1;
    end if;

    -- A process that is no longer registered gets nothing: its leases would be taken back at once.
    if p_count > 0 and exists (select from worker_processes where id = p_process) then
        v_controlled := exists (select from job_pauses where queue = p_queue)
            or exists (select from job_kind_limits)
            or exists (select from job_kinds where key_concurrency_max is not null)
            or exists (select from job_tenants where concurrency_max is not null);
        select lane, share_id, kind, key into v_first from jobs
        where state = 'ready' and lane >= p_lane_from and lane < p_lane_to
        order by lane, priority, run_at, id
        limit 1;
        if not found then
            null;
        elsif not exists (
            select from jobs where state = 'ready' and lane > v_first.lane and lane < p_lane_to
        ) then
            -- One lane: nothing to be fair about.
            v_alone := true;
            select weight into v_weight from job_tenants where tenant_id = v_first.share_id;
            v_room := p_count;
            if v_controlled then
                v_room := job_lane_room(
                    p_queue, v_first.lane, v_first.share_id, v_first.kind, v_first.key, p_count
                );
                v_again := v_room = -1;
                if v_room < -1 then
                    v_due := least(v_due, now() - v_room * interval '1 millisecond');
                end if;
            end if;
            if v_room > 0 then
                v_tids := array(
                    select ctid from jobs
                    where lane = v_first.lane and state = 'ready'
                    order by priority, run_at, id
                    limit v_room
                    for update skip locked
                );
            end if;
        else
            select p.tids, p.lane_after, p.again, least(v_due, p.clears_at)
            into v_tids, v_lane_after, v_again, v_due
            from job_pick(
                p_queue, p_lane_from, p_lane_to, p_lane_after, p_count, p_shares, p_passes, v_controlled
            ) as p;
        end if;
    end if;

    if cardinality(v_tids) > 0 and v_controlled then
        v_got := v_tids;
        v_tids := job_reserve(v_got, p_process);
        v_again := v_again or cardinality(v_tids) < cardinality(v_got);
    end if;
    return query select
        v_refused, coalesce(cardinality(v_done), 0), v_released,
        (extract(epoch from v_due - now()) * 1000)::bigint, v_again,
        null::uuid, null::uuid, null::tid, null::integer, null::text, null::smallint, null::smallint, null::json,
        null::text, null::text, null::boolean, v_lane_after, null::uuid, null::smallint, null::bigint;
    if cardinality(v_tids) > 0 then
        if exists (select from job_unique_keys where until_started) then
            delete from job_unique_keys k
            using jobs j
            where j.ctid = any(v_tids) and k.until_started
              and k.tenant_id = j.tenant_id and k.kind = j.kind and k.key = j.unique_key and k.job_id = j.id;
        end if;
        return query
        update jobs j
        set state = 'running',
            attempt = j.attempt + 1::smallint,
            lease_token = j.lease_token + 1,
            leased_by = p_process,
            leased_at = now(),
            started_at = coalesce(j.started_at, now())
        where j.ctid = any(v_tids)
        returning
            null::uuid[], null::integer, null::text[], null::bigint, null::boolean,
            j.tenant_id, j.id, j.ctid, j.lease_token, j.kind, j.attempt, j.attempts_max, j.args, j.request_id,
            j.traceparent, j.cancel_requested, j.lane, j.share_id,
            coalesce(
                case when v_alone then v_weight
                    else (select t.weight from job_tenants t where t.tenant_id = j.share_id) end,
                1::smallint
            ),
            (extract(epoch from j.deadline_at - now()) * 1000)::bigint;
    end if;
end
$$;
