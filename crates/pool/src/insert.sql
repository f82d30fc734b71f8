-- A creator the pool did not know. Private until an administrator publishes it.
insert into pool_influencers (
    id, vb_profile_id, platform, username, display_name, avatar_url, bio,
    followers, following, engagement, avg_views, avg_likes, avg_comments,
    score, score_reach, score_engagement, score_authenticity, tier,
    contact_email, contact_phone, synced_at, added_by_partner_id,
    visibility, source, sync_status
)
values (
    $1, $2, $3, $4, $5, $6, $7,
    $8, $9, $10::float8::numeric, $11, $12, $13,
    $14, $15, $16, $17, $18,
    $19, $20, least($21::timestamptz, now()), $22,
    'PRIVATE', 'PARTNER', 'ACTIVE'
)
