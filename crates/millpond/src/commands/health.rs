//! `millpond health`: whether a process of ours answers, for containers and scripts that have nothing to ask with.

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends 0 when the process answers that it is well, else 1. A worker or scheduler answers where MILLPOND_METRICS__LISTEN
says.

Examples:
  millpond health
  millpond health --ready http://127.0.0.1:8080
  millpond health http://127.0.0.1:9464")]
pub(crate) struct HealthArgs {
    /// The process' address
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// Ask an API also whether it can serve: whether its database answers and is migrated
    #[arg(long)]
    ready: bool,
}

/// The longest wait for the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// The first line of an answer is shorter.
const LINE_BYTES_MAX: u64 = 1_024;

/// Asks once.
pub(crate) async fn run(globals: &Globals, arguments: HealthArgs) -> Result<(), CliError> {
    let HealthArgs { url, ready } = arguments;
    let (Some(host), Some(port), "http") = (url.host_str(), url.port_or_known_default(), url.scheme()) else {
        return Err(CliError::Usage(format!("{url} is no address such as http://127.0.0.1:8080")));
    };
    let path = if ready { "/health/ready" } else { "/health/live" };
    let asked = timeout(ANSWER_TIMEOUT, status(host, port, path)).await;
    match asked.map_err(|_| format!("did not answer within {} s", ANSWER_TIMEOUT.as_secs())) {
        Ok(Ok(200)) => {
            let word = if ready { "ready" } else { "live" };
            Output::new(globals.json).show(&word, || word.to_owned())
        }
        Ok(Ok(status)) => Err(CliError::Conflict(format!("{url} answers {status}"))),
        Ok(Err(error)) => Err(CliError::Conflict(format!("{url} cannot be asked: {error}"))),
        Err(late) => Err(CliError::Conflict(format!("{url} {late}"))),
    }
}

/// The status of one answer over a connection of its own.
async fn status(host: &str, port: u16, path: &str) -> std::io::Result<u16> {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LINE_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| std::io::Error::other("what it says is not HTTP"))
}
