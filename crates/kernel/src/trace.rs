//! Where a piece of work stands in a trace: the `traceparent` of the W3C Trace Context recommendation
//! (<https://www.w3.org/TR/trace-context/>, version 00).
//!
//! Guarantees: a [`TraceParent`] that was parsed has the recommendation's syntax and no more is believed of it; what is
//! printed is always version 00. Of the flags only `sampled` is known to that version, so only that one goes on.
//! `tracestate`, which holds other systems' notes to themselves, is not carried.
//!
//! Whether a trace is recorded is decided once, where it comes into the house, and travels in the flag from there on.
//! A trace that begins here is judged by its id against the share that [`sample`] set (the rightmost 56 bits, as the
//! recommendation's level 2 and OpenTelemetry want it), so that all processes agree. In a caller's trace every request
//! is judged by chance that is ours: neither the caller's flag nor an id of the caller's making can have everything
//! recorded, or nothing.
//!
//! On failure: parsing answers `None`. The recommendation wants a header that cannot be read to be ignored, and a new
//! trace to begin, so there is nobody to tell why.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// The header's name, in lower case as HTTP/2 wants it.
pub const TRACEPARENT: &str = "traceparent";

/// `00-`, 32 digits of the trace, `-`, 16 of the span, `-`, 2 of flags.
const CHARS: usize = 55;
/// A later version may append fields, each after a hyphen. More than any of them needs is not read at all.
const CHARS_MAX: usize = 512;
const SAMPLED: u8 = 1;
/// Of this many traces as many are recorded as the share says: one for every value of 56 bits.
const SHARES: u64 = 1 << 56;

/// Traces whose 56 bits reach it are recorded; none until somebody wants them.
static RECORDED_FROM: AtomicU64 = AtomicU64::new(SHARES);

/// Has this share of all traces recorded from now on, 0 to 1, in the whole process.
pub fn sample(share: f64) {
    let from = SHARES - (share.clamp(0.0, 1.0) * SHARES as f64) as u64;
    RECORDED_FROM.store(from, Ordering::Relaxed);
}

/// Whether the share to be recorded includes these bits.
fn is_recorded(bits: u64) -> bool {
    bits % SHARES >= RECORDED_FROM.load(Ordering::Relaxed)
}

/// A trace, one span in it, and whether the trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl TraceParent {
    /// Reads a header's value strictly: lower-case digits, the exact length for version 00, ids that are not zero. A
    /// later version is read as far as version 00 goes, as the recommendation says; version ff is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !(CHARS..=CHARS_MAX).contains(&bytes.len()) {
            return None;
        }
        let (head, rest) = bytes.split_at(CHARS);
        let version = hex(&head[..2])?;
        let ends_well = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let hyphens = [2, 35, 52].iter().all(|place| head[*place] == b'-');
        let (trace, span, flags) = (hex(&head[3..35])?, hex(&head[36..52])?, hex(&head[53..])?);
        let known = ends_well && hyphens && trace != 0 && span != 0;
        known.then_some(Self { trace, span: span as u64, sampled: flags as u8 & SAMPLED != 0 })
    }

    /// The first span of a new trace, recorded if the share to be recorded includes it.
    #[must_use]
    pub fn begin() -> Self {
        let trace = Uuid::new_v4().as_u128();
        Self { trace, span: chance(), sampled: is_recorded(trace as u64) }
    }

    /// A new span in a trace that somebody outside began, recorded if chance has it in the share to be recorded.
    #[must_use]
    pub fn follow(self) -> Self {
        let span = chance();
        Self { trace: self.trace, span, sampled: is_recorded(span) }
    }

    /// The trace that follows from `id`, for work that nobody traced: all attempts at it are in one trace.
    #[must_use]
    pub fn of(id: Uuid) -> Self {
        // By its span, which is as good as chance: the bits of a UUIDv7 that ought to be are in part a counter.
        let span = span_of(id, 0);
        Self { trace: id.as_u128().max(1), span, sampled: is_recorded(span) }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: chance(), ..self }
    }

    /// The span of the same trace that follows from `id` and `number`: whoever knows both names it alike, and naming it
    /// costs no randomness.
    #[must_use]
    pub fn child_of(self, id: Uuid, number: u32) -> Self {
        Self { span: span_of(id, number), ..self }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// The trace's id as bytes.
    #[must_use]
    pub const fn trace_bytes(self) -> [u8; 16] {
        self.trace.to_be_bytes()
    }

    /// The span's id as bytes.
    #[must_use]
    pub const fn span_bytes(self) -> [u8; 8] {
        self.span.to_be_bytes()
    }

    /// The trace's id: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span's id: 16 lower-case hexadecimal digits. The recommendation calls it `parent-id`, as it is for whoever
    /// receives it.
    #[must_use]
    pub fn span_id(self) -> String {
        format!("{:016x}", self.span)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// A number in lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// 62 random bits, never all zero because of the two that say which variant of UUID it is.
fn chance() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

/// The finishing step of splitmix64 over all that is given: neighbours get ids that have nothing in common.
fn span_of(id: Uuid, number: u32) -> u64 {
    let (high, low) = id.as_u64_pair();
    let mut bits = low ^ high.rotate_left(32) ^ (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ bits >> 31).max(1)
}

#[cfg(test)]
mod tests;
