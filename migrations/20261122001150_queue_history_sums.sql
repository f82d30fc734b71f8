-- History added up over tenants, for charts of all of them. Only crates/queue reads or writes this table.

create table queue_history_sums (
    step_s       smallint    not null,
    -- The beginning of the bucket.
    at           timestamptz not null,
    -- The queue and the kind; '' stands for all.
    queue        text        not null collate "C",
    kind         text        not null collate "C",
    -- As in `queue_history`.
    completed    bigint      not null,
    failed       bigint      not null,
    cancelled    bigint      not null,
    attempts     bigint      not null,
    taken_back   bigint      not null,
    begun        bigint      not null,
    wait_ms      bigint      not null,
    wait_ms_max  bigint      not null,
    run_ms       bigint      not null,
    run_ms_max   bigint      not null,
    wait_buckets smallint[]  not null,
    wait_counts  bigint[]    not null,
    run_buckets  smallint[]  not null,
    run_counts   bigint[]    not null,
    primary key (step_s, queue, kind, at)
);

-- Adds up the buckets of a length from one instant until before another, which were rolled up just now.
create function queue_history_sum(p_step_s smallint, p_from timestamptz, p_to timestamptz) returns void
language sql
set jit = off set enable_nestloop = off
as $$
    with parts as materialized (
        select * from queue_history where step_s = p_step_s and at >= p_from and at < p_to
    ),
    waits as (
        select w.at, w.queue, w.kind, array_agg(w.bucket order by w.bucket) as buckets,
            array_agg(w.jobs order by w.bucket) as counts
        from (
            select p.at, coalesce(p.queue, '') as queue, coalesce(p.kind, '') as kind, h.bucket, sum(h.jobs)::bigint as jobs
            from parts p
            cross join lateral unnest(p.wait_buckets, p.wait_counts) as h (bucket, jobs)
            group by p.at, h.bucket, cube (p.queue, p.kind)
        ) as w
        group by 1, 2, 3
    ),
    runs as (
        select r.at, r.queue, r.kind, array_agg(r.bucket order by r.bucket) as buckets,
            array_agg(r.jobs order by r.bucket) as counts
        from (
            select p.at, coalesce(p.queue, '') as queue, coalesce(p.kind, '') as kind, h.bucket, sum(h.jobs)::bigint as jobs
            from parts p
            cross join lateral unnest(p.run_buckets, p.run_counts) as h (bucket, jobs)
            group by p.at, h.bucket, cube (p.queue, p.kind)
        ) as r
        group by 1, 2, 3
    ),
    totals as (
        select p.at, coalesce(p.queue, '') as queue, coalesce(p.kind, '') as kind,
            sum(p.completed) as completed, sum(p.failed) as failed, sum(p.cancelled) as cancelled,
            sum(p.attempts) as attempts, sum(p.taken_back) as taken_back, sum(p.begun) as begun,
            sum(p.wait_ms) as wait_ms, max(p.wait_ms_max) as wait_ms_max,
            sum(p.run_ms) as run_ms, max(p.run_ms_max) as run_ms_max
        from parts p
        group by p.at, cube (p.queue, p.kind)
    )
    insert into queue_history_sums
    select p_step_s, t.at, t.queue, t.kind, t.completed, t.failed, t.cancelled, t.attempts, t.taken_back, t.begun,
        t.wait_ms, t.wait_ms_max, t.run_ms, t.run_ms_max,
        coalesce(w.buckets, '{}'), coalesce(w.counts, '{}'), coalesce(r.buckets, '{}'), coalesce(r.counts, '{}')
    from totals t
    left join waits w using (at, queue, kind)
    left join runs r using (at, queue, kind)
$$;

-- Whoever rolls up, also a process of the version before, adds up as well.
alter function queue_history_minutes(timestamptz, timestamptz, integer) rename to queue_history_minutes_of_tenants;
alter function queue_history_hour(timestamptz, integer) rename to queue_history_hour_of_tenants;

create function queue_history_minutes(p_from timestamptz, p_to timestamptz, p_tenants_max integer) returns bigint
language plpgsql as $$
declare
    v_jobs bigint := queue_history_minutes_of_tenants(p_from, p_to, p_tenants_max);
begin
    perform queue_history_sum(60::smallint, p_from, p_to);
    return v_jobs;
end
$$;

create function queue_history_hour(p_at timestamptz, p_tenants_max integer) returns void
language plpgsql as $$
begin
    perform queue_history_hour_of_tenants(p_at, p_tenants_max);
    perform queue_history_sum(3600::smallint, p_at, p_at + interval '1 hour');
end
$$;

-- What is rolled up already.
select queue_history_sum(step_s::smallint, '-infinity', 'infinity') from unnest(array[60, 3600]) as step_s;
