//! Searches in the order of ids: by what few jobs have in common, else along each owner's jobs.
//!
//! Along owners a look takes the next few jobs of each. Up to the nearest id at which it stopped with any of them everything
//! was seen: that is how far the page reaches, and where the next look begins. The newest are looked for within an hour of
//! where the page begins first: that leaves out the weeks of history before, and who owns jobs only there.

use chrono::{DateTime, TimeDelta};
use db::Connection;
use kernel::clock::now;
use uuid::Uuid;

use super::{
    Behind, COUNT_LOOKED_MAX, COUNTED_EXACTLY_MAX, Found, FoundJob, JobSearch, JobState, LOOKED_MAX, Order,
    Place, SearchCursor, SearchFault, Slices, SortedBy,
    row::{Look, Row},
    rule::first_id,
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
/// How far back the newest are looked for first.
const RECENT: TimeDelta = TimeDelta::hours(1);

/// What a look is to be.
#[derive(Clone, Copy)]
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
    /// Looks at history alone.
    skips_live: bool,
}

pub(super) async fn page(
    conn: &mut Connection,
    search: &JobSearch,
    order: Order,
    after: Option<&SearchCursor>,
    limit: usize,
) -> Result<Found, Error> {
    let (mut above, mut below) = search.ids_between();
    let place = match after.map(|cursor| cursor.0) {
        None => None,
        Some(Behind::Id(place)) => Some(place),
        Some(Behind::End(..)) => return Err(SearchFault::Cursor.into()),
    };
    if let Some(place) = place {
        match order {
            Order::Newest => below = below.min(place.id),
            Order::Oldest => above = above.max(place.id),
        }
    }
    let ask =
        Ask { search, order, path: "", owners: &[], above, below, looked_max: 0, limit, skips_live: false };
    let mut found =
        Found { jobs: Vec::new(), next: None, partial: false, sorted_by: SortedBy::Created, looked: 0 };
    let left = match place.and_then(|place| place.slices) {
        // Some owners are further than others: nothing that looks for all of them alike can go on here.
        Some(slices) => Some((ask, slices)),
        None => {
            if let Some(found) = gathered(conn, &ask).await? {
                return Ok(found);
            }
            recent(conn, ask, &mut found).await?
        }
    };
    if let Some((ask, slices)) = left {
        along_owners(conn, ask, slices, &mut found).await?;
    }
    Ok(found)
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
    let next = (jobs.len() > limit).then(|| cursor(jobs[limit - 1].id.uuid(), None));
    jobs.truncate(limit);
    Ok(Some(Found { jobs, next, partial: false, sorted_by: SortedBy::Created, looked: look.looked }))
}

/// How many jobs match, of all that a bounded look saw, and whether those were all.
pub(super) async fn counted(conn: &mut Connection, search: &JobSearch) -> Result<(u64, bool), Error> {
    let (above, below) = search.ids_between();
    let order = Order::Newest;
    let ask = Ask {
        search,
        order,
        path: "",
        owners: &[],
        above,
        below,
        looked_max: 0,
        limit: 0,
        skips_live: false,
    };
    let mut matched = 0;
    if let Some((path, _)) = path_of(search) {
        let owners = owners_of(conn, search, path).await?;
        let looked_max = if path == "ids" { i32::MAX - 1 } else { as_i32(COUNTED_EXACTLY_MAX as u64) };
        let look = look(conn, &Ask { path, owners: &owners, looked_max, ..ask }).await?;
        let is_narrow =
            search.tenant.is_some() || search.created_from.is_some() || search.created_before.is_some();
        // Where nothing else narrows it, owners have more of all states than there are of these.
        if !look.is_cut || (path == "states" && !is_narrow) {
            return Ok((look.matched, !look.is_cut));
        }
        matched = look.matched;
    }
    let owners = owners_of(conn, search, "tenants").await?;
    let looked_max = as_i32(COUNT_LOOKED_MAX / 2 / owners.len().max(1) as u64).max(OF_EACH_MIN as i32);
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
    let ask = Ask {
        search,
        order,
        path: "sample",
        owners: &[],
        above,
        below,
        looked_max: i32::MAX - 1,
        limit: 0,
        skips_live: false,
    };
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
        ("ids", None) => owners(conn, None, search.ids_between().0, OWNERS_PROBED_MAX).await,
        ("tenants", None) => owners(conn, None, search.ids_between().0, OWNERS_MAX).await,
        _ => Ok(Vec::new()),
    }
}

/// Adds the newest of the last hour to a page, whoever owns them. Answers what is left to look for, if the page is not full.
async fn recent<'a>(
    conn: &mut Connection,
    mut ask: Ask<'a>,
    found: &mut Found,
) -> Result<Option<(Ask<'a>, Slices)>, Error> {
    if ask.order.is_newest() && ask.search.tenant.is_none() {
        let since = first_id(time_of(ask.below).unwrap_or_else(now).min(now()) - RECENT);
        let owners = owners(conn, None, since, OWNERS_MAX).await?;
        if since > ask.above && owners.len() < OWNERS_MAX as usize {
            let slice = Ask { path: "tenants", owners: &owners, above: since, ..ask };
            if !slice_page(conn, slice, None, found).await? {
                return Ok(None);
            }
            ask.below = Uuid::from_u128(since.as_u128() + 1);
            if found.jobs.len() >= ask.limit || found.looked >= LOOKED_MAX {
                found.next = Some(cursor(ask.below, None));
                found.partial = found.jobs.len() < ask.limit;
                return Ok(None);
            }
        }
    }
    let begin = if ask.order.is_newest() { ask.below } else { ask.above };
    Ok(Some((ask, Slices { owners_after: None, owners_until: None, begin })))
}

