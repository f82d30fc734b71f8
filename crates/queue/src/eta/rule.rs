//! From how a job stands to when it ends: a pure rule.
//!
//! A job's time is a wait and a run. It waits for as many jobs to end as stand before it and no slot is free for, at the
//! rate of slots / usual run; before it stand its share's own jobs, and of each other share as many as start-time fair
//! queueing serves meanwhile ([`fair_share`](crate::fair_share)): to its n-th job a share of weight w waits for n · v / w
//! jobs of one with weight v. Where a limit is narrower than the slots, it waits for the limit's windows instead. Runs are
//! as long as those of late.
//!
//! The model is wrong in its own way for each kind, so its answer is scaled by how it was wrong lately: by the quantiles of
//! actual / predicted of the last estimates that came true or not (split conformal prediction: Papadopoulos et al. 2002,
//! Lei et al. 2018). That holds the share of jobs that end within their range near 92 %, however wrong the model, while
//! the future resembles the recent past.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use kernel::ids::TenantId;

use super::Stage;
use crate::standing::{LimitLevel, LimitShape, Surroundings, span};

/// Seconds from now, the earliest first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) earliest: f64,
    pub(crate) likely: f64,
    pub(crate) latest: f64,
}

impl Range {
    fn at_least(&mut self, other: Self) {
        self.earliest = self.earliest.max(other.earliest);
        self.likely = self.likely.max(other.likely);
        self.latest = self.latest.max(other.latest);
    }
}

/// Where a job stands in its life.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Position<'a> {
    /// Ready, behind so many of its share, by kind; and of its own lane.
    Ready { ahead: &'a BTreeMap<String, i64>, in_lane: i64 },
    /// Not before so long has passed.
    Scheduled(Duration),
    /// For so long.
    Running(Duration),
}

/// Ready jobs of a share and kind.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) share: TenantId,
    pub(crate) weight: i16,
    pub(crate) kind: String,
    pub(crate) ready: i64,
}

/// What the rule knows besides the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) now: DateTime<Utc>,
    pub(crate) kind: &'a str,
    pub(crate) share: TenantId,
    pub(crate) around: &'a Surroundings,
    pub(crate) loads: &'a [Load],
    pub(crate) times: &'a Times,
}

/// Ready jobs of one lane that `job_loads` counts; there may be more.
pub(crate) const LOAD_COUNTED_MAX: i64 = 500;

/// How long jobs ran lately, by kind, in seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    /// Each sorted.
    runs: BTreeMap<String, Vec<f64>>,
    /// Of kinds whose jobs wait for one of another kind: that one.
    leads_to: BTreeMap<&'static str, &'static str>,
}

/// The run of a kind that nobody knows: S0's sample of ten seconds, from nothing to a minute.
const UNKNOWN_RUN: Range = Range { earliest: 0.0, likely: 10.0, latest: 60.0 };
/// How long it takes a slot, while no kind is known.
const UNKNOWN_SLOT_S: f64 = 1.0;
/// Of fewer runs the shortest and the longest are not yet known: they are believed to be this many times shorter and longer.
const RUNS_MIN: usize = 10;
const RUNS_UNKNOWN: f64 = 3.0;
/// Shorter predictions are not told apart: a look at the queue takes as long.
pub(crate) const LIKELY_S_MIN: f64 = 0.05;
/// What the model gives before it was ever checked: earlier and later by these parts of the wait.
const WAIT_EARLIER: f64 = 0.6;
const WAIT_LATER: f64 = 1.7;
/// Estimates that must have been judged before they count.
const JUDGED_MIN: usize = 16;
/// Of those, so many are left out at either side.
const LEFT_OUT: f64 = 0.04;

impl Times {
    pub(crate) fn new(leads_to: BTreeMap<&'static str, &'static str>) -> Self {
        Self { runs: BTreeMap::new(), leads_to }
    }

    pub(crate) fn set(&mut self, runs: impl IntoIterator<Item = (String, f64)>) {
        self.runs.clear();
        for (kind, seconds) in runs {
            self.runs.entry(kind).or_default().push(seconds.max(0.0));
        }
        self.runs.values_mut().for_each(|runs| runs.sort_by(f64::total_cmp));
    }

    /// How long jobs of a kind run. One that waits for another runs as long as that one: its own attempts take next to
    /// nothing, and what is recorded of it is the wait.
    fn of(&self, kind: &str) -> &[f64] {
        let next = self.leads_to.get(kind).and_then(|next| self.runs.get(*next));
        next.or_else(|| self.runs.get(kind)).map_or(&[], Vec::as_slice)
    }

    fn run(&self, kind: &str) -> Range {
        let runs = self.of(kind);
        if runs.is_empty() {
            return UNKNOWN_RUN;
        }
        let beyond = if runs.len() < RUNS_MIN { RUNS_UNKNOWN } else { 1.0 };
        Range {
            earliest: quantile(runs, 0.05) / beyond,
            likely: quantile(runs, 0.5),
            latest: quantile(runs, 0.95) * beyond,
        }
    }

