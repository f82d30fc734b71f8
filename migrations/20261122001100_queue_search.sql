-- Looking through jobs, for operators. Only crates/queue calls these functions or reads these tables.
--
-- They read, lock nothing, and look at a bounded number of rows, which they count, however many jobs there are. Their settings
-- leave the planner one sensible plan, as those of queue_ends do.

-- Cancelled jobs are rare, and given another life in bulk like failed ones.
create index jobs_finished_cancelled on jobs_finished (finished_at) where ended = 'cancelled';

-- Whether the arguments have this text at a path. What nobody is shown is not matched either, or it could be guessed.
create function job_arg_is(args json, redact text[], path text[], value text) returns boolean
language sql immutable as $$
    select case
        when redact is not null and path[1] = any(redact) then false
        -- The escape of NUL has no text.
        else replace(args::text, '\u0000', '\ufffd')::json #>> path = value
    end
$$;

-- The strings of a list in JSON; null when it is missing or empty.
create function job_search_list(p_search jsonb, p_field text) returns text[]
language sql immutable as $$
    select array_agg(value) from jsonb_array_elements_text(coalesce(p_search -> p_field, '[]')) as value
$$;

-- Live jobs that match, with ids between `p_above` and `p_below`, in the order of their ids: the first `p_limit`.
--
-- The first row says how many were looked at, how many of these match, and whether there are more than that: then, when
-- looking went along tenants, up to which id everything was seen (null: everything was); elsewhere the answer says nothing
-- about the order. By 'sample' it says what part of the table was looked at.
create function job_search_live(
    p_search jsonb, p_path text, p_tenants uuid[], p_lanes_from uuid[], p_lanes_to uuid[], p_above uuid, p_below uuid,
    p_newest boolean, p_looked_max integer, p_limit integer
) returns table (
    looked bigint, matched bigint, percent real, is_cut boolean, horizon uuid,
    tenant_id uuid, id uuid, queue text, kind text, state text, attempt smallint, attempts_max smallint, taken_back smallint,
    priority smallint, key text, batch_id uuid, request_id text, created_at timestamptz, started_at timestamptz,
    run_at timestamptz, finished_at timestamptz, code text, message text
)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    c_lanes_max constant integer := 1000;
    c_pages_max constant integer := 300;
    v_states text[] := job_search_list(p_search, 'states');
    v_statuses text[] := job_search_list(p_search, 'statuses');
    v_kinds text[] := job_search_list(p_search, 'kinds');
    v_queues text[] := job_search_list(p_search, 'queues');
    v_ids uuid[] := job_search_list(p_search, 'ids')::uuid[];
    v_tenant uuid := (p_search ->> 'tenant')::uuid;
    v_key text := p_search ->> 'key';
    v_request text := p_search ->> 'requestId';
    v_batch uuid := (p_search ->> 'batch')::uuid;
    v_from timestamptz := (p_search ->> 'createdFrom')::timestamptz;
    v_before timestamptz := (p_search ->> 'createdBefore')::timestamptz;
    v_arg_path text[] := job_search_list(p_search -> 'arg', 'path');
    v_arg_value text := p_search -> 'arg' ->> 'value';
    -- By 'sample' of some hundred pages: how many of all.
    v_percent real := 100;
