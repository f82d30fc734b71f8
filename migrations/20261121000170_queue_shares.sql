-- Whose jobs are claimed when several tenants or kinds have some. See the head of queue_ends for what holds for all
-- functions of the queue.

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

-- The last lane that a share may have in a queue: lanes begin with the queue's number and the share's last bytes.
create function job_share_end(lane uuid) returns uuid
language sql immutable as $$
    select (left(lane::text, 18) || '-ffff-ffffffffffff')::uuid
$$;

-- The first ready job of the next lane after one, up to and with another, without those that were to run before
-- `p_since`. In lanes and priorities that are named by `k_lanes` and `k_priorities`, sorted, it goes to that time at once.
-- Elsewhere it passes what is older, and what is gone, one by one: so whoever names the lanes in which jobs were before
-- finds new ones in no time, whatever the index has to keep. Only `job_turn` calls it, under its settings.
create function job_next_head(
    p_after uuid, p_last uuid, p_since timestamptz, k_lanes uuid[], k_priorities smallint[],
    out lane uuid, out share_id uuid, out kind text, out key text, out priority smallint, out run_at timestamptz,
    out id uuid
)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_after uuid := p_after;
begin
    if cardinality(k_lanes) > 0 then
        -- Of each, in their order: the lanes before it, what is more urgent in its lane, itself, and what is less urgent.
        select f.* into lane, share_id, kind, key, priority, run_at, id
        from (
            select k.lane, k.priority,
                coalesce(lag(k.lane) over w, p_after) as lane_before,
                case when lag(k.lane) over w = k.lane then lag(k.priority) over w else -32769 end as priority_before,
                lag(k.lane) over w is distinct from k.lane as is_first,
                lead(k.lane) over w is distinct from k.lane as is_last
            from unnest(k_lanes, k_priorities) as k (lane, priority)
            where k.lane > p_after and k.lane <= p_last
            window w as (order by k.lane, k.priority)
        ) as k
        cross join lateral (
            (
                select j.lane, j.share_id, j.kind, j.key, j.priority, j.run_at, j.id from jobs j
                where k.is_first and j.state = 'ready' and j.lane > k.lane_before and j.lane < k.lane
                  and j.run_at >= p_since
                order by j.lane, j.priority, j.run_at, j.id limit 1
            )
            union all
            (
                select j.lane, j.share_id, j.kind, j.key, j.priority, j.run_at, j.id from jobs j
                where j.state = 'ready' and j.lane = k.lane and j.priority > k.priority_before
                  and j.priority < k.priority and j.run_at >= p_since
                order by j.priority, j.run_at, j.id limit 1
            )
            union all
            (
                select j.lane, j.share_id, j.kind, j.key, j.priority, j.run_at, j.id from jobs j
                where j.state = 'ready' and j.lane = k.lane and j.priority = k.priority and j.run_at >= p_since
                order by j.run_at, j.id limit 1
            )
            union all
            (
                select j.lane, j.share_id, j.kind, j.key, j.priority, j.run_at, j.id from jobs j
                where k.is_last and j.state = 'ready' and j.lane = k.lane and j.priority > k.priority
                  and j.run_at >= p_since
                order by j.priority, j.run_at, j.id limit 1
            )
            limit 1
        ) as f
        limit 1;
        if found then
            return;
        end if;
        v_after := coalesce(
            (select k.lane from unnest(k_lanes) as k (lane) where k.lane > p_after and k.lane <= p_last order by 1 desc limit 1),
            p_after
        );
    end if;
    select j.lane, j.share_id, j.kind, j.key, j.priority, j.run_at, j.id
    into lane, share_id, kind, key, priority, run_at, id
    from jobs j
    where j.state = 'ready' and j.lane > v_after and j.lane <= p_last and j.run_at >= p_since
    order by j.lane, j.priority, j.run_at, j.id
    limit 1;
end
$$;

-- When the oldest ready job of some lanes was to run. Of each lane its first job is given; the first of a less urgent
-- priority may be older. Null when a lane has jobs of more priorities than are looked at. Only `job_turn` and `job_pick`
-- call it, under their settings.
create function job_oldest(
    p_lanes uuid[], p_priorities smallint[], p_run_ats timestamptz[]
) returns timestamptz
language plpgsql stable
as $$
declare
    c_priorities_max constant integer := 16;
begin
    return (
        with recursive walk as (
            select l.lane, l.priority, l.run_at, 1 as n
            from unnest(p_lanes, p_priorities, p_run_ats) as l (lane, priority, run_at)
            union all
            select w.lane, next.priority, next.run_at, w.n + 1
            from walk w
            cross join lateral (
                select j.priority, j.run_at from jobs j
                where j.lane = w.lane and j.state = 'ready' and j.priority > w.priority
                order by j.priority, j.run_at, j.id
                limit 1
            ) as next
            where w.n <= c_priorities_max
        )
        select case when max(n) <= c_priorities_max then min(run_at) end from walk
    );
