//! One task per pool that does all of its database work, in turns: what jobs came to goes in, the next jobs come
//! out, in one statement and one commit ([`queue::turn`]).
//!
//! A lone outcome is written at once. Under backlog outcomes gather for up to [`GATHER`] or half the slots; with more than
//! one connection another turn goes out beside the first. A database that cannot be reached
//! is waited out; meanwhile nothing is lost, because slots stay taken until their outcome is written or refused.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream::FuturesUnordered};
use jobs::Entry;
use kernel::ids::TenantId;
use queue::{Acknowledgement, Claimed, KnownLanes, Queue, Shares, Waker};
use rand::RngExt;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    flight::{Connections, Flight, Landed},
    incarnation::Incarnation,
    meters::Meters,
    orders::Orders,
    report::{Report, Verdict},
    running::{Running, Stop},
};

/// How a pool's turns are cut.
#[derive(Debug, Clone, Copy)]
pub struct TurnSettings {
    /// Jobs acknowledged in one turn at the most. A crash repeats at the most as many finished jobs as are gathered or
    /// under way in turns; 1 acknowledges each job on its own.
    pub acknowledged_max: usize,
    /// Turns under way at once, each on a connection of its own.
    pub connections: usize,
}

pub(crate) struct Pump {
    pub(crate) queue: Queue,
    pub(crate) slots: usize,
    pub(crate) turns: TurnSettings,
    pub(crate) connections: Connections,
    pub(crate) waker: Waker,
    pub(crate) incarnation: Incarnation,
    pub(crate) running: Running,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) kinds: &'static [Entry],
    pub(crate) meters: Meters,
    pub(crate) poll: Duration,
    pub(crate) drain_timeout: Duration,
    /// None once claims have ceased for good.
    pub(crate) to_runtime: Option<mpsc::UnboundedSender<Vec<Claimed>>>,
    pub(crate) to_pump: mpsc::UnboundedSender<Report>,
    pub(crate) from_runtime: mpsc::UnboundedReceiver<Report>,
    pub(crate) shutdown: CancellationToken,
}

/// How far the end of the pool has come.
enum Drain {
    No,
    /// Running handlers may go on until then.
    Until(Instant),
    /// They were told to stop.
    Over,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self { acknowledged_max: 500, connections: 2 }
    }
}

impl Drain {
    async fn is_over(&self) {
        match self {
            Self::Until(instant) => sleep_until(*instant).await,
            Self::No | Self::Over => std::future::pending().await,
        }
    }
}

/// Jobs claimed in one turn at the most.
const CLAIMED_MAX: usize = 500;
/// How long outcomes may gather while there is a backlog, and free slots for one claim.
const GATHER: Duration = Duration::from_millis(1);
/// A turn that takes longer than this no longer holds up the next: its connection may be dead.
const SLOW: Duration = Duration::from_millis(10);
/// A turn that takes longer than this is given up for lost: one more may go out beside it.
const LOST: Duration = Duration::from_millis(500);
/// The pause after a turn that found jobs that others were deciding about.
const CONTENDED: Duration = Duration::from_millis(5);

/// While limits alone hold jobs back, the end of a job is no reason to look, but so many are, and so much time.
const HELD_BACK_ENDS: usize = 4;
const HELD_BACK_FOR: Duration = Duration::from_millis(50);

/// How often a pool looks at all ready jobs while that is quick; in between, at those that were to run lately.
pub const LOOK_AT_ALL_EVERY: Duration = Duration::from_millis(500);
/// The part of a pool's time that such looks may take, which is long where an old transaction keeps what is gone: one in
/// so many.
const LOOK_AT_ALL_SHARE: u32 = 20;
/// Such a look takes longer than this only where much is kept that is gone: others then go by the lanes that are known.
const LONG_LOOK: Duration = Duration::from_millis(5);

