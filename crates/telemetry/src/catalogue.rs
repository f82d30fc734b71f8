//! Every metric there is: its name, type, unit, labels, who shows it, and what it means.
//!
//! A test holds this list against the sources, both ways, and against the dashboard and the alert rules; the table in
//! `docs/TELEMETRY.md` is written from it. Labels take values from lists of ours (queues, kinds, routes, …), never what
//! a client or a tenant chose, so that nobody can make a million time series.

use metrics::Unit;

use Kind::{Counter, Gauge, Histogram};
use Shown::{Always, Api, Leader, Occasion, Scheduler, Workers};

/// What kind of metric one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// What is the case now.
    Gauge,
    /// Counts by size; rendered as `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// Which processes show one, and from when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Every process, from its start.
    Always,
    /// Processes that serve the API, from the first request.
    Api,
    /// Processes that run jobs, from their start.
    Workers,
    /// The worker process that leads the upkeep, while it does. Those that lead no more show `NaN`, so take the greatest
    /// over processes (`max`, not `sum`).
    Leader,
    /// Processes that schedule.
    Scheduler,
    /// Whoever meets it, from the first time.
    Occasion,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with the prefix `millpond_` and its unit at the end.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it counts or measures.
    pub unit: Unit,
    /// The labels of each of its series.
    pub labels: &'static [&'static str],
    /// Who shows it.
    pub shown: Shown,
    /// What it means.
    pub help: &'static str,
}

/// The metric of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.name == name)
}