begin
    if p_path = 'sample' then
        v_percent := least(100, 100.0 * c_pages_max / greatest(pg_relation_size('jobs') / 8192, 1));
    end if;
    return query
    with recursive lanes as (
        select first.lane, first.kind, first.key, r.until, 1 as n
        from unnest(p_lanes_from, p_lanes_to) as r (since, until)
        cross join lateral (
            select j.lane, j.kind, j.key from jobs j
            where p_path = 'states' and 'ready' = any(v_states) and j.state = 'ready' and j.lane >= r.since and j.lane < r.until
            order by j.lane, j.priority, j.run_at, j.id
            limit 1
        ) as first
        union all
        select next.lane, next.kind, next.key, l.until, l.n + 1
        from lanes l
        cross join lateral (
            select j.lane, j.kind, j.key from jobs j
            where j.state = 'ready' and j.lane > l.lane and j.lane < l.until
            order by j.lane, j.priority, j.run_at, j.id
            limit 1
        ) as next
        where l.n < c_lanes_max
    ),
    seen as materialized (
        (
            select j as job, false as is_last from unnest(p_tenants) as t (tenant_id)
            cross join lateral (
                select j from jobs j
                where p_path = 'tenants' and p_newest and j.tenant_id = t.tenant_id and j.id > p_above and j.id < p_below
                order by j.id desc
                limit p_looked_max
            ) as j (j)
        )
        union all
        (
            select j, false from unnest(p_tenants) as t (tenant_id)
            cross join lateral (
                select j from jobs j
                where p_path = 'tenants' and not p_newest and j.tenant_id = t.tenant_id and j.id > p_above and j.id < p_below
                order by j.id
                limit p_looked_max
            ) as j (j)
        )
        union all
        (
            select j, false from unnest(p_tenants) as t (tenant_id)
            cross join unnest(v_ids) as i (id)
            join jobs j on j.tenant_id = t.tenant_id and j.id = i.id
            where p_path = 'ids'
        )
        union all
        (select j, false from jobs j tablesample system (v_percent) where p_path = 'sample')
        union all
        (select j, false from jobs j where p_path = 'request' and j.request_id = v_request limit p_looked_max + 1)
        union all
        (select j, false from jobs j where p_path = 'batch' and j.batch_id = v_batch limit p_looked_max + 1)
        union all
        (
            select j, false from jobs j
            where p_path = 'states' and 'running' = any(v_states) and j.state = 'running' limit p_looked_max + 1
        )
        union all
        (
            select j, false from jobs j
            where p_path = 'states' and 'waiting' = any(v_states) and j.state = 'waiting' limit p_looked_max + 1
        )
        union all
        (
            select j, false from jobs j
            where p_path = 'states' and 'parked' = any(v_states) and j.state = 'parked' limit p_looked_max + 1
        )
        union all
        (
            select j, false from jobs j
            where p_path = 'states' and 'scheduled' = any(v_states) and j.state = 'scheduled'
              and (v_queues is null or j.queue = any(v_queues))
            limit p_looked_max + 1
        )
        union all
        (
            select j, l.n >= c_lanes_max
            from lanes l
            cross join lateral (
                select j from jobs j where j.state = 'ready' and j.lane = l.lane limit p_looked_max + 1
            ) as j (j)
            where l.n >= c_lanes_max
               or ((v_kinds is null or l.kind = any(v_kinds)) and (v_key is null or l.key = v_key))
            limit p_looked_max + 1
        )
    ),
    extents as (
        select count(*) as jobs, (s.job).tenant_id,
            case when p_newest then (array_agg((s.job).id order by (s.job).id))[1]
                else (array_agg((s.job).id order by (s.job).id desc))[1] end as last_id
        from seen s
        group by (s.job).tenant_id
    ),
    matching as (
        select (s.job).*
        from seen s
        where (s.job).id > p_above and (s.job).id < p_below
          and (v_states is null or (s.job).state::text = any(v_states))
          and (v_statuses is null or case when (s.job).started_at is null then 'queued' else 'processing' end = any(v_statuses))
          and (v_kinds is null or (s.job).kind = any(v_kinds))
          and (v_queues is null or (s.job).queue = any(v_queues))
          and (v_tenant is null or (s.job).tenant_id = v_tenant)
          and (v_key is null or (s.job).key = v_key)
          and (v_request is null or (s.job).request_id = v_request)
          and (v_batch is null or (s.job).batch_id = v_batch)
          and (v_ids is null or (s.job).id = any(v_ids))
          and (v_from is null or (s.job).created_at >= v_from)
          and (v_before is null or (s.job).created_at < v_before)
          and (v_arg_path is null or job_arg_is((s.job).args, (s.job).redact, v_arg_path, v_arg_value))
    )
    select (select count(*) from seen), (select count(*) from matching), v_percent,
        case when p_path = 'tenants' then exists (select from extents e where e.jobs >= p_looked_max)
            else (select count(*) > p_looked_max or coalesce(bool_or(s.is_last), false) from seen s) end,
        case when p_path <> 'tenants' then null
            when p_newest then (
                select e.last_id from extents e where e.jobs >= p_looked_max order by e.last_id desc limit 1
            )
            else (select e.last_id from extents e where e.jobs >= p_looked_max order by e.last_id limit 1) end,
        null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
    union all
    (
        select null, null, null, null, null, m.tenant_id, m.id, m.queue, m.kind, m.state::text, m.attempt, m.attempts_max, m.taken_back,
            m.priority, m.key, m.batch_id, m.request_id, m.created_at, m.started_at, m.run_at, null::timestamptz, null, null
        from matching m
        order by case when p_newest then m.id end desc, case when not p_newest then m.id end
        limit p_limit
    );
