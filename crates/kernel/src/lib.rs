//! The values every other crate speaks in: ids, platforms, profile addresses, sealed bytes, traces and the clock.
//!
//! Guarantees: nothing here performs I/O (the clock and the random source of the operating system apart), so each
//! function can be tested without a database or a network. Values that come from outside are checked once, by the
//! constructor of their type; whoever holds a `ProfileUrl` or a `JobId` never checks it again.
//!
//! On failure: each module has its own error enum whose text may be shown to the person who sent the value.

pub mod clock;
pub mod email;
pub mod ids;
pub mod loopback;
pub mod platform;
pub mod profile_url;
pub mod sealing;
pub mod trace;

pub use email::Email;
pub use loopback::is_loopback;
pub use platform::Platform;