/// All of them, by area.
#[rustfmt::skip] // A table: one line for what it is, the next for what it means.
pub const ALL: &[Metric] = &[
    one("millpond_build_info", Gauge, Unit::Count, &["version"], Always,
        "Always 1; the label says which version runs."),
    // The API.
    one("millpond_http_requests_total", Counter, Unit::Count, &["route", "method", "status"], Api,
        "Requests answered, by matched route."),
    one("millpond_http_request_duration_seconds", Histogram, Unit::Seconds, &["route", "method"], Api,
        "Time to answer, without what the client asked us to wait for a result."),
    one("millpond_http_requests_shed_total", Counter, Unit::Count, &[], Always,
        "Requests refused at once because too many were in flight."),
    one("millpond_http_connections_evicted_total", Counter, Unit::Count, &[], Always,
        "Connections without a request that gave their place to newcomers because all were taken."),
    one("millpond_http_requests_timed_out_total", Counter, Unit::Count, &[], Always,
        "Requests given up because the route's time limit ran out."),
    one("millpond_sign_in_locks_total", Counter, Unit::Count, &[], Always,
        "Accounts and addresses locked because too many attempts to sign in failed."),
    // Running jobs.
    one("millpond_jobs_claimed_total", Counter, Unit::Count, &["queue"], Workers,
        "Jobs taken on by this process."),
    one("millpond_job_attempts_total", Counter, Unit::Count, &["queue", "kind", "outcome"], Workers,
        "Attempts by what they came to: done; settled (ended in the handler's own transaction); retried; \
         dead (failed for good); cancelled; snoozed; given_back (at shutdown); parked (kind not known \
         here); abandoned (lease lost)."),
    one("millpond_job_panics_total", Counter, Unit::Count, &["queue", "kind"], Workers,
        "Attempts whose handler panicked; they also count as retried or dead."),
    one("millpond_job_wait_seconds", Histogram, Unit::Seconds, &["queue", "kind"], Workers,
        "From the time a job was to run (stored, retry due, released) to its claim, by the database's \
         clock."),
    one("millpond_job_run_seconds", Histogram, Unit::Seconds, &["queue", "kind"], Workers,
        "How long handlers ran; those that were stopped are not among them."),
    one("millpond_job_handlers_stuck_total", Counter, Unit::Count, &[], Always,
        "Handlers that held on to their thread after they were stopped; their slots were freed."),
    one("millpond_worker_slots", Gauge, Unit::Count, &["queue"], Workers,
        "Jobs that this process runs at once."),
    one("millpond_worker_slots_used", Gauge, Unit::Count, &["queue"], Workers,
        "Slots taken, from the claim until the outcome is written."),
    one("millpond_turn_seconds", Histogram, Unit::Seconds, &["queue"], Workers,
        "Statements that write outcomes and claim jobs, without those that failed."),
    one("millpond_turn_failures_total", Counter, Unit::Count, &["queue"], Workers,
        "Such statements that failed; they are repeated."),
    one("millpond_claims_held_back_total", Counter, Unit::Count, &["queue"], Workers,
        "Claims that found no other jobs but those that limits hold back."),
    // Leases.
    one("millpond_leases_lost_total", Counter, Unit::Count, &[], Always,
        "Times that this process lost its leases: no heartbeat could be written, or others took it for \
         dead."),
    one("millpond_outcomes_refused_total", Counter, Unit::Count, &["queue"], Workers,
        "Outcomes that came too late: the job's lease had been lost, and nothing was changed."),
    one("millpond_jobs_taken_back_total", Counter, Unit::Count, &[], Always,
        "Jobs taken back from dead processes."),
    one("millpond_jobs_given_up_total", Counter, Unit::Count, &[], Always,
        "Jobs failed as WORKER_LOST, because they were taken back too often."),
    one("millpond_jobs_expired_total", Counter, Unit::Count, &[], Always,
        "Jobs failed because their deadline passed."),
    // Limits, vendors, webhooks.
    one("millpond_limit_wait_seconds", Histogram, Unit::Seconds, &["limit"], Occasion,
        "How long attempts waited for permits, by the first limit that they asked for; in vain or not."),
    one("millpond_limit_set_aside_total", Counter, Unit::Count, &["limit"], Occasion,
        "Jobs set aside because this limit had no room for long."),
    one("millpond_limit_blocked_seconds", Gauge, Unit::Seconds, &["limit"], Leader,
        "How much longer the other side's word (a 429, a Retry-After) keeps permits from being drawn; the \
         longest of the limit's first 1,000 buckets."),
    one("millpond_vendor_calls_total", Counter, Unit::Count, &["vendor", "operation", "outcome"], Occasion,
        "Tries of calls to vendors; ok, or the kind of failure."),
    one("millpond_vendor_call_duration_seconds", Histogram, Unit::Seconds, &["vendor", "operation"], Occasion,
        "How long tries of calls to vendors took."),
    one("millpond_webhook_attempts_total", Counter, Unit::Count, &["outcome"], Occasion,
        "Attempts to deliver a callback: delivered; rejected (a 4xx); server_error (a 5xx); other_status; \
         unreachable; refused (an address we do not call)."),
    one("millpond_webhook_attempt_duration_seconds", Histogram, Unit::Seconds, &[], Occasion,
        "How long attempts to deliver a callback took."),
    one("millpond_webhook_deliveries_total", Counter, Unit::Count, &["end"], Occasion,
        "Callbacks that ended: delivered, or failed for good."),
    // What the leader sees of the queues.
    one("millpond_queue_depth", Gauge, Unit::Count, &["queue", "state"], Leader,
        "Jobs that stand there: ready, scheduled, running, waiting for another, parked. Ready and \
         scheduled ones are counted up to 10,000 a queue, waiting and parked ones up to 10,000 of all \
         queues: that value means that or more."),
    one("millpond_queue_oldest_ready_age_seconds", Gauge, Unit::Seconds, &["queue"], Leader,
        "How long the job has been ready that has been longest; 0 if none is. A look reads the heads of \
         500 lanes: with more, it is exact once for every so many looks."),
    one("millpond_queue_paused", Gauge, Unit::Count, &["queue"], Leader,
        "1 while the whole queue is paused."),
    one("millpond_queue_paused_kinds", Gauge, Unit::Count, &["queue"], Leader,
        "Kinds of the queue that are paused."),
    one("millpond_worker_processes", Gauge, Unit::Count, &["queue"], Leader,
        "Processes that work the queue and have shown a sign of life within a lease."),
    one("millpond_dead_letters", Gauge, Unit::Count, &[], Leader,
        "Failed jobs in history, counted up to 10,000: that value means that or more."),
    one("millpond_queue_look_seconds", Gauge, Unit::Seconds, &[], Leader,
        "How long the last look at the queues took; it rests twenty times as long, and 5 s at the least."),
    one("millpond_history_weeks_ahead", Gauge, Unit::Count, &[], Leader,
        "Weeks from this one on, without a gap, whose partition of history exists."),
    one("millpond_history_overflow_rows", Gauge, Unit::Count, &[], Leader,
        "Finished jobs caught by the overflow because their week had no partition, counted up to 10,000."),
    // Upkeep.
    one("millpond_leader", Gauge, Unit::Count, &[], Workers,
        "1 while this process leads the upkeep."),
    one("millpond_leader_term", Gauge, Unit::Count, &[], Workers,
        "The term of this process as leader; grows with every change. 0 while it does not lead."),
    one("millpond_reconciler_failures_total", Counter, Unit::Count, &["reconciler"], Workers,
        "Pieces of upkeep that failed; they are tried again."),
    one("millpond_batches_repaired_total", Counter, Unit::Count, &[], Always,
        "Batches whose counters or end were wrong and were put right. Above 0 there is a fault."),
    one("millpond_vacuums_total", Counter, Unit::Count, &["table"], Occasion,
        "Tables cleaned."),
    one("millpond_reindexes_total", Counter, Unit::Count, &["index"], Occasion,
        "Indexes rebuilt."),
    one("millpond_estimates_total", Counter, Unit::Count, &["kind", "stage", "outcome"], Occasion,
        "What was said of when jobs end: within the range, early or late. The database counts, and whoever \
         leads shows it, so take the greatest over processes (`max`)."),
    one("millpond_audit_unsealed", Gauge, Unit::Count, &[], Leader,
        "Entries of the audit log that wait to be sealed, counted up to 10,000."),
    one("millpond_audit_unsealed_age_seconds", Gauge, Unit::Seconds, &[], Leader,
        "How long the first of them has waited; 0 if none does. Entries are sealed within a second."),
    // The scheduler.
    one("millpond_scheduler_ticks_total", Counter, Unit::Count, &["schedule", "outcome"], Occasion,
        "Ticks by what became of them: enqueued, missed, broken (looks at ticks that make no job)."),
    one("millpond_scheduler_lag_seconds", Histogram, Unit::Seconds, &[], Always,
        "How long after its instant the newest tick of a decision was stored."),
    one("millpond_scheduler_last_look_timestamp_seconds", Gauge, Unit::Seconds, &[], Scheduler,
        "When this process last looked at what is due, in seconds since 1970."),
    // Traces.
    one("millpond_trace_spans_exported_total", Counter, Unit::Count, &["outcome"], Occasion,
        "Spans by what became of them: ok, rejected by the collector, failed to get there."),
    one("millpond_trace_spans_dropped_total", Counter, Unit::Count, &[], Always,
        "Spans that were not queued for the collector, because it is too slow or gone."),
    // The database.
    one("millpond_table_live_rows", Gauge, Unit::Count, &["table"], Leader,
        "Rows, by the server's running count; not counted for jobs_finished."),
    one("millpond_table_dead_rows", Gauge, Unit::Count, &["table"], Leader,
        "Rows that are gone and still lie there; not counted for jobs_finished."),
    one("millpond_table_dead_rows_max", Gauge, Unit::Count, &["table"], Leader,
        "Dead rows from which the table is cleaned."),
    one("millpond_table_bytes", Gauge, Unit::Bytes, &["table"], Leader,
        "Size of the table without its indexes."),
    one("millpond_table_index_bytes", Gauge, Unit::Bytes, &["table"], Leader,
        "Size of the table's indexes."),
    one("millpond_database_oldest_transaction_seconds", Gauge, Unit::Seconds, &[], Leader,
        "Age of the oldest open transaction, prepared ones included, our own upkeep not; 0 if there is \
         none."),
    one("millpond_database_xmin_age_transactions", Gauge, Unit::Count, &["holder"], Leader,
        "How many transactions back dead rows are kept for a session, a prepared transaction or a \
         replication slot."),
    one("millpond_database_wraparound_age_transactions", Gauge, Unit::Count, &[], Leader,
        "Transactions since the oldest row that is not frozen, in any database of the server; it stops at \
         2.1 billion."),
    one("millpond_database_connections", Gauge, Unit::Count, &[], Leader,
        "Sessions of clients on the server."),
    one("millpond_database_connections_max", Gauge, Unit::Count, &[], Leader,
        "Sessions that the server allows."),
    one("millpond_database_pool_connections", Gauge, Unit::Count, &["state"], Always,
        "Connections of this process' pool: used (lent or being made), idle."),
    one("millpond_database_pool_connections_max", Gauge, Unit::Count, &[], Always,
        "Connections that the pool may open."),
    one("millpond_database_pool_wait_seconds", Histogram, Unit::Seconds, &[], Always,
        "How long callers waited for a connection, in vain or not."),
    one("millpond_database_pool_failures_total", Counter, Unit::Count, &[], Always,
        "Callers that got no connection: none was free in time, or none could be made."),
];

