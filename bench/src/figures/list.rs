//! The list of figures, in the order of the table. Targets are those of docs/QUEUE.md.

use super::drain::Shape;
use super::enqueue::Clients;
use super::{Beside as Others, Figure, Goal, Measurement, Unit, pickup::Beside};

/// Every figure.
pub const FIGURES: &[Figure] = &[
    figure(
        "enqueue_1",
        "stored one a commit, 1 client",
        Unit::JobsPerSecond,
        Goal::AtLeast(4_000.0),
        Measurement::Enqueue(Clients::Single(1)),
    )
    .peers("enq", "enqueue_c1")
    .floor("enq", "enqueue_c1"),
    figure(
        "enqueue_16",
        "stored one a commit, 16 clients, idle workers woken",
        Unit::JobsPerSecond,
        Goal::AtLeast(17_000.0),
        Measurement::Enqueue(Clients::Single(16)),
    )
    .peers("enq", "enqueue_c16")
    .floor("enq", "enqueue_c16"),
    figure(
        "enqueue_16_worked",
        "the same while a worker runs them",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Enqueue(Clients::Worked(16)),
    ),
    figure(
        "enqueue_bulk",
        "stored 1,000 a statement, 1 client",
        Unit::JobsPerSecond,
        Goal::AtLeast(250_000.0),
        Measurement::Enqueue(Clients::Bulk),
    )
    .peers("enq", "enqueue_bulk1000")
    .floor("copy", "enqueue_unnest1000"),
    figure(
        "drain_10",
        "drain, 10 slots",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Drain(Shape::Slots(10)),
    )
    .peers("drain", "drain_plain_c10"),
    figure(
        "drain_100",
        "drain, 100 slots",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Drain(Shape::Slots(100)),
    ),
    figure(
        "drain_500",
        "drain, 500 slots, finished rows kept",
        Unit::JobsPerSecond,
        Goal::TimesBestPeer(1.5),
        Measurement::Drain(Shape::Slots(500)),
    )
    .peers("drain", "drain_")
    .floor("alt", "alt_fused500_move_c1"),
    figure(
        "wal_per_job",
        "write-ahead log per job drained",
        Unit::Bytes,
        Goal::AtMost(1_500.0),
        Measurement::Drain(Shape::Slots(500)),
    ),
    figure(
        "dead_rows_per_job",
        "dead row versions per job drained",
        Unit::Rows,
        Goal::None,
        Measurement::Drain(Shape::Slots(500)),
    ),
    figure(
        "worker_memory",
        "memory of a worker process, peak",
        Unit::Mebibytes,
        Goal::AtMost(40.0),
        Measurement::Drain(Shape::Slots(500)),
    ),
    figure(
        "drain_1000",
        "drain, 1,000 slots",
        Unit::JobsPerSecond,
        Goal::TimesBestPeer(1.5),
        Measurement::Drain(Shape::Slots(1_000)),
    )
    .peers("drain", "drain_")
    .floor("alt", "alt_fused500_move_c1"),
    figure(
        "drain_two_workers",
        "drain, 2 processes of 500 slots",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Drain(Shape::TwoWorkers),
    )
    .peers("drain", "drain_")
    .floor("alt", "alt_fused500_del_c2"),
    figure(
        "drain_one_by_one",
        "drain, each job acknowledged on its own",
        Unit::JobsPerSecond,
        Goal::AtLeast(6_000.0),
        Measurement::Drain(Shape::OneByOne),
    )
    .peers("drain", "drain_plain")
    .floor("claim1", "claim1_update_ack1_delete_c16"),
    figure(
        "pickup_p50",
        "pickup, idle, median",
        Unit::Milliseconds,
        Goal::AtMost(1.5),
        Measurement::Pickup(Beside::Nothing),
    )
    .peers("lat", "latency_p50_ms"),
    figure(
        "pickup_p99",
        "pickup, idle, 99%",
        Unit::Milliseconds,
        Goal::AtMost(3.0),
        Measurement::Pickup(Beside::Nothing),
    )
    .peers("lat", "latency_p99_ms"),
    figure(
        "idle_cpu",
        "idle worker process, processor time",
        Unit::PercentOfCore,
        Goal::AtMost(2.0),
        Measurement::Pickup(Beside::Nothing),
    ),
    figure(
        "pickup_same_process_p50",
        "the same, stored in the worker's process",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Pickup(Beside::NothingSameProcess),
    )
    .peers("lat", "latency_p50_ms"),
    figure(
        "pickup_same_process_p99",
        "the same, 99%",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Pickup(Beside::NothingSameProcess),
    )
    .peers("lat", "latency_p99_ms"),
    figure(
        "pickup_busy_p50",
        "pickup at 50% load, median",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Pickup(Beside::HalfLoad),
    ),
    figure(
        "pickup_busy_p99",
        "pickup at 50% load, 99%",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Pickup(Beside::HalfLoad),
    ),
    figure(
        "drain_grown",
        "drain beside 10M finished and 1M future jobs",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Growth,
    )
    .peers("growth", "drain_with_1M")
    .floor("growth", "growth_1M_done_partial"),
    figure("growth", "that, of the drain without them", Unit::Ratio, Goal::AtLeast(0.9), Measurement::Growth),
    figure(
        "claim_p99_0_fresh",
        "claim of 50, no backlog, 99%, fresh statistics",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Backlog(0),
    ),
    figure(
        "claim_p99_0_stale",
        "claim of 50, no backlog, 99%, stale statistics",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Backlog(0),
    ),
    figure(
        "claim_p99_0_none",
        "claim of 50, no backlog, 99%, no statistics",
        Unit::Milliseconds,
        Goal::None,
        Measurement::Backlog(0),
    ),
    figure(
        "claim_p99_1m_fresh",
        "claim of 50 at 1M backlog, 99%, fresh statistics",
        Unit::Milliseconds,
        Goal::AtMostAndTimes(10.0, 3.0, "claim_p99_0_fresh"),
        Measurement::Backlog(1_000_000),
    ),
    figure(
        "claim_p99_1m_stale",
        "claim of 50 at 1M backlog, 99%, stale statistics",
        Unit::Milliseconds,
        Goal::AtMostAndTimes(10.0, 3.0, "claim_p99_0_stale"),
        Measurement::Backlog(1_000_000),
    ),
    figure(
        "claim_p99_1m_none",
        "claim of 50 at 1M backlog, 99%, no statistics",
        Unit::Milliseconds,
        Goal::AtMostAndTimes(10.0, 3.0, "claim_p99_0_none"),
        Measurement::Backlog(1_000_000),
    ),
    figure(
        "claim_p99_10m_fresh",
        "claim of 50 at 10M backlog, 99%, fresh statistics",
        Unit::Milliseconds,
        Goal::AtMostAndTimes(10.0, 3.0, "claim_p99_0_fresh"),
        Measurement::Backlog(10_000_000),
    ),
    figure(
        "claim_p99_10m_stale",
        "claim of 50 at 10M backlog, 99%, stale statistics",
        Unit::Milliseconds,
        Goal::AtMostAndTimes(10.0, 3.0, "claim_p99_0_stale"),
        Measurement::Backlog(10_000_000),
    ),
    figure(
        "claim_p99_10m_none",
        "claim of 50 at 10M backlog, 99%, no statistics",
        Unit::Milliseconds,
        Goal::AtMostAndTimes(10.0, 3.0, "claim_p99_0_none"),
        Measurement::Backlog(10_000_000),
    ),
    figure(
        "drain_snapshot",
        "drain under an old snapshot, first 100k",
        Unit::JobsPerSecond,
        Goal::AtLeast(20_000.0),
        Measurement::Snapshot,
    )
    .floor("oldxmin", "oldxmin_first100k"),
    figure(
        "drain_silent",
        "drain, 500 slots, nothing recorded, logged or sent",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Telemetry,
    ),
    figure(
        "drain_telemetry",
        "drain, 500 slots, metrics, log, and traces at 1 %",
        Unit::JobsPerSecond,
        Goal::None,
        Measurement::Telemetry,
    ),
    figure(
        "telemetry_kept",
        "that, of the drain without",
        Unit::Ratio,
        Goal::AtLeast(0.97),
        Measurement::Telemetry,
    ),
    figure(
        "ops_read_p95",
        "the slowest of operators' reads beside a drain, 95%, 1M waiting and 10M finished",
        Unit::Milliseconds,
        Goal::AtMost(300.0),
        Measurement::OpsReads,
    ),
    figure(
        "ops_overview_p95",
        "the overview beside a drain, 95%",
        Unit::Milliseconds,
        Goal::AtMost(20.0),
        Measurement::OpsReads,
    ),
    figure(
        "ops_reads_kept",
        "drain beside ten readers, of the drain without",
        Unit::Ratio,
        Goal::AtLeast(0.97),
        Measurement::OpsReads,
    ),
];

const fn figure(name: &'static str, title: &'static str, unit: Unit, goal: Goal, by: Measurement) -> Figure {
    Figure { name, title, unit, goal, by, beside: Others { peers: None, floor: None } }
}

impl Figure {
    const fn peers(mut self, mode: &'static str, metric: &'static str) -> Self {
        self.beside.peers = Some((mode, metric));
        self
    }

    const fn floor(mut self, mode: &'static str, metric: &'static str) -> Self {
        self.beside.floor = Some((mode, metric));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_another_is_held_against_is_there() {
        let is_there = |name: &str| FIGURES.iter().any(|figure| figure.name == name);
        for figure in FIGURES {
            if let Goal::AtMostAndTimes(_, _, other) = figure.goal {
                assert!(is_there(other), "{}: {other}", figure.name);
            }
        }
    }

    #[test]
    fn no_name_stands_for_two_figures() {
        let mut names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIGURES.len());
    }
}
