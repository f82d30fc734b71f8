-- What became of jobs, minute by minute and hour by hour, for charts. Only crates/queue reads or writes these tables.
--
-- Ends are counted from `jobs_finished` by the time at which they ended, once their minute is complete; hours are the
-- sums of their minutes. Depths are samples.

-- How far it is. Its one row is locked by whoever rolls up.
create table queue_history_progress (
    only_row      boolean     primary key default true check (only_row),
    -- Minutes before this are rolled up, and hours before that.
    minutes_until timestamptz not null,
    hours_until   timestamptz not null
) with (fillfactor = 50);

insert into queue_history_progress (minutes_until, hours_until)
select h, h from (select date_trunc('hour', now(), 'UTC') - interval '47 hours' as h) as start;

-- The buckets that are rolled up: one that is missing here is not known, and not empty.
create table queue_history_buckets (
    -- The length of the bucket: 60 or 3600.
    step_s smallint    not null,
    at     timestamptz not null,
    primary key (step_s, at)
);

create table queue_history (
    step_s       smallint    not null,
    -- The beginning of the bucket.
    at           timestamptz not null,
    queue        text        not null collate "C",
    kind         text        not null collate "C",
    -- The owner; ffffffff-ffff-ffff-ffff-ffffffffffff stands for all beyond the largest few of the bucket and kind.
    tenant_id    uuid        not null,
    completed    bigint      not null,
    failed       bigint      not null,
    cancelled    bigint      not null,
    attempts     bigint      not null,
    taken_back   bigint      not null,
    -- Jobs that were begun; from being stored to the first attempt, and from there to the end.
    begun        bigint      not null,
    wait_ms      bigint      not null,
    wait_ms_max  bigint      not null,
    run_ms       bigint      not null,
    run_ms_max   bigint      not null,
    -- How many waited, or ran, for how long. Bucket 0 is less than a millisecond, bucket b from 2^(b-1) ms to less than 2^b
    -- ms, the last (31) open. Those with jobs in them, and how many.
    wait_buckets smallint[]  not null,
    wait_counts  bigint[]    not null,
    run_buckets  smallint[]  not null,
    run_counts   bigint[]    not null,
    primary key (step_s, at, queue, kind, tenant_id)
);

-- How much stood in the queues when somebody looked; of an hour, the most that was seen.
create table queue_history_depths (
    step_s         smallint         not null,
    at             timestamptz      not null,
    queue          text             not null collate "C",
    kind           text             not null collate "C",
    ready          bigint           not null,
    scheduled      bigint           not null,
    running        bigint           not null,
    -- Counting stopped at its bound: there may be more.
    is_capped      boolean          not null,
    -- Seconds since the longest waiting ready job could have run; null when none is ready.
    oldest_ready_s double precision,
    primary key (step_s, at, queue, kind)
);

-- The bucket of a duration.
create function queue_history_bucket(ms bigint) returns smallint
language sql immutable
as $$
    select width_bucket(ms, array[
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288,
        1048576, 2097152, 4194304, 8388608, 16777216, 33554432, 67108864, 134217728, 268435456, 536870912, 1073741824
    ]::bigint[])::smallint
$$;

