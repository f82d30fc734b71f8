//! The searchable columns in memory, in step with the database.
//!
//! Every row carries the transaction that wrote it last. To catch up is to read the rows whose transactions were not
//! yet visible in the database's snapshot of the last time: nothing is missed, in whatever order transactions commit,
//! and with nothing to read it costs one look into an index. A search catches up first, together with all others that
//! came while somebody else did, so it sees whatever was committed before it began; without the database there is no
//! search.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use db::Connection;
use futures::TryStreamExt;
use kernel::Platform;
use uuid::Uuid;

use super::columns::{Entry, Row, category_code, platform_code, traits_code};
use super::name::searched;
use super::page::{Found, From, Snapshot};
use super::{Category, PoolFilter, SearchFilter, SearchSort};
use crate::{InfluencerTier, PoolError, SyncStatus, Visibility};

/// So many changed creators stand beside the columns before those are made anew.
const CHANGED_MAX: usize = 4_096;

/// The index of one process.
#[derive(Debug, Default)]
pub struct SearchIndex {
    /// Whoever catches up holds it; the others wait and then know.
    step: tokio::sync::Mutex<Option<Step>>,
    snapshot: Mutex<Snapshot>,
}

/// How far the index is.
#[derive(Debug)]
struct Step {
    /// The database's snapshot that it holds all of, as text.
    seen: String,
    /// When the database was asked for it.
    began: Instant,
}

impl SearchIndex {
    /// Catches up with all that was committed before this call. Only one caller at a time polls its
    /// `connected`.
    ///
    /// # Errors
    /// [`PoolError::Database`].
    pub async fn in_step(
        &self,
        connected: impl Future<Output = Result<Connection, sqlx::Error>>,
    ) -> Result<(), PoolError> {
        let came = Instant::now();
        let mut step = self.step.lock().await;
        if step.as_ref().is_some_and(|step| step.began > came) {
            return Ok(());
        }
        let began = Instant::now();
        let mut conn = connected.await?;
        let seen = match step.as_ref() {
            Some(step) => self.catch_up(&mut conn, &step.seen).await?,
            None => self.load(&mut conn).await?,
        };
        *step = Some(Step { seen, began });
        Ok(())
    }

    /// A page of a partner's search in what was seen last: see [`SearchIndex::in_step`]. It is among those who are
    /// public.
    ///
    /// # Errors
    /// [`PoolError::Database`] when the search was cut off.
    pub async fn find(
        &self,
        filter: SearchFilter,
        sort: SearchSort,
        from: From,
        limit: usize,
    ) -> Result<Found, PoolError> {
        self.find_any(PoolFilter::public(filter), sort, from, limit).await
    }

    /// A page of an admin's search in what was seen last, private creators included.
    ///
    /// # Errors
    /// [`PoolError::Database`] when the search was cut off.
    pub async fn find_any(
        &self,
        filter: PoolFilter,
        sort: SearchSort,
        from: From,
        limit: usize,
    ) -> Result<Found, PoolError> {
        let snapshot = self.now();
        if filter.search.name.is_none() {
            return Ok(snapshot.find(&filter, sort, from, limit));
        }
        // Names take long enough that others would wait.
        unbroken(move || snapshot.find(&filter, sort, from, limit)).await
    }

    fn now(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    async fn load(&self, conn: &mut Connection) -> Result<String, PoolError> {
        // What changes between the two statements is read again with the next step.
        let seen = sqlx::query_scalar!(r#"select pg_current_snapshot()::text as "seen!""#)
            .fetch_one(&mut *conn)
            .await?;
        let rows = sqlx::query_as!(
            SearchRow,
            r#"
            select id, platform, category, score, followers, (engagement * 10000)::bigint as "engagement!",
                   visibility, tier, sync_status, username, display_name, true as "is_there!"
            from pool_influencers
            where deleted_at is null
            "#
        );
        let entries: Vec<Entry> = rows.fetch(conn).map_ok(|row| row.entry()).try_collect().await?;
        self.set(unbroken(move || Snapshot::of(entries)).await?);
        Ok(seen)
    }

    async fn catch_up(&self, conn: &mut Connection, seen: &str) -> Result<String, PoolError> {
        let changes = sqlx::query_file!("src/search/changes.sql", seen).fetch_all(conn).await?;
        let now = changes.first().map(|change| change.seen.clone());
        let entries = changes.into_iter().filter_map(|change| {
            let row = SearchRow {
                id: change.id?,
                platform: change.platform?,
                category: change.category,
                score: change.score?,
                followers: change.followers?,
                engagement: change.engagement?,
                visibility: change.visibility?,
                tier: change.tier?,
                sync_status: change.sync_status?,
                username: change.username?,
                display_name: change.display_name?,
                is_there: change.is_there?,
            };
            Some((row.id, row.is_there.then(|| row.entry())))
        });
        let entries: Vec<(Uuid, Option<Entry>)> = entries.collect();
        if !entries.is_empty() {
            let snapshot = self.now();
            let made = unbroken(move || {
                let snapshot = snapshot.with(&entries);
                if snapshot.changed_len() > CHANGED_MAX { Snapshot::of(snapshot.entries()) } else { snapshot }
            });
            self.set(made.await?);
        }
        Ok(now.unwrap_or_else(|| seen.to_owned()))
    }
}

/// Does what takes a while where nobody waits for the thread.
async fn unbroken<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PoolError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| sqlx::Error::Protocol(error.to_string()))?)
}

/// A creator's searchable columns as they come from the database.
struct SearchRow {
    id: Uuid,
    platform: String,
    category: Option<String>,
    score: i32,
    followers: i64,
    engagement: i64,
    visibility: String,
    tier: String,
    sync_status: String,
    username: String,
    display_name: String,
    is_there: bool,
}

impl SearchRow {
    fn entry(&self) -> Entry {
        // The table's constraints allow no other names and scores; what were not known would be nobody's business.
        let platform: Platform = self.platform.parse().unwrap_or(Platform::Tiktok);
        let category: Option<Category> = self.category.as_ref().and_then(|name| name.parse().ok());
        let traits = traits_code(
            self.visibility.parse().unwrap_or(Visibility::Private),
            self.tier.parse().unwrap_or(InfluencerTier::Standard),
            self.sync_status.parse().unwrap_or(SyncStatus::Archived),
        );
        let row = Row {
            id: self.id,
            platform: platform_code(platform),
            category: category_code(category),
            score: u8::try_from(self.score).unwrap_or_default(),
            followers: u64::try_from(self.followers).unwrap_or_default(),
            engagement: u32::try_from(self.engagement.max(0)).unwrap_or(u32::MAX),
            traits,
        };
        Entry { row, names: searched(&self.username, &self.display_name).into() }
    }
}
