//! One state of the searchable pool, and finding a page in it.
//!
//! The many creators that were there when the columns were made stand by rank; those that changed since are marked dead
//! there and stand in a short list beside them. A page is found in both and merged.

use std::collections::HashSet;
use std::sync::Arc;

use kernel::ids::InfluencerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::columns::{BLOCK, Columns, Row, Test};
use super::{SearchFilter, SearchSort};

/// So many matches are sorted; of more, those of a page are met sooner in the order that is kept.
const SORTED_MAX: usize = if cfg!(test) { 20 } else { 20_000 };

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// After so many matches.
    Offset(usize),
    /// After the place where another page ended.
    After(Place),
}

/// A place in every order: that of a creator as it was found there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place(u8, u64, u32, Uuid);

/// A page of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who is on it, in order.
    pub ids: Vec<InfluencerId>,
    /// How many match in all.
    pub total: usize,
    /// Where the next page begins; none: this is the last.
    pub next: Option<Place>,
}

impl Place {
    fn row(self) -> Row {
        Row { score: self.0, followers: self.1, engagement: self.2, id: self.3, platform: 0, category: 0 }
    }
}

/// One state of the searchable pool; clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    columns: Arc<Columns>,
    /// 1 for those that stand in the columns as they are, 0 for those that changed or left.
    alive: Arc<Vec<u8>>,
    changed: Arc<Vec<Row>>,
}

impl Snapshot {
    pub(super) fn of(rows: Vec<Row>) -> Self {
        let columns = Columns::of(rows);
        let alive = vec![1; columns.len()];
        Self { columns: Arc::new(columns), alive: Arc::new(alive), changed: Arc::default() }
    }

    /// Takes in what changed: for each id, named once, its row, or none for whoever is not searched any more.
    pub(super) fn with(&self, changes: &[(Uuid, Option<Row>)]) -> Self {
        let mut alive = Vec::clone(&self.alive);
        for position in changes.iter().filter_map(|(id, _)| self.columns.position_of(*id)) {
            alive[position] = 0;
        }
        let ids: HashSet<Uuid> = changes.iter().map(|(id, _)| *id).collect();
        let stay = self.changed.iter().copied().filter(|row| !ids.contains(&row.id));
        let changed = stay.chain(changes.iter().filter_map(|(_, row)| *row)).collect();
        Self { columns: Arc::clone(&self.columns), alive: Arc::new(alive), changed: Arc::new(changed) }
    }

    /// How many creators stand beside the columns.
    pub(super) fn changed_len(&self) -> usize {
        self.changed.len()
    }

    /// All creators.
    pub(super) fn rows(&self) -> Vec<Row> {
        let alive = self.alive.iter().enumerate().filter(|(_, alive)| **alive == 1);
        let rows = alive.map(|(position, _)| self.columns.row(position));
        rows.chain(self.changed.iter().copied()).collect()
    }

    pub(super) fn find(&self, filter: &SearchFilter, sort: SearchSort, from: From, limit: usize) -> Found {
        let test = Test::of(filter);
        let mut changed: Vec<Row> = self.changed.iter().copied().filter(|row| test.holds(row)).collect();
        changed.sort_unstable_by(|left, right| left.in_order(right, sort));
        let matches = Matches::of(&self.columns, &self.alive, test);
        let total = matches.total + changed.len();
        // One more than asked for says whether there is a next page.
        let mut page = match from {
            From::Offset(offset) => {
                // Whatever stands before the page besides columns are at most all the changed ones.
                let skipped = offset.saturating_sub(changed.len());
                let page = merged(matches.page(sort, skipped, changed.len() + limit + 1), changed, sort);
                page.into_iter().skip(offset - skipped).take(limit + 1).collect::<Vec<_>>()
            }
            From::After(place) => {
                let place = place.row();
                changed.retain(|row| row.in_order(&place, sort).is_gt());
                let mut page = merged(matches.page_after(sort, &place, limit + 1), changed, sort);
                page.truncate(limit + 1);
                page
            }
        };
        let has_more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| has_more);
        let next = next.map(|row| Place(row.score, row.followers, row.engagement, row.id));
        Found { ids: page.iter().map(|row| InfluencerId::from_uuid(row.id)).collect(), total, next }
    }
}

fn merged(mut left: Vec<Row>, right: Vec<Row>, sort: SearchSort) -> Vec<Row> {
    if !right.is_empty() {
        left.extend(right);
        left.sort_unstable_by(|left, right| left.in_order(right, sort));
    }
    left
}

