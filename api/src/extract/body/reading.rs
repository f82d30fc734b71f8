//! Reading a body's bytes within bounds: of size, decoded or not, of time, and of what all bodies take together.

use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use flate2::write::MultiGzDecoder;
use futures::poll;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;
use crate::middleware::context::RequestContext;

/// How much more than allowed is read and thrown away so that the client sees the refusal.
const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What all bodies may keep together, from when they are read until their requests are answered: 256 of the longest.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a body may keep without being counted: most are no longer.
const UNCOUNTED_BYTES: usize = 4 * 1024;

/// What a body may cost. Part of the state; clones share.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// Longer bodies are 413, compressed ones by what comes out of them.
    pub bytes_max: usize,
    /// Slower bodies are 408.
    pub read_timeout: Duration,
    /// Places of requests in flight: one whose body is still to come gives its place back, or bodies that trickle in
    /// would keep everybody out.
    pub places: Arc<Semaphore>,
    /// Bytes that bodies may still keep, all together.
    pub kept: Arc<Semaphore>,
}

impl BodyLimits {
    /// Limits of a process.
    pub fn new(bytes_max: usize, read_timeout: Duration, places: Arc<Semaphore>) -> Self {
        Self { bytes_max, read_timeout, places, kept: Arc::new(Semaphore::new(KEPT_BYTES_MAX)) }
    }
}

/// A body that was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Its bytes, decoded.
    pub(super) bytes: Bytes,
    /// Its part of what all bodies may keep, to be held as long as they are.
    pub(super) counted: Option<OwnedSemaphorePermit>,
}

/// The bytes of a request's body, decoded.
pub(super) async fn read_bytes(request: Request, limits: &BodyLimits) -> Result<Read, ApiError> {
    let bytes_max = limits.bytes_max;
    let is_gzip = is_gzip(request.headers())?;
    let announced = content_length(request.headers()).unwrap_or(0);
    // A client that asks before it sends needs only the answer.
    let asks_first = request.headers().contains_key(header::EXPECT);
    if announced > bytes_max && (asks_first || announced > DISCARDED_BYTES_MAX) {
        return Err(ApiError::PayloadTooLarge { bytes_max });
    }
    let kept = Kept { bytes: Vec::new(), bytes_max, budget: Arc::clone(&limits.kept), counted: None };
    let sink = if is_gzip { Sink::Gzip(Box::new(MultiGzDecoder::new(kept))) } else { Sink::Plain(kept) };
    // What inflates to nothing costs work too.
    let sent_max = if is_gzip { bytes_max } else { DISCARDED_BYTES_MAX };
    let mut read =
        pin!(read_to_end(request.into_body(), sink, sent_max, ApiError::PayloadTooLarge { bytes_max }));
    // Most bodies are there with their heads.
    if let std::task::Poll::Ready(read) = poll!(&mut read) {
        return read;
    }
    let context = RequestContext::current();
    if let Some(context) = &context {
        context.release_place();
    }
    let read = tokio::time::timeout(limits.read_timeout, read).await.map_err(|_| ApiError::RequestTimeout)?;
    if let Some(context) = context {
        let place = Arc::clone(&limits.places).try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
        context.hold_place(place);
    }
    read
}

/// All of a body, unless more than `sent_max` bytes of it are sent, which is refused as `too_long`.
async fn read_to_end(
    mut body: Body,
    mut sink: Sink,
    sent_max: usize,
    too_long: ApiError,
) -> Result<Read, ApiError> {
    let mut seen = 0usize;
    let mut refusal = None;
    let mut too_long = Some(too_long);
    while let Some(frame) = body.frame().await {
        // The client went away or broke off: nobody is there to read this.
        let frame =
            frame.map_err(|_| ApiError::invalid("body", "INCOMPLETE", "ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > sent_max && refusal.is_none() {
            refusal = too_long.take();
            sink = Sink::Nothing;
        }
        if seen > DISCARDED_BYTES_MAX {
            break;
        }
        if refusal.is_none()
            && let Err(error) = sink.take(&data)
        {
            // What was kept is given back; the rest is read so that the client comes to read the refusal.
            refusal = Some(error);
            sink = Sink::Nothing;
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => sink.finish(),
    }
}

/// Where bytes go.
enum Sink {
    Plain(Kept),
    Gzip(Box<MultiGzDecoder<Kept>>),
    /// They are thrown away.
    Nothing,
}

impl Sink {
    fn take(&mut self, data: &[u8]) -> Result<(), ApiError> {
        match self {
            Self::Plain(kept) => kept.write_all(data).map_err(refused),
            Self::Gzip(decoder) => decoder.write_all(data).map_err(refused),
            Self::Nothing => Ok(()),
        }
    }

    fn finish(self) -> Result<Read, ApiError> {
        let kept = match self {
            Self::Plain(kept) => kept,
            Self::Gzip(decoder) => decoder.finish().map_err(refused)?,
            Self::Nothing => return Ok(Read { bytes: Bytes::new(), counted: None }),
        };
        Ok(Read { bytes: kept.bytes.into(), counted: kept.counted })
    }
}

/// Why a sink takes no more, within an I/O error because that is what decoders hand on.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Full {
    #[error("the body is too long")]
    TooLong { bytes_max: usize },
    #[error("all bodies together are too long")]
    AllTooLong,
}

fn refused(error: io::Error) -> ApiError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<Full>()) {
        Some(Full::TooLong { bytes_max }) => ApiError::PayloadTooLarge { bytes_max: *bytes_max },
        Some(Full::AllTooLong) => ApiError::Overloaded,
        None => {
            ApiError::invalid("body", "MALFORMED", "is not in the gzip format that Content-Encoding promises")
        }
    }
}

/// Bytes that are kept, within the body's own bound and that of all.
struct Kept {
    bytes: Vec<u8>,
    bytes_max: usize,
    budget: Arc<Semaphore>,
    counted: Option<OwnedSemaphorePermit>,
}

impl Write for Kept {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let whole = self.bytes.len() + data.len();
        if whole > self.bytes_max {
            return Err(io::Error::other(Full::TooLong { bytes_max: self.bytes_max }));
        }
        if whole > UNCOUNTED_BYTES {
            let more = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let permit = Arc::clone(&self.budget).try_acquire_many_owned(more);
            let permit = permit.map_err(|_| io::Error::other(Full::AllTooLong))?;
            match &mut self.counted {
                Some(counted) => counted.merge(permit),
                None => self.counted = Some(permit),
            }
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the body is compressed, in the one way that is understood.
fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let (first, more) = (encodings.next(), encodings.next());
    match (first.map(|value| value.to_str().unwrap_or("?").trim()), more) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case("identity") => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case("gzip") || one.eq_ignore_ascii_case("x-gzip") => {
            Ok(true)
        }
        _ => Err(ApiError::UnsupportedEncoding),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
