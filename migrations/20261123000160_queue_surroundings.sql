-- What an estimate looks at, as before, but planned once in a session: a function in SQL is parsed and planned anew at every
-- call, which took most of its time. Written by crates/queue.
create or replace function job_surroundings(p_queue text, p_kind text, p_key text, p_share uuid) returns jsonb
language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
    return jsonb_build_object(
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
    );
end
$$;
