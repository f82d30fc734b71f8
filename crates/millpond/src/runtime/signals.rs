//! SIGTERM and SIGINT: the first asks for a good ending, the second does not wait for it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;
use crate::output::tell;

/// The signals that ask a process to end.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let on = |kind| signal(kind).map_err(|error| CliError::part("listening for signals", error));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for the next of them.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the ending, unless the person loses patience. What is then left is stopped by the embedded server's
    /// watchdog, and taken over by other workers.
    pub(crate) async fn or_impatience(
        &mut self,
        ending: impl Future<Output = Result<(), CliError>>,
    ) -> Result<(), CliError> {
        tokio::select! {
            result = ending => result,
            () = self.asked() => {
                tell("told twice: ending at once");
                Err(CliError::Interrupted)
            }
        }
    }
}
