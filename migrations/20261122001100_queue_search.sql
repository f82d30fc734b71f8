-- Looking through jobs, for operators. Only crates/queue calls these functions or reads these tables.
--
-- They read, lock nothing, and look at a bounded number of rows, which they count, however many jobs there are. Their settings
-- leave the planner one sensible plan, as those of queue_ends do. A statement is put together of what the search asks and of the
-- way to the rows: so a plan has no part that is not needed, and rows are carried only by what tells them apart until it is known
-- which of them are wanted.

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

-- No job whose id is greater has ended before this. Ids carry the time of the process that made them, which may be ahead of
-- the database's by a minute, and are as old as their jobs or older.
create function job_ended_after(p_above uuid) returns timestamptz
language sql immutable as $$
    select to_timestamp((('x' || left(replace(p_above::text, '-', ''), 12))::bit(48)::bigint) / 1000.0) - interval '1 minute'
$$;

-- One condition of SQL with a value as literal; null when there is no value.
create function job_search_is(p_condition text, p_value anyelement) returns text
language sql immutable as $$
    select case when p_value is not null then format(p_condition, p_value) end
$$;

-- What a row `j` of `jobs`, or else of `jobs_finished`, must be like to match, as an expression of SQL.
create function job_search_condition(p_search jsonb, p_is_live boolean) returns text
language sql stable as $$
    select concat_ws(
        ' and ', 'true',
        job_search_is(
            case when p_is_live then 'j.state::text = any(%L)' else 'j.ended::text = any(%L)' end,
            -- All that there are exclude nothing, and are not worth reading more of a row than its key.
            case when jsonb_array_length(p_search -> 'states') < case when p_is_live then 5 else 3 end
                then job_search_list(p_search, 'states') end
        ),
        job_search_is(
            case when p_is_live then 'case when j.started_at is null then ''queued'' else ''processing'' end = any(%L)'
                else 'j.ended::text = any(%L)' end,
            job_search_list(p_search, 'statuses')
        ),
        job_search_is('j.kind = any(%L)', job_search_list(p_search, 'kinds')),
        job_search_is('j.queue = any(%L)', job_search_list(p_search, 'queues')),
        job_search_is('j.id = any(%L)', job_search_list(p_search, 'ids')),
        job_search_is('j.tenant_id = %L', p_search ->> 'tenant'),
        job_search_is('j.key = %L', p_search ->> 'key'),
        job_search_is('j.request_id = %L', p_search ->> 'requestId'),
        job_search_is('j.batch_id = %L', p_search ->> 'batch'),
        job_search_is('j.created_at >= %L', p_search ->> 'createdFrom'),
        job_search_is('j.created_at < %L', p_search ->> 'createdBefore'),
        case when not p_is_live then job_search_is('j.error ->> ''code'' = %L', p_search ->> 'code') end,
        -- What a message of the signature begins with; the rest of the signature is left to the caller.
        case when not p_is_live
            then job_search_is('starts_with(j.error ->> ''message'', %L)', p_search ->> 'messageBegins') end,
        case when p_search -> 'arg' is not null then format(
            'job_arg_is(j.args, j.redact, %L, %L)', job_search_list(p_search -> 'arg', 'path'), p_search -> 'arg' ->> 'value'
        ) end
    )
$$;

-- Live jobs that match, with ids between `p_above` and `p_below`, in the order of their ids: the first `p_limit`. They are found
-- by `p_path`: along 'tenants', at most `p_looked_max` of each; by 'ids', 'request', 'batch' or 'states', at most so many in all;
-- or in a 'sample' of the pages.
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
as $$
declare
    c_lanes_max constant integer := 1000;
    c_pages_max constant integer := 100;
    v_states text[] := job_search_list(p_search, 'states');
    v_direction text := case when p_newest then 'desc' else 'asc' end;
    -- Of each job that is looked at: who it is, whether it matches, and whether looking stopped with it.
    v_job text := format(
        'select j.tenant_id, j.id, %s and j.id > $2 and j.id < $3 as matches, false as is_last from jobs j',
        job_search_condition(p_search, true)
    );
    v_sources text[];
    v_percent real := 100;
