-- What a service that searches by SQL would want: each order of the pages ready, with and without the two filters that
-- select most, and one index that counts without the table.
create index peer_score on pool_influencers (score desc, followers desc, id) where visibility = 'PUBLIC' and deleted_at is null;
create index peer_platform on pool_influencers (platform, score desc, followers desc, id) where visibility = 'PUBLIC' and deleted_at is null;
create index peer_category on pool_influencers (category, score desc, followers desc, id) where visibility = 'PUBLIC' and deleted_at is null;
create index peer_both on pool_influencers (category, platform, score desc, followers desc, id) where visibility = 'PUBLIC' and deleted_at is null;
create index peer_followers on pool_influencers (followers desc, score desc, id) where visibility = 'PUBLIC' and deleted_at is null;
create index peer_engagement on pool_influencers (engagement desc, score desc, followers desc, id) where visibility = 'PUBLIC' and deleted_at is null;
create index peer_count on pool_influencers (category, platform, score, followers, engagement) where visibility = 'PUBLIC' and deleted_at is null;
