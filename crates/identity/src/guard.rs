//! What keeps guessers out without shutting people out for long.
//!
//! Every try to sign in is counted for its account, whether there is one or not, and for its address. Too many failures
//! within [`WINDOW`] lock the account or the address for [`LOCK`], and never longer: tries during a lock are not counted.
//! From an address where a person has signed in within a month, tries are counted for the two together and for nothing
//! else, so that strangers who guess do not lock the person out there. Whoever is signed in and gives the present password
//! to choose another is counted apart.
//!
//! What is stored are keyed digests: names that people try are personal, and addresses are too.

use std::{net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::{Email, ids::UserId, sealing::Keyring};
use sqlx::postgres::types::PgInterval;

use crate::error::IdentityError;

/// Failures of one account within [`WINDOW`] that lock it.
pub const ACCOUNT_FAILURES_MAX: i32 = 5;
/// Failures from one address within [`WINDOW`] that lock it.
pub const ADDRESS_FAILURES_MAX: i32 = 50;
/// Mails with a permit that one account is sent within [`WINDOW`].
pub const RESETS_MAX: i32 = 3;
/// Failures older than this are forgotten.
pub const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How long a lock holds.
pub const LOCK: Duration = Duration::from_secs(15 * 60);
/// How long an address stays familiar.
const FAMILIAR_DAYS: f64 = 30.0;
const PURPOSE: &str = "identity.guard";

/// Whom a try is counted for.
#[derive(Debug, Clone)]
pub struct Tries {
    own: String,
    address: Option<String>,
    /// What becomes familiar when the try succeeds.
    pair: Option<String>,
}

/// Whether a password may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// Yes; the try is counted. Give it back if it succeeds.
    Allowed {
        /// This try is the last before a lock, which begins with it unless it succeeds.
        locks: bool,
    },
    /// No, until then.
    Locked {
        /// When it may be tried again, by the database's clock.
        for_at_most: Duration,
    },
}

/// Counts a try for its account and address, before its password is looked at. In a transaction of its own: a try
/// counts whatever becomes of it.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn try_sign_in(
    conn: &mut Connection,
    keyring: &Keyring,
    email: &Email,
    address: IpAddr,
) -> Result<(Guarded, Tries), IdentityError> {
    let tries = Tries::of(conn, keyring, email, address).await?;
    Ok((count(conn, &tries).await?, tries))
}

/// Counts a try of a person's present password by whoever holds a session of theirs, as [`try_sign_in`] does. Who guesses
/// so locks nobody out who signs in.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn try_password(
    conn: &mut Connection,
    keyring: &Keyring,
    person: UserId,
) -> Result<(Guarded, Tries), IdentityError> {
    let own = keyring.tag(PURPOSE, format!("change of password {person}").as_bytes());
    let tries = Tries { own, address: None, pair: None };
    Ok((count(conn, &tries).await?, tries))
}

async fn count(conn: &mut Connection, tries: &Tries) -> Result<Guarded, IdentityError> {
    let subjects: Vec<&str> = tries.subjects().collect();
    let bounds = [ACCOUNT_FAILURES_MAX, ADDRESS_FAILURES_MAX];
    let tried = sqlx::query!(
        r#"select locked_until, locked_now as "locked_now!", now() as "now!" from sign_in_try($1, $2, $3, $4)"#,
        &subjects as &[&str],
        &bounds[..subjects.len()],
        interval(WINDOW),
        interval(LOCK),
    )
    .fetch_one(conn)
    .await?;
    Ok(match tried.locked_until {
        Some(until) => Guarded::Locked { for_at_most: left(tried.now, until) },
        None => Guarded::Allowed { locks: tried.locked_now },
    })
}

/// Counts a wish for a mail with a permit, for the account and for the address, and answers whether it is granted. Other
/// counters than those of signing in: who forgot a password may be locked out.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn try_reset(
    conn: &mut Connection,
    keyring: &Keyring,
    email: &Email,
    address: IpAddr,
) -> Result<bool, IdentityError> {
    let digest = |text: String| keyring.tag(PURPOSE, text.as_bytes());
    let subjects =
        [digest(format!("reset of {}", email.as_str())), digest(format!("resets from {}", network(address)))];
    // The wish that locks is granted still: one more than these begin the lock.
    let locked = sqlx::query_scalar!(
        r#"select locked_until is not null as "is_locked!" from sign_in_try($1, $2, $3, $4)"#,
        &subjects,
        &[RESETS_MAX, ADDRESS_FAILURES_MAX],
        interval(WINDOW),
        interval(LOCK),
    )
    .fetch_one(conn)
    .await?;
    Ok(!locked)
}

