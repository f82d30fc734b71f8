//! The filters that partners may combine: drawn as partners would, and every combination of representative bounds.

use kernel::Platform;
use pool::search::{Category, SearchFilter, SearchSort, SortKey};
use rand::RngExt;
use rand::rngs::StdRng;

/// A search as a partner asks for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Search {
    pub(crate) filter: SearchFilter,
    pub(crate) sort: SearchSort,
    pub(crate) limit: u32,
    pub(crate) offset: u32,
    /// Instead of the offset.
    pub(crate) cursor: Option<String>,
}

/// Orders other than the usual one.
const SORTS: [SearchSort; 5] = [
    SearchSort { key: SortKey::Score, descending: false },
    SearchSort { key: SortKey::Followers, descending: true },
    SearchSort { key: SortKey::Followers, descending: false },
    SearchSort { key: SortKey::Engagement, descending: true },
    SearchSort { key: SortKey::Engagement, descending: false },
];

impl Search {
    /// Most searches name a platform or a category and a bound or two, and look at the first pages by score.
    pub(crate) fn drawn(rng: &mut StdRng) -> Self {
        let mut filter = SearchFilter::default();
        if rng.random_ratio(7, 10) {
            filter.platform = Some(Platform::ALL[rng.random_range(0..Platform::ALL.len())]);
        }
        if rng.random_ratio(6, 10) {
            filter.category = Some(Category::ALL[rng.random_range(0..Category::ALL.len())]);
        }
        if rng.random_ratio(5, 10) {
            filter.followers_min = Some(round(1_000.0 * 1_000f64.powf(rng.random())));
        }
        if rng.random_ratio(3, 10) {
            let least = filter.followers_min.unwrap_or(5_000);
            filter.followers_max = Some(least.saturating_mul(rng.random_range(2..50)));
        }
        if rng.random_ratio(3, 10) {
            filter.engagement_min = Some(f64::from(rng.random_range(2..16_u32)) / 2.0);
        }
        if rng.random_ratio(1, 20) {
            filter.engagement_max = Some(filter.engagement_min.unwrap_or(1.0) + 5.5);
        }
        if rng.random_ratio(4, 10) {
            filter.score_min = Some(rng.random_range(4..19_u8) * 5);
        }
        let sort = match rng.random_ratio(6, 10) {
            true => SearchSort::default(),
            false => SORTS[rng.random_range(0..SORTS.len())],
        };
        let limit = match rng.random_range(0..10) {
            0..7 => 20,
            7 => 10,
            8 => 50,
            _ => 100,
        };
        let offset = match rng.random_range(0..20) {
            0..14 => 0,
            14..19 => limit * rng.random_range(1..10),
            _ => rng.random_range(0..=10_000),
        };
        Self { filter, sort, limit, offset, cursor: None }
    }

    /// Each combination of filters, with bounds that let many pass and few, in each order, first page and deepest.
    pub(crate) fn every() -> Vec<Self> {
        let categories = [None, Some(Category::Lifestyle), Some(Category::Tech)];
        let platforms = [None, Some(Platform::Tiktok), Some(Platform::Facebook)];
        let followers =
            [(None, None), (Some(10_000), None), (None, Some(50_000)), (Some(300_000), Some(900_000))];
        let engagements = [(None, None), (Some(2.0), None), (Some(3.0), Some(4.5))];
        let scores = [None, Some(40), Some(85)];
        let sorts = std::iter::once(SearchSort::default()).chain(SORTS);
        let pages = [(20, 0), (100, 10_000)];
        let mut all = Vec::new();
        for sort in sorts {
            for (category, platform) in product(&categories, &platforms) {
                for ((followers_min, followers_max), (engagement_min, engagement_max)) in
                    product(&followers, &engagements)
                {
                    for (score_min, (limit, offset)) in product(&scores, &pages) {
                        let filter = SearchFilter {
                            category,
                            platform,
                            followers_min,
                            followers_max,
                            engagement_min,
                            engagement_max,
                            score_min,
                            name: None,
                        };
                        all.push(Self { filter, sort, limit, offset, cursor: None });
                    }
                }
            }
        }
        all
    }

    /// The query string, with its question mark.
    pub(crate) fn query(&self) -> String {
        let filter = &self.filter;
        let mut fields: Vec<(&str, String)> = Vec::new();
        fields.extend(filter.category.map(|category| ("category", category.to_string())));
        fields.extend(filter.platform.map(|platform| ("platform", platform.as_str().to_owned())));
        fields.extend(filter.followers_min.map(|least| ("minFollowers", least.to_string())));
        fields.extend(filter.followers_max.map(|most| ("maxFollowers", most.to_string())));
        fields.extend(filter.engagement_min.map(|least| ("minEngagement", least.to_string())));
        fields.extend(filter.engagement_max.map(|most| ("maxEngagement", most.to_string())));
        fields.extend(filter.score_min.map(|least| ("minScore", least.to_string())));
        if self.sort != SearchSort::default() {
            fields.push(("sort", self.sort_name()));
        }
        fields.push(("limit", self.limit.to_string()));
        match &self.cursor {
            Some(cursor) => fields.push(("cursor", cursor.clone())),
            None if self.offset > 0 => fields.push(("offset", self.offset.to_string())),
            None => {}
        }
        let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("?{}", fields.join("&"))
    }

    fn sort_name(&self) -> String {
        let name = match self.sort.key {
            SortKey::Score => "score",
            SortKey::Followers => "followers",
            SortKey::Engagement => "engagement",
            SortKey::Created => "createdAt",
            SortKey::Name => "relevance",
        };
        format!("{}{name}", if self.sort.descending { "-" } else { "" })
    }

    /// How many columns are looked at beside the score, by which creators stand.
    pub(crate) fn columns(&self) -> usize {
        let filter = &self.filter;
        [
            filter.category.is_some(),
            filter.platform.is_some(),
            filter.followers_min.is_some() || filter.followers_max.is_some(),
            filter.engagement_min.is_some() || filter.engagement_max.is_some(),
            filter.score_min.is_some(),
        ]
        .into_iter()
        .filter(|is_there| *is_there)
        .count()
    }
}

fn product<A: Copy, B: Copy>(left: &[A], right: &[B]) -> Vec<(A, B)> {
    left.iter().flat_map(|one| right.iter().map(move |other| (*one, *other))).collect()
}

/// To two digits, as people give bounds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between a thousand and a million"
)]
fn round(number: f64) -> u64 {
    let unit = 10f64.powf(number.log10().floor() - 1.0);
    ((number / unit).round() * unit) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_combination_is_another_search() {
        let all = Search::every();
        let queries: HashSet<String> = all.iter().map(Search::query).collect();
        assert_eq!((all.len(), queries.len()), (3_888, 3_888));
    }

    #[test]
    fn bounds_are_rounded_as_people_give_them() {
        assert_eq!([1_234.0, 98_765.0, 999_999.0].map(round), [1_200, 99_000, 1_000_000]);
    }
}
