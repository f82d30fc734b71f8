//! What is searched and who asks: influencers by COPY, partners by the functions that make them in production.
//!
//! Figures are drawn as pools have them: followers and engagement log-normal (the larger an audience, the less of it
//! engages), platforms and categories of unequal size, 95% public, contact details of a part, sealed. The generator is
//! seeded, ids are not.

use std::fmt::Write as _;

use anyhow::ensure;
use audit::Actor;
use db::Pool;
use jobs::Door;
use jobs::partners::{SubscriptionOrder, change_subscription, create};
use kernel::Platform;
use kernel::ids::InfluencerId;
use kernel::sealing::{Keyring, SealContext};
use partners::{NewPartner, SubscriptionChange, SubscriptionTier};
use pool::InfluencerTier;
use pool::search::Category;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection as _, PgConnection, raw_sql};
use uuid::Uuid;

use super::requests::Caller;
use crate::progress::Progress;

/// Rows of one COPY.
const CHUNK: usize = 25_000;
/// Requests a minute of each partner (G-56: limits protect, capacity is another promise): more than one can ask here.
const RATE_LIMIT_PER_MINUTE: u32 = 1_000_000;
/// Influencers a month of each partner whose tier has a limit.
const QUOTA: u32 = 1_000_000;
/// Of each partner's tiers.
const TIERS: [SubscriptionTier; 4] = [
    SubscriptionTier::Enterprise,
    SubscriptionTier::Premium,
    SubscriptionTier::Enterprise,
    SubscriptionTier::Basic,
];

const COPY: &str = "copy pool_influencers (
    id, vb_profile_id, platform, username, display_name, avatar_url, bio, followers, following, engagement,
    avg_views, avg_likes, avg_comments, score, category, tier, visibility, contact_email, contact_phone, source,
    synced_at, deleted_at) from stdin";

/// Makes so many influencers; answers a thousand of those that partners may have.
pub(crate) async fn influencers(
    url: &str,
    keyring: &Keyring,
    count: usize,
    progress: &Progress,
) -> anyhow::Result<Vec<InfluencerId>> {
    let mut conn = PgConnection::connect(url).await?;
    let mut rng = StdRng::seed_from_u64(1);
    let mut sample = Vec::new();
    let every = (count / 1_000).max(1);
    for from in (0..count).step_by(CHUNK) {
        progress.say(format!("making influencers: {from} of {count}"));
        let mut text = String::with_capacity(CHUNK * 600);
        for at in from..count.min(from + CHUNK) {
            let id = InfluencerId::new();
            let is_servable = line(&mut text, id.uuid(), at, keyring, &mut rng);
            if is_servable && at % every == 0 {
                sample.push(id);
            }
        }
        let mut copy = conn.copy_in_raw(COPY).await?;
        copy.send(text.into_bytes()).await?;
        copy.finish().await?;
    }
    progress.say("vacuum and checkpoint");
    for statement in ["vacuum (analyze) pool_influencers", "checkpoint"] {
        raw_sql(statement).execute(&mut conn).await?;
    }
    conn.close().await?;
    ensure!(!sample.is_empty(), "nobody is public among {count} influencers: take more");
    Ok(sample)
}

