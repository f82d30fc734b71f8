use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_recommendations_example_is_read_and_printed_as_it_is() {
    let given = TraceParent::parse(GIVEN).unwrap();
    assert_eq!(given.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(given.span_id(), "00f067aa0ba902b7");
    assert_eq!(given.to_string(), GIVEN);
    let unsampled = GIVEN.replace("-01", "-00");
    assert_eq!(TraceParent::parse(&unsampled).unwrap().to_string(), unsampled);
}

#[test]
fn whatever_differs_from_the_recommendation_by_one_thing_is_nothing() {
    for wrong in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-1",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
    ] {
        assert_eq!(TraceParent::parse(wrong), None, "{wrong:?}");
    }
    assert_eq!(TraceParent::parse(&format!("cc{}-{}", &GIVEN[2..], "x".repeat(500))), None, "without end");
}

#[test]
fn a_later_version_is_read_as_far_as_ours_goes_and_goes_on_as_ours() {
    for later in ["01", "cc", "fe"] {
        for more in ["", "-", "-what-the-future-will-be-like"] {
            let text = format!("{later}{}{more}", &GIVEN[2..]);
            assert_eq!(TraceParent::parse(&text).unwrap().to_string(), GIVEN, "{text}");
        }
    }
}

#[test]
fn flags_that_the_version_does_not_know_do_not_go_on() {
    let flags = |flags: &str| TraceParent::parse(&GIVEN.replace("-01", flags)).unwrap().to_string();
    assert_eq!(flags("-ff"), GIVEN);
    assert!(flags("-fe").ends_with("-00"));
}

#[test]
fn a_child_is_another_span_of_the_same_trace() {
    let given = TraceParent::parse(&GIVEN.replace("-01", "-00")).unwrap();
    let children: HashSet<TraceParent> = (0..1_000).map(|_| given.child()).collect();
    assert_eq!(children.len(), 1_000);
    assert!(
        children
            .iter()
            .all(|child| child.trace_id() == given.trace_id() && child.to_string().ends_with("-00"))
    );
    assert!(!children.contains(&given));
}

#[test]
fn a_span_that_follows_from_an_id_is_the_same_for_everybody_and_no_other_ones() {
    let given = TraceParent::begin();
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(given.child_of(one, 1), given.child_of(one, 1));
    let all: HashSet<_> =
        [one, other].into_iter().flat_map(|id| (0..1_000).map(move |n| span_of(id, n))).collect();
    assert_eq!(all.len(), 2_000);
    assert_eq!(TraceParent::of(one), TraceParent::of(one));
    assert_eq!(TraceParent::of(one).trace_id(), one.simple().to_string());
    assert!(TraceParent::parse(&TraceParent::of(Uuid::nil()).to_string()).is_some());
}

/// The share is the process's; one test at a time sets it.
#[test]
fn the_share_to_be_recorded_is_kept_by_id_where_a_trace_begins_and_by_chance_where_a_caller_brings_one() {
    let recorded =
        |traces: &dyn Fn(u64) -> TraceParent| (0..20_000).filter(|n| traces(*n).is_sampled()).count();
    let begun = |_| TraceParent::begin();
    let followed_from = |_| TraceParent::of(Uuid::now_v7());
    // A caller that wants everything recorded: the flag set, and an id that is in every share.
    let wished = TraceParent::parse("00-00000000000000000000000000000001-00f067aa0ba902b7-01").unwrap();
    let brought = |_| wished.follow();
    sample(0.0);
    assert_eq!([recorded(&begun), recorded(&followed_from), recorded(&brought)], [0; 3]);
    sample(0.1);
    for count in [recorded(&begun), recorded(&followed_from), recorded(&brought)] {
        assert!((1_600..2_400).contains(&count), "{count} of 20,000");
    }
    let id = Uuid::now_v7();
    assert!((0..100).all(|_| TraceParent::of(id) == TraceParent::of(id)), "everybody agrees");
    sample(1.0);
    assert_eq!([recorded(&begun), recorded(&followed_from), recorded(&brought)], [20_000; 3]);
    assert!(brought(0).child().is_sampled() && brought(0).child_of(id, 1).is_sampled(), "it travels");
    sample(0.0);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC*") {
        let _ = TraceParent::parse(&text);
    }

    #[test]
    fn only_the_syntax_of_the_recommendation_is_read(text in "[0-9a-fA-F-]{50,60}") {
        let read = TraceParent::parse(&text);
        if let Some(read) = read {
            let printed = read.to_string();
            prop_assert_eq!(&printed[3..52], &text[3..52]);
        }
    }

    #[test]
    fn what_is_made_is_read_back(_ in 0..50) {
        let made = TraceParent::begin();
        prop_assert_eq!(TraceParent::parse(&made.to_string()), Some(made));
    }
}