begin
    if p_path = 'tenants' then
        v_sources := array[format(
            'select s.* from unnest($1) as t (tenant_id)
             cross join lateral (
                 %s where j.tenant_id = t.tenant_id and j.id > $2 and j.id < $3 order by j.id %s limit $4
             ) as s',
            v_job, v_direction
        )];
    elsif p_path = 'ids' then
        v_sources := array[format(
            'select s.* from unnest($1) as t (tenant_id) cross join unnest($5) as i (id)
             cross join lateral (%s where j.tenant_id = t.tenant_id and j.id = i.id) as s',
            v_job
        )];
    elsif p_path = 'sample' then
        v_percent := least(100, 100.0 * c_pages_max / greatest(pg_relation_size('jobs') / 8192, 1));
        v_sources := array[format('%s tablesample system (%s)', v_job, v_percent)];
    elsif p_path = 'request' then
        v_sources := array[format('%s where j.request_id = $6 limit $4 + 1', v_job)];
    elsif p_path = 'batch' then
        v_sources := array[format('%s where j.batch_id = $7 limit $4 + 1', v_job)];
    else
        select array_agg(format('%s where j.state = %L limit $4 + 1', v_job, s.name)) into v_sources
        from unnest(v_states) as s (name) where s.name in ('running', 'waiting', 'parked');
        if 'scheduled' = any(v_states) then
            v_sources := v_sources || format(
                '%s where j.state = ''scheduled'' and ($8 is null or j.queue = any($8)) limit $4 + 1', v_job
            );
        end if;
        if 'ready' = any(v_states) then
            v_sources := v_sources || format(
                'select s.tenant_id, s.id, s.matches, l.n >= $11 as is_last
                 from lanes l
                 cross join lateral (%s where j.state = ''ready'' and j.lane = l.lane limit $4 + 1) as s
                 where l.n >= $11 or (($12 is null or l.kind = any($12)) and ($13 is null or l.key = $13))
                 limit $4 + 1',
                v_job
            );
        end if;
    end if;
    return query execute format(
        'with recursive lanes as (
             select first.lane, first.kind, first.key, r.until, 1 as n
             from unnest($9, $10) as r (since, until)
             cross join lateral (
                 select j.lane, j.kind, j.key from jobs j
                 where j.state = ''ready'' and j.lane >= r.since and j.lane < r.until
                 order by j.lane, j.priority, j.run_at, j.id
                 limit 1
             ) as first
             union all
             select next.lane, next.kind, next.key, l.until, l.n + 1
             from lanes l
             cross join lateral (
                 select j.lane, j.kind, j.key from jobs j
                 where j.state = ''ready'' and j.lane > l.lane and j.lane < l.until
                 order by j.lane, j.priority, j.run_at, j.id
                 limit 1
             ) as next
             where l.n < $11
         ),
         seen as materialized (%s),
         ends as (
             select (array_agg(s.id order by s.id %s))[$4] as id from seen s group by s.tenant_id
         ),
         picked as (
             select s.tenant_id, s.id from seen s where s.matches order by s.id %2$s limit $14
         )
         select (select count(*) from seen), (select count(*) from seen s where s.matches), $15,
             case when $16 then exists (select from ends e where e.id is not null)
                 else (select count(*) > $4 or coalesce(bool_or(s.is_last), false) from seen s) end,
             case when $16 then (select e.id from ends e where e.id is not null order by e.id %2$s limit 1) end,
             null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
         union all
         (
             select null, null, null, null, null, j.tenant_id, j.id, j.queue, j.kind, j.state::text, j.attempt, j.attempts_max,
                 j.taken_back, j.priority, j.key, j.batch_id, j.request_id, j.created_at, j.started_at, j.run_at,
                 null::timestamptz, null, null
             from picked p
             join jobs j on j.tenant_id = p.tenant_id and j.id = p.id
             order by j.id %2$s
         )',
        '(' || array_to_string(v_sources, ') union all (') || ')', v_direction
    ) using p_tenants, p_above, p_below, p_looked_max, job_search_list(p_search, 'ids')::uuid[], p_search ->> 'requestId',
        (p_search ->> 'batch')::uuid, job_search_list(p_search, 'queues'), p_lanes_from, p_lanes_to, c_lanes_max,
        job_search_list(p_search, 'kinds'), p_search ->> 'key', p_limit, v_percent, p_path = 'tenants';
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
as $$
declare
    c_pages_max constant integer := 100;
    -- What was stored since has ended since: only the weeks since then are looked at.
    v_ended_from timestamptz := greatest(
        (p_search ->> 'finishedFrom')::timestamptz, (p_search ->> 'createdFrom')::timestamptz, job_ended_after(p_above)
    );
    v_ended_before timestamptz := coalesce((p_search ->> 'finishedBefore')::timestamptz, 'infinity');
    v_direction text := case when p_newest then 'desc' else 'asc' end;
    v_job text := format(
        'select j.tenant_id, j.id, j.finished_at,
             %s and j.id > $2 and j.id < $3 and j.finished_at >= $8 and j.finished_at < $9 as matches
         from jobs_finished j',
        job_search_condition(p_search, false)
    );
    v_source text;
    v_percent real := 100;
