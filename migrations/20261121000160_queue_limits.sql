-- What a claim and a call must ask before they take: pauses, caps and limits. See the head of queue_ends for what holds
-- for all functions of the queue.

-- The window or period of a limit that holds an instant. Windows are counted from the Unix epoch, as vendors that
-- document fixed windows do; periods are days and months in UTC. A concurrency limit has none.
create function job_limit_window(
    p_limit job_limits, p_at timestamptz, out began timestamptz, out ends timestamptz
)
-- Not in SQL: such a function would be planned anew by every statement that calls it.
language plpgsql stable
as $$
begin
    case p_limit.shape
        when 'rate' then
            began := to_timestamp(
                floor(extract(epoch from p_at) * 1000 / p_limit.window_ms) * p_limit.window_ms / 1000.0
            );
            ends := began + p_limit.window_ms * interval '1 millisecond';
        when 'budget' then
            began := date_trunc(p_limit.period, p_at, 'UTC');
            ends := began + ('1 ' || p_limit.period)::interval;
        else
            null;
    end case;
end
$$;

-- For how many more claims of a process (of a budget: for how much) a limit's bucket has room now, and, if it has none,
-- when it may have some at the earliest as far as that is known. Claimed jobs that have not drawn yet have their place in
-- it: they would only wait for each other in slots that others could use. So of a rate a process claims no more than are
-- drawn in a tenth of a second at its average, or 4: when a window opens, its jobs do not take the slots of all workers at
-- once, few die with a worker, and those of a dead one do not hold up the others. Of a concurrency limit it claims its part
-- of what there is, so that it has a job at hand whenever it is done with a slot.
create function job_limit_room(
    p_name text, p_key text, p_process uuid, out room bigint, out clears_at timestamptz
)
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_limit job_limits;
    v_bucket job_limit_buckets;
    v_began timestamptz;
    v_used bigint := 0;
    v_claimed bigint;
    v_claimed_max bigint;
begin
    select * into v_limit from job_limits l where l.name = p_name;
    if not found then
        return;
    end if;
    select * into v_bucket from job_limit_buckets b where b.name = p_name and b.key = p_key;
    select w.began, w.ends into v_began, clears_at from job_limit_window(v_limit, v_now) as w;
    room := 0;
    if v_bucket.blocked_until > v_now then
        clears_at := v_bucket.blocked_until;
        return;
    end if;
    if v_bucket.window_start >= v_began then
        v_used := v_bucket.used;
    end if;
    if v_limit.shape = 'budget' then
        room := greatest(v_limit.max - v_used, 0);
    elsif v_limit.max > v_used then
        select count(*) into v_claimed from job_limit_reservations r
        where r.name = p_name and r.key = p_key and r.process_id = p_process;
        if v_limit.shape = 'rate' then
            v_claimed_max := least(v_limit.max - v_used, greatest(v_limit.max * 100 / v_limit.window_ms, 4));
        else
            v_claimed_max := v_limit.max / greatest((select count(*) from worker_processes), 1) + 1;
        end if;
        room := greatest(v_claimed_max - v_claimed, 0);
        if room = 0 then
            -- Once those have drawn.
            clears_at := v_now + interval '50 milliseconds';
        end if;
    end if;
end
$$;

-- How many more jobs of a lane may run, as far as pauses, caps and limits say; at most `p_wanted`. -1: another claim is
-- deciding about the same cap at this moment. Less: none, and not before so many milliseconds have passed. `p_tids` are
-- jobs that this claim takes already: they count as running. Whoever knows what limits say asks for the rest alone.
create function job_lane_room(
    p_process uuid, p_queue text, p_lane uuid, p_share uuid, p_kind text, p_key text, p_wanted integer,
    p_tids tid[] default '{}', p_limits boolean default true
) returns integer
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
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
    if not p_limits then
        return greatest(v_room, 0);
    end if;
    for v_limit in
        select l.shape, kl.cost, r.room, r.clears_at
        from job_kind_limits kl
        join job_limits l on l.name = kl.name
        cross join lateral (select case when kl.keyed then coalesce(p_key, '') else '' end as key) as k
        cross join lateral job_limit_room(l.name, k.key, p_process) as r
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

-- Reserves for the given jobs a place in the limits of their kinds, in budgets what they are expected to cost. Answers
-- those of them for which there was room; the others are not to be claimed now.
--
-- Money must not be reserved twice, so a budget's bucket is locked. Of rates and slots it is enough that claims decide
-- one after another, and they do not even wait for it: a claim that meets another takes these jobs with its next look.
-- So claims and draws never wait for each other.
create function job_reserve(p_tids tid[], p_process uuid) returns tid[]
language plpgsql
set jit = off set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    -- What the jobs use, the most urgent first: the job, the limit, its bucket's key, its shape, how much.
    u_tids tid[];
    u_names text[];
    u_keys text[];
    u_shapes text[];
    u_takes bigint[];
    v_busy text[];
    v_kept tid[];
