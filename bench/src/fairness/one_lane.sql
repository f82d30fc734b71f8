
#variable_conflict use_column
declare
    v_done uuid[];
    v_released text[] := '{}';
    v_tids tid[] := '{}';
begin
    if cardinality(e_ids) > 0 then
        select f.ended, f.released into v_done, v_released
        from job_end(e_tenants, e_ids, e_tids, e_tokens, e_ends, e_results, e_failures, e_entries, e_subjects) as f;
    end if;
    if p_count > 0 and exists (select from worker_processes where id = p_process) then
        v_tids := array(
            select ctid from jobs
            where lane = '{lane}' and state = 'ready'
            order by priority, run_at, id
            limit p_count
            for update skip locked
        );
    end if;
    return query select
        '{}'::uuid[], coalesce(cardinality(v_done), 0), v_released, null::bigint, false, false, null::timestamptz,
        null::uuid, null::uuid, null::tid, null::integer, null::text, null::smallint, null::smallint, null::json,
        null::text, null::text, null::boolean, null::uuid, null::smallint, null::uuid, null::smallint, null::bigint,
        now();
    if cardinality(v_tids) > 0 then
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
            j.traceparent, j.cancel_requested, j.lane, j.priority, j.share_id, 1::smallint,
            (extract(epoch from j.deadline_at - now()) * 1000)::bigint,
            j.run_at;
    end if;
end