-- Rolls up the minutes from one up to another, which must be complete. Answers how many jobs ended in them. The range of
-- time is found by the index of pages (BRIN) alone, whatever the planner knows of the tables.
create function queue_history_minutes(p_from timestamptz, p_to timestamptz, p_tenants_max integer) returns bigint
language plpgsql
set jit = off set enable_seqscan = off set enable_indexscan = off set enable_indexonlyscan = off set enable_nestloop = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_jobs bigint;
begin
    insert into queue_history_buckets (step_s, at)
    select 60, at from generate_series(p_from, p_to - interval '1 minute', interval '1 minute') as at;

    with ended as (
        select date_trunc('minute', f.finished_at) as at, f.queue, f.kind, f.tenant_id, f.ended, f.attempt, f.taken_back,
            -- One that was never begun neither waited nor ran.
            case when f.started_at is not null
                then greatest(date_part('epoch', f.started_at - f.created_at) * 1000, 0)::bigint end as wait_ms,
            case when f.started_at is not null
                then greatest(date_part('epoch', f.finished_at - f.started_at) * 1000, 0)::bigint end as run_ms
        from jobs_finished f
        where f.finished_at >= p_from and f.finished_at < p_to
    ),
    cells as materialized (
        select e.at, e.queue, e.kind, e.tenant_id,
            queue_history_bucket(e.wait_ms) as wait_bucket, queue_history_bucket(e.run_ms) as run_bucket,
            count(*) as jobs,
            count(*) filter (where e.ended = 'completed') as completed,
            count(*) filter (where e.ended = 'failed') as failed,
            count(*) filter (where e.ended = 'cancelled') as cancelled,
            sum(e.attempt) as attempts, sum(e.taken_back) as taken_back, count(e.wait_ms) as begun,
            coalesce(sum(e.wait_ms), 0) as wait_ms, coalesce(max(e.wait_ms), 0) as wait_ms_max,
            coalesce(sum(e.run_ms), 0) as run_ms, coalesce(max(e.run_ms), 0) as run_ms_max
        from ended e
        group by 1, 2, 3, 4, 5, 6
    ),
    ranked as (
        select c.at, c.queue, c.kind, c.tenant_id,
            row_number() over (partition by c.at, c.queue, c.kind order by sum(c.jobs) desc, c.tenant_id) as place
        from cells c
        group by 1, 2, 3, 4
    ),
    folded as materialized (
        select c.*,
            case when r.place <= p_tenants_max then c.tenant_id else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end as tenant
        from cells c
        join ranked r using (at, queue, kind, tenant_id)
    ),
    waits as (
        select w.at, w.queue, w.kind, w.tenant, array_agg(w.bucket order by w.bucket) as buckets,
            array_agg(w.jobs order by w.bucket) as counts
        from (
            select f.at, f.queue, f.kind, f.tenant, f.wait_bucket as bucket, sum(f.begun)::bigint as jobs
            from folded f
            where f.begun > 0
            group by 1, 2, 3, 4, 5
        ) as w
        group by 1, 2, 3, 4
    ),
    runs as (
        select w.at, w.queue, w.kind, w.tenant, array_agg(w.bucket order by w.bucket) as buckets,
            array_agg(w.jobs order by w.bucket) as counts
        from (
            select f.at, f.queue, f.kind, f.tenant, f.run_bucket as bucket, sum(f.begun)::bigint as jobs
            from folded f
            where f.begun > 0
            group by 1, 2, 3, 4, 5
        ) as w
        group by 1, 2, 3, 4
    ),
    totals as (
        select f.at, f.queue, f.kind, f.tenant, sum(f.jobs) as jobs,
            sum(f.completed) as completed, sum(f.failed) as failed, sum(f.cancelled) as cancelled,
            sum(f.attempts) as attempts, sum(f.taken_back) as taken_back, sum(f.begun) as begun,
            sum(f.wait_ms) as wait_ms, max(f.wait_ms_max) as wait_ms_max,
            sum(f.run_ms) as run_ms, max(f.run_ms_max) as run_ms_max
        from folded f
        group by 1, 2, 3, 4
    ),
    stored as (
        insert into queue_history
        select 60, t.at, t.queue, t.kind, t.tenant, t.completed, t.failed, t.cancelled, t.attempts, t.taken_back, t.begun,
            t.wait_ms, t.wait_ms_max, t.run_ms, t.run_ms_max,
            coalesce(w.buckets, '{}'), coalesce(w.counts, '{}'), coalesce(r.buckets, '{}'), coalesce(r.counts, '{}')
        from totals t
        left join waits w using (at, queue, kind, tenant)
        left join runs r using (at, queue, kind, tenant)
    )
    select coalesce(sum(t.jobs), 0)::bigint into v_jobs from totals t;
    return v_jobs;
end
$$;

