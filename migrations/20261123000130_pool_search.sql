-- Searching the pool. Written by crates/pool.

alter table pool_influencers
    -- Removed by an admin: kept, and no longer searched or requested.
    add column deleted_at timestamptz,
    -- The transaction that wrote the row last: how a copy of the pool is kept in step with it.
    add column changed_in xid8 not null default '0';
create index pool_influencers_changed on pool_influencers (changed_in);

create function stamp_pool_change() returns trigger
language plpgsql as $$
begin
    new.changed_in := pg_current_xact_id();
    return new;
end
$$;
create trigger pool_influencers_changed before insert or update on pool_influencers
    for each row execute function stamp_pool_change();