const fn one(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    shown: Shown,
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, shown, help }
}

/// Tells the recorder what there is, and begins what always is at 0: of a counter that appears with its first event
/// nobody sees that it grew.
pub(crate) fn describe_all(recorder: &impl metrics::Recorder) {
    static HERE: metrics::Metadata<'static> =
        metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));
    for metric in ALL {
        let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
        let key = metrics::Key::from_static_name(metric.name);
        let begins = metric.shown == Always && metric.labels.is_empty();
        match metric.kind {
            Counter => {
                recorder.describe_counter(name, unit, help);
                if begins {
                    recorder.register_counter(&key, &HERE).increment(0);
                }
            }
            Gauge => recorder.describe_gauge(name, unit, help),
            Histogram => {
                recorder.describe_histogram(name, unit, help);
                if begins {
                    drop(recorder.register_histogram(&key, &HERE));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_unique_and_end_in_their_unit() {
        for (n, metric) in ALL.iter().enumerate() {
            let name = metric.name;
            assert!(name.starts_with("millpond_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(ALL[..n].iter().all(|other| other.name != name), "{name} is listed twice");
            assert_eq!(name.ends_with("_total"), metric.kind == Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(name.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert!(metric.kind != Histogram || metric.unit == Unit::Seconds, "{name} has no buckets");
            assert!(metric.help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn labels_take_their_values_from_lists_of_ours() {
        const BOUNDED: &[&str] = &[
            "end",
            "holder",
            "index",
            "kind",
            "limit",
            "method",
            "operation",
            "outcome",
            "queue",
            "reconciler",
            "route",
            "schedule",
            "stage",
            "state",
            "status",
            "table",
            "vendor",
            "version",
        ];
        for metric in ALL {
            assert!(metric.labels.iter().all(|label| BOUNDED.contains(label)), "{}", metric.name);
        }
    }
}