end
$$;

-- Jobs of history that match, in the order of their ids; otherwise like `job_search_live`.
create function job_search_finished(
    p_search jsonb, p_path text, p_tenants uuid[], p_above uuid, p_below uuid, p_newest boolean, p_looked_max integer,
    p_limit integer
) returns table (
    looked bigint, matched bigint, percent real, is_cut boolean, horizon uuid,
    tenant_id uuid, id uuid, queue text, kind text, state text, attempt smallint, attempts_max smallint, taken_back smallint,
    priority smallint, key text, batch_id uuid, request_id text, created_at timestamptz, started_at timestamptz,
    run_at timestamptz, finished_at timestamptz, code text, message text
)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    c_pages_max constant integer := 300;
    v_states text[] := job_search_list(p_search, 'states');
    v_statuses text[] := job_search_list(p_search, 'statuses');
    v_kinds text[] := job_search_list(p_search, 'kinds');
    v_queues text[] := job_search_list(p_search, 'queues');
    v_ids uuid[] := job_search_list(p_search, 'ids')::uuid[];
    v_tenant uuid := (p_search ->> 'tenant')::uuid;
    v_key text := p_search ->> 'key';
    v_request text := p_search ->> 'requestId';
    v_batch uuid := (p_search ->> 'batch')::uuid;
    v_code text := p_search ->> 'code';
    -- What a message of the signature begins with; the rest of the signature is left to the caller.
    v_words text := p_search ->> 'messageBegins';
    v_from timestamptz := (p_search ->> 'createdFrom')::timestamptz;
    v_before timestamptz := (p_search ->> 'createdBefore')::timestamptz;
    -- What was stored since has ended since: only these weeks are looked at.
    v_ended_from timestamptz := coalesce(
        greatest((p_search ->> 'finishedFrom')::timestamptz, (p_search ->> 'createdFrom')::timestamptz), '-infinity'
    );
    v_ended_before timestamptz := coalesce((p_search ->> 'finishedBefore')::timestamptz, 'infinity');
    v_arg_path text[] := job_search_list(p_search -> 'arg', 'path');
    v_arg_value text := p_search -> 'arg' ->> 'value';
    -- By 'sample' of some hundred pages: how many of all.
    v_percent real := 100;
