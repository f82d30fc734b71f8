//! People who sign in: what they and those who let them in can do.

mod actions;
mod reset;
mod send_reset;
mod sign_in;
mod single_sign_on;

pub use actions::{Changed, PeopleError, change, change_password, create, end_session, list, sign_out};
pub use reset::{ask_reset, reset_password};
pub use send_reset::SendReset;
pub use sign_in::{Attempt, SignInError, SignedIn, open, sign_in};
pub use single_sign_on::{Newcomers, SingleSignOnError, sign_in_by};
