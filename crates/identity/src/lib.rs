//! People who sign in: accounts, passwords, sessions, roles, and what keeps guessers out.
//!
//! Guarantees: passwords are stored as argon2id hashes, secrets of sessions and permits as SHA-256 of 256 random bits,
//! addresses sealed and found by keyed digests; a session that was ended or whose person was disabled works nowhere from
//! the next request on; wrong, unknown and disabled accounts are one and the same failure that takes the same time;
//! tries are counted before the password is looked at, alike for accounts that exist and that do not.
//!
//! Rows are locked in one order, so that nobody deadlocks: guards by their subject, people by their id, then what belongs to
//! a person, their permits before their sessions.

mod error;
mod guard;
mod password;
mod people;
mod permits;
mod role;
mod secret;
mod sessions;

pub use error::{FieldFault, IdentityError};
pub use guard::{
    ACCOUNT_FAILURES_MAX, ADDRESS_FAILURES_MAX, Guarded, LOCK, RESETS_MAX, Tries, WINDOW, forget_old_tries,
    give_back, take_back, try_password, try_reset, try_sign_in,
};
pub use kernel::Email;
pub use password::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, Password, PasswordHash, Passwords};
pub use people::{
    ChangedPerson, Found, NewPerson, Person, PersonChange, change, create, find, find_by_email, find_by_oidc,
    link_oidc, list, lock, set_password,
};
pub use permits::{PERMIT_LIFE, Permit, issue_permit, permit_works, redeem_permit};
pub use role::{Role, UnknownRole};
pub use secret::{Secret, SecretKind};
pub use sessions::{
    OpenedSession, Session, SessionKind, SessionRecord, authenticate, end_session, end_sessions,
    open_session, prune, session_works, sessions_of,
};