begin
    if p_path = 'sample' then
        v_percent := least(100, 100.0 * c_pages_max / greatest((
            select sum(pg_relation_size(t.relid)) / 8192 from pg_partition_tree('jobs_finished') t where t.isleaf
        ), 1));
    end if;
    return query
    with seen as materialized (
        (
            select j as job from unnest(p_tenants) as t (tenant_id)
            cross join lateral (
                select j from jobs_finished j
                where p_path = 'tenants' and p_newest and j.tenant_id = t.tenant_id and j.id > p_above and j.id < p_below
                  and j.finished_at >= v_ended_from
                order by j.id desc
                limit p_looked_max
            ) as j (j)
        )
        union all
        (
            select j from unnest(p_tenants) as t (tenant_id)
            cross join lateral (
                select j from jobs_finished j
                where p_path = 'tenants' and not p_newest and j.tenant_id = t.tenant_id and j.id > p_above and j.id < p_below
                  and j.finished_at >= v_ended_from
                order by j.id
                limit p_looked_max
            ) as j (j)
        )
        union all
        (
            select j from unnest(p_tenants) as t (tenant_id)
            cross join unnest(v_ids) as i (id)
            join jobs_finished j on j.tenant_id = t.tenant_id and j.id = i.id
            where p_path = 'ids'
        )
        union all
        (
            select j from jobs_finished j tablesample system (v_percent)
            where p_path = 'sample' and j.finished_at >= v_ended_from and j.finished_at < v_ended_before
        )
        union all
        (select j from jobs_finished j where p_path = 'request' and j.request_id = v_request limit p_looked_max + 1)
        union all
        (select j from jobs_finished j where p_path = 'batch' and j.batch_id = v_batch limit p_looked_max + 1)
    ),
    extents as (
        select count(*) as jobs, (s.job).tenant_id,
            case when p_newest then (array_agg((s.job).id order by (s.job).id))[1]
                else (array_agg((s.job).id order by (s.job).id desc))[1] end as last_id
        from seen s
        group by (s.job).tenant_id
    ),
    matching as (
        select (s.job).*
        from seen s
        where (s.job).id > p_above and (s.job).id < p_below
          and (v_states is null or (s.job).ended::text = any(v_states))
          and (v_statuses is null or (s.job).ended::text = any(v_statuses))
          and (v_kinds is null or (s.job).kind = any(v_kinds))
          and (v_queues is null or (s.job).queue = any(v_queues))
          and (v_tenant is null or (s.job).tenant_id = v_tenant)
          and (v_key is null or (s.job).key = v_key)
          and (v_request is null or (s.job).request_id = v_request)
          and (v_batch is null or (s.job).batch_id = v_batch)
          and (v_ids is null or (s.job).id = any(v_ids))
          and (v_code is null or (s.job).error ->> 'code' = v_code)
          and (v_words is null or starts_with((s.job).error ->> 'message', v_words))
          and (v_from is null or (s.job).created_at >= v_from)
          and (v_before is null or (s.job).created_at < v_before)
          and (s.job).finished_at >= v_ended_from and (s.job).finished_at < v_ended_before
          and (v_arg_path is null or job_arg_is((s.job).args, (s.job).redact, v_arg_path, v_arg_value))
    )
    select (select count(*) from seen), (select count(*) from matching), v_percent,
        case when p_path = 'tenants' then exists (select from extents e where e.jobs >= p_looked_max)
            else (select count(*) > p_looked_max from seen) end,
        case when p_path <> 'tenants' then null
            when p_newest then (
                select e.last_id from extents e where e.jobs >= p_looked_max order by e.last_id desc limit 1
            )
            else (select e.last_id from extents e where e.jobs >= p_looked_max order by e.last_id limit 1) end,
        null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
    union all
    (
        select null, null, null, null, null, m.tenant_id, m.id, m.queue, m.kind, m.ended::text, m.attempt, m.attempts_max, m.taken_back,
            m.priority, m.key, m.batch_id, m.request_id, m.created_at, m.started_at, null::timestamptz, m.finished_at,
            m.error ->> 'code', m.error ->> 'message'
        from matching m
        order by case when p_newest then m.id end desc, case when not p_newest then m.id end
        limit p_limit
    );
end
$$;

