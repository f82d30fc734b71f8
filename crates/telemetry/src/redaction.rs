//! The net under everything that leaves the process as words: log lines, attributes of spans, error reports.
//!
//! Code does not log secrets or contact details in the first place: types that hold them show nothing, and the suite's logs are
//! searched without this net. It is there for what nobody thought of: an error message of a library, a path that
//! somebody typed, a panic.
//!
//! Guarantees: what looks like an e-mail address, a telephone number, a credential of ours or of HTTP's, a password in an
//! address, a private or sealing key, or the value of something named like a secret, is replaced by [`MASK`]. A JSON
//! line stays JSON, and a line stays one line, whatever is in its values. Ids, times and numbers stay as they are.
//! Over-eager is fine, blind is not.
//!
//! A line in which nothing looks suspicious is passed on as it is, after one look over its bytes.

mod line;
mod patterns;
mod writer;

use std::borrow::Cow;

#[cfg_attr(not(feature = "sentry"), expect(unused_imports, reason = "for error reports"))]
pub(crate) use line::clean;
pub use line::{json_line, text_line};
pub(crate) use writer::Net;

/// What stands in place of what was taken out.
pub const MASK: &str = "[redacted]";

/// Makes the net ready; call it before the first line.
pub(crate) fn prepare() {
    patterns::prepare();
}

/// The text without what nobody should read.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    patterns::redact(text)
}

#[cfg(test)]
mod tests;