begin
    if p_path = 'tenants' then
        v_source := format(
            'select s.* from unnest($1) as t (tenant_id)
             cross join lateral (
                 %s where j.tenant_id = t.tenant_id and j.id > $2 and j.id < $3 and j.finished_at >= %L
                 order by j.id %s limit $4
             ) as s',
            v_job, v_ended_from, v_direction
        );
    elsif p_path = 'ids' then
        v_source := format(
            'select s.* from unnest($1) as t (tenant_id) cross join unnest($5) as i (id)
             cross join lateral (%s where j.tenant_id = t.tenant_id and j.id = i.id) as s',
            v_job
        );
    elsif p_path = 'sample' then
        v_percent := least(100, 100.0 * c_pages_max / greatest((
            select sum(pg_relation_size(t.relid)) / 8192 from pg_partition_tree('jobs_finished') t where t.isleaf
        ), 1));
        v_source := format('%s tablesample system (%s) where j.finished_at >= %L and j.finished_at < %L', v_job, v_percent, v_ended_from, v_ended_before);
    else
        v_source := format('%s where %s limit $4 + 1', v_job,
            case p_path when 'request' then 'j.request_id = $6' else 'j.batch_id = $7' end);
    end if;
    return query execute format(
        'with seen as materialized (%s),
         ends as (
             select (array_agg(s.id order by s.id %s))[$4] as id from seen s group by s.tenant_id
         ),
         picked as (
             select s.tenant_id, s.id, s.finished_at from seen s where s.matches order by s.id %2$s limit $10
         )
         select (select count(*) from seen), (select count(*) from seen s where s.matches), $11,
             case when $12 then exists (select from ends e where e.id is not null)
                 else (select count(*) > $4 from seen) end,
             case when $12 then (select e.id from ends e where e.id is not null order by e.id %2$s limit 1) end,
             null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
         union all
         (
             select null, null, null, null, null, j.tenant_id, j.id, j.queue, j.kind, j.ended::text, j.attempt, j.attempts_max,
                 j.taken_back, j.priority, j.key, j.batch_id, j.request_id, j.created_at, j.started_at, null::timestamptz,
                 j.finished_at, j.error ->> ''code'', j.error ->> ''message''
             from picked p
             join jobs_finished j on j.tenant_id = p.tenant_id and j.id = p.id and j.finished_at = p.finished_at
             order by j.id %2$s
         )',
        v_source, v_direction
    ) using p_tenants, p_above, p_below, p_looked_max, job_search_list(p_search, 'ids')::uuid[], p_search ->> 'requestId',
        (p_search ->> 'batch')::uuid, v_ended_from, v_ended_before, p_limit, v_percent, p_path = 'tenants';
end
$$;

-- Jobs of history that match and ended from one instant until before another, behind (`p_at`, `p_id`) in the order of their
-- ends: the first `p_limit`. By 'dead', those that failed or were cancelled, by their indexes; by 'window', all, by that of
-- page ranges.
--
-- The first row says how many were looked at, how many of these match, and whether there are more: then, by 'dead', up to which
-- end (`finished_at` and `id` of that row) everything was seen; by 'window' nothing is known but that. Where none is wanted but a
-- signature is asked for, it has the messages of those that match, of which the caller makes signatures.
create function job_search_ended(
    p_search jsonb, p_path text, p_ended_from timestamptz, p_ended_before timestamptz, p_at timestamptz, p_id uuid,
    p_newest boolean, p_looked_max integer, p_limit integer
) returns table (
    looked bigint, matched bigint, is_cut boolean, messages text[],
    tenant_id uuid, id uuid, queue text, kind text, state text, attempt smallint, attempts_max smallint, taken_back smallint,
    priority smallint, key text, batch_id uuid, request_id text, created_at timestamptz, started_at timestamptz,
    run_at timestamptz, finished_at timestamptz, code text, message text
)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set enable_indexscan = on set enable_bitmapscan = on
as $$
declare
    v_direction text := case when p_newest then 'desc' else 'asc' end;
    v_behind text := case when p_newest then '<' else '>' end;
    v_job text := format(
        'select j.tenant_id, j.id, j.finished_at, %s as matches, %s as message from jobs_finished j
         where j.finished_at >= $1 and j.finished_at < $2 and (j.finished_at, j.id) %s ($3, $4)',
        job_search_condition(p_search, false),
        case when p_limit = 0 and p_search ? 'signature' then 'left(j.error ->> ''message'', 500)' else 'null::text' end,
        v_behind
    );
    v_source text;