end
$$;

-- Chooses and locks up to `p_count` ready jobs of a queue in which more than one lane has any: first how many of each
-- share, then its most urgent ones. Shares are looked at in a circle that begins after that of `p_lane_after`, 256 at
-- the most; of a share that has more lanes than can be looked at, a stretch that begins anywhere. Only `job_turn`
-- calls it, under its settings.
--
-- Answers the jobs, where the next look begins, whether to look again at once, when a limit that holds jobs back clears,
-- whether nothing else does, whether any of the lanes' kinds draws on limits, and when the oldest job that it saw was to
-- run; null when it did not see all.
create function job_pick(
    p_process uuid, p_queue text, p_lane_from uuid, p_lane_to uuid, p_lane_after uuid, p_since timestamptz, p_count integer,
    p_shares uuid[], p_passes double precision[], k_lanes uuid[], k_priorities smallint[], p_controlled boolean,
    out tids tid[], out lane_after uuid, out again boolean, out clears_at timestamptz, out only_limits boolean,
    out limited boolean, out oldest timestamptz
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
    -- Of lanes: where, whose (position among the shares), which of the share's, and how they stand: bounded are those
    -- that pauses, caps or limits may hold back.
    l_lanes uuid[];
    l_owners integer[];
    l_nths integer[];
    l_kinds text[];
    l_keys text[];
    -- The first job of each: what was ready before it is gone.
    h_priorities smallint[];
    h_run_ats timestamptz[];
    h_ids uuid[];
    l_bounded boolean[];
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
            select f.*, 1 as owner, 1 as nth, 1 as n
            from (
                (
                    select h.*, false as wrapped
                    from job_next_head(v_stop, p_lane_to, p_since, k_lanes, k_priorities) as h
                    where h.lane is not null
                )
                union all
                (
                    select h.*, true
                    from job_next_head(p_lane_from, v_stop, p_since, k_lanes, k_priorities) as h
                    where h.lane is not null
                )
                limit 1
            ) as f
        )
        union all
        select next.lane, next.share_id, next.kind, next.key, next.priority, next.run_at, next.id, next.wrapped,
            case when i.is_same then w.owner else w.owner + 1 end, case when i.is_same then w.nth + 1 else 1 end,
            w.n + 1
        from walk w
        cross join lateral (
            select case when w.nth < c_lanes_max then w.lane else job_share_end(w.lane) end as after
        ) as b
        cross join lateral (
            (
                select h.*, false as wrapped
                from job_next_head(b.after, p_lane_to, p_since, k_lanes, k_priorities) as h
                where not w.wrapped and h.lane is not null
            )
            union all
            (
                select h.*, true
                from job_next_head(
                    case when w.wrapped then b.after else p_lane_from end, v_stop, p_since, k_lanes, k_priorities
                ) as h
                where h.lane is not null
            )
            limit 1
        ) as next
        cross join lateral (
            select next.lane > w.lane and next.lane <= job_share_end(w.lane) as is_same
        ) as i
        where w.owner <= c_shares_max and w.n < c_looks_max
    )
    select array_agg(lane order by n), array_agg(owner order by n), array_agg(nth order by n),
        array_agg(kind order by n), array_agg(key order by n),
        array_agg(priority order by n), array_agg(run_at order by n), array_agg(id order by n),
        array_agg(share_id order by n) filter (where nth = 1),
        max(n) >= c_looks_max or (select max(owner) > c_shares_max from walk)
    into l_lanes, l_owners, l_nths, l_kinds, l_keys, h_priorities, h_run_ats, h_ids, s_shares, v_cut
    from walk
    where owner <= c_shares_max;
    if l_lanes is null then
        -- Others were quicker.
        lane_after := p_lane_after;
        again := false;
        oldest := case when p_since = '-infinity' then 'infinity' end;
        return;
    end if;

    if p_since = '-infinity' and not v_cut and c_lanes_max <> all(l_nths) then
        oldest := job_oldest(l_lanes, h_priorities, h_run_ats);
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
            select m.owner, m.first, m.base, m.middle, f.lane, f.kind, f.key, f.priority, f.run_at, f.id, f.wrapped,
                1 as nth
            from many m
            cross join lateral (
                (
                    select lane, kind, key, priority, run_at, id, false as wrapped from jobs
                    where state = 'ready' and lane > m.middle and lane <= job_share_end(m.first) and run_at >= p_since
                    order by lane, priority, run_at, id limit 1
                )
                union all
                (
                    select lane, kind, key, priority, run_at, id, true from jobs
                    where state = 'ready' and lane > m.base and lane <= m.middle and run_at >= p_since
                    order by lane, priority, run_at, id limit 1
                )
                limit 1
            ) as f
            union all
            select w.owner, w.first, w.base, w.middle, next.lane, next.kind, next.key, next.priority, next.run_at,
                next.id, next.wrapped, w.nth + 1
            from walk w
            cross join lateral (
                (
                    select lane, kind, key, priority, run_at, id, false as wrapped from jobs
                    where not w.wrapped and state = 'ready' and lane > w.lane and lane <= job_share_end(w.first)
                      and run_at >= p_since
                    order by lane, priority, run_at, id limit 1
                )
                union all
                (
                    select lane, kind, key, priority, run_at, id, true from jobs
                    where state = 'ready' and lane > case when w.wrapped then w.lane else w.base end
                      and lane <= w.middle and run_at >= p_since
                    order by lane, priority, run_at, id limit 1
                )
                limit 1
            ) as next
            where w.nth < v_lanes_max
        ),
        lanes as (
            select w.lane, w.owner, w.kind, w.key, w.priority, w.run_at, w.id from walk w
            union all
            select l.lane, l.owner, l.kind, l.key, l.priority, l.run_at, l.id
            from unnest(l_lanes, l_owners, l_kinds, l_keys, h_priorities, h_run_ats, h_ids)
                as l (lane, owner, kind, key, priority, run_at, id)
            where l.owner not in (select m.owner from many m)
        )
        select array_agg(lane), array_agg(owner), array_agg(kind), array_agg(key), array_agg(priority),
            array_agg(run_at), array_agg(id)
        into l_lanes, l_owners, l_kinds, l_keys, h_priorities, h_run_ats, h_ids
        from lanes;
    end if;

    -- Jobs of bounded lanes are counted one lane after the other, since caps reach over lanes.
    select array_agg(greatest(r.room, 0) order by r.n), array_agg(r.capped or r.limited order by r.n),
        array_agg(false order by r.n), array_agg(0 order by r.n), coalesce(bool_or(r.room = -1), false),
        now() - max(r.room) filter (where r.room < -1) * interval '1 millisecond',
        bool_or(r.limited and r.room < p_count) and not bool_or(r.capped), bool_or(r.limited)
    into l_rooms, l_bounded, l_spent, l_taken, again, clears_at, only_limits, limited
    from (
        select l.n, c.capped, c.limited,
            case when c.capped or c.limited then job_lane_room(
                p_process, p_queue, l.lane, s_shares[l.owner], l.kind, l.key, p_count
            ) else p_count end as room
        from unnest(l_lanes, l_owners, l_kinds, l_keys) with ordinality as l (lane, owner, kind, key, n)
        cross join lateral (
            select p_controlled and (
                exists (select from job_pauses where queue = p_queue and kind = '')
                or exists (select from job_pauses where queue = p_queue and kind = l.kind)
                or l.key is not null
                    and exists (select from job_kinds where kind = l.kind and key_concurrency_max is not null)
                or exists (
                    select from job_tenants where tenant_id = s_shares[l.owner] and concurrency_max is not null
                )
            ) as capped,
            p_controlled and exists (select from job_kind_limits where kind = l.kind) as limited
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
                case when not l_bounded[w.n] then array(
                    select ctid from jobs
                    where lane = l_lanes[w.n] and state = 'ready' and run_at >= p_since
                      and (priority, run_at, id) >= (h_priorities[w.n], h_run_ats[w.n], h_ids[w.n])
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
                    from unnest(
                        l_lanes, l_owners, l_rooms, l_spent, l_taken, h_priorities, h_run_ats, h_ids
                    ) with ordinality as l (lane, owner, room, spent, taken, h_priority, h_run_at, h_id, n)
                    cross join lateral (
                        select j.priority, j.run_at, j.id from jobs j
                        where j.lane = l.lane and j.state = 'ready' and j.run_at >= p_since
                          and (j.priority, j.run_at, j.id) >= (l.h_priority, l.h_run_at, l.h_id)
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
                    p_process, p_queue, l_lanes[v_lane.n], s_shares[v_lane.owner], l_kinds[v_lane.n],
                    l_keys[v_lane.n], v_lane.jobs, tids, false
                );
                v_got := array(
                    select ctid from jobs
                    where lane = l_lanes[v_lane.n] and state = 'ready' and run_at >= p_since
                      and (priority, run_at, id)
                          >= (h_priorities[v_lane.n], h_run_ats[v_lane.n], h_ids[v_lane.n])
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
    if cardinality(l_lanes) = 1 then
        -- There is no circle.
        lane_after := p_lane_from;
        return;
    end if;
    lane_after := (select l.lane from unnest(l_lanes, l_owners) as l (lane, owner) where l.owner = v_last limit 1);
end
$$;
