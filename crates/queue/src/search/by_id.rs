//! Searches in the order of ids: by what few jobs have in common, else along each owner's jobs.
//!
//! Along owners a look takes the next few jobs of each. Up to the nearest id at which it stopped with any of them everything
//! was seen: that is how far the page reaches, and where the next look begins.

use db::Connection;
use uuid::Uuid;

use super::{
    Behind, COUNTED_EXACTLY_MAX, Found, FoundJob, JobSearch, JobState, LOOKED_MAX, Order, SearchCursor,
    SearchFault, SortedBy,
    row::{Look, Row},
};
use crate::{Error, Queue, lane::lanes_of};

/// Jobs of a state that are gathered to be sorted; where there are more, looking goes along owners.
const GATHERED_MAX: i32 = 2_000;
/// Owners along whose jobs one page looks. Where there are more, pages come owner by owner, so many at a time.
const OWNERS_MAX: i32 = 500;
/// Owners among whom jobs are looked for by their ids.
const OWNERS_PROBED_MAX: i32 = 10_000;
/// Jobs of each owner that a look takes at the least.
const OF_EACH_MIN: u64 = 8;

/// What a look is to be.
struct Ask<'a> {
    search: &'a JobSearch,
    order: Order,
    path: &'static str,
    owners: &'a [Uuid],
    /// The ids between which it looks.
    above: Uuid,
    below: Uuid,
    looked_max: i32,
    limit: usize,
}

pub(super) async fn page(
    conn: &mut Connection,
    search: &JobSearch,
    order: Order,
    after: Option<&SearchCursor>,
    limit: usize,
) -> Result<Found, Error> {
    let (mut above, mut below) = search.ids_between();
    let mut owners_after = None;
    match after.map(|cursor| cursor.0) {
        None => {}
        Some(Behind::Id(id, owners)) => {
            owners_after = owners;
            // Nothing was looked at yet among these owners when the id is at the bound.
            match order {
                Order::Newest => below = below.min(id),
                Order::Oldest => above = above.max(id),
            }
        }
        Some(Behind::End(..)) => return Err(SearchFault::Cursor.into()),
    }
    let ask = Ask { search, order, path: "", owners: &[], above, below, looked_max: 0, limit };
    if let Some(found) = gathered(conn, &ask).await? {
        return Ok(found);
    }
    along_owners(conn, ask, owners_after).await
}

/// The page of a search for what few jobs have in common; `None` when they are too many.
async fn gathered(conn: &mut Connection, ask: &Ask<'_>) -> Result<Option<Found>, Error> {
    let Some((path, looked_max)) = path_of(ask.search) else { return Ok(None) };
    let owners = owners_of(conn, ask.search, path).await?;
    let ask = Ask { path, owners: &owners, looked_max, ..*ask };
    let look = look(conn, &ask).await?;
    if look.is_cut {
        return Ok(None);
    }
    let (limit, mut jobs) = (ask.limit, look.jobs);
    let next = (jobs.len() > limit).then(|| cursor(&jobs[limit - 1], None));
    jobs.truncate(limit);
    Ok(Some(Found { jobs, next, partial: false, sorted_by: SortedBy::Created, looked: look.looked }))
}

/// How many jobs match, of all that a bounded look saw, and whether those were all.
pub(super) async fn counted(conn: &mut Connection, search: &JobSearch) -> Result<(u64, bool), Error> {
    let (above, below) = search.ids_between();
    let order = Order::Newest;
    let ask = Ask { search, order, path: "", owners: &[], above, below, looked_max: 0, limit: 0 };
    let mut matched = 0;
    if let Some((path, _)) = path_of(search) {
        let owners = owners_of(conn, search, path).await?;
        let looked_max = if path == "ids" { i32::MAX - 1 } else { as_i32(COUNTED_EXACTLY_MAX as u64) };
        let look = look(conn, &Ask { path, owners: &owners, looked_max, ..ask }).await?;
        if !look.is_cut {
            return Ok((look.matched, true));
        }
        matched = look.matched;
    }
    let owners = owners_of(conn, search, "tenants").await?;
    let looked_max = as_i32(LOOKED_MAX / 2 / owners.len().max(1) as u64).max(OF_EACH_MIN as i32);
    let look = look(conn, &Ask { path: "tenants", owners: &owners, looked_max, ..ask }).await?;
    let is_all = !look.is_cut && owners.len() < OWNERS_MAX as usize;
    Ok((look.matched.max(matched), is_all))
}

