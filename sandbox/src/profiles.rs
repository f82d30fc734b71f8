//! Lifelike profiles that follow from the platform, the name and the day.
//!
//! Guarantees: the same creator on the same day has the same values, in every process; from one day to the next they
//! move by well under 1%. The figures agree with each other as a real profile's do: engagement is what likes, comments
//! and followers give, it falls with size, and the total score is the weighted sum of its parts.

use chrono::{DateTime, NaiveDate, Utc};
use kernel::Platform;
use serde::Serialize;

use crate::creator::{Creator, Name};
use crate::fingerprint::Draws;

/// Parts of the total score.
const REACH_WEIGHT: f64 = 0.35;
const ENGAGEMENT_WEIGHT: f64 = 0.35;
const AUTHENTICITY_WEIGHT: f64 = 0.30;

/// A profile in the meter's wire format.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    pub(crate) profile_id: String,
    pub(crate) platform: Platform,
    pub(crate) username: String,
    pub(crate) display_name: String,
    pub(crate) avatar_url: Option<String>,
    pub(crate) bio: Option<String>,
    pub(crate) followers: u64,
    pub(crate) following: u64,
    pub(crate) engagement: f64,
    pub(crate) avg_views: Option<u64>,
    pub(crate) avg_likes: Option<u64>,
    pub(crate) avg_comments: Option<u64>,
    pub(crate) score: Score,
    pub(crate) contact: Option<Contact>,
    pub(crate) crawled_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Score {
    pub(crate) total: u8,
    pub(crate) reach: u8,
    pub(crate) engagement: u8,
    pub(crate) authenticity: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Contact {
    pub(crate) email: Option<String>,
    pub(crate) phone: Option<String>,
}

/// The profile as a crawl at this instant sees it.
pub(crate) fn profile(creator: &Creator, crawled_at: DateTime<Utc>) -> Profile {
    let mut draws = Draws::of(&["profile", creator.platform.as_str(), creator.handle()]);
    let username = username(creator);
    let size = followers(&mut draws, day_number(crawled_at));
    let typical = typical_engagement(creator.platform, size.today);
    // Some creators are far livelier than others of their size, and a few bought their followers.
    let liveliness = (draws.normal() * 0.40).exp();
    let interactions = size.today * typical * liveliness * size.mood / 100.0;
    let comments = (interactions * draws.between(0.02, 0.09)).round();
    let likes = (interactions - comments).max(0.0).round();
    let followers = size.today.round().max(1.0);
    let engagement = ((likes + comments) / followers * 10_000.0).round() / 100.0;
    let shows_views = match creator.platform {
        Platform::Tiktok | Platform::Youtube => true,
        Platform::Instagram => draws.chance(0.85),
        Platform::Facebook => draws.chance(0.60),
    };
    let views = (likes * draws.between(8.0, 22.0)).round();
    let score = score(followers, liveliness, draws.between(0.0, 1.0));
    Profile {
        profile_id: creator.profile_id(),
        platform: creator.platform,
        display_name: display_name(&username, &mut draws),
        avatar_url: draws
            .chance(0.97)
            .then(|| format!("https://img.meter.example/{:016x}.jpg", draws.next())),
        bio: draws.chance(0.92).then(|| bio(&mut draws)),
        followers: followers as u64,
        following: (draws.normal() * 1.1 + 5.6).exp().clamp(0.0, 7_500.0) as u64,
        engagement,
        avg_views: shows_views.then_some(views as u64),
        avg_likes: Some(likes as u64),
        avg_comments: draws.chance(0.96).then_some(comments as u64),
        score,
        contact: contact(&username, followers, &mut draws),
        crawled_at,
        username,
    }
}

/// The name as the platform shows it. TikTok and Instagram have lower case only; the others keep the creator's letter
/// case, so there the shown name differs from the one in the address.
fn username(creator: &Creator) -> String {
    match (&creator.name, creator.platform) {
        (Name::Handle(handle), Platform::Tiktok | Platform::Instagram) => handle.clone(),
        (Name::Handle(handle), Platform::Youtube | Platform::Facebook) => capitalised(handle),
        (Name::Id(id), _) => {
            let number = Draws::of(&["username", creator.platform.as_str(), id]).next() % 100_000_000;
            format!("Creator{number:08}")
        }
    }
}

/// Days since the sandbox's first day; what makes figures drift.
fn day_number(at: DateTime<Utc>) -> f64 {
    let first = NaiveDate::from_ymd_opt(2025, 1, 1).unwrap_or_default();
    at.date_naive().signed_duration_since(first).num_days().max(0) as f64
}

struct Size {
    today: f64,
    /// How lively the audience is today; wanders a few percent around 1 over the weeks.
    mood: f64,
}

/// Log-normal with a median of 60,000, as pools of creators are: most small, a few enormous. A slow trend that levels
/// off over the years, and a weekly wave.
fn followers(draws: &mut Draws, day: f64) -> Size {
    let start = (60_000f64.ln() + 1.9 * draws.normal()).exp().clamp(150.0, 280_000_000.0);
    let trend = 0.10 + 0.12 * draws.normal();
    let phase = draws.between(0.0, std::f64::consts::TAU);
    let grown = start * (trend.clamp(-0.2, 0.6) * (1.0 + day / 365.0).ln()).exp();
    let wave = 1.0 + 0.0008 * (day * std::f64::consts::TAU / 7.0 + phase).sin();
    Size { today: grown * wave, mood: 1.0 + 0.05 * (day / 19.0 + phase).sin() }
}

/// The usual engagement in percent for this size: about 9% at a thousand followers, 3.5% at 60,000, 1% at ten million.
fn typical_engagement(platform: Platform, followers: f64) -> f64 {
    let by_platform = match platform {
        Platform::Tiktok => 1.4,
        Platform::Instagram => 1.0,
        Platform::Youtube => 0.9,
        Platform::Facebook => 0.4,
    };
    (by_platform * 9.0 * (followers / 1_000.0).powf(-0.23)).clamp(0.05, 25.0)
}

fn score(followers: f64, liveliness: f64, luck: f64) -> Score {
    // 100 followers give nothing, 50 million everything; each tenfold counts the same.
    let reach = ((followers / 100.0).log10() / 500_000f64.log10() * 100.0).clamp(0.0, 100.0).round();
    let engagement = (55.0 + 38.0 * liveliness.log2()).clamp(2.0, 100.0).round();
    // An audience that hardly reacts was probably bought.
    let authenticity = (62.0 + 36.0 * luck - 60.0 * (0.55 - liveliness).max(0.0)).clamp(5.0, 99.0).round();
    let total = REACH_WEIGHT * reach + ENGAGEMENT_WEIGHT * engagement + AUTHENTICITY_WEIGHT * authenticity;
    Score {
        total: total.round() as u8,
        reach: reach as u8,
        engagement: engagement as u8,
        authenticity: authenticity as u8,
    }
}

fn capitalised(handle: &str) -> String {
    let mut begins = true;
    handle
        .chars()
        .flat_map(|c| {
            let upper = begins && c.is_alphabetic();
            begins = matches!(c, '.' | '_' | '-');
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn display_name(username: &str, draws: &mut Draws) -> String {
    let spaced = capitalised(&username.to_lowercase()).replace(['.', '_', '-'], " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let words = if words.is_empty() { username.to_owned() } else { words.join(" ") };
    match draws.next() % 10 {
        0 => format!("{words} ✨"),
        1 => format!("{words} 🇻🇳"),
        2 => format!("{words} Official"),
        _ => words,
    }
}

fn bio(draws: &mut Draws) -> String {
    const WHO: [&str; 8] = [
        "Saigon",
        "Hà Nội 🌿",
        "London ↔ Lisbon",
        "mẹ của hai bé",
        "engineer by day",
        "東京からこんにちは",
        "self-taught cook",
        "full-time traveller",
    ];
    const WHAT: [&str; 8] = [
        "skincare that works",
        "small kitchens, big flavours",
        "reviews without mercy",
        "gaming and giggles 🎮",
        "ăn gì hôm nay?",
        "slow fashion",
        "one new place a week",
        "tech explained calmly",
    ];
    const HOW: [&str; 4] =
        ["new video every Friday", "DM for work", "📩 below", "no sponsored posts without a label"];
    format!("{} | {}\n{}", draws.pick(&WHO), draws.pick(&WHAT), draws.pick(&HOW))
}

/// Bigger creators show an address more often. Domains and numbers are those reserved for fiction.
fn contact(username: &str, followers: f64, draws: &mut Draws) -> Option<Contact> {
    let eagerness = (0.25 + 0.09 * followers.log10()).min(0.9);
    let local: String =
        username.to_lowercase().chars().filter(char::is_ascii_alphanumeric).take(30).collect();
    let local = if local.is_empty() { "hello".to_owned() } else { local };
    let email = draws.chance(eagerness).then(|| {
        let domain = draws.pick(&["example.com", "mail.example.net", "talent.example.org"]);
        format!("{local}@{domain}")
    });
    let phone = draws.chance(eagerness * 0.4).then(|| format!("+1 202 555 01{:02}", draws.next() % 100));
    (email.is_some() || phone.is_some()).then_some(Contact { email, phone })
}

#[cfg(test)]
mod tests {
    use chrono::{Duration, TimeZone};

    use super::*;

    fn some_day() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, 9, 30, 0).unwrap()
    }

    fn crowd() -> Vec<Profile> {
        (0..4_000)
            .map(|n| {
                let platform = Platform::ALL[n % 4];
                profile(&Creator { platform, name: Name::Handle(format!("creator{n}")) }, some_day())
            })
            .collect()
    }

    #[test]
    fn a_creator_has_the_same_profile_all_day_and_nearly_the_same_tomorrow() {
        for n in 0..200 {
            let creator =
                Creator { platform: Platform::ALL[n % 4], name: Name::Handle(format!("someone{n}")) };
            let morning = profile(&creator, some_day());
            let evening = profile(&creator, some_day() + Duration::hours(10));
            assert_eq!(Profile { crawled_at: morning.crawled_at, ..evening }, morning);

            let tomorrow = profile(&creator, some_day() + Duration::days(1));
            let change = tomorrow.followers as f64 / morning.followers as f64 - 1.0;
            assert!(change.abs() < 0.01, "{change}");
            assert_eq!(
                (&tomorrow.username, &tomorrow.bio, &tomorrow.contact),
                (&morning.username, &morning.bio, &morning.contact)
            );
        }
    }

    #[test]
    fn figures_move_within_a_month() {
        let creator = Creator::from_url("https://www.tiktok.com/@amy.codes").unwrap();
        let (now, later) =
            (profile(&creator, some_day()), profile(&creator, some_day() + Duration::days(30)));
        assert_ne!((now.followers, now.engagement), (later.followers, later.engagement));
    }

    #[test]
    fn the_crowd_looks_like_a_real_pool() {
        let crowd = crowd();
        let mut sizes: Vec<u64> = crowd.iter().map(|profile| profile.followers).collect();
        sizes.sort_unstable();
        let median = sizes[sizes.len() / 2];
        assert!((30_000..150_000).contains(&median), "{median}");
        assert!(sizes[sizes.len() * 95 / 100] > 700_000);

        let mean = |profiles: Vec<&Profile>| {
            profiles.iter().map(|profile| profile.engagement).sum::<f64>() / profiles.len() as f64
        };
        let small = mean(crowd.iter().filter(|profile| profile.followers < 10_000).collect());
        let large = mean(crowd.iter().filter(|profile| profile.followers > 1_000_000).collect());
        assert!(small > 2.0 * large, "{small} {large}");

        let silent = crowd.iter().filter(|profile| profile.contact.is_none()).count();
        assert!((400..2_400).contains(&silent), "{silent}");
    }

    #[test]
    fn the_figures_of_a_profile_agree_with_each_other() {
        for profile in crowd() {
            let score = profile.score;
            let total = f64::from(score.reach) * REACH_WEIGHT
                + f64::from(score.engagement) * ENGAGEMENT_WEIGHT
                + f64::from(score.authenticity) * AUTHENTICITY_WEIGHT;
            assert!((total - f64::from(score.total)).abs() <= 0.5 + 1e-9, "{score:?}");
            assert!(score.total <= 100);
            if let (Some(likes), Some(comments)) = (profile.avg_likes, profile.avg_comments) {
                let engagement = (likes + comments) as f64 / profile.followers as f64 * 100.0;
                assert!((engagement - profile.engagement).abs() < 0.006, "{profile:?}");
            }
            assert!(profile.avg_views.is_none_or(|views| views >= profile.avg_likes.unwrap_or(0)));
        }
    }

    #[test]
    fn names_in_any_script_are_kept() {
        let creator = Creator::from_url("https://www.youtube.com/@%E6%9D%8E%E5%AD%90%E6%9F%92").unwrap();
        let profile = profile(&creator, some_day());
        assert_eq!(profile.username, "李子柒");
        assert!(profile.display_name.starts_with("李子柒"));
    }
}
