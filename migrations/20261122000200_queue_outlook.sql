-- What explaining and estimating need to know. Only crates/queue reads or writes these tables.

-- Which kinds a process knows, and how many jobs of each of its queues it runs at once, in the order of `queues`. Null: an
-- older version, which does not say.
alter table worker_processes
    add column kinds text[],
    add column slots integer[];

-- A request is followed by its id alone. Jobs that no request asked for are not in these.
create index jobs_request on jobs (request_id) where request_id is not null;
create index jobs_finished_request on jobs_finished (request_id) where request_id is not null;

-- What was said of when a job ends, until it has ended: a sample. Losing it loses nothing but what would be learned.
create unlogged table job_estimates (
    tenant_id  uuid             not null,
    job_id     uuid             not null,
    kind       text             not null collate "C",
    -- How the job stood: see `queue::eta::Stage`.
    stage      smallint         not null,
    said_at    timestamptz      not null,
    -- Seconds from then; `latest_s` is null where no bound was given.
    earliest_s double precision not null,
    likely_s   double precision not null,
    latest_s   double precision,
    primary key (tenant_id, job_id, stage)
);
create index job_estimates_said on job_estimates (said_at);

-- What came of them, the newest few hundred of each kind and stage: what later estimates are calibrated by.
create table job_estimate_ends (
    kind     text             not null collate "C",
    stage    smallint         not null,
    ended_at timestamptz      not null,
    said_at  timestamptz      not null,
    likely_s double precision not null,
    actual_s double precision not null,
    -- -1: before the range, 0: within it, 1: after it.
    missed   smallint         not null,
    id       bigint           generated always as identity,
    primary key (kind, stage, ended_at, id)
);

-- Of each kind and stage, how many jobs ended within what was said, and how many before or after.
create table job_estimate_counts (
    kind   text     not null collate "C",
    stage  smallint not null,
    within bigint   not null default 0,
    early  bigint   not null default 0,
    late   bigint   not null default 0,
    primary key (kind, stage)
);

-- The functions below read, lock nothing, and are bounded however many jobs there are. Their settings leave the planner one
-- sensible plan, as those of queue_ends do: a connection keeps what it planned when the tables were empty.

-- How a live job stands, and what is to be claimed before it: nothing for one that has ended or never was. `ahead` counts
-- the ready jobs of its share that come first, by kind, of 16 lanes and 2,000 jobs of each; where there are more they are
-- estimated from 500 pages of the table.
create function job_standing(
    p_tenant uuid, p_id uuid,
    out is_live boolean, out seen_at timestamptz, out state text, out queue text, out kind text, out key text, out share_id uuid,
    out run_at timestamptz, out created_at timestamptz, out leased_at timestamptz, out attempt smallint,
    out was_claimed boolean, out failed_with text, out shares_end boolean,
    out awaited_tenant uuid, out awaited_job uuid, out awaited_is_unique boolean,
    out awaited_batch uuid, out batch_ended bigint, out batch_total bigint,
    out in_lane bigint, out ahead jsonb, out is_estimated boolean
)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    c_lanes_max constant integer := 16;
    c_counted_max constant integer := 2000;
    c_pages_max constant integer := 500;
    v_job jobs;
    v_from uuid;
    v_percent real;
