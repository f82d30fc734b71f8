-- Dead jobs in groups. Only crates/queue calls this function.

-- Of the newest `p_looked_max` dead jobs within a range of time, those that match, counted by kind, error code and message
-- without its digits: messages that differ in these alone have one signature, of which the caller makes groups. The first row
-- says how many were looked at; each further one is a message, with the newest three ids.
create function job_dead_groups(
    p_tenant uuid, p_kinds text[], p_queue text, p_code text, p_from timestamptz, p_before timestamptz, p_ids uuid[],
    p_words text, p_looked_max bigint
) returns table (
    looked bigint, kind text, code text, message text, jobs bigint, first_at timestamptz, last_at timestamptz, samples uuid[]
)
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
    )
    select count(*), null, null, null, null, null, null, null from seen
    union all
    (
        select null, s.kind, s.code, min(s.message), count(*), min(s.finished_at), max(s.finished_at),
            (array_agg(s.id order by s.finished_at desc, s.id desc))[1:3]
        from seen s
        where (p_tenant is null or s.tenant_id = p_tenant)
          and (cardinality(p_kinds) = 0 or s.kind = any(p_kinds))
          and (p_queue is null or s.queue = p_queue)
          and (p_code is null or s.code = p_code)
          and (cardinality(p_ids) = 0 or s.id = any(p_ids))
          and (p_words is null or starts_with(s.message, p_words))
        group by s.kind, s.code, translate(s.message, '123456789', '000000000')
        order by max(s.finished_at) desc
    )
$$;