begin
    select array_agg(u.tid), array_agg(u.name), array_agg(u.key), array_agg(u.shape), array_agg(u.takes)
    into u_tids, u_names, u_keys, u_shapes, u_takes
    from (
        select j.ctid as tid, l.name, l.shape,
            case when kl.keyed then coalesce(j.key, '') else '' end as key,
            case when l.shape = 'budget' then kl.cost else 1 end as takes
        from jobs j
        join job_kind_limits kl on kl.kind = j.kind
        join job_limits l on l.name = kl.name
        where j.ctid = any(p_tids)
        order by j.priority, j.run_at, j.id
    ) as u;
    if u_tids is null then
        return p_tids;
    end if;
    v_busy := array(
        select b.name || ' ' || b.key
        from (
            select distinct u.name, u.key from unnest(u_names, u_keys, u_shapes) as u (name, key, shape)
            where u.shape <> 'budget'
        ) as b
        where not pg_try_advisory_xact_lock(hashtextextended('millpond limit ' || b.name || ' ' || b.key, 0))
    );
    if 'budget' = any(u_shapes) then
        insert into job_limit_buckets (name, key)
        select distinct u.name, u.key from unnest(u_names, u_keys, u_shapes) as u (name, key, shape)
        where u.shape = 'budget'
        order by 1, 2
        on conflict do nothing;
        perform from (
            select distinct u.name, u.key from unnest(u_names, u_keys, u_shapes) as u (name, key, shape)
            where u.shape = 'budget'
        ) as u
        join job_limit_buckets b on b.name = u.name and b.key = u.key
        order by b.name, b.key
        for no key update of b;
    end if;

    v_kept := array(
        select t.tid
        from unnest(p_tids) as t (tid)
        left join (
            select u.tid,
                u.name || ' ' || u.key <> all(v_busy)
                and sum(u.takes) over (partition by u.name, u.key order by u.n) <= r.room as fits
            from unnest(u_tids, u_names, u_keys, u_takes) with ordinality as u (tid, name, key, takes, n)
            join (
                select b.name, b.key, f.room
                from (select distinct u.name, u.key from unnest(u_names, u_keys) as u (name, key)) as b
                cross join lateral job_limit_room(b.name, b.key, p_process) as f
            ) as r on r.name = u.name and r.key = u.key
        ) as w on w.tid = t.tid
        group by t.tid
        having bool_and(coalesce(w.fits, true))
    );
    with reserved as (
        insert into job_limit_reservations (
            tenant_id, job_id, lease_token, name, key, window_start, cost, process_id
        )
        select j.tenant_id, j.id, j.lease_token + 1, u.name, u.key, coalesce(w.began, '-infinity'),
            case when u.shape = 'budget' then u.takes else 0 end, p_process
        from unnest(u_tids, u_names, u_keys, u_shapes, u_takes) as u (tid, name, key, shape, takes)
        join jobs j on j.ctid = u.tid
        join job_limits l on l.name = u.name
        cross join lateral job_limit_window(l, clock_timestamp()) as w
        where u.tid = any(v_kept)
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

-- How long until the given buckets may all give a permit (0: now), which of them takes longest, within how long a
-- permit given now must be used, and whether it takes the last slot. None is given at the edges of a window, so that a
-- call counts there in the window it was counted in here.
create function job_draw_wait(
    p_process uuid, p_names text[], p_keys text[], p_tenant uuid, p_job uuid, p_token integer,
    out wait_ms bigint, out blocked_by text, out use_within_ms bigint, out last_slot boolean
)
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
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
    last_slot := false;
    for v_one in
        select l.*, w.began, w.ends, b.used, b.window_start, b.blocked_until,
            r.window_start as reserved_in, r.cost as reserved,
            h.held, h.holds
        from unnest(p_names, p_keys) as i (name, key)
        join job_limits l on l.name = i.name
        cross join lateral job_limit_window(l, v_now) as w
        left join job_limit_buckets b on b.name = i.name and b.key = i.key
        left join job_limit_reservations r
            on r.tenant_id = p_tenant and r.job_id = p_job and r.lease_token = p_token and r.name = i.name
        cross join lateral (
            select count(*) as held, bool_or(h.process_id = p_process) as holds from job_limit_holds h
            where l.shape = 'concurrency' and h.name = l.name and h.key = i.key
              and h.process_id = any(array(select id from worker_processes))
        ) as h
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
            last_slot := last_slot or v_one.held + 1 >= v_one.max;
            if v_one.held >= v_one.max then
                -- Who has slots knows when it is done with one, and looks then.
                v_until := greatest(
                    v_until, v_now + case when v_one.holds then 40 else 10 end * interval '1 millisecond'
                );
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
-- ids that were offered. Slots that the process is done with are given back by the way, whatever comes of the draw.
create function job_draw(
    p_process uuid, p_tenant uuid, p_job uuid, p_token integer, p_names text[], p_keys text[], p_holds uuid[],
    p_returned uuid[],
    out granted boolean, out standing boolean, out wait_ms bigint, out blocked_by text, out use_within_ms bigint,
    out last_slot boolean, out held uuid[]
)
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz;
begin
    if cardinality(p_returned) > 0 then
        delete from job_limit_holds where id = any(p_returned);
    end if;
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
        select w.wait_ms, w.blocked_by, w.use_within_ms, w.last_slot
        into wait_ms, blocked_by, use_within_ms, last_slot
        from job_draw_wait(p_process, p_names, p_keys, p_tenant, p_job, p_token) as w;
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
set plan_cache_mode = force_generic_plan
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
