//! What operators ask of this process: to be quiet, to end, or to run fewer jobs of a queue at once.
//!
//! It is read about once a second, by one statement that finds two rows by their keys. Where it cannot be read, what was read
//! last holds; before the first pool claims it is read for the first time. A process that comes back as another incarnation takes what was asked of it along.

use std::{collections::BTreeMap, time::Duration};

use db::Pool;
use queue::{
    Queue,
    ops::{Asks, WorkerOrders},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{handlers::pause, incarnation::Incarnation};

/// How often it is looked at: what is asked is seen within a second.
const LOOK_EVERY: Duration = Duration::from_millis(800);

/// What pools are to respect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Nothing is claimed; what runs goes on.
    pub(crate) is_quiet: bool,
    /// Jobs at once, by queue.
    bounds: BTreeMap<Queue, usize>,
}

impl Orders {
    /// How many jobs of a queue may run at once where there are so many slots.
    pub(crate) fn slots(&self, queue: Queue, slots: usize) -> usize {
        self.bounds.get(&queue).map_or(slots, |bound| slots.min(*bound))
    }
}

/// Reads what is asked, and tells it.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) pool: Pool,
    pub(crate) incarnation: Incarnation,
    /// To the pools.
    pub(crate) orders: watch::Sender<Orders>,
    /// Cancelled by who asks the process to stop.
    pub(crate) shutdown: CancellationToken,
}

impl Reader {
    /// Looks once.
    pub(crate) async fn look(&self) {
        let Some(process) = self.incarnation.current() else { return };
        match queue::ops::orders(&self.pool, process).await {
            Ok(Some(read)) => self.obey(read),
            // The heartbeat finds out that the process is gone.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "what operators ask was not read"),
        }
    }

    /// Looks until everything is drained.
    pub(crate) async fn watch(&self, ended: CancellationToken) {
        while !ended.is_cancelled() {
            pause(LOOK_EVERY, &ended).await;
            self.look().await;
        }
    }

    fn obey(&self, read: WorkerOrders) {
        let asks = read.asked.as_ref().map(|asked| asked.what);
        if asks == Some(Asks::Stop) && !self.shutdown.is_cancelled() {
            tracing::info!("an operator asked this process to stop");
            self.shutdown.cancel();
        }
        self.incarnation.note_asked(read.asked);
        let bounds = read.bounds.into_iter().collect();
        let read = Orders { is_quiet: asks == Some(Asks::Quiet), bounds };
        self.orders.send_if_modified(|known| {
            let is_new = *known != read;
            if is_new {
                tracing::info!(is_quiet = read.is_quiet, bounds = ?read.bounds, "what operators ask changed");
                *known = read;
            }
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_takes_slots_away_and_never_adds_any() {
        let orders = Orders { bounds: [(Queue::Enrich, 3)].into(), ..Orders::default() };
        assert_eq!((orders.slots(Queue::Enrich, 10), orders.slots(Queue::Enrich, 2)), (3, 2));
        assert_eq!(orders.slots(Queue::Webhooks, 10), 10);
    }
}