/// A try got in: its account's failures are forgotten, it does not count for its address, and the address is familiar.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn give_back(conn: &mut Connection, tries: &Tries) -> Result<(), IdentityError> {
    lock(conn, tries).await?;
    if let Some(address) = &tries.address {
        sqlx::query!(
            "update sign_in_guards set failures = greatest(failures - 1, 0), locked_until = '-infinity'
             where subject = $1",
            address
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query!("delete from sign_in_guards where subject = $1", tries.own).execute(&mut *conn).await?;
    let Some(pair) = &tries.pair else { return Ok(()) };
    sqlx::query!(
        "insert into sign_in_familiar (subject) values ($1) on conflict (subject) do update set seen_at = now()",
        pair
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A try came to nothing, because its password could not be looked at: it alone does not count, and a lock that began with
/// it ends. Failures before it stay, and nothing becomes familiar.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn take_back(conn: &mut Connection, tries: &Tries) -> Result<(), IdentityError> {
    lock(conn, tries).await?;
    let subjects: Vec<&str> = tries.subjects().collect();
    sqlx::query!(
        "update sign_in_guards set failures = greatest(failures - 1, 0), locked_until = '-infinity'
         where subject = any($1)",
        &subjects as &[&str]
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks the counters of a try in the order in which tries are counted, so that two who sign in at once do not deadlock.
async fn lock(conn: &mut Connection, tries: &Tries) -> Result<(), IdentityError> {
    let subjects: Vec<&str> = tries.subjects().collect();
    sqlx::query!(
        "select from sign_in_guards where subject = any($1) order by subject for update",
        &subjects as &[&str]
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// Forgets failures and familiar addresses that no longer matter.
///
/// # Errors
/// [`IdentityError::Database`].
pub async fn forget_old_tries(conn: &mut Connection) -> Result<(), IdentityError> {
    sqlx::query!(
        "delete from sign_in_guards where subject in (
             select subject from sign_in_guards where window_start < now() - $1::interval - $2::interval
             for update skip locked
         )",
        interval(WINDOW),
        interval(LOCK),
    )
    .execute(&mut *conn)
    .await?;
    // One that is locked belongs to who signs in there just now.
    sqlx::query!(
        "delete from sign_in_familiar where subject in (
             select subject from sign_in_familiar where seen_at < now() - $1 * interval '1 day'
             for update skip locked
         )",
        FAMILIAR_DAYS
    )
    .execute(conn)
    .await?;
    Ok(())
}

impl Tries {
    async fn of(
        conn: &mut Connection,
        keyring: &Keyring,
        email: &Email,
        address: IpAddr,
    ) -> Result<Self, IdentityError> {
        let digest = |text: String| keyring.tag(PURPOSE, text.as_bytes());
        let network = network(address);
        let pair = digest(format!("pair {network} {}", email.as_str()));
        let is_familiar = sqlx::query_scalar!(
            r#"select exists (select from sign_in_familiar where subject = $1
                              and seen_at >= now() - $2 * interval '1 day') as "is_familiar!""#,
            pair,
            FAMILIAR_DAYS,
        )
        .fetch_one(conn)
        .await?;
        Ok(match is_familiar {
            true => Self { own: pair.clone(), address: None, pair: Some(pair) },
            false => Self {
                own: digest(format!("account {}", email.as_str())),
                address: Some(digest(format!("address {network}"))),
                pair: Some(pair),
            },
        })
    }

    /// Whom the try is counted for.
    fn subjects(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.own.as_str()).chain(self.address.as_deref())
    }
}

/// What one caller has to itself: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() & !u128::from(u64::MAX)).into()),
        four => four,
    }
}

fn left(now: DateTime<Utc>, until: DateTime<Utc>) -> Duration {
    (until - now).to_std().unwrap_or_default().min(LOCK)
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_is_one_caller() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
