//! Finding a page among those whose name meets what was asked for.
//!
//! All who meet it are found, for their number is told and the best may stand anywhere.

use std::cmp::Ordering;

use kernel::ids::InfluencerId;

use super::columns::{BLOCK, Row, Test};
use super::name::{NameQuery, signature};
use super::page::{Found, From, Place, Snapshot};
use super::{SearchSort, SortKey};

/// A creator, and how far its name is from what was asked for.
type Match = (u8, Row);

pub(super) fn find(
    snapshot: &Snapshot,
    test: &Test,
    name: &NameQuery,
    sort: SearchSort,
    from: From,
    limit: usize,
) -> Found {
    let mut matches = all(snapshot, test, name);
    let total = matches.len();
    let in_order = |left: &Match, right: &Match| in_order(left, right, sort);
    let skip = match from {
        From::Offset(offset) => offset.min(total),
        From::After(place) => {
            let place = (place.distance(), place.row());
            matches.retain(|one| in_order(one, &place).is_gt());
            0
        }
    };
    // One more than asked for says whether there is a next page.
    let end = skip + limit + 1;
    if end < matches.len() {
        matches.select_nth_unstable_by(end, in_order);
        matches.truncate(end);
    }
    matches.sort_unstable_by(in_order);
    let page = &matches[skip..];
    let has_more = page.len() > limit;
    let page = &page[..page.len().min(limit)];
    let next = page.last().filter(|_| has_more).map(|(distance, row)| Place::of(row, *distance));
    Found { ids: page.iter().map(|(_, row)| InfluencerId::from_uuid(row.id)).collect(), total, next }
}

fn all(snapshot: &Snapshot, test: &Test, name: &NameQuery) -> Vec<Match> {
    let columns = &snapshot.columns;
    let mut matches = Vec::new();
    for start in (0..columns.candidates(test)).step_by(BLOCK) {
        let (pass, count) = columns.pass(test, &snapshot.alive, start);
        if count == 0 {
            continue;
        }
        for (position, _) in (start..).zip(pass).filter(|(_, pass)| *pass == 1) {
            let distance = name.distance(columns.names(position), columns.signature(position));
            matches.extend(distance.map(|distance| (distance, columns.row(position))));
        }
    }
    let changed = snapshot.changed.iter().filter(|entry| test.holds(&entry.row));
    matches.extend(changed.filter_map(|entry| {
        let distance = name.distance(&entry.names, signature(&entry.names))?;
        Some((distance, entry.row))
    }));
    matches
}

fn in_order(left: &Match, right: &Match, sort: SearchSort) -> Ordering {
    match sort.key {
        SortKey::Name => {
            let order = left.0.cmp(&right.0).then_with(|| left.1.rank().cmp(&right.1.rank()));
            if sort.descending { order } else { order.reverse() }
        }
        _ => left.1.in_order(&right.1, sort),
    }
}
