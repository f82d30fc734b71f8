//! One state of the searchable pool, and finding a page in it.
//!
//! The many creators that were there when the columns were made stand by rank; those that changed since are marked dead
//! there and stand in a short list beside them. A page is found in both and merged.

use std::collections::HashSet;
use std::sync::Arc;

use kernel::ids::InfluencerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::columns::{BLOCK, Columns, Entry, Row, Test};
use super::named;
use super::{PoolFilter, SearchSort};

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
pub struct Place(u8, u64, u32, Uuid, u8);

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
    /// That of a creator whose name is so far from what was asked for.
    pub(super) fn of(row: &Row, distance: u8) -> Self {
        Self(row.score, row.followers, row.engagement, row.id, distance)
    }

    pub(super) fn row(self) -> Row {
        let Self(score, followers, engagement, id, _) = self;
        Row { score, followers, engagement, id, platform: 0, category: 0, traits: 0 }
    }

    pub(super) fn distance(self) -> u8 {
        self.4
    }
}

/// One state of the searchable pool; clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) columns: Arc<Columns>,
    /// 1 for those that stand in the columns as they are, 0 for those that changed or left.
    pub(super) alive: Arc<Vec<u8>>,
    pub(super) changed: Arc<Vec<Entry>>,
}

impl Snapshot {
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        let columns = Columns::of(entries);
        let alive = vec![1; columns.len()];
        Self { columns: Arc::new(columns), alive: Arc::new(alive), changed: Arc::default() }
    }

    /// Takes in what changed: for each id, named once, its entry, or none for whoever is not searched any more.
    pub(super) fn with(&self, changes: &[(Uuid, Option<Entry>)]) -> Self {
        let mut alive = Vec::clone(&self.alive);
        for position in changes.iter().filter_map(|(id, _)| self.columns.position_of(*id)) {
            alive[position] = 0;
        }
        let ids: HashSet<Uuid> = changes.iter().map(|(id, _)| *id).collect();
        let stay = self.changed.iter().filter(|entry| !ids.contains(&entry.row.id));
        let changed = stay.chain(changes.iter().filter_map(|(_, entry)| entry.as_ref())).cloned().collect();
        Self { columns: Arc::clone(&self.columns), alive: Arc::new(alive), changed: Arc::new(changed) }
    }

    /// How many creators stand beside the columns.
    pub(super) fn changed_len(&self) -> usize {
        self.changed.len()
    }

    /// All creators.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let alive = self.alive.iter().enumerate().filter(|(_, alive)| **alive == 1);
        let entry =
            |position| Entry { row: self.columns.row(position), names: self.columns.names(position).into() };
        alive.map(|(position, _)| entry(position)).chain(self.changed.iter().cloned()).collect()
    }

    pub(super) fn find(&self, filter: &PoolFilter, sort: SearchSort, from: From, limit: usize) -> Found {
        let test = Test::of(filter);
        if let Some(name) = &filter.search.name {
            return named::find(self, &test, name, sort, from, limit);
        }
        let rows = self.changed.iter().map(|entry| entry.row);
        let mut changed: Vec<Row> = rows.filter(|row| test.holds(row)).collect();
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
        let next = next.map(|row| Place::of(row, 0));
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
    use proptest::option::of as option;
    use proptest::prelude::*;

    use super::super::columns::{category_code, platform_code, traits_code};
    use super::super::name::searched;
    use super::super::{Category, NameQuery, SearchFilter, SortKey};
    use super::*;
    use crate::{InfluencerTier, SyncStatus, Visibility};

    const NAMES: [&str; 8] =
        ["lan_anh Lan Anh", "Đặng Lân", "gaming", "gamnig vn", "linh.nguyen", "Nguyễn Linh", "mai", "Майя"];

    fn entry() -> impl Strategy<Value = Entry> {
        let traits =
            (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(is_public, is_vip, is_paused)| {
                traits_code(
                    if is_public { Visibility::Public } else { Visibility::Private },
                    if is_vip { InfluencerTier::Vip } else { InfluencerTier::Premium },
                    if is_paused { SyncStatus::Paused } else { SyncStatus::Failed },
                )
            });
        let numbers = (0..3u8, 0..3u8, 0..5u8, 0..6u64, 0..4u32, 0..10_000u128, traits);
        let row = numbers.prop_map(|(platform, category, score, followers, engagement, id, traits)| Row {
            id: Uuid::from_u128(id),
            platform,
            category,
            score,
            followers,
            engagement: engagement * 10_000,
            traits,
        });
        (row, proptest::sample::select(&NAMES))
            .prop_map(|(row, name)| Entry { row, names: searched(name, "").into() })
    }

    fn filter() -> impl Strategy<Value = PoolFilter> {
        let platform = option(proptest::sample::select(&Platform::ALL[..3]));
        let category = option(proptest::sample::select(&Category::ALL[..2]));
        let number = || option(0..5u64);
        let typed = ["lan", "linh ngyuen", "gaming", "m", "майа"].map(|typed| NameQuery::new(typed).unwrap());
        let name = option(proptest::sample::select(typed.to_vec()));
        let search = (platform, category, number(), number(), option(0..4u8), option(0..6u8), name).prop_map(
            |(platform, category, followers_min, followers_max, engagement_min, score_min, name)| {
                SearchFilter {
                    name,
                    category,
                    platform,
                    followers_min,
                    followers_max,
                    engagement_min: engagement_min.map(f64::from),
                    engagement_max: None,
                    score_min,
                }
            },
        );
        let decided = (
            option(proptest::sample::select(&[Visibility::Public, Visibility::Private])),
            option(proptest::sample::select(&[InfluencerTier::Vip, InfluencerTier::Premium])),
            option(proptest::sample::select(&[SyncStatus::Paused, SyncStatus::Failed])),
        );
        (search, decided).prop_map(|(search, (visibility, tier, sync_status))| PoolFilter {
            search,
            visibility,
            tier,
            sync_status,
        })
    }

    fn sort() -> impl Strategy<Value = SearchSort> {
        let keys = [SortKey::Score, SortKey::Followers, SortKey::Engagement, SortKey::Created, SortKey::Name];
        (proptest::sample::select(keys.to_vec()), any::<bool>())
            .prop_map(|(key, descending)| SearchSort { key, descending })
    }

    /// What a reader of the filter's words would do.
    fn expected(entries: &[Entry], filter: &PoolFilter, sort: SearchSort) -> Vec<InfluencerId> {
        let PoolFilter { search, visibility, tier, sync_status } = filter;
        let mut met: Vec<(u8, Row)> = Vec::new();
        for Entry { row, names } in entries {
            let distance = search.name.as_ref().map_or(Some(0), |name| name.distance(names, u128::MAX));
            let decided = |is_public, is_vip, is_paused| {
                row.traits
                    == traits_code(
                        if is_public { Visibility::Public } else { Visibility::Private },
                        if is_vip { InfluencerTier::Vip } else { InfluencerTier::Premium },
                        if is_paused { SyncStatus::Paused } else { SyncStatus::Failed },
                    )
            };
            let is_decided = [false, true].into_iter().any(|is_public| {
                [false, true].into_iter().any(|is_vip| {
                    [false, true].into_iter().any(|is_paused| {
                        decided(is_public, is_vip, is_paused)
                            && visibility.is_none_or(|one| (one == Visibility::Public) == is_public)
                            && tier.is_none_or(|one| (one == InfluencerTier::Vip) == is_vip)
                            && sync_status.is_none_or(|one| (one == SyncStatus::Paused) == is_paused)
                    })
                })
            });
            let is_met = is_decided
                && search.platform.is_none_or(|platform| row.platform == platform_code(platform))
                && search.category.is_none_or(|category| row.category == category_code(Some(category)))
                && search.followers_min.is_none_or(|min| row.followers >= min)
                && search.followers_max.is_none_or(|max| row.followers <= max)
                && search.engagement_min.is_none_or(|min| f64::from(row.engagement) / 10_000.0 >= min)
                && search.score_min.is_none_or(|min| row.score >= min);
            met.extend(distance.filter(|_| is_met).map(|distance| (distance, *row)));
        }
        met.sort_by(|left, right| {
            let by_name = if sort.descending { left.0.cmp(&right.0) } else { right.0.cmp(&left.0) };
            let by_name = if sort.key == SortKey::Name { by_name } else { std::cmp::Ordering::Equal };
            by_name.then_with(|| left.1.in_order(&right.1, sort))
        });
        met.iter().map(|(_, row)| InfluencerId::from_uuid(row.id)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn pages_are_those_of_a_plain_search_whatever_changed_meanwhile(
            first in proptest::collection::hash_map(0..400u128, entry(), 0..300),
            later in proptest::collection::vec((0..500u128, proptest::option::of(entry())), 0..40),
            filter in filter(),
            sort in sort(),
            limit in 1..40usize,
        ) {
            let with_id = |id: u128, entry: Entry| Entry {
                row: Row { id: Uuid::from_u128(id), ..entry.row },
                ..entry
            };
            let mut truth: std::collections::BTreeMap<u128, Entry> =
                first.into_iter().map(|(id, entry)| (id, with_id(id, entry))).collect();
            let mut snapshot = Snapshot::of(truth.values().cloned().collect());
            for (id, entry) in later {
                let entry = entry.map(|entry| with_id(id, entry));
                match entry.clone() {
                    Some(entry) => drop(truth.insert(id, entry)),
                    None => drop(truth.remove(&id)),
                }
                snapshot = snapshot.with(&[(Uuid::from_u128(id), entry)]);
            }
            let entries: Vec<Entry> = truth.values().cloned().collect();
            let expected = expected(&entries, &filter, sort);
            for snapshot in [snapshot.clone(), Snapshot::of(snapshot.entries())] {
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