begin
    select * into v_job from jobs j where j.tenant_id = p_tenant and j.id = p_id;
    is_live := v_job.id is not null;
    if not is_live then
        return;
    end if;
    seen_at := now();
    state := v_job.state;
    queue := v_job.queue;
    kind := v_job.kind;
    key := v_job.key;
    share_id := v_job.share_id;
    run_at := v_job.run_at;
    created_at := v_job.created_at;
    leased_at := v_job.leased_at;
    attempt := v_job.attempt;
    was_claimed := v_job.lease_token > 0;
    if (v_job.errors -> -1 ->> 'attempt')::integer = v_job.attempt then
        failed_with := v_job.errors -> -1 ->> 'code';
    end if;
    shares_end := v_job.shares_end;
    is_estimated := false;
    in_lane := 0;
    ahead := '{}';

    if v_job.state = 'waiting' then
        select j.tenant_id, j.id, j.unique_key is not null into awaited_tenant, awaited_job, awaited_is_unique
        from jobs j where j.tenant_id = v_job.waiting_on_tenant and j.id = v_job.waiting_on;
        if awaited_job is null then
            select b.id, b.completed + b.failed + b.cancelled, b.total into awaited_batch, batch_ended, batch_total
            from job_batches b where b.id = v_job.waiting_on and b.finished_at is null;
        end if;
        return;
    end if;
    if v_job.state <> 'ready' then
        return;
    end if;
    v_from := (left(v_job.lane::text, 18) || '-0000-000000000000')::uuid;
    with recursive lanes as (
        (
            select j.lane, j.kind, 1 as n from jobs j
            where j.state = 'ready' and j.lane >= v_from and j.lane <= job_share_end(v_job.lane)
            order by j.lane
            limit 1
        )
        union all
        select next.lane, next.kind, l.n + 1
        from lanes l
        cross join lateral (
            select j.lane, j.kind from jobs j
            where j.state = 'ready' and j.lane > l.lane and j.lane <= job_share_end(v_job.lane)
            order by j.lane
            limit 1
        ) as next
        where l.n < c_lanes_max
    ),
    counted as (
        select l.lane, l.kind, first.jobs
        from lanes l
        cross join lateral (
            select count(*) as jobs
            from (
                select from jobs j
                where j.state = 'ready' and j.lane = l.lane
                  and (j.priority, j.run_at, j.id) < (v_job.priority, v_job.run_at, v_job.id)
                order by j.priority, j.run_at, j.id
                limit c_counted_max
            ) as f
        ) as first
    )
    select coalesce(sum(c.jobs) filter (where c.lane = v_job.lane), 0),
        coalesce((select jsonb_object_agg(k.kind, k.jobs) from (
            select kind, sum(jobs) as jobs from counted where jobs > 0 group by kind
        ) as k), '{}'),
        coalesce(bool_or(c.jobs >= c_counted_max), false)
    into in_lane, ahead, is_estimated
    from counted c;
    if is_estimated then
        v_percent := least(100, 100.0 * c_pages_max / greatest(pg_relation_size('jobs') / 8192, 1));
        with sample as (
            select j.lane, j.kind from jobs j tablesample system (v_percent)
            where j.state = 'ready' and j.lane >= v_from and j.lane <= job_share_end(v_job.lane)
              and (j.priority, j.run_at, j.id) < (v_job.priority, v_job.run_at, v_job.id)
        )
        select greatest(in_lane, (select count(*) * 100 / v_percent from sample where lane = v_job.lane)),
            (select coalesce(jsonb_object_agg(k.kind, greatest(k.jobs, (ahead ->> k.kind)::bigint)), ahead)
             from (select kind, (count(*) * 100 / v_percent)::bigint as jobs from sample group by kind) as k)
        into in_lane, ahead;
    end if;
end
$$;