/// What a pool knows between turns.
struct State {
    /// Jobs claimed whose outcome is not written yet.
    held: usize,
    /// Slots promised to turns under way.
    promised: usize,
    /// Outcomes to be written.
    outcomes: Vec<Acknowledgement>,
    /// When the first of them came.
    gathering_since: Option<Instant>,
    /// The last turn got as many jobs as it wanted: there are more.
    backlog: bool,
    /// When to look for jobs unasked.
    look_at: Instant,
    /// When the last turn went out.
    flown_at: Instant,
    /// When the last one went out that claimed.
    claimed_at: Instant,
    /// Outcomes written since.
    ends_since_claim: usize,
    /// It found no more jobs but those that limits alone hold back.
    held_back: bool,
    /// No turn before this: the database was just out of reach.
    not_before: Option<Instant>,
    shares: Shares,
    lane_after: Uuid,
    /// Older jobs are known to be gone, until all are looked at again.
    since: Option<DateTime<Utc>>,
    look_at_all_at: Instant,
    look_at_all_is_long: bool,
    lanes: KnownLanes,
    drain: Drain,
}

impl Pump {
    pub(crate) async fn run(mut self) {
        let mut state = State {
            held: 0,
            promised: 0,
            outcomes: Vec::new(),
            gathering_since: None,
            backlog: false,
            look_at: Instant::now(),
            flown_at: Instant::now(),
            claimed_at: Instant::now(),
            ends_since_claim: 0,
            held_back: false,
            not_before: None,
            shares: Shares::default(),
            lane_after: Uuid::nil(),
            since: None,
            look_at_all_at: Instant::now(),
            look_at_all_is_long: false,
            lanes: KnownLanes::default(),
            drain: Drain::No,
        };
        let mut turns = FuturesUnordered::new();
        let mut reports: Vec<Report> = Vec::new();
        let mut ids = self.incarnation.watch();
        loop {
            while let Some(flight) = self.next_turn(&mut state, turns.len()) {
                turns.push(flight.fly(self.connections.clone(), self.incarnation.clone()));
            }
            if !matches!(state.drain, Drain::No) && state.held == 0 && turns.is_empty() {
                break;
            }
            self.meters.slots_used.set(state.held as f64);
            let wake_at = self.wake_at(&state, turns.len());
            let may_claim = self.may_claim();
            tokio::select! {
                Some(landed) = turns.next() => self.land(landed, &mut state),
                received = self.from_runtime.recv_many(&mut reports, 1_024) => {
                    // We hold a sender ourselves, so there is always at least one.
                    debug_assert!(received > 0);
                    self.take(&mut reports, &mut state);
                }
                () = self.waker.ready(self.queue), if may_claim => state.look_at = Instant::now(),
                () = sleep_until(wake_at) => {}
                _ = ids.changed() => {}
                // Its sender outlives all pools.
                _ = self.orders.changed() => state.look_at = Instant::now(),
                () = self.shutdown.cancelled(), if matches!(state.drain, Drain::No) => {
                    self.to_runtime = None;
                    state.drain = Drain::Until(Instant::now() + self.drain_timeout);
                }
                () = state.drain.is_over() => {
                    tracing::warn!(queue = %self.queue, jobs = state.held, "drain time is over: giving jobs back");
                    self.running.stop_those_of(&self.to_pump, Stop::Shutdown);
                    state.drain = Drain::Over;
                }
            }
        }
        tracing::debug!(queue = %self.queue, "pool drained");
    }

    fn may_claim(&self) -> bool {
        self.to_runtime.is_some() && self.incarnation.current().is_some() && !self.orders.borrow().is_quiet
    }

    /// When to look again if nothing happens.
    fn wake_at(&self, state: &State, turns: usize) -> Instant {
        let far = Instant::now() + Duration::from_secs(60);
        if let Some(at) = state.not_before.filter(|at| *at > Instant::now()) {
            return at;
        }
        if turns > self.turns.connections {
            return far;
        }
        if turns == self.turns.connections {
            return far.min((state.flown_at + LOST).max(Instant::now() + SLOW));
        }
        let gathered = state.gathering_since.map(|since| since + GATHER);
        let look = (self.may_claim() && self.free(state) > 0).then_some(match state.backlog {
            true => state.claimed_at + GATHER,
            false => state.look_at,
        });
        let next = gathered.into_iter().chain(look).min().unwrap_or(far);
        if turns == 0 { next } else { next.max(state.flown_at + SLOW) }
    }

    /// How many jobs may run at once, as operators bound it now.
    fn slots(&self) -> usize {
        self.orders.borrow().slots(self.queue, self.slots)
    }

