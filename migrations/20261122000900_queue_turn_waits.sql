-- A turn also says when the jobs that it claimed were to run, so that workers can tell how long they waited. What a
-- function answers can only be changed by making it anew; statements that name the columns they want, as those of the
-- version before do, go on working.
drop function job_turn(
    uuid, text, uuid, uuid, uuid, timestamptz, integer, uuid[], double precision[], uuid[], smallint[], uuid[], uuid[],
    tid[], integer[], text[], text[], jsonb[], jsonb[], uuid[], uuid[], uuid[], integer[], boolean[], bigint[],
    smallint[], jsonb[]
);

-- One turn of a worker's pool: acknowledges what its jobs came to, then claims up to `p_count` ready jobs of its
-- queue, choosing the share first and then its most urgent job.
--
-- The first row answers for the turn: which acknowledged jobs were refused (their lease was lost), how many
-- ended, the queues in which jobs became ready, how long until the next scheduled job of this queue is due,
-- whether to look again at once although fewer jobs than wanted were there, whether limits hold back jobs and nothing
-- else does, the lane after which the next turn goes on, and since when jobs may be ready that were not seen. Each
-- further row is a claimed job. In the first `run_at` is the database's time, in the others when the job was to run: the
-- difference is how long it waited.
--
-- `p_since`: jobs that were to run before are known to be gone, so they need not be looked for; null looks at all. While
-- somebody keeps an old transaction open, the index keeps every job that was ever ready since, and walking past those
-- that are gone would take longer with every job. `k_lanes` and `k_priorities`: see `job_next_head`.
create function job_turn(
    p_process uuid, p_queue text, p_lane_from uuid, p_lane_to uuid, p_lane_after uuid, p_since timestamptz,
    p_count integer, p_shares uuid[], p_passes double precision[], k_lanes uuid[], k_priorities smallint[],
    e_tenants uuid[], e_ids uuid[], e_tids tid[], e_tokens integer[], e_ends text[], e_results text[], e_failures jsonb[],
    e_entries jsonb[], e_subjects uuid[],
    b_tenants uuid[], b_ids uuid[], b_tokens integer[], b_parks boolean[], b_delays_ms bigint[],
    b_used smallint[], b_entries jsonb[]
) returns table (
    refused uuid[], ended integer, released text[], due_ms bigint, again boolean, only_limits boolean, since timestamptz,
    tenant_id uuid, id uuid, tid tid, lease_token integer, kind text, attempt smallint, attempts_max smallint, args json,
    request_id text, traceparent text, cancel_requested boolean, lane uuid, priority smallint, share_id uuid,
    weight smallint, deadline_ms bigint, run_at timestamptz
)
language plpgsql
-- A job's row may be locked by a transaction of its handler that nobody can end, on a connection that fell silent: the
-- others' outcomes must not wait for it.
set lock_timeout = '250ms'
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
    v_only_limits boolean := false;
    v_since timestamptz := coalesce(p_since, '-infinity');
    -- When the oldest job was to run, if all were looked at.
    v_oldest timestamptz;
    v_tids tid[] := '{}';
    v_controlled boolean;
    -- Kinds that draw on limits may be among those that are claimed.
    v_limited boolean := false;
    v_alone boolean := false;
    v_several boolean;
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
        v_since := '-infinity';
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
        -- The last turn met several lanes: so will this one.
        v_several := p_lane_after > p_lane_from;
        if not v_several then
            v_first := job_next_head(p_lane_from, p_lane_to, v_since, k_lanes, k_priorities);
            v_alone := v_first.lane is not null;
            v_several := v_alone
                and (job_next_head(v_first.lane, p_lane_to, v_since, k_lanes, k_priorities)).lane is not null;
            v_alone := v_alone and not v_several;
        end if;
        if not v_alone and not v_several then
            v_oldest := case when v_since = '-infinity' then 'infinity' end;
        elsif v_alone then
            -- One lane: nothing to be fair about.
            if v_since = '-infinity' then
                v_oldest := job_oldest(array[v_first.lane], array[v_first.priority], array[v_first.run_at]);
            end if;
            select weight into v_weight from job_tenants where tenant_id = v_first.share_id;
            v_room := p_count;
            if v_controlled then
                v_limited := exists (select from job_kind_limits where kind = v_first.kind);
                v_room := job_lane_room(
                    p_process, p_queue, v_first.lane, v_first.share_id, v_first.kind, v_first.key, p_count
                );
                v_again := v_room = -1;
                v_only_limits := v_room < p_count
                    and v_limited
                    and not exists (select from job_pauses where queue = p_queue and kind in ('', v_first.kind))
                    and not exists (
                        select from job_kinds
                        where kind = v_first.kind and key_concurrency_max is not null and v_first.key is not null
                    )
                    and not exists (
                        select from job_tenants where tenant_id = v_first.share_id and concurrency_max is not null
                    );
                if v_room < -1 then
                    v_due := least(v_due, now() - v_room * interval '1 millisecond');
                end if;
            end if;
            if v_room > 0 then
                v_tids := array(
                    select ctid from jobs
                    where lane = v_first.lane and state = 'ready' and run_at >= v_since
                      and (priority, run_at, id) >= (v_first.priority, v_first.run_at, v_first.id)
                    order by priority, run_at, id
                    limit v_room
                    for update skip locked
                );
            end if;
        else
            select p.tids, p.lane_after, p.again, p.only_limits, p.limited, p.oldest, least(v_due, p.clears_at)
            into v_tids, v_lane_after, v_again, v_only_limits, v_limited, v_oldest, v_due
            from job_pick(
                p_process, p_queue, p_lane_from, p_lane_to, p_lane_after, v_since, p_count, p_shares, p_passes, k_lanes,
                k_priorities, v_controlled
            ) as p;
        end if;
    end if;

    if cardinality(v_tids) > 0 and v_limited then
        v_got := v_tids;
        v_tids := job_reserve(v_got, p_process);
        v_again := v_again or cardinality(v_tids) < cardinality(v_got);
    end if;
    return query select
        v_refused, coalesce(cardinality(v_done), 0), v_released,
        (extract(epoch from v_due - now()) * 1000)::bigint, v_again, v_only_limits,
        -- Who stores a job says when it is to run before others see it: some time is left for that.
        case when v_oldest is not null then least(v_oldest, now() - interval '1 second') end,
        null::uuid, null::uuid, null::tid, null::integer, null::text, null::smallint, null::smallint, null::json,
        null::text, null::text, null::boolean, v_lane_after, null::smallint, null::uuid, null::smallint, null::bigint,
        now();
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
            null::uuid[], null::integer, null::text[], null::bigint, null::boolean, null::boolean, null::timestamptz,
            j.tenant_id, j.id, j.ctid, j.lease_token, j.kind, j.attempt, j.attempts_max, j.args, j.request_id,
            j.traceparent, j.cancel_requested, j.lane, j.priority, j.share_id,
            coalesce(
                case when v_alone then v_weight
                    else (select t.weight from job_tenants t where t.tenant_id = j.share_id) end,
                1::smallint
            ),
            (extract(epoch from j.deadline_at - now()) * 1000)::bigint,
            j.run_at;
    end if;
end
$$;