-- Jobs of history that match and ended from one instant until before another, behind (`p_at`, `p_id`) in the order of their
-- ends: the first `p_limit`. By 'dead', those that failed or were cancelled, by their indexes; by 'window', all, by that of
-- page ranges.
--
-- The first row says how many were looked at, and whether there are more: then, by 'dead', up to which end (`finished_at` and
-- `id` of that row) everything was seen; by 'window' nothing is known but that.
create function job_search_ended(
    p_search jsonb, p_path text, p_ended_from timestamptz, p_ended_before timestamptz, p_at timestamptz, p_id uuid,
    p_newest boolean, p_looked_max integer, p_limit integer
) returns table (
    looked bigint, is_cut boolean,
    tenant_id uuid, id uuid, queue text, kind text, state text, attempt smallint, attempts_max smallint, taken_back smallint,
    priority smallint, key text, batch_id uuid, request_id text, created_at timestamptz, started_at timestamptz,
    run_at timestamptz, finished_at timestamptz, code text, message text
)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_indexscan = on set enable_bitmapscan = on
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    v_states text[] := job_search_list(p_search, 'states');
    v_statuses text[] := job_search_list(p_search, 'statuses');
    v_kinds text[] := job_search_list(p_search, 'kinds');
    v_queues text[] := job_search_list(p_search, 'queues');
    v_ids uuid[] := job_search_list(p_search, 'ids')::uuid[];
    v_tenant uuid := (p_search ->> 'tenant')::uuid;
    v_key text := p_search ->> 'key';
    v_request text := p_search ->> 'requestId';
    v_batch uuid := (p_search ->> 'batch')::uuid;
    v_code text := p_search ->> 'code';
    -- What a message of the signature begins with; the rest of the signature is left to the caller.
    v_words text := p_search ->> 'messageBegins';
    v_from timestamptz := (p_search ->> 'createdFrom')::timestamptz;
    v_before timestamptz := (p_search ->> 'createdBefore')::timestamptz;
    v_arg_path text[] := job_search_list(p_search -> 'arg', 'path');
    v_arg_value text := p_search -> 'arg' ->> 'value';
