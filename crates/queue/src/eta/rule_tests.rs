use super::*;
use crate::standing::{Cap, Workers};

const KIND: &str = "crawl";

fn around(slots: i64, running: i64) -> Surroundings {
    Surroundings {
        pauses: Vec::new(),
        limits: Vec::new(),
        share_cap: None,
        key_cap: None,
        weight: 1,
        workers: Workers { serving: 1, knowing: 1, slots, running },
    }
}

fn times(seconds: &[f64]) -> Times {
    let mut times = Times::new(BTreeMap::from([("enrich", KIND)]));
    times.set(seconds.iter().map(|seconds| (KIND.to_owned(), *seconds)));
    times
}

fn me() -> TenantId {
    TenantId::SYSTEM
}

fn other(n: u128) -> TenantId {
    TenantId::from_uuid(uuid::Uuid::from_u128(n))
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A ready job behind so many of its share.
fn ready(around: &Surroundings, loads: &[Load], ahead: i64) -> Option<(Stage, Range)> {
    let times = times(&[1.0; RUNS_MIN]);
    let scene = Scene { now: now(), kind: KIND, share: me(), around, loads, times: &times };
    let ahead = BTreeMap::from([(KIND.to_owned(), ahead)]);
    predict(&scene, Position::Ready { ahead: &ahead, in_lane: ahead[KIND] })
}

#[test]
fn a_job_with_a_free_slot_takes_its_run() {
    let (stage, range) = ready(&around(4, 0), &[], 0).unwrap();
    assert_eq!((stage, range.likely), (Stage::Fresh, 1.0));
}

#[test]
fn a_job_behind_others_waits_for_as_many_to_end_as_leave_it_a_slot() {
    let (stage, range) = ready(&around(4, 4), &[], 7).unwrap();
    // Eight ends at four a second, and its own run.
    assert_eq!((stage, range.likely), (Stage::Queued, 3.0));
    assert!(range.earliest < 3.0 && range.latest > 3.0);
}

#[test]
fn other_shares_come_between_as_their_weights_say_and_no_more_than_they_have() {
    let load = |weight, ready| Load { share: other(7), weight, kind: KIND.to_owned(), ready };
    let likely = |loads: &[Load]| ready(&around(1, 1), loads, 9).unwrap().1.likely;
    assert_eq!(likely(&[]), 11.0);
    assert_eq!(likely(&[load(1, 400)]), 21.0, "one each");
    assert_eq!(likely(&[load(3, 400)]), 41.0, "three for each of ours");
    assert_eq!(likely(&[load(3, 4)]), 15.0, "all four that it has");
    assert_eq!(likely(&[load(90, LOAD_COUNTED_MAX)]), 911.0, "there are more than were counted");
}

#[test]
fn caps_and_slots_of_others_are_narrower_than_our_slots() {
    let mut capped = around(100, 2);
    capped.share_cap = Some(Cap { max: 2, running: 2 });
    // Four ends at two a second, and its run.
    assert_eq!(ready(&capped, &[], 3).unwrap().1.likely, 3.0);
    let mut slots = around(100, 2);
    slots.limits = vec![limit(LimitShape::Concurrency, 2, 2)];
    assert_eq!(ready(&slots, &[], 3).unwrap().1.likely, 3.0);
}

fn limit(shape: LimitShape, max: i64, used: i64) -> LimitLevel {
    let windowed = shape != LimitShape::Concurrency;
    LimitLevel {
        name: "vendor.calls".to_owned(),
        shape,
        max,
        window_ms: windowed.then_some(60_000),
        used,
        takes: 1,
        ends_at: windowed.then(|| now() + chrono::TimeDelta::seconds(20)),
        blocked_until: None,
    }
}

#[test]
fn a_used_up_window_is_waited_out_and_the_next_ones_are_filled_in_order() {
    let mut limited = around(100, 0);
    limited.limits = vec![limit(LimitShape::Rate, 10, 10)];
    let begins = |ahead| ready(&limited, &[], ahead).unwrap().1.earliest - 1.0;
    assert_eq!(begins(0), 20.0, "the first of the next window");
    assert_eq!(begins(9), 20.0, "the last of it");
    assert_eq!(begins(10), 80.0, "the first of the one after");
}

#[test]
fn a_limit_that_gives_nothing_a_pause_and_a_queue_without_workers_have_no_end_in_sight() {
    let mut closed = around(4, 0);
    closed.limits = vec![limit(LimitShape::Rate, 0, 0)];
    let mut paused = around(4, 0);
    paused.pauses = vec![crate::standing::PausedBy { kind: None, by: "ops".to_owned(), since: now() }];
    let mut deserted = around(4, 0);
    deserted.workers.knowing = 0;
    for around in [closed, paused, deserted] {
        assert_eq!(ready(&around, &[], 0), None);
    }
}

#[test]
fn what_is_left_of_a_run_is_told_by_those_that_lasted_longer() {
    let left = |elapsed| remaining(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 4.0], elapsed).likely;
    assert_eq!(left(0.0), 1.0);
    assert_eq!(left(2.0), 2.0);
    assert!(left(10.0) > 0.0, "longer than any");
}

#[test]
fn a_kind_that_waits_for_another_takes_as_long_as_that() {
    let times = times(&[3.0]);
    assert_eq!(times.of("enrich"), [3.0]);
    assert_eq!(times.run("unheard of"), UNKNOWN_RUN);
    assert_eq!(times.usual("unheard of"), 3.0, "its slot is taken for as long as others'");
}

#[test]
fn predictions_are_scaled_by_how_they_came_true() {
    let raw = Range { earliest: 1.0, likely: 2.0, latest: 3.0 };
    let ratios: Vec<f64> = (1..=100).map(|n| 1.0 + f64::from(n) / 100.0).collect();
    let range = calibrated(raw, &ratios);
    assert!((2.0..2.2).contains(&range.earliest), "{range:?}");
    assert!((2.9..3.1).contains(&range.likely), "{range:?}");
    assert!((3.9..4.4).contains(&range.latest), "{range:?}");
    let unchecked = calibrated(raw, &ratios[..JUDGED_MIN - 1]);
    assert!(unchecked.earliest < 1.0 && unchecked.latest > 3.0, "{unchecked:?}");
}

proptest::proptest! {
    #[test]
    fn a_range_is_in_order_and_finite_whatever_the_facts(
        ahead in 0..100_000_i64, slots in 0..1_000_i64, running in 0..1_000_i64, weight in 1..1_000_i16, ready_jobs in 0..16_000_i64,
        max in 0..1_000_i64, used in 0..2_000_i64, ratios in proptest::collection::vec(0.0..100.0_f64, 0..100),
    ) {
        let mut around = around(slots, running);
        around.limits = vec![limit(LimitShape::Rate, max, used)];
        let loads = [Load { share: other(3), weight, kind: KIND.to_owned(), ready: ready_jobs }];
        let mut ratios = ratios;
        ratios.sort_by(f64::total_cmp);
        if let Some((_, raw)) = ready(&around, &loads, ahead) {
            let range = calibrated(raw, &ratios);
            proptest::prop_assert!(0.0 <= range.earliest && range.earliest <= range.likely && range.likely <= range.latest, "{range:?}");
            proptest::prop_assert!(range.latest.is_finite());
        }
    }
}