begin
    if p_path = 'window' then
        perform set_config('enable_indexscan', 'off', true);
        v_source := v_job || ' limit $5 + 1';
    else
        perform set_config('enable_bitmapscan', 'off', true);
        -- The bound of the end stands alone besides: by that of the pair nothing is looked up.
        select string_agg(
            format('(%s and j.finished_at %s= $3 and j.ended = %L order by j.finished_at %s, j.id %4$s limit $5)',
                v_job, v_behind, ended, v_direction),
            ' union all ')
        into v_source
        from unnest(array['failed', 'cancelled']) as ended
        where ended = any(job_search_list(p_search, 'states'));
        v_source := format('select * from (%s) as s order by s.finished_at %s, s.id %2$s limit $5', v_source, v_direction);
    end if;
    return query execute format(
        'with seen as materialized (%s),
         picked as (
             select s.tenant_id, s.id, s.finished_at from seen s where s.matches
             order by s.finished_at %s, s.id %2$s
             limit $6
         ),
         last as (
             select s.finished_at, s.id from seen s order by s.finished_at %3$s, s.id %3$s limit 1
         )
         select (select count(*) from seen), (select count(*) from seen s where s.matches), (select count(*) from seen) >= $7,
             (select array_agg(s.message) from seen s where s.matches and s.message is not null),
             null, (select l.id from last l), null, null, null, null, null, null, null, null, null, null, null, null, null,
             (select l.finished_at from last l), null, null
         union all
         (
             select null, null, null, null, j.tenant_id, j.id, j.queue, j.kind, j.ended::text, j.attempt, j.attempts_max, j.taken_back,
                 j.priority, j.key, j.batch_id, j.request_id, j.created_at, j.started_at, null::timestamptz, j.finished_at,
                 j.error ->> ''code'', j.error ->> ''message''
             from picked p
             join jobs_finished j on j.tenant_id = p.tenant_id and j.id = p.id and j.finished_at = p.finished_at
             order by j.finished_at %2$s, j.id %2$s
         )',
        v_source, v_direction, case when p_newest then 'asc' else 'desc' end
    ) using p_ended_from, p_ended_before, p_at, p_id, p_looked_max, p_limit,
        case when p_path = 'window' then p_looked_max + 1 else p_looked_max end;
end
$$;

-- Who owns jobs that are live, or ended in or after the week of `p_since`, in the order of their ids behind one: found by going
-- from each to the next.
create function job_owners(p_after uuid, p_since timestamptz, p_limit integer) returns table (tenant_id uuid)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_at uuid := p_after;
    v_live uuid;
    v_finished uuid;
    -- Whole weeks, as the partitions are: within one, all rows count and none is passed over.
    v_week timestamptz := date_trunc('week', p_since, 'UTC');
begin
    for n in 1..p_limit loop
        -- The first is the nil id, which nothing comes before.
        if v_at is null then
            select j.tenant_id into v_live from jobs j order by j.tenant_id limit 1;
            select j.tenant_id into v_finished from jobs_finished j where j.finished_at >= v_week order by j.tenant_id limit 1;
        else
            if v_live <= v_at or n = 1 then
                select j.tenant_id into v_live from jobs j where j.tenant_id > v_at order by j.tenant_id limit 1;
            end if;
            if v_finished <= v_at or n = 1 then
                select j.tenant_id into v_finished from jobs_finished j
                where j.tenant_id > v_at and j.finished_at >= v_week
                order by j.tenant_id
                limit 1;
            end if;
        end if;
        v_at := least(v_live, v_finished);
        exit when v_at is null;
        tenant_id := v_at;
        return next;
    end loop;
end
$$;