/// Adds to a page what is left, some owners at a time.
async fn along_owners(
    conn: &mut Connection,
    mut ask: Ask<'_>,
    mut slices: Slices,
    found: &mut Found,
) -> Result<(), Error> {
    let limit = ask.limit;
    loop {
        let mut owners = match ask.search.tenant {
            Some(tenant) => vec![tenant.uuid()],
            None => owners(conn, slices.owners_after, ask.search.ids_between().0, OWNERS_MAX).await?,
        };
        let is_whole = owners.len() >= OWNERS_MAX as usize;
        match slices.owners_until {
            // Where some have none left meanwhile, others have not come in their place.
            Some(until) => owners.retain(|owner| *owner <= until),
            None if is_whole => slices.owners_until = owners.last().copied(),
            None => {}
        }
        let wanted = limit - found.jobs.len();
        let slice = Ask { path: "tenants", owners: &owners, limit: wanted, ..ask };
        let seen = slice_page(conn, slice, Some(slices), found).await?;
        if !seen || slices.owners_until.is_none() {
            return Ok(());
        }
        // On to the next owners, from the beginning.
        slices.owners_after = slices.owners_until.take();
        match ask.order {
            Order::Newest => ask.below = slices.begin,
            Order::Oldest => ask.above = slices.begin,
        }
        if found.jobs.len() >= limit || found.looked >= LOOKED_MAX {
            found.next = Some(cursor(slices.begin, Some(slices)));
            found.partial = found.jobs.len() < limit;
            return Ok(());
        }
    }
}

/// Adds to a page what matches among these owners. Answers whether everything was seen; else the page says where to go on.
async fn slice_page(
    conn: &mut Connection,
    mut ask: Ask<'_>,
    slices: Option<Slices>,
    found: &mut Found,
) -> Result<bool, Error> {
    let (order, limit, owners) = (ask.order, ask.limit, ask.owners.len().max(1) as u64);
    let mut kept: Vec<FoundJob> = Vec::new();
    // With a page of each the first look is enough, unless few match.
    let mut of_each = (limit as u64 + 1).min(LOOKED_MAX / owners).max(OF_EACH_MIN);
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
            found.next = Some(cursor(next, slices));
            kept.truncate(limit);
            found.jobs.append(&mut kept);
            return Ok(false);
        }
        match order {
            Order::Newest => ask.below = next,
            Order::Oldest => ask.above = next,
        }
        // As many as it takes if as few of them match; owners that have none left cost nothing.
        let needed = (2 * (limit as u64 + 1)).checked_div(kept.len() as u64).unwrap_or(u64::MAX);
        let going_on = look.looked.div_ceil(of_each).max(1);
        let left = LOOKED_MAX.saturating_sub(found.looked) / going_on;
        of_each = of_each.saturating_mul(needed.max(2)).min(left).max(OF_EACH_MIN);
        ask.skips_live |= look.live_is_done;
    }
}

/// One look at live jobs and at history. What was seen of both is what counts.
async fn look(conn: &mut Connection, ask: &Ask<'_>) -> Result<Look, Error> {
    let (live_states, ends) = (ask.search.live_states(), ask.search.ends());
    // Live ones first: a job that ends meanwhile is met twice, and not missed.
    let live = match live_states.is_empty() || ask.skips_live {
        true => Look::default(),
        false => look_live(conn, ask, &live_states).await?,
    };
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
    look.live_is_done = !live.is_cut;
    if let Some(horizon) = look.horizon {
        let is_seen = |job: &FoundJob| ask.order.puts(&job.id.uuid(), &horizon).is_le();
        look.live_is_done &= look.jobs.iter().all(|job| job.state.has_ended() || is_seen(job));
        look.jobs.retain(is_seen);
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
        "select looked, matched, percent, is_cut, horizon, null::text[] as messages, tenant_id, id, queue, kind, state, attempt, attempts_max, taken_back,
           priority, key, batch_id, request_id, created_at, started_at, run_at, finished_at, code, message
         from job_search_live($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
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
        "select looked, matched, percent, is_cut, horizon, null::text[] as messages, tenant_id, id, queue, kind, state, attempt, attempts_max, taken_back,
           priority, key, batch_id, request_id, created_at, started_at, run_at, finished_at, code, message
         from job_search_finished($1, $2, $3, $4, $5, $6, $7, $8)",
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

/// Who owns jobs whose ids are greater than one, and maybe some more, in the order of the owners' ids.
async fn owners(
    conn: &mut Connection,
    after: Option<Uuid>,
    above: Uuid,
    limit: i32,
) -> Result<Vec<Uuid>, Error> {
    let owners = sqlx::query_scalar!(
        r#"select tenant_id as "id!" from job_owners($1, job_ended_after($2), $3)"#,
        after,
        above,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(owners)
}

/// When an id was made, as it says.
fn time_of(id: Uuid) -> Option<DateTime<chrono::Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(id.as_u128() >> 80).ok()?)
}

fn cursor(id: Uuid, slices: Option<Slices>) -> SearchCursor {
    SearchCursor(Behind::Id(Place { id, slices }))
}

fn as_i32(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX - 1)
}
