-- Dead jobs in groups. Only crates/queue calls this function.

-- Of the newest `p_looked_max` dead jobs within a range of time, those that match, by kind and error code, the newest first: their
-- messages, of which the caller makes signatures, their ids, and when they ended. The first row says how many were looked at.
create function job_dead_groups(
    p_tenant uuid, p_kinds text[], p_queue text, p_code text, p_from timestamptz, p_before timestamptz, p_ids uuid[],
    p_words text, p_looked_max bigint
) returns table (looked bigint, kind text, code text, messages text[], ids uuid[], ended_at timestamptz[])
language sql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    with seen as materialized (
        select f.id, f.tenant_id, f.kind, f.queue, f.finished_at, coalesce(f.error ->> 'code', '') as code,
            left(coalesce(f.error ->> 'message', ''), 500) as message
        from jobs_finished f
        where f.ended = 'failed' and f.finished_at >= coalesce(p_from, '-infinity')
          and f.finished_at < coalesce(p_before, 'infinity')
        order by f.finished_at desc
        limit p_looked_max
    ),
    matching as (
        select s.* from seen s
        where (p_tenant is null or s.tenant_id = p_tenant)
          and (cardinality(p_kinds) = 0 or s.kind = any(p_kinds))
          and (p_queue is null or s.queue = p_queue)
          and (p_code is null or s.code = p_code)
          and (cardinality(p_ids) = 0 or s.id = any(p_ids))
          and (p_words is null or starts_with(s.message, p_words))
        order by s.kind, s.code, s.finished_at desc, s.id desc
    )
    select count(*), null, null, null::text[], null::uuid[], null::timestamptz[] from seen
    union all
    (
        select null, m.kind, m.code, array_agg(m.message), array_agg(m.id), array_agg(m.finished_at)
        from matching m
        group by m.kind, m.code
    )
$$;
