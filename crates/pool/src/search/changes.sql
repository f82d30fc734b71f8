-- The snapshot now, with the rows whose writers were not visible in the snapshot $1; one row of nulls without any.
-- A row that a restore brought from another cluster may name a transaction that has not been yet: it was loaded.
select
    now.seen::text as "seen!",
    p.id as "id?",
    p.platform as "platform?",
    p.category,
    p.score as "score?",
    p.followers as "followers?",
    (p.engagement * 10000)::bigint as "engagement?",
    p.visibility as "visibility?",
    p.tier as "tier?",
    p.sync_status as "sync_status?",
    p.username as "username?",
    p.display_name as "display_name?",
    p.deleted_at is null as "is_there?"
from (select pg_current_snapshot() as seen) as now
left join pool_influencers as p
    on p.changed_in >= pg_snapshot_xmin($1::text::pg_snapshot)
    and p.changed_in < pg_snapshot_xmax(now.seen)
    and not pg_visible_in_snapshot(p.changed_in, $1::text::pg_snapshot)