    /// Slots that are neither taken nor promised.
    fn free(&self, state: &State) -> usize {
        self.slots().saturating_sub(state.held + state.promised)
    }

    /// The next turn, if one is due.
    fn next_turn(&self, state: &mut State, turns: usize) -> Option<Flight> {
        let now = Instant::now();
        let lost = usize::from(turns > 0 && state.flown_at + LOST <= now);
        if turns >= self.turns.connections + lost || state.not_before.is_some_and(|at| at > now) {
            return None;
        }
        state.not_before = None;
        let free = self.free(state);
        let looks = self.may_claim() && free > 0 && (state.backlog || state.look_at <= now);
        let slots = self.slots();
        let enough = (slots / 2).clamp(1, self.turns.acknowledged_max.div_ceil(2));
        let enough_free = (slots / 2).clamp(1, CLAIMED_MAX / 2);
        let gathered = state.outcomes.len() >= enough
            || state.gathering_since.is_some_and(|since| !state.backlog || since + GATHER <= now);
        // With a backlog and jobs under way, free slots wait for others, so that one claim fills them.
        let slots_gathered =
            !state.backlog || free >= enough_free || state.held == 0 || state.claimed_at + GATHER <= now;
        let is_due = if turns == 0 || state.flown_at + SLOW <= now {
            (gathered && !state.outcomes.is_empty()) || (looks && slots_gathered)
        } else {
            state.outcomes.len() >= enough || (looks && state.backlog && free >= enough_free)
        };
        if !is_due {
            return None;
        }
        let outcomes: Vec<Acknowledgement> =
            state.outcomes.drain(..state.outcomes.len().min(self.turns.acknowledged_max)).collect();
        state.gathering_since = (!state.outcomes.is_empty()).then_some(now);
        let process = self.incarnation.current().filter(|_| self.may_claim());
        let ends = state.ends_since_claim + outcomes.len();
        let claims = if state.held_back {
            state.look_at <= now || ends >= HELD_BACK_ENDS || state.claimed_at + HELD_BACK_FOR <= now
        } else {
            slots_gathered || free + outcomes.len() >= enough_free
        };
        let count = match process {
            // With those that are acknowledged; more may run than the bound that was set meanwhile.
            Some(_) if claims => slots
                .saturating_sub((state.held + state.promised).saturating_sub(outcomes.len()))
                .min(CLAIMED_MAX),
            _ => 0,
        };
        state.flown_at = now;
        if count > 0 {
            state.claimed_at = now;
            state.ends_since_claim = 0;
            state.look_at = now + self.poll.mul_f64(rand::rng().random_range(0.8..1.2));
        } else {
            state.ends_since_claim = ends;
        }
        let promised = count.saturating_sub(outcomes.len());
        state.promised += promised;
        Some(Flight {
            queue: self.queue,
            began_at: now,
            process: process.unwrap_or_default(),
            count,
            promised,
            shares: state.shares.clone(),
            lane_after: state.lane_after,
            since: state.since.filter(|_| now < state.look_at_all_at),
            lanes: if state.look_at_all_is_long { state.lanes.clone() } else { KnownLanes::default() },
            outcomes,
        })
    }

    /// What handlers reported becomes outcomes to be written.
    fn take(&mut self, reports: &mut Vec<Report>, state: &mut State) {
        let mut unwritten = Vec::new();
        for report in reports.drain(..) {
            let entry = jobs::find(self.kinds, &report.about.kind);
            let meters = self.meters.of(entry);
            if let Some(ran) = report.ran {
                meters.run.record(ran);
            }
            if matches!(report.verdict, Verdict::Crashed(_)) {
                meters.panics.increment(1);
            }
            let lease = report.lease;
            let (outcome, word) = report.acknowledgement(entry);
            meters.came_to(word);
            match outcome {
                Some(outcome) => state.outcomes.push(outcome),
                None => unwritten.push(lease),
            }
        }
        if !unwritten.is_empty() {
            state.held -= unwritten.len();
            self.running.leave(&unwritten);
        }
        if !state.outcomes.is_empty() && state.gathering_since.is_none() {
            state.gathering_since = Some(Instant::now());
        }
    }

