//! The searchable columns of many creators, in the order of their rank: score, then followers (the larger first), then
//! id.
//!
//! A filter is tested for [`BLOCK`] creators at a time with one plain loop a column, which compilers turn into vector
//! instructions: half a million creators take well under a millisecond.

use std::cmp::{Ordering, Reverse};

use kernel::Platform;
use uuid::Uuid;

use super::name::signature;
use super::{Category, PoolFilter, SearchSort, SortKey};
use crate::{InfluencerTier, SyncStatus, Visibility};

/// How many creators are tested at once.
pub(super) const BLOCK: usize = 64;

/// Any category or platform.
const ANY: u8 = u8::MAX;

/// What can be searched of one creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) platform: u8,
    pub(super) category: u8,
    pub(super) score: u8,
    pub(super) followers: u64,
    /// In ten-thousandths of a percent, as stored.
    pub(super) engagement: u32,
    /// What admins decide: see [`traits_code`].
    pub(super) traits: u8,
}

/// A creator as it is taken in: what it can be searched by, with its [searched](super::name::searched) names.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) row: Row,
    pub(super) names: std::sync::Arc<str>,
}

/// The code of a platform in a column.
pub(super) fn platform_code(platform: Platform) -> u8 {
    platform as u8
}

/// The code of a category in a column; 0: none.
pub(super) fn category_code(category: Option<Category>) -> u8 {
    category.map_or(0, |category| category as u8 + 1)
}

const VISIBILITY_BITS: u8 = 0b1;
const TIER_BITS: u8 = 0b110;
const SYNC_BITS: u8 = 0b11000;

fn visibility_code(visibility: Visibility) -> u8 {
    visibility as u8
}

fn tier_code(tier: InfluencerTier) -> u8 {
    (tier as u8) << 1
}

fn sync_code(status: SyncStatus) -> u8 {
    (status as u8) << 3
}

/// The code of all that admins decide.
pub(super) fn traits_code(visibility: Visibility, tier: InfluencerTier, status: SyncStatus) -> u8 {
    visibility_code(visibility) | tier_code(tier) | sync_code(status)
}

impl Row {
    /// How two creators follow each other. An ascending order is the exact reverse of the descending one.
    pub(super) fn in_order(&self, other: &Self, sort: SearchSort) -> Ordering {
        let by_key = match sort.key {
            SortKey::Score | SortKey::Name => Ordering::Equal,
            SortKey::Created => other.id.cmp(&self.id),
            SortKey::Followers => other.followers.cmp(&self.followers),
            SortKey::Engagement => other.engagement.cmp(&self.engagement),
        };
        let order = by_key.then_with(|| self.rank().cmp(&other.rank()));
        if sort.descending { order } else { order.reverse() }
    }

    pub(super) fn rank(&self) -> (Reverse<u8>, Reverse<u64>, Uuid) {
        (Reverse(self.score), Reverse(self.followers), self.id)
    }
}

/// A filter in the terms of the columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test {
    platform: u8,
    category: u8,
    score_min: u8,
    followers: (u64, u64),
    engagement: (u32, u32),
    /// Which bits of the traits count, and how they must be.
    traits: (u8, u8),
}

impl Test {
    pub(super) fn of(filter: &PoolFilter) -> Self {
        let (mut bits, mut code) = (0, 0);
        let traits = [
            filter.visibility.map(|visibility| (VISIBILITY_BITS, visibility_code(visibility))),
            filter.tier.map(|tier| (TIER_BITS, tier_code(tier))),
            filter.sync_status.map(|status| (SYNC_BITS, sync_code(status))),
        ];
        for (some_bits, some_code) in traits.into_iter().flatten() {
            bits |= some_bits;
            code |= some_code;
        }
        let filter = &filter.search;
        Self {
            traits: (bits, code),
            platform: filter.platform.map_or(ANY, platform_code),
            category: filter.category.map_or(ANY, |category| category_code(Some(category))),
            score_min: filter.score_min.unwrap_or(0),
            followers: (filter.followers_min.unwrap_or(0), filter.followers_max.unwrap_or(u64::MAX)),
            engagement: (
                filter.engagement_min.map_or(0, |percent| scaled(percent, f64::ceil)),
                filter.engagement_max.map_or(u32::MAX, |percent| scaled(percent, f64::floor)),
            ),
        }
    }