/// Who passes a test in the columns, counted by blocks.
struct Matches<'a> {
    columns: &'a Columns,
    alive: &'a [u8],
    test: Test,
    counts: Vec<u8>,
    total: usize,
}

impl<'a> Matches<'a> {
    fn of(columns: &'a Columns, alive: &'a [u8], test: Test) -> Self {
        let blocks = columns.candidates(&test).div_ceil(BLOCK);
        // A block has 64 creators.
        let count = |block| columns.pass(&test, alive, block * BLOCK).1 as u8;
        let counts: Vec<u8> = (0..blocks).map(count).collect();
        let total = counts.iter().map(|count| usize::from(*count)).sum();
        Self { columns, alive, test, counts, total }
    }

    /// Matches in an order, without the first `skip`.
    fn page(&self, sort: SearchSort, skip: usize, take: usize) -> Vec<Row> {
        let take = take.min(self.total.saturating_sub(skip));
        match self.columns.in_order_of(sort.key) {
            _ if take == 0 => Vec::new(),
            None if sort.descending => self.ranked(skip, take),
            None => {
                let mut page = self.ranked(self.total - skip - take, take);
                page.reverse();
                page
            }
            Some(_) if self.total <= SORTED_MAX => self.sorted(self.ranked(0, self.total), sort, skip, take),
            Some(order) => self.met(order, sort.descending, 0).skip(skip).take(take).collect(),
        }
    }

    /// Matches in an order that come after a place.
    fn page_after(&self, sort: SearchSort, place: &Row, take: usize) -> Vec<Row> {
        match self.columns.in_order_of(sort.key) {
            None => {
                let until = self.columns.until(place, sort.key);
                // In the reverse order, what stands at the place itself is behind us too.
                let before = self.matches_before(until);
                match sort.descending {
                    true => self.page(sort, before, take),
                    false => {
                        let at_place = until > 0 && self.columns.row(until - 1).id == place.id;
                        let is_match = at_place && self.matches_before(until - 1) < before;
                        self.page(sort, self.total - before + usize::from(is_match), take)
                    }
                }
            }
            Some(_) if self.total <= SORTED_MAX => {
                let mut rows = self.ranked(0, self.total);
                rows.retain(|row| row.in_order(place, sort).is_gt());
                let take = take.min(rows.len());
                self.sorted(rows, sort, 0, take)
            }
            Some(order) => {
                let until = self.columns.until(place, sort.key);
                let seen = if sort.descending { until } else { order.len() - until };
                let rows = self.met(order, sort.descending, seen);
                rows.filter(|row| row.in_order(place, sort).is_gt()).take(take).collect()
            }
        }
    }

    /// Matches by rank.
    fn ranked(&self, skip: usize, take: usize) -> Vec<Row> {
        let (mut passed, mut rows) = (0, Vec::with_capacity(take));
        for (block, count) in self.counts.iter().enumerate() {
            let count = usize::from(*count);
            if count > 0 && passed + count > skip {
                let start = block * BLOCK;
                let (pass, _) = self.columns.pass(&self.test, self.alive, start);
                let positions = (start..).zip(pass).filter(|(_, pass)| *pass == 1);
                let positions = positions.skip(skip.saturating_sub(passed)).take(take - rows.len());
                rows.extend(positions.map(|(position, _)| self.columns.row(position)));
            }
            passed += count;
            if rows.len() == take {
                break;
            }
        }
        rows
    }

    /// How many matches stand before a position by rank.
    fn matches_before(&self, position: usize) -> usize {
        let block = (position / BLOCK).min(self.counts.len());
        let whole: usize = self.counts[..block].iter().map(|count| usize::from(*count)).sum();
        if block == self.counts.len() {
            return whole;
        }
        let (pass, _) = self.columns.pass(&self.test, self.alive, block * BLOCK);
        whole + pass[..position % BLOCK].iter().map(|pass| usize::from(*pass)).sum::<usize>()
    }

    fn sorted(&self, mut rows: Vec<Row>, sort: SearchSort, skip: usize, take: usize) -> Vec<Row> {
        let in_order = |left: &Row, right: &Row| left.in_order(right, sort);
        if skip + take < rows.len() {
            rows.select_nth_unstable_by(skip + take, in_order);
            rows.truncate(skip + take);
        }
        rows.sort_unstable_by(in_order);
        rows.split_off(skip.min(rows.len()))
    }

