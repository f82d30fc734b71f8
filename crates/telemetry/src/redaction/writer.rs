//! The net between the formatter of log lines and where they are written.

use std::io;

use tracing_subscriber::fmt::MakeWriter;

use super::{json_line, text_line};
use crate::Format;

/// Writes lines as they may be written. The formatter gives a whole line at a time.
#[derive(Debug, Clone)]
pub(crate) struct Net<W> {
    inner: W,
    format: Format,
}

impl<W> Net<W> {
    pub(crate) const fn new(inner: W, format: Format) -> Self {
        Self { inner, format }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Net<W> {
    type Writer = Net<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Net { inner: self.inner.make_writer(), format: self.format }
    }
}

impl<W: io::Write> io::Write for Net<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The formatter writes text; what is none is made some.
        let line = String::from_utf8_lossy(bytes);
        let line = match self.format {
            Format::Json => json_line(&line),
            Format::Pretty => text_line(&line),
        };
        self.inner.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