    pub(super) fn holds(&self, row: &Row) -> bool {
        (self.platform == ANY || row.platform == self.platform)
            && (self.category == ANY || row.category == self.category)
            && row.traits & self.traits.0 == self.traits.1
            && row.score >= self.score_min
            && (self.followers.0..=self.followers.1).contains(&row.followers)
            && (self.engagement.0..=self.engagement.1).contains(&row.engagement)
    }
}

/// A percentage in ten-thousandths. Nine digits after the point are enough for any that people write, and what is left
/// of binary fractions beyond them is not theirs.
fn scaled(percent: f64, round: fn(f64) -> f64) -> u32 {
    let tenth = (percent * 10_000.0 * 100_000.0).round() / 100_000.0;
    // Saturates, which is what bounds beyond all values mean.
    round(tenth) as u32
}

/// Many creators by rank.
#[derive(Debug, Default)]
pub(super) struct Columns {
    ids: Vec<Uuid>,
    platforms: Vec<u8>,
    categories: Vec<u8>,
    scores: Vec<u8>,
    followers: Vec<u64>,
    engagements: Vec<u32>,
    traits: Vec<u8>,
    /// Names one after another, where each ends, and their signatures.
    names: String,
    name_ends: Vec<usize>,
    signatures: Vec<u128>,
    /// Positions by id, the largest first.
    by_id: Vec<u32>,
    /// Positions in the order of followers and of engagement, the largest first.
    by_followers: Vec<u32>,
    by_engagement: Vec<u32>,
}

