//! What people and the calendar do to partners, and what partners are told of it.

mod actions;
mod follow_calendar;
mod notice;
mod onboarding;
mod subscription;
mod telling;

pub use actions::{PartnerActionError, add_key, create, revoke_key, rotate_key, set_active, update};
pub use follow_calendar::FollowCalendar;
pub use onboarding::{CODE_LIFE, ShownKey, reveal_key, welcome};
pub use subscription::{SubscriptionOrder, change_subscription};
pub(crate) use telling::tell_of_quota;
pub use telling::{TellingError, Told, send_message};
