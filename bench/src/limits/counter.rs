//! The other side: a server on this machine that counts calls when they arrive and while they last.
//!
//! A call is a connection: the caller says which limit it is under and what it costs, waits for the answer, and is gone
//! when the connection is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::kinds::{BUDGET, CALLS, PER_SECOND, SLOTS};

/// How long a call takes that is not limited by how many there are at once.
const CALL_TIME: Duration = Duration::from_millis(5);

/// The server; clones share it. It ends with this process.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    address: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    window: Duration,
    /// How long a call takes that is limited by how many there are at once.
    slot_time: Duration,
}

/// What it counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Calls by number of the vendor's window.
    pub(super) calls: BTreeMap<i64, i64>,
    /// Calls by second.
    pub(super) per_second: BTreeMap<i64, i64>,
    /// Units.
    pub(super) spent: i64,
    pub(super) slots: i64,
    pub(super) slots_max: i64,
    /// Slot-seconds used.
    pub(super) slot_s: f64,
    changed_at: Option<Instant>,
}

impl Counts {
    /// The number of slots in use changes.
    fn change_slots(&mut self, by: i64) {
        let now = Instant::now();
        if let Some(since) = self.changed_at.replace(now) {
            self.slot_s += (now - since).as_secs_f64() * self.slots as f64;
        }
        self.slots += by;
        self.slots_max = self.slots_max.max(self.slots);
    }
}

impl Counter {
    pub(super) async fn start(window: Duration, slot_time: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the counter")?;
        let counter = Self { address: listener.local_addr()?, counts: Arc::default(), window, slot_time };
        let server = counter.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    // A caller that broke off is none.
                    let _ = server.serve(caller).await;
                });
            }
        });
        Ok(counter)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of the window of this length that is now.
    pub(super) fn window_now(window: Duration) -> i64 {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        kernel::clock::now().timestamp_millis().div_euclid(window_ms)
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.lock();
        counts.change_slots(0);
        counts.clone()
    }

    async fn serve(&self, mut caller: TcpStream) -> anyhow::Result<()> {
        let (reader, mut writer) = caller.split();
        let mut reader = BufReader::new(reader);
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let Some((limit, units)) = line.trim_end().split_once(' ') else { return Ok(()) };
        let _slot = self.arrive(limit, units.parse()?);
        let takes = if limit == SLOTS { self.slot_time } else { CALL_TIME };
        tokio::select! {
            () = sleep(takes) => {}
            // The caller is gone.
            _ = reader.read_u8() => return Ok(()),
        }
        drop(_slot);
        writer.write_all(b"ok\n").await?;
        Ok(())
    }

    fn arrive(&self, limit: &str, units: i64) -> Option<Slot<'_>> {
        let (window, second) = (Self::window_now(self.window), Self::window_now(Duration::from_secs(1)));
        let mut counts = self.lock();
        match limit {
            CALLS => *counts.calls.entry(window).or_default() += 1,
            PER_SECOND => *counts.per_second.entry(second).or_default() += 1,
            BUDGET => counts.spent += units,
            SLOTS => {
                counts.change_slots(1);
                return Some(Slot(self));
            }
            _ => {}
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot in use.
struct Slot<'a>(&'a Counter);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.lock().change_slots(-1);
    }
}

/// Makes one call.
pub(super) async fn call(address: SocketAddr, limit: &str, units: i64) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    connection.write_all(format!("{limit} {units}\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    if answer != "ok\n" {
        bail!("the counter did not answer");
    }
    Ok(())
}