/// How many jobs in these states match, as a sample of the table says.
pub(super) async fn sampled(
    conn: &mut Connection,
    search: &JobSearch,
    states: &[JobState],
    is_live: bool,
) -> Result<u64, Error> {
    if states.is_empty() {
        return Ok(0);
    }
    let (above, below) = search.ids_between();
    let order = Order::Newest;
    let ask =
        Ask { search, order, path: "sample", owners: &[], above, below, looked_max: i32::MAX - 1, limit: 0 };
    let look = match is_live {
        true => look_live(conn, &ask, states).await?,
        false => look_finished(conn, &ask, states).await?,
    };
    Ok((look.matched as f64 * 100.0 / look.percent.max(f64::EPSILON)) as u64)
}

/// By what few jobs have in common, if the search says it, and how many of them may be looked at.
fn path_of(search: &JobSearch) -> Option<(&'static str, i32)> {
    if !search.ids.is_empty() {
        Some(("ids", i32::MAX - 1))
    } else if search.request_id.is_some() {
        Some(("request", as_i32(LOOKED_MAX)))
    } else if search.batch.is_some() {
        Some(("batch", as_i32(LOOKED_MAX)))
    } else if search.ends().is_empty() {
        Some(("states", GATHERED_MAX))
    } else {
        None
    }
}

/// Among whose jobs to look.
async fn owners_of(conn: &mut Connection, search: &JobSearch, path: &str) -> Result<Vec<Uuid>, Error> {
    match (path, search.tenant) {
        ("ids" | "tenants", Some(tenant)) => Ok(vec![tenant.uuid()]),
        ("ids", None) => owners(conn, None, OWNERS_PROBED_MAX).await,
        ("tenants", None) => owners(conn, None, OWNERS_MAX).await,
        _ => Ok(Vec::new()),
    }
}

async fn along_owners(
    conn: &mut Connection,
    mut ask: Ask<'_>,
    mut owners_after: Option<Uuid>,
) -> Result<Found, Error> {
    let bounds = ask.search.ids_between();
    let mut found =
        Found { jobs: Vec::new(), next: None, partial: false, sorted_by: SortedBy::Created, looked: 0 };
    let limit = ask.limit;
    loop {
        let owners = match ask.search.tenant {
            Some(tenant) => vec![tenant.uuid()],
            None => owners(conn, owners_after, OWNERS_MAX).await?,
        };
        let is_last = owners.len() < OWNERS_MAX as usize;
        let wanted = limit - found.jobs.len();
        let slice = Ask { path: "tenants", owners: &owners, limit: wanted, ..ask };
        let seen = slice_page(conn, slice, owners_after, &mut found).await?;
        if !seen || is_last {
            return Ok(found);
        }
        // On to the next owners, from the beginning.
        owners_after = owners.last().copied();
        (ask.above, ask.below) = bounds;
        if found.jobs.len() >= limit || found.looked >= LOOKED_MAX {
            let begins = if ask.order.is_newest() { ask.below } else { ask.above };
            found.next = Some(SearchCursor(Behind::Id(begins, owners_after)));
            found.partial = found.jobs.len() < limit;
            return Ok(found);
        }
    }
}

/// Adds to a page what matches among these owners. Answers whether everything was seen; else the page says where to go on.
async fn slice_page(
    conn: &mut Connection,
    mut ask: Ask<'_>,
    owners_after: Option<Uuid>,
    found: &mut Found,
) -> Result<bool, Error> {
    let (order, limit, owners) = (ask.order, ask.limit, ask.owners.len().max(1) as u64);
    let mut kept: Vec<FoundJob> = Vec::new();
    let mut of_each = (2 * (limit as u64 + 1) / owners).clamp(OF_EACH_MIN, LOOKED_MAX);
    loop {
        ask.looked_max = as_i32(of_each);
        ask.limit = limit - kept.len();
        let look = look(conn, &ask).await?;
        found.looked += look.looked;
        kept.extend(look.jobs);
        let is_full = kept.len() > limit;
        let next = match look.horizon {
            None if !is_full => None,
            Some(horizon) if !is_full => Some(horizon),
            _ => Some(kept[limit - 1].id.uuid()),
        };
        let Some(next) = next else {
            found.jobs.append(&mut kept);
            return Ok(true);
        };
        if is_full || found.looked >= LOOKED_MAX {
            found.partial = !is_full;
            found.next = Some(SearchCursor(Behind::Id(next, owners_after)));
            kept.truncate(limit);
            found.jobs.append(&mut kept);
            return Ok(false);
        }
        match order {
            Order::Newest => ask.below = next,
            Order::Oldest => ask.above = next,
        }
        // Owners that have none left cost nothing: what may still be looked at is for the others.
        let going_on = look.looked.div_ceil(of_each).max(1);
        let left = LOOKED_MAX.saturating_sub(found.looked) / going_on;
        of_each = (of_each * 4).min(left).max(OF_EACH_MIN);
    }
}