    /// A turn is over: slots become free, claimed jobs go to their handlers.
    fn land(&mut self, landed: Landed, state: &mut State) {
        let Landed { flight, written, answer } = landed;
        state.promised -= flight.promised;
        state.held -= written.len();
        self.running.leave(&written);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let ending = matches!(state.drain, Drain::Over)
                    || matches!(state.drain, Drain::Until(at) if at <= Instant::now());
                if ending {
                    let leases: Vec<_> = flight.outcomes.iter().map(|outcome| outcome.lease).collect();
                    tracing::error!(queue = %self.queue, %error, jobs = leases.len(), "not written before the end");
                    state.held -= leases.len();
                    self.running.leave(&leases);
                } else {
                    tracing::warn!(queue = %self.queue, %error, jobs = flight.outcomes.len(), "no turn; trying again");
                    state.outcomes.extend(flight.outcomes);
                    state.gathering_since = (!state.outcomes.is_empty()).then(Instant::now);
                }
                self.meters.turn_failures.increment(1);
                state.not_before = Some(Instant::now() + self.connections.pause());
                state.look_at = Instant::now();
                return;
            }
        };
        self.meters.turn.record(flight.began_at.elapsed());
        self.meters.refused.increment(answer.refused.len() as u64);
        for job in &answer.refused {
            tracing::warn!(job.id = %job, "came too late: the lease had been lost");
        }
        if answer.ended > 0 {
            self.waker.job_ended();
        }
        self.waker.wake_all(answer.released);
        state.lane_after = answer.lane_after;
        let now = Instant::now();
        if flight.count > 0 {
            state.backlog = answer.claimed.len() == flight.count;
            state.held_back = answer.only_limits && !state.backlog;
            self.meters.held_back.increment(u64::from(state.held_back));
        }
        // Fewer than wanted, but some: others may have held more at this moment, so one more look is due.
        if flight.count > 0 && !state.backlog && !answer.claimed.is_empty() && !state.held_back {
            state.look_at = now;
        }
        if answer.again || (state.held_back && !answer.claimed.is_empty()) {
            let pause = if state.held_back { HELD_BACK_FOR } else { CONTENDED };
            state.look_at = state.look_at.min(now + pause);
        }
        if let Some(due) = answer.due {
            state.look_at = state.look_at.min(now + due);
        }
        // Unasked, a turn looks at all when scheduled jobs have become ready.
        if flight.count > 0 && (flight.since.is_none() || answer.since.is_some()) {
            let took = flight.began_at.elapsed();
            state.since = answer.since;
            state.look_at_all_at = now + LOOK_AT_ALL_EVERY.max(took * LOOK_AT_ALL_SHARE);
            state.look_at_all_is_long = took > LONG_LOOK;
        } else if flight.count > 0 && !state.backlog {
            // Nothing more among the younger ones.
            state.look_at = state.look_at.min(state.look_at_all_at);
        }
        if !answer.claimed.is_empty() {
            self.hand_over(flight.process, answer.claimed, state);
        }
    }

    fn hand_over(&mut self, process: Uuid, claimed: Vec<Claimed>, state: &mut State) {
        state.held += claimed.len();
        self.meters.claimed.increment(claimed.len() as u64);
        let mut charges: HashMap<TenantId, (i16, u32)> = HashMap::new();
        for job in &claimed {
            self.meters.of(jobs::find(self.kinds, &job.kind)).wait.record(job.waited);
            charges.entry(job.share).or_insert((job.weight, 0)).1 += 1;
            state.lanes.met(job.lane, job.priority);
        }
        state.shares.charge(charges.into_iter().map(|(share, (weight, jobs))| (share, weight, jobs)));
        self.running.expect(&claimed, &self.to_pump);
        if self.incarnation.current() != Some(process) {
            // The leases were lost while the claim was under way, when nobody could stop these yet.
            let leases: Vec<_> = claimed.iter().map(|job| job.lease).collect();
            self.running.stop(&leases, Stop::LeaseLost);
        }
        let leases: Vec<_> = claimed.iter().map(|job| job.lease).collect();
        let taken = self.to_runtime.as_ref().is_some_and(|runtime| runtime.send(claimed).is_ok());
        if !taken {
            // Shutting down, or the runtime broke: nobody will run them.
            for lease in leases {
                self.running.report(lease, Some(Verdict::GivenBack));
            }
        }
    }
}
