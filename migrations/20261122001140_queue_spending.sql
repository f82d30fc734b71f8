-- What each owner's jobs spent of budgets. Only crates/queue reads or writes this table and calls this function.

-- Of each budget and owner what is settled of the present period; of one that is over the row waits for the next.
create table job_limit_spending (
    name         text        not null collate "C",
    tenant_id    uuid        not null,
    window_start timestamptz not null,
    spent        bigint      not null,
    primary key (name, tenant_id)
) with (fillfactor = 50);

-- Adds to it. Rows are locked in the order of their keys, whoever adds.
create function job_note_spending(p_names text[], p_tenants uuid[], p_windows timestamptz[], p_spent bigint[]) returns void
language sql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    insert into job_limit_spending as s (name, tenant_id, window_start, spent)
    select distinct on (i.name, i.tenant_id) i.name, i.tenant_id, i.window_start, sum(i.spent)
    from unnest(p_names, p_tenants, p_windows, p_spent) as i (name, tenant_id, window_start, spent)
    group by i.name, i.tenant_id, i.window_start
    order by i.name, i.tenant_id, i.window_start desc
    on conflict (name, tenant_id) do update
    set window_start = excluded.window_start,
        spent = excluded.spent + case when s.window_start = excluded.window_start then s.spent else 0 end
    where s.window_start <= excluded.window_start
$$;

-- Ends reservations of attempts that are over. Of each attempt: whether what it reserved and said nothing of goes back
-- (it spent nothing) or stays (it may have). `s_…` are what attempts said they spent. Buckets that have gone on to
-- another period are left alone. What was spent is noted by owner.
create or replace function job_settle_reservations(
    p_tenants uuid[], p_jobs uuid[], p_tokens integer[], p_goes_back boolean[],
    s_jobs uuid[], s_tokens integer[], s_names text[], s_amounts bigint[]
) returns void
language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    v_names text[];
    v_tenants uuid[];
    v_windows timestamptz[];
    v_spent bigint[];
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
    ),
    settled as (
        select e.name, e.key, e.window_start, e.tenant_id, e.cost,
            coalesce(s.amount, case when e.goes_back then 0 else e.cost end)::bigint as amount
        from ended e
        join job_limits l on l.name = e.name and l.shape = 'budget'
        left join spent s on s.job_id = e.job_id and s.lease_token = e.lease_token and s.name = e.name
    ),
    changed as (
        update job_limit_buckets b
        set used = greatest(b.used + c.change, 0)
        from (select name, key, window_start, sum(amount - cost) as change from settled group by 1, 2, 3) as c
        where b.name = c.name and b.key = c.key and b.window_start = c.window_start and c.change <> 0
    )
    select array_agg(name), array_agg(tenant_id), array_agg(window_start), array_agg(amount)
    into v_names, v_tenants, v_windows, v_spent
    from settled where amount <> 0;
    if v_names is not null then
        perform job_note_spending(v_names, v_tenants, v_windows, v_spent);
    end if;
end
$$;