/// One look at live jobs and at history. What was seen of both is what counts.
async fn look(conn: &mut Connection, ask: &Ask<'_>) -> Result<Look, Error> {
    let (live_states, ends) = (ask.search.live_states(), ask.search.ends());
    // Live ones first: a job that ends meanwhile is met twice, and not missed.
    let live =
        if live_states.is_empty() { Look::default() } else { look_live(conn, ask, &live_states).await? };
    let finished = if ends.is_empty() { Look::default() } else { look_finished(conn, ask, &ends).await? };
    let mut look = Look {
        looked: live.looked + finished.looked,
        is_cut: live.is_cut || finished.is_cut,
        horizon: live
            .horizon
            .into_iter()
            .chain(finished.horizon)
            .min_by(|one, other| ask.order.puts(one, other)),
        matched: live.matched + finished.matched,
        jobs: finished.jobs,
        ..Look::default()
    };
    for job in live.jobs {
        if look.jobs.iter().all(|other| other.id != job.id) {
            look.jobs.push(job);
        }
    }
    look.jobs.sort_by(|one, other| ask.order.puts(&one.id, &other.id));
    if let Some(horizon) = look.horizon {
        look.jobs.retain(|job| ask.order.puts(&job.id.uuid(), &horizon).is_le());
    }
    // One more than wanted shows that there are more; of each table no further ones were asked for.
    look.jobs.truncate(ask.limit + 1);
    Ok(look)
}

async fn look_live(conn: &mut Connection, ask: &Ask<'_>, states: &[JobState]) -> Result<Look, Error> {
    let wants = |queue: &Queue| {
        ask.search.queues.is_empty() || ask.search.queues.iter().any(|name| name == queue.as_str())
    };
    let (from, to): (Vec<Uuid>, Vec<Uuid>) = Queue::ALL.into_iter().filter(wants).map(lanes_of).unzip();
    let rows = sqlx::query_as!(
        Row,
        "select * from job_search_live($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        ask.search.as_json(states),
        ask.path,
        ask.owners,
        &from,
        &to,
        ask.above,
        ask.below,
        ask.order.is_newest(),
        ask.looked_max,
        as_i32(ask.limit as u64 + 1),
    )
    .fetch_all(conn)
    .await?;
    Ok(Look::of(rows))
}

async fn look_finished(conn: &mut Connection, ask: &Ask<'_>, ends: &[JobState]) -> Result<Look, Error> {
    let rows = sqlx::query_as!(
        Row,
        "select * from job_search_finished($1, $2, $3, $4, $5, $6, $7, $8)",
        ask.search.as_json(ends),
        ask.path,
        ask.owners,
        ask.above,
        ask.below,
        ask.order.is_newest(),
        ask.looked_max,
        as_i32(ask.limit as u64 + 1),
    )
    .fetch_all(conn)
    .await?;
    Ok(Look::of(rows))
}

/// Who owns jobs, in the order of their ids.
async fn owners(conn: &mut Connection, after: Option<Uuid>, limit: i32) -> Result<Vec<Uuid>, Error> {
    let owners = sqlx::query_scalar!(r#"select tenant_id as "id!" from job_owners($1, $2)"#, after, limit)
        .fetch_all(conn)
        .await?;
    Ok(owners)
}

fn cursor(last: &FoundJob, owners_after: Option<Uuid>) -> SearchCursor {
    SearchCursor(Behind::Id(last.id.uuid(), owners_after))
}

fn as_i32(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX - 1)
}