-- Rolls up one hour from its minutes.
create function queue_history_hour(p_at timestamptz, p_tenants_max integer) returns void
language plpgsql
set jit = off set enable_nestloop = off set plan_cache_mode = force_generic_plan
as $$
begin
    insert into queue_history_buckets (step_s, at) values (3600, p_at);

    with minutes as materialized (
        select * from queue_history where step_s = 60 and at >= p_at and at < p_at + interval '1 hour'
    ),
    ranked as (
        select m.queue, m.kind, m.tenant_id,
            row_number() over (
                partition by m.queue, m.kind order by sum(m.completed + m.failed + m.cancelled) desc, m.tenant_id
            ) as place
        from minutes m
        where m.tenant_id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'
        group by 1, 2, 3
    ),
    folded as materialized (
        select m.*,
            case when r.place <= p_tenants_max then m.tenant_id else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end as tenant
        from minutes m
        left join ranked r using (queue, kind, tenant_id)
    ),
    waits as (
        select w.queue, w.kind, w.tenant, array_agg(w.bucket order by w.bucket) as buckets,
            array_agg(w.jobs order by w.bucket) as counts
        from (
            select f.queue, f.kind, f.tenant, h.bucket, sum(h.jobs)::bigint as jobs
            from folded f
            cross join lateral unnest(f.wait_buckets, f.wait_counts) as h (bucket, jobs)
            group by 1, 2, 3, 4
        ) as w
        group by 1, 2, 3
    ),
    runs as (
        select w.queue, w.kind, w.tenant, array_agg(w.bucket order by w.bucket) as buckets,
            array_agg(w.jobs order by w.bucket) as counts
        from (
            select f.queue, f.kind, f.tenant, h.bucket, sum(h.jobs)::bigint as jobs
            from folded f
            cross join lateral unnest(f.run_buckets, f.run_counts) as h (bucket, jobs)
            group by 1, 2, 3, 4
        ) as w
        group by 1, 2, 3
    ),
    totals as (
        select f.queue, f.kind, f.tenant,
            sum(f.completed) as completed, sum(f.failed) as failed, sum(f.cancelled) as cancelled,
            sum(f.attempts) as attempts, sum(f.taken_back) as taken_back, sum(f.begun) as begun,
            sum(f.wait_ms) as wait_ms, max(f.wait_ms_max) as wait_ms_max,
            sum(f.run_ms) as run_ms, max(f.run_ms_max) as run_ms_max
        from folded f
        group by 1, 2, 3
    )
    insert into queue_history
    select 3600, p_at, t.queue, t.kind, t.tenant, t.completed, t.failed, t.cancelled, t.attempts, t.taken_back, t.begun,
        t.wait_ms, t.wait_ms_max, t.run_ms, t.run_ms_max,
        coalesce(w.buckets, '{}'), coalesce(w.counts, '{}'), coalesce(r.buckets, '{}'), coalesce(r.counts, '{}')
    from totals t
    left join waits w using (queue, kind, tenant)
    left join runs r using (queue, kind, tenant);

    insert into queue_history_depths
    select 3600, p_at, d.queue, d.kind, max(d.ready), max(d.scheduled), max(d.running), bool_or(d.is_capped),
        max(d.oldest_ready_s)
    from queue_history_depths d
    where d.step_s = 60 and d.at >= p_at and d.at < p_at + interval '1 hour'
    group by d.queue, d.kind;
end
$$;

-- What stands in a queue now, by kind: ready jobs of its first 256 lanes and of each of these 1,000, scheduled jobs up to
-- 10,000, and all that run. Answers a row for each kind that has any.
create function queue_depth_sample(p_queue text, p_lane_from uuid, p_lane_to uuid)
returns table (kind text, ready bigint, scheduled bigint, running bigint, is_capped boolean, oldest_ready_s double precision)
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    c_lanes_max constant integer := 256;
    c_lane_max constant integer := 1000;
    c_scheduled_max constant integer := 10000;
begin
    return query
    with recursive lanes as (
        (
            select j.lane, j.kind, j.run_at, 1 as nth from jobs j
            where j.state = 'ready' and j.lane >= p_lane_from and j.lane < p_lane_to
            order by j.lane, j.priority, j.run_at, j.id
            limit 1
        )
        union all
        select next.lane, next.kind, next.run_at, l.nth + 1
        from lanes l
        cross join lateral (
            select j.lane, j.kind, j.run_at from jobs j
            where j.state = 'ready' and j.lane > l.lane and j.lane < p_lane_to
            order by j.lane, j.priority, j.run_at, j.id
            limit 1
        ) as next
        where l.nth < c_lanes_max
    ),
    counted as (
        select l.kind, l.run_at, l.nth, first.jobs
        from lanes l
        cross join lateral (
            select count(*) as jobs
            from (select from jobs j where j.state = 'ready' and j.lane = l.lane limit c_lane_max) as f
        ) as first
    ),
    upcoming as (
        select j.kind from jobs j where j.state = 'scheduled' and j.queue = p_queue limit c_scheduled_max
    ),
    parts as (
        select c.kind, c.jobs as ready, 0::bigint as scheduled, 0::bigint as running,
            c.jobs >= c_lane_max or c.nth >= c_lanes_max as is_capped,
            date_part('epoch', now() - c.run_at) as oldest_ready_s
        from counted c
        union all
        select u.kind, 0, count(*), 0, (select count(*) from upcoming) >= c_scheduled_max, null from upcoming u group by u.kind
        union all
        select j.kind, 0, 0, count(*), false, null from jobs j where j.state = 'running' and j.queue = p_queue group by j.kind
    )
    select p.kind, sum(p.ready)::bigint, sum(p.scheduled)::bigint, sum(p.running)::bigint, bool_or(p.is_capped),
        greatest(max(p.oldest_ready_s), 0)
    from parts p
    group by p.kind;
end
$$;
