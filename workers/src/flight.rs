//! A turn on its way to the database and back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use db::{Connection, Pool};
use queue::{
    Acknowledgement, End, Error, INTERNAL_ERROR, JobError, KnownLanes, LeaseKey, Queue, Settlement, Shares,
    Turn, TurnAnswer,
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::incarnation::Incarnation;

/// A turn that is about to be taken.
pub(crate) struct Flight {
    pub(crate) queue: Queue,
    pub(crate) began_at: Instant,
    pub(crate) process: Uuid,
    /// Jobs to claim at the most.
    pub(crate) count: usize,
    /// Slots that were free and are kept for it.
    pub(crate) promised: usize,
    pub(crate) shares: Shares,
    pub(crate) lane_after: Uuid,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) lanes: KnownLanes,
    pub(crate) outcomes: Vec<Acknowledgement>,
}

/// A turn that is over.
pub(crate) struct Landed {
    /// What it was; outcomes that were not written are still in it.
    pub(crate) flight: Flight,
    /// Jobs whose outcome is written, or was refused.
    pub(crate) written: Vec<LeaseKey>,
    pub(crate) answer: Result<TurnAnswer, Error>,
}

/// The connections of one pool's turns. One that is idle is kept, so that a turn costs no more than its statement;
/// one that failed is not.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool,
    idle: Arc<Mutex<Vec<Connection>>>,
    idle_max: usize,
    failures: Arc<AtomicU32>,
}

/// The longest wait for the answer to a turn; a turn takes milliseconds.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to reach the database.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Connections {
    pub(crate) fn new(pool: Pool, idle_max: usize) -> Self {
        Self { pool, idle: Arc::default(), idle_max, failures: Arc::default() }
    }

    /// How long to leave the database alone after a failure: twice as long each time, from 50 ms.
    pub(crate) fn pause(&self) -> Duration {
        let failures = self.failures.load(Ordering::Relaxed).clamp(1, 10);
        (Duration::from_millis(25) * 2_u32.pow(failures)).min(PAUSE_MAX)
    }

    async fn take(&self) -> Result<Connection, Error> {
        let idle = self.lock().pop();
        match idle {
            Some(connection) => Ok(connection),
            None => match self.pool.acquire().await {
                Ok(connection) => Ok(connection),
                Err(error) => {
                    self.failed();
                    Err(error.into())
                }
            },
        }
    }

    fn give_back(&self, connection: Connection) {
        self.failures.store(0, Ordering::Relaxed);
        let mut idle = self.lock();
        if idle.len() < self.idle_max {
            idle.push(connection);
        }
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        // Those that are idle were probably cut with it.
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Takes the turn. It is given up when the process loses its incarnation: nothing of it counts any more, and its
    /// slots are needed; what the server still did of it is refused or found later.
    pub(crate) async fn fly(mut self, connections: Connections, incarnation: Incarnation) -> Landed {
        let is_lost = async {
            match self.process.is_nil() {
                true => std::future::pending().await,
                false => incarnation.lost(self.process).await,
            }
        };
        let answer = tokio::select! {
            biased;
            answer = self.turn(&connections) => answer,
            () = is_lost => Err(Error::Unanswered),
        };
        match answer {
            Err(error) if (error.is_locked() || !error.is_transient()) && !self.outcomes.is_empty() => {
                // One of them cannot be written as it is: write the others, and fail that one, or leave it.
                tracing::error!(queue = %self.queue, %error, "outcomes were refused: writing one by one");
                self.one_by_one(&connections).await
            }
            Err(error) => Landed { written: Vec::new(), answer: Err(error), flight: self },
            Ok(answer) => {
                let written = self.outcomes.drain(..).map(|outcome| outcome.lease).collect();
                Landed { written, answer: Ok(answer), flight: self }
            }
        }
    }

    async fn turn(&self, connections: &Connections) -> Result<TurnAnswer, Error> {
        let turn = Turn {
            process: self.process,
            queue: self.queue,
            count_max: self.count,
            shares: &self.shares,
            lane_after: self.lane_after,
            since: self.since,
            lanes: &self.lanes,
            acknowledgements: &self.outcomes,
        };
        let mut connection = connections.take().await?;
        let answer = match timeout(TURN_TIMEOUT, queue::turn(&mut connection, &turn)).await {
            Ok(answer) => answer,
            // Nobody answers on this connection any more. What the server may still do is refused or found later.
            Err(_) => Err(Error::Unanswered),
        };
        match answer {
            Ok(answer) => {
                connections.give_back(connection);
                Ok(answer)
            }
            Err(error) if error.is_locked() => {
                connections.give_back(connection);
                Err(error)
            }
            Err(error) => {
                connection.discard();
                connections.failed();
                Err(error)
            }
        }
    }

    /// Writes each outcome alone. One that the database refuses (a result that it cannot store, say) becomes the
    /// job's failure; if even that is refused, its lease is left to be taken back when this process ends. One that
    /// somebody has locked is left, and given back once it is free.
    async fn one_by_one(mut self, connections: &Connections) -> Landed {
        let mut answer = TurnAnswer { lane_after: self.lane_after, ..TurnAnswer::default() };
        let mut written = Vec::new();
        let mut left = std::mem::take(&mut self.outcomes).into_iter();
        for one in left.by_ref() {
            let lease = one.lease;
            let mut alone = self.alone(one);
            let mut result = alone.turn(connections).await;
            if let Err(error) = &result
                && !error.is_transient()
            {
                let refused =
                    JobError::fatal(INTERNAL_ERROR, "the job's outcome could not be stored").caused_by(error);
                let settlement = Settlement::End(End::Failed(refused.failure()), None);
                alone = self.alone(Acknowledgement { lease, row: None, settlement });
                result = alone.turn(connections).await;
            }
            match result {
                Ok(one) => {
                    answer.refused.extend(one.refused);
                    answer.released.extend(one.released);
                    answer.ended += one.ended;
                    written.push(lease);
                }
                Err(error) if error.is_locked() => {
                    tracing::warn!(job.id = %lease.job, "locked by a transaction that does not end; it will run again");
                    written.push(lease);
                }
                Err(error) if error.is_transient() => {
                    self.outcomes = alone.outcomes.into_iter().chain(left).collect();
                    return Landed { written, answer: Err(error), flight: self };
                }
                Err(error) => {
                    tracing::error!(job.id = %lease.job, %error, "cannot be written; it will be taken back");
                    written.push(lease);
                }
            }
        }
        self.count = 0;
        Landed { written, answer: Ok(answer), flight: self }
    }

    fn alone(&self, one: Acknowledgement) -> Self {
        Self {
            queue: self.queue,
            began_at: self.began_at,
            process: self.process,
            count: 0,
            promised: 0,
            shares: Shares::default(),
            lane_after: self.lane_after,
            since: None,
            lanes: KnownLanes::default(),
            outcomes: vec![one],
        }
    }
}