    /// How long a job of the kind usually takes a slot. Not the mean: what failed and waited for another attempt took none
    /// meanwhile, though it is recorded as one long run.
    fn usual(&self, kind: &str) -> f64 {
        let known = self.of(kind);
        if !known.is_empty() {
            return quantile(known, 0.5);
        }
        // As others do.
        let mut others: Vec<f64> = self.runs.values().map(|runs| quantile(runs, 0.5)).collect();
        others.sort_by(f64::total_cmp);
        if others.is_empty() { UNKNOWN_SLOT_S } else { quantile(&others, 0.5) }
    }
}

/// When a job ends, as the model sees it; none while only a person can let it go on.
pub(crate) fn predict(scene: &Scene<'_>, position: Position<'_>) -> Option<(Stage, Range)> {
    let runs = scene.times.of(scene.kind);
    let run = scene.times.run(scene.kind);
    if let Position::Running(elapsed) = position {
        return Some((Stage::Running, remaining(runs, elapsed.as_secs_f64())));
    }
    let is_held = !scene.around.pauses.is_empty() || scene.around.workers.knowing == 0;
    if is_held {
        return None;
    }
    let nothing = BTreeMap::new();
    let (ahead, in_lane, delay) = match position {
        Position::Ready { ahead, in_lane } => (ahead, in_lane, 0.0),
        Position::Scheduled(delay) => (&nothing, 0, delay.as_secs_f64()),
        Position::Running(_) => return None,
    };
    let wait = wait(scene, ahead, in_lane)?;
    let begins = Range {
        earliest: delay.max(wait.earliest),
        likely: delay.max(wait.likely),
        latest: delay.max(wait.latest),
    };
    let stage = match position {
        Position::Scheduled(_) => Stage::Apart,
        _ if wait.likely < LIKELY_S_MIN => Stage::Fresh,
        _ => Stage::Queued,
    };
    Some((stage, sum(begins, run)))
}

/// What is left of a run that has lasted so long: of those runs of late that lasted longer.
fn remaining(runs: &[f64], elapsed: f64) -> Range {
    let longer = &runs[runs.partition_point(|run| *run <= elapsed)..];
    if runs.is_empty() {
        return Range { likely: (UNKNOWN_RUN.likely - elapsed).max(1.0), ..UNKNOWN_RUN };
    }
    if longer.len() < RUNS_MIN && runs.len() < RUNS_MIN {
        let likely = longer.first().map_or(elapsed / 2.0, |run| run - elapsed);
        return Range { earliest: 0.0, likely, latest: likely.mul_add(RUNS_UNKNOWN, elapsed + 1.0) };
    }
    if longer.is_empty() {
        // Longer than any: it may end at once, or take as long again.
        return Range { earliest: 0.0, likely: (elapsed / 2.0).max(0.5), latest: elapsed.mul_add(2.0, 1.0) };
    }
    Range {
        earliest: quantile(longer, 0.05) - elapsed,
        likely: quantile(longer, 0.5) - elapsed,
        latest: quantile(longer, 0.95) - elapsed,
    }
}

/// Until a ready job begins; none if a limit never lets it.
pub(super) fn wait(scene: &Scene<'_>, ahead: &BTreeMap<String, i64>, in_lane: i64) -> Option<Range> {
    let Scene { around, times, .. } = scene;
    let own = ahead.values().sum::<i64>() as f64;
    let own_work: f64 = ahead.iter().map(|(kind, jobs)| *jobs as f64 * times.usual(kind)).sum();
    let meanwhile = (own + 1.0) / f64::from(around.weight.max(1));
    let (mut others, mut others_later, mut work, mut of_kind) = (0.0, 0.0, own_work, 0.0);
    for OtherShare { weight, kinds } in other_shares(scene) {
        let ready: f64 = kinds.iter().map(|(_, ready)| ready).sum();
        let by_share = meanwhile * weight;
        // Where they were not counted to the end, there are as many as it takes.
        let counted = ready < LOAD_COUNTED_MAX as f64;
        let served = if counted { ready.min(by_share) } else { by_share };
        others += served;
        // They may bring more while it waits.
        others_later += if counted { by_share.min(ready * 3.0) } else { by_share };
        for (kind, jobs) in kinds {
            work += served / ready * jobs * times.usual(kind);
            if kind == scene.kind {
                of_kind += served / ready * jobs;
            }
        }
    }
    let before = own + others;
    let usual_s = if before > 0.0 { work / before } else { times.usual(scene.kind) };
    let slots = (around.workers.slots.max(around.workers.running).max(1)) as f64;
    let free = (slots - around.workers.running as f64).max(0.0);
    let behind = |jobs: f64, free: f64, slots: f64, usual_s: f64| {
        if jobs < free { 0.0 } else { (jobs - free + 1.0) * usual_s / slots }
    };
    let likely = behind(before, free, slots, usual_s);
    let mut wait = Range {
        earliest: behind(own + others * 0.5, free, slots, usual_s) * WAIT_EARLIER,
        likely,
        latest: behind(own + others_later, free, slots, usual_s) * WAIT_LATER,
    };
    let kind_s = times.usual(scene.kind);
    for (cap, jobs) in [(around.share_cap, own), (around.key_cap, in_lane as f64)] {
        let Some(cap) = cap else { continue };
        let free = (cap.max - cap.running).max(0) as f64;
        wait.at_least(about(behind(jobs, free, cap.max.max(1) as f64, kind_s)));
    }
    let of_kind = of_kind + ahead.get(scene.kind).copied().unwrap_or_default() as f64;
    for limit in &around.limits {
        if limit.shape == LimitShape::Concurrency && limit.max > 0 && limit.blocked_until.is_none() {
            wait.at_least(about(behind(of_kind, limit.room() as f64, limit.max as f64, kind_s)));
        } else {
            let (from, to) = until_room(limit, of_kind, scene.now)?;
            wait.at_least(Range { earliest: from, likely: f64::midpoint(from, to), latest: to });
        }
    }
    Some(wait)
}