/// Appends a row; answers whether partners may have it.
fn line(text: &mut String, id: Uuid, at: usize, keyring: &Keyring, rng: &mut StdRng) -> bool {
    let platform = drawn(rng, &PLATFORMS);
    let category = if rng.random_ratio(1, 20) { "\\N" } else { drawn(rng, &CATEGORIES).as_str() };
    let followers = (25_000.0 * (1.6 * normal(rng)).exp()).clamp(100.0, 50_000_000.0);
    let engagement = (3.2 * (followers / 25_000.0).powf(-0.12) * (0.6 * normal(rng)).exp()).clamp(0.01, 60.0);
    let score =
        (52.0 + 6.0 * (followers / 25_000.0).ln().clamp(-3.0, 3.0) + 14.0 * normal(rng)).clamp(0.0, 100.0);
    let views = followers * rng.random_range(0.05..0.6);
    let likes = followers * engagement / 100.0;
    let followers = whole(followers);
    let tier = InfluencerTier::of(followers).as_str();
    let (is_public, is_removed) = (rng.random_ratio(95, 100), rng.random_ratio(1, 200));
    let mut contact = |ratio: u32, column: &'static str, value: String| {
        if !rng.random_ratio(ratio, 100) {
            return "\\N".to_owned();
        }
        let context = SealContext { table: "pool_influencers", column, owner: Uuid::nil(), row: id };
        let sealed = keyring.seal(value.as_bytes(), &context);
        sealed.iter().fold(String::from("\\\\x"), |mut hex, byte| {
            // Writing to a text does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let email = contact(60, "contact_email", format!("creator{at}@example.com"));
    let phone = contact(30, "contact_phone", format!("+8490{at:07}"));
    let avatar = if rng.random_ratio(92, 100) {
        format!("https://cdn.example.com/{}/{at}/avatar.jpg", platform.as_str())
    } else {
        "\\N".to_owned()
    };
    let _ = writeln!(
        text,
        "{id}\tvb_prof_{at}\t{platform}\tcreator_{at}\tCreator {at} Việt Nam\t{avatar}\t{BIO} {at}\t{followers}\t{following}\t{engagement:.4}\t{views}\t{likes}\t{comments}\t{score}\t{category}\t{tier}\t{visibility}\t{email}\t{phone}\tBULK_IMPORT\tnow\t{removed}",
        platform = platform.as_str(),
        following = rng.random_range(0..5_000),
        views = whole(views),
        likes = whole(likes),
        comments = whole(likes / 25.0),
        score = whole(score),
        visibility = if is_public { "PUBLIC" } else { "PRIVATE" },
        removed = if is_removed { "now" } else { "\\N" },
    );
    is_public && !is_removed
}

const BIO: &str = "Reviews, everyday life and things worth a try. Write for collaborations. No.";
const PLATFORMS: [(u32, Platform); 4] =
    [(45, Platform::Tiktok), (30, Platform::Instagram), (15, Platform::Youtube), (10, Platform::Facebook)];
const CATEGORIES: [(u32, Category); 6] = [
    (29, Category::Lifestyle),
    (23, Category::Beauty),
    (17, Category::Food),
    (12, Category::Travel),
    (11, Category::Gaming),
    (8, Category::Tech),
];

/// One of those whose shares are given in percent.
fn drawn<T: Copy>(rng: &mut StdRng, of: &[(u32, T)]) -> T {
    let mut place = rng.random_range(0..100);
    for (share, one) in of {
        if place < *share {
            return *one;
        }
        place -= share;
    }
    of[0].1
}

/// The standard normal distribution, by Box and Muller.
fn normal(rng: &mut StdRng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[allow(clippy::cast_possible_truncation, reason = "all are bounded far below")]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

/// Makes so many partners.
pub(crate) async fn partners(pool: &Pool, keyring: &Keyring, count: usize) -> anyhow::Result<Vec<Caller>> {
    let door = Door { actor: Actor::System("bench"), request_id: None, keyring };
    let mut callers = Vec::with_capacity(count);
    for at in 0..count {
        let tier = TIERS[at % TIERS.len()];
        let (code, name) = (format!("partner-{at}"), format!("Partner {at}"));
        let new =
            NewPartner { rate_limit_per_minute: RATE_LIMIT_PER_MINUTE, ..NewPartner::of(&code, &name, tier) };
        let mut tx = db::begin(pool).await?;
        let created = create(&mut tx, &door, new).await?;
        if tier.monthly_quota().is_some() {
            let change =
                SubscriptionChange { monthly_quota: Some(Some(QUOTA)), ..SubscriptionChange::default() };
            let order = SubscriptionOrder::of(change, chrono_tz::Asia::Ho_Chi_Minh);
            change_subscription(&mut tx, &door, created.partner.id, order).await?;
        }
        tx.commit().await?;
        callers.push(Caller { code, key: created.key.api_key.expose().to_owned(), jobs: Vec::new() });
    }
    Ok(callers)
}