    /// Matches as they are met in an order that is kept, without the first `seen` of all creators.
    fn met(&self, order: &'a [u32], descending: bool, seen: usize) -> impl Iterator<Item = Row> {
        let positions = (seen..order.len()).map(move |index| {
            let index = if descending { index } else { order.len() - 1 - index };
            order[index] as usize
        });
        let alive = positions.filter(|position| self.alive[*position] == 1);
        alive.map(|position| self.columns.row(position)).filter(|row| self.test.holds(row))
    }
}

#[cfg(test)]
mod tests {
    use kernel::Platform;
    use proptest::prelude::*;

    use super::super::columns::{category_code, platform_code};
    use super::super::{Category, SortKey};
    use super::*;

    fn row() -> impl Strategy<Value = Row> {
        (0..3u8, 0..3u8, 0..5u8, 0..6u64, 0..4u32, 0..10_000u128).prop_map(
            |(platform, category, score, followers, engagement, id)| Row {
                id: Uuid::from_u128(id),
                platform,
                category,
                score,
                followers,
                engagement: engagement * 10_000,
            },
        )
    }

    fn filter() -> impl Strategy<Value = SearchFilter> {
        let platform = proptest::option::of(proptest::sample::select(&Platform::ALL[..3]));
        let category = proptest::option::of(proptest::sample::select(&Category::ALL[..2]));
        let number = || proptest::option::of(0..5u64);
        (platform, category, number(), number(), proptest::option::of(0..4u8), proptest::option::of(0..6u8))
            .prop_map(|(platform, category, followers_min, followers_max, engagement_min, score_min)| {
                SearchFilter {
                    category,
                    platform,
                    followers_min,
                    followers_max,
                    engagement_min: engagement_min.map(f64::from),
                    engagement_max: None,
                    score_min,
                }
            })
    }

    fn sort() -> impl Strategy<Value = SearchSort> {
        let keys = [SortKey::Score, SortKey::Followers, SortKey::Engagement];
        (proptest::sample::select(keys.to_vec()), any::<bool>())
            .prop_map(|(key, descending)| SearchSort { key, descending })
    }

    /// What a reader of the filter's words would do.
    fn expected(rows: &[Row], filter: &SearchFilter, sort: SearchSort) -> Vec<InfluencerId> {
        let mut rows: Vec<Row> = rows.to_vec();
        rows.retain(|row| {
            filter.platform.is_none_or(|platform| row.platform == platform_code(platform))
                && filter.category.is_none_or(|category| row.category == category_code(Some(category)))
                && filter.followers_min.is_none_or(|min| row.followers >= min)
                && filter.followers_max.is_none_or(|max| row.followers <= max)
                && filter.engagement_min.is_none_or(|min| f64::from(row.engagement) / 10_000.0 >= min)
                && filter.score_min.is_none_or(|min| row.score >= min)
        });
        rows.sort_by(|left, right| left.in_order(right, sort));
        rows.iter().map(|row| InfluencerId::from_uuid(row.id)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn pages_are_those_of_a_plain_search_whatever_changed_meanwhile(
            first in proptest::collection::hash_map(0..400u128, row(), 0..300),
            later in proptest::collection::vec((0..500u128, proptest::option::of(row())), 0..40),
            filter in filter(),
            sort in sort(),
            limit in 1..40usize,
        ) {
            let with_id = |id: u128, row: Row| Row { id: Uuid::from_u128(id), ..row };
            let mut truth: std::collections::BTreeMap<u128, Row> =
                first.iter().map(|(id, row)| (*id, with_id(*id, *row))).collect();
            let mut snapshot = Snapshot::of(truth.values().copied().collect());
            for (id, row) in later {
                let row = row.map(|row| with_id(id, row));
                match row {
                    Some(row) => drop(truth.insert(id, row)),
                    None => drop(truth.remove(&id)),
                }
                snapshot = snapshot.with(&[(Uuid::from_u128(id), row)]);
            }
            let rows: Vec<Row> = truth.values().copied().collect();
            let expected = expected(&rows, &filter, sort);
            for snapshot in [snapshot.clone(), Snapshot::of(snapshot.rows())] {
                let mut walked = Vec::new();
                let mut from = From::Offset(0);
                loop {
                    let found = snapshot.find(&filter, sort, from, limit);
                    prop_assert_eq!(found.total, expected.len());
                    let by_offset = snapshot.find(&filter, sort, From::Offset(walked.len()), limit);
                    prop_assert_eq!(&by_offset.ids, &found.ids);
                    walked.extend(found.ids);
                    match found.next {
                        Some(place) => from = From::After(place),
                        None => break,
                    }
                }
                prop_assert_eq!(&walked, &expected);
            }
        }
    }
}