-- What holds for all jobs of a queue, kind, key and share: pauses, how full their limits and caps are, who could run them.
create function job_surroundings(p_queue text, p_kind text, p_key text, p_share uuid) returns jsonb
language sql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
    select jsonb_build_object(
        'pauses', coalesce((
            select jsonb_agg(jsonb_build_object('kind', nullif(p.kind, ''), 'by', p.paused_by, 'since', p.paused_at) order by p.kind)
            from job_pauses p where p.queue = p_queue and p.kind in ('', p_kind)
        ), '[]'),
        'limits', coalesce((
            select jsonb_agg(jsonb_build_object(
                'name', l.name, 'shape', l.shape, 'max', l.max, 'window_ms', l.window_ms, 'ends_at', w.ends,
                'takes', case when l.shape = 'budget' then greatest(kl.cost, 1) else 1 end,
                'blocked_until', case when b.blocked_until > now() then b.blocked_until end,
                'used', case
                    when l.shape = 'concurrency' then (
                        select count(*) from job_limit_holds h
                        where h.name = l.name and h.key = k.key and h.process_id in (select id from worker_processes)
                    )
                    when b.window_start >= w.began then b.used
                    else 0
                end + case when l.shape = 'budget' then 0 else (
                    -- Claimed, and not drawn yet.
                    select count(*) from job_limit_reservations r
                    where r.name = l.name and r.key = k.key and r.process_id in (select id from worker_processes)
                ) end
            ) order by l.name)
            from job_kind_limits kl
            join job_limits l on l.name = kl.name
            cross join lateral (select case when kl.keyed then coalesce(p_key, '') else '' end as key) as k
            cross join lateral job_limit_window(l, now()) as w
            left join job_limit_buckets b on b.name = l.name and b.key = k.key
            where kl.kind = p_kind
        ), '[]'),
        'share_cap', (
            select jsonb_build_object('max', t.concurrency_max, 'running', (
                select count(*) from jobs j where j.state = 'running' and j.share_id = p_share
            ))
            from job_tenants t where t.tenant_id = p_share and t.concurrency_max is not null
        ),
        'key_cap', (
            select jsonb_build_object('max', k.key_concurrency_max, 'running', (
                select count(*) from jobs j where j.state = 'running' and j.kind = p_kind and j.key = p_key
            ))
            from job_kinds k where k.kind = p_kind and k.key_concurrency_max is not null and p_key is not null
        ),
        'weight', coalesce((select t.weight from job_tenants t where t.tenant_id = p_share), 1),
        'workers', (
            select jsonb_build_object(
                'serving', count(*),
                'knowing', count(*) filter (where p.kinds is null or p_kind = any(p.kinds)),
                'slots', coalesce(sum(p.slots[array_position(p.queues, p_queue)]), 0),
                'running', (select count(*) from jobs j where j.state = 'running' and j.queue = p_queue)
            )
            from worker_processes p
            where p_queue = any(p.queues) and not p.draining
        )
    )
$$;

-- The ready jobs of a queue by share and kind: of the first 32 shares, 8 lanes of each, up to 500 jobs in each lane.
create function job_loads(p_lane_from uuid, p_lane_to uuid)
returns table (share_id uuid, weight smallint, kind text, ready bigint)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    c_shares_max constant integer := 32;
    c_lanes_max constant integer := 8;
    c_counted_max constant integer := 500;
begin
    return query
    with recursive lanes as (
        (
            select j.lane, j.share_id, j.kind, 1 as share, 1 as nth from jobs j
            where j.state = 'ready' and j.lane >= p_lane_from and j.lane < p_lane_to
            order by j.lane
            limit 1
        )
        union all
        select next.lane, next.share_id, next.kind,
            case when next.lane <= job_share_end(l.lane) then l.share else l.share + 1 end,
            case when next.lane <= job_share_end(l.lane) then l.nth + 1 else 1 end
        from lanes l
        cross join lateral (
            select j.lane, j.share_id, j.kind from jobs j
            where j.state = 'ready' and j.lane < p_lane_to
              and j.lane > case when l.nth < c_lanes_max then l.lane else job_share_end(l.lane) end
            order by j.lane
            limit 1
        ) as next
        where l.share <= c_shares_max
    )
    select l.share_id, coalesce(t.weight, 1::smallint), l.kind, sum(first.jobs)::bigint
    from lanes l
    left join job_tenants t on t.tenant_id = l.share_id
    cross join lateral (
        select count(*) as jobs
        from (
            select from jobs j where j.state = 'ready' and j.lane = l.lane order by j.priority, j.run_at, j.id limit c_counted_max
        ) as f
    ) as first
    where l.share <= c_shares_max
    group by l.share_id, t.weight, l.kind;
end
$$;

-- How long jobs of some kinds took from their first attempt to their end: of each the newest hundred within a day, of the
-- sample that history keeps an index of.
create function job_run_times(p_kinds text[]) returns table (kind text, seconds double precision)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return query
    select k.kind, recent.seconds
    from unnest(p_kinds) as k (kind)
    cross join lateral (
        select extract(epoch from f.finished_at - f.started_at)::double precision as seconds
        from jobs_finished f
        where f.kind = k.kind and f.finished_at > now() - interval '1 day' and uuid_hash(f.id) & 7 = 0
          and f.ended <> 'cancelled' and f.started_at is not null
        order by f.finished_at desc
        limit 100
    ) as recent;
end
$$;