/// A wait of about so many seconds.
fn about(seconds: f64) -> Range {
    Range { earliest: seconds * WAIT_EARLIER, likely: seconds, latest: seconds * WAIT_LATER }
}

/// The ready jobs of a share, by kind.
pub(crate) fn ready_of(loads: &[Load], share: TenantId) -> BTreeMap<String, i64> {
    let mut ready = BTreeMap::new();
    for load in loads.iter().filter(|load| load.share == share) {
        *ready.entry(load.kind.clone()).or_default() += load.ready;
    }
    ready
}

/// Another share that has ready jobs.
struct OtherShare<'a> {
    weight: f64,
    /// Its ready jobs by kind.
    kinds: Vec<(&'a str, f64)>,
}

fn other_shares<'a>(scene: &Scene<'a>) -> Vec<OtherShare<'a>> {
    let mut shares: BTreeMap<TenantId, OtherShare<'a>> = BTreeMap::new();
    for load in scene.loads.iter().filter(|load| load.share != scene.share && load.ready > 0) {
        let weight = f64::from(load.weight);
        let share = shares.entry(load.share).or_insert(OtherShare { weight, kinds: Vec::new() });
        share.kinds.push((&load.kind, load.ready as f64));
    }
    shares.into_values().collect()
}

/// Between when and when a limit has room for a job behind so many, in seconds from now; none if it never has.
fn until_room(limit: &LimitLevel, before: f64, now: DateTime<Utc>) -> Option<(f64, f64)> {
    let room = limit.room() as f64;
    if before < room {
        return Some((0.0, 0.0));
    }
    let each = limit.max / limit.takes.max(1);
    if each < 1 {
        return None;
    }
    let window_s = limit.window_ms.map_or(0.0, |ms| ms as f64 / 1_000.0);
    let opens_at =
        limit.blocked_until.into_iter().chain(limit.ends_at.filter(|_| limit.used >= limit.max)).max();
    let opens_s = opens_at.or(limit.ends_at).map_or(0.0, |at| span(now, at).as_secs_f64());
    let windows = ((before - room) / each as f64).floor() * window_s;
    // Within its window it may be the first or the last.
    Some((opens_s + windows, opens_s + windows + window_s.min(1.0)))
}

/// The range in which a job ends that was predicted to, when predictions of its kind and stage came to `ratios` (sorted) of
/// what was said.
pub(crate) fn calibrated(raw: Range, ratios: &[f64]) -> Range {
    let raw = Range { likely: raw.likely.max(LIKELY_S_MIN), ..raw };
    if ratios.len() < JUDGED_MIN {
        return widened(raw);
    }
    // Of n that are exchangeable, the next lies below the k-th with probability k / (n + 1).
    let n = ratios.len() as f64;
    let low = ((n + 1.0) * LEFT_OUT).floor() as usize;
    let high = (((n + 1.0) * (1.0 - LEFT_OUT)).ceil() as usize).clamp(1, ratios.len());
    let ratio = |k: usize| k.checked_sub(1).map_or(0.0, |k| ratios[k]);
    widened(Range {
        earliest: raw.likely * ratio(low),
        likely: raw.likely * quantile(ratios, 0.5),
        latest: raw.likely * ratio(high),
    })
}

/// By what a look at the queue takes, and in order.
fn widened(range: Range) -> Range {
    let earliest = (range.earliest - LIKELY_S_MIN).max(0.0);
    let latest = range.latest.max(range.earliest) * 1.05 + LIKELY_S_MIN;
    Range { earliest, likely: range.likely.clamp(earliest, latest), latest }
}

pub(crate) fn sum(one: Range, other: Range) -> Range {
    Range {
        earliest: one.earliest + other.earliest,
        likely: one.likely + other.likely,
        latest: one.latest + other.latest,
    }
}

/// The value that a part of sorted values lies below; of none, zero.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