begin
    perform set_config(case when p_path = 'window' then 'enable_indexscan' else 'enable_bitmapscan' end, 'off', true);
    return query
    with dead as (
        (
            select j as job, j.finished_at as at, j.id from jobs_finished j
            where p_path = 'dead' and p_newest and j.ended = 'failed' and (v_states is null or 'failed' = any(v_states))
              and j.finished_at >= p_ended_from and j.finished_at < p_ended_before
              and j.finished_at <= p_at and (j.finished_at, j.id) < (p_at, p_id)
            order by j.finished_at desc, j.id desc
            limit p_looked_max
        )
        union all
        (
            select j, j.finished_at, j.id from jobs_finished j
            where p_path = 'dead' and p_newest and j.ended = 'cancelled' and (v_states is null or 'cancelled' = any(v_states))
              and j.finished_at >= p_ended_from and j.finished_at < p_ended_before
              and j.finished_at <= p_at and (j.finished_at, j.id) < (p_at, p_id)
            order by j.finished_at desc, j.id desc
            limit p_looked_max
        )
        union all
        (
            select j, j.finished_at, j.id from jobs_finished j
            where p_path = 'dead' and not p_newest and j.ended = 'failed' and (v_states is null or 'failed' = any(v_states))
              and j.finished_at >= p_ended_from and j.finished_at < p_ended_before
              and j.finished_at >= p_at and (j.finished_at, j.id) > (p_at, p_id)
            order by j.finished_at, j.id
            limit p_looked_max
        )
        union all
        (
            select j, j.finished_at, j.id from jobs_finished j
            where p_path = 'dead' and not p_newest and j.ended = 'cancelled' and (v_states is null or 'cancelled' = any(v_states))
              and j.finished_at >= p_ended_from and j.finished_at < p_ended_before
              and j.finished_at >= p_at and (j.finished_at, j.id) > (p_at, p_id)
            order by j.finished_at, j.id
            limit p_looked_max
        )
    ),
    seen as materialized (
        (
            select d.job, d.at, d.id from dead d
            order by case when p_newest then d.at end desc, case when p_newest then d.id end desc,
                case when not p_newest then d.at end, case when not p_newest then d.id end
            limit p_looked_max
        )
        union all
        (
            select j, j.finished_at, j.id from jobs_finished j
            where p_path = 'window' and j.finished_at >= p_ended_from and j.finished_at < p_ended_before
              and case when p_newest then (j.finished_at, j.id) < (p_at, p_id) else (j.finished_at, j.id) > (p_at, p_id) end
            limit p_looked_max + 1
        )
    ),
    matching as (
        select (s.job).*
        from seen s
        where (v_states is null or (s.job).ended::text = any(v_states))
          and (v_statuses is null or (s.job).ended::text = any(v_statuses))
          and (v_kinds is null or (s.job).kind = any(v_kinds))
          and (v_queues is null or (s.job).queue = any(v_queues))
          and (v_tenant is null or (s.job).tenant_id = v_tenant)
          and (v_key is null or (s.job).key = v_key)
          and (v_request is null or (s.job).request_id = v_request)
          and (v_batch is null or (s.job).batch_id = v_batch)
          and (v_ids is null or (s.job).id = any(v_ids))
          and (v_code is null or (s.job).error ->> 'code' = v_code)
          and (v_words is null or starts_with((s.job).error ->> 'message', v_words))
          and (v_from is null or (s.job).created_at >= v_from)
          and (v_before is null or (s.job).created_at < v_before)
          and (v_arg_path is null or job_arg_is((s.job).args, (s.job).redact, v_arg_path, v_arg_value))
    ),
    behind as (
        select s.at, s.id from seen s
        order by case when p_newest then s.at end, case when p_newest then s.id end,
            case when not p_newest then s.at end desc, case when not p_newest then s.id end desc
        limit 1
    )
    select (select count(*) from seen),
        (select count(*) from seen) >= case when p_path = 'dead' then p_looked_max else p_looked_max + 1 end,
        null, (select b.id from behind b), null, null, null, null, null, null, null, null, null, null, null, null, null,
        (select b.at from behind b), null, null
    union all
    (
        select null, null, m.tenant_id, m.id, m.queue, m.kind, m.ended::text, m.attempt, m.attempts_max, m.taken_back,
            m.priority, m.key, m.batch_id, m.request_id, m.created_at, m.started_at, null::timestamptz, m.finished_at,
            m.error ->> 'code', m.error ->> 'message'
        from matching m
        order by case when p_newest then m.finished_at end desc, case when p_newest then m.id end desc,
            case when not p_newest then m.finished_at end, case when not p_newest then m.id end
        limit p_limit
    );
end
$$;

-- Who owns live or finished jobs, in the order of their ids behind one: found by going from each to the next.
create function job_owners(p_after uuid, p_limit integer) returns table (tenant_id uuid)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_at uuid := p_after;
    v_live uuid;
    v_finished uuid;
begin
    for n in 1..p_limit loop
        -- The first is the nil id, which nothing comes before.
        if v_at is null then
            select j.tenant_id into v_live from jobs j order by j.tenant_id limit 1;
            select j.tenant_id into v_finished from jobs_finished j order by j.tenant_id limit 1;
        else
            if v_live <= v_at or n = 1 then
                select j.tenant_id into v_live from jobs j where j.tenant_id > v_at order by j.tenant_id limit 1;
            end if;
            if v_finished <= v_at or n = 1 then
                select j.tenant_id into v_finished from jobs_finished j where j.tenant_id > v_at order by j.tenant_id limit 1;
            end if;
        end if;
        v_at := least(v_live, v_finished);
        exit when v_at is null;
        tenant_id := v_at;
        return next;
    end loop;
end
$$;