impl Columns {
    pub(super) fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.row.rank());
        let mut names = String::with_capacity(entries.iter().map(|entry| entry.names.len()).sum());
        let end = |entry: &Entry| {
            names.push_str(&entry.names);
            names.len()
        };
        let name_ends = entries.iter().map(end).collect();
        let signatures = entries.iter().map(|entry| signature(&entry.names)).collect();
        let rows: Vec<Row> = entries.into_iter().map(|entry| entry.row).collect();
        let positions = || (0..u32::try_from(rows.len()).unwrap_or(u32::MAX)).collect::<Vec<u32>>();
        let sorted = |key| {
            let sort = SearchSort { key, descending: true };
            let mut sorted = positions();
            sorted
                .sort_unstable_by(|left, right| rows[*left as usize].in_order(&rows[*right as usize], sort));
            sorted
        };
        let mut by_id = positions();
        by_id.sort_unstable_by_key(|position| Reverse(rows[*position as usize].id));
        Self {
            by_followers: sorted(SortKey::Followers),
            by_engagement: sorted(SortKey::Engagement),
            by_id,
            ids: rows.iter().map(|row| row.id).collect(),
            platforms: rows.iter().map(|row| row.platform).collect(),
            categories: rows.iter().map(|row| row.category).collect(),
            scores: rows.iter().map(|row| row.score).collect(),
            followers: rows.iter().map(|row| row.followers).collect(),
            engagements: rows.iter().map(|row| row.engagement).collect(),
            traits: rows.iter().map(|row| row.traits).collect(),
            names,
            name_ends,
            signatures,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many creators stand before a place in the descending order of a key, that place included.
    pub(super) fn until(&self, place: &Row, key: SortKey) -> usize {
        let sort = SearchSort { key, descending: true };
        let is_before = |position: usize| self.row(position).in_order(place, sort).is_le();
        match self.in_order_of(key) {
            Some(positions) => positions.partition_point(|position| is_before(*position as usize)),
            None => {
                let (mut low, mut high) = (0, self.len());
                while low < high {
                    let middle = low + (high - low) / 2;
                    if is_before(middle) { low = middle + 1 } else { high = middle }
                }
                low
            }
        }
    }

    pub(super) fn row(&self, position: usize) -> Row {
        Row {
            id: self.ids[position],
            platform: self.platforms[position],
            category: self.categories[position],
            score: self.scores[position],
            followers: self.followers[position],
            engagement: self.engagements[position],
            traits: self.traits[position],
        }
    }

    /// The searched names of the creator at a position.
    pub(super) fn names(&self, position: usize) -> &str {
        let start = position.checked_sub(1).map_or(0, |before| self.name_ends[before]);
        &self.names[start..self.name_ends[position]]
    }

    /// The signature of those.
    pub(super) fn signature(&self, position: usize) -> u128 {
        self.signatures[position]
    }

    pub(super) fn position_of(&self, id: Uuid) -> Option<usize> {
        let found =
            self.by_id.binary_search_by_key(&Reverse(id), |position| Reverse(self.ids[*position as usize]));
        found.ok().map(|index| self.by_id[index] as usize)
    }

    /// The positions in an order, if they are kept in it.
    pub(super) fn in_order_of(&self, key: SortKey) -> Option<&[u32]> {
        match key {
            SortKey::Score | SortKey::Name => None,
            SortKey::Created => Some(&self.by_id),
            SortKey::Followers => Some(&self.by_followers),
            SortKey::Engagement => Some(&self.by_engagement),
        }
    }

    /// How many creators, from the first, can pass at all.
    pub(super) fn candidates(&self, test: &Test) -> usize {
        self.scores.partition_point(|score| *score >= test.score_min)
    }

    /// Which of the creators from `start` on pass and are `alive`: 1 or 0 for each of a block.
    pub(super) fn pass(&self, test: &Test, alive: &[u8], start: usize) -> ([u8; BLOCK], usize) {
        let end = (start + BLOCK).min(self.len());
        let mut pass = [0u8; BLOCK];
        let pass_of = &mut pass[..end - start];
        pass_of.copy_from_slice(&alive[start..end]);
        if test.traits.0 != 0 {
            let (bits, code) = test.traits;
            keep(pass_of, &self.traits[start..end], |traits| traits & bits == code);
        }
        if test.platform != ANY {
            keep(pass_of, &self.platforms[start..end], |platform| platform == test.platform);
        }
        if test.category != ANY {
            keep(pass_of, &self.categories[start..end], |category| category == test.category);
        }
        if test.score_min > 0 {
            keep(pass_of, &self.scores[start..end], |score| score >= test.score_min);
        }
        if test.followers != (0, u64::MAX) {
            let (min, max) = test.followers;
            keep(pass_of, &self.followers[start..end], |followers| (followers >= min) & (followers <= max));
        }
        if test.engagement != (0, u32::MAX) {
            let (min, max) = test.engagement;
            keep(pass_of, &self.engagements[start..end], |engaged| (engaged >= min) & (engaged <= max));
        }
        let count = pass.iter().map(|pass| usize::from(*pass)).sum();
        (pass, count)
    }
}

fn keep<T: Copy>(pass: &mut [u8], column: &[T], holds: impl Fn(T) -> bool) {
    for (pass, value) in pass.iter_mut().zip(column) {
        *pass &= u8::from(holds(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_engagement_are_included_whatever_binary_fractions_say() {
        for percent in [0.1, 0.3, 2.3, 3.0, 4.8, 4.8001, 12.3456] {
            let (least, most) = (scaled(percent, f64::ceil), scaled(percent, f64::floor));
            assert_eq!(least, most, "{percent} has four digits at most and is stored as it is");
        }
        assert_eq!((scaled(4.800_01, f64::ceil), scaled(4.800_01, f64::floor)), (48_001, 48_000));
        assert_eq!(scaled(1e300, f64::floor), u32::MAX);
    }
}
