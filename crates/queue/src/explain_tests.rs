use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn blocker(because: Because, clears_at: Option<i64>) -> Blocker {
    Blocker { because, clears_at: clears_at.map(at), is_estimated: false }
}

fn limit(clears_at: i64) -> Blocker {
    blocker(
        Because::Limit { name: "v.calls".to_owned(), used: 5, max: 5, is_blocked: false },
        Some(clears_at),
    )
}

fn delayed(why: Delay, until: i64) -> Blocker {
    blocker(Because::Delayed { why }, Some(until))
}

fn paused() -> Blocker {
    let because =
        Because::Paused { queue: "enrich".to_owned(), kind: None, by: "ops".to_owned(), since: at(0) };
    blocker(because, None)
}

fn share() -> Blocker {
    let because = Because::Share { own_ahead: 3, others_ready: 0, running: 4, slots: 4, is_estimated: false };
    blocker(because, Some(900))
}

fn first(blockers: impl IntoIterator<Item = Blocker>) -> &'static str {
    let mut blockers: Vec<_> = blockers.into_iter().collect();
    put_in_order(&mut blockers);
    blockers[0].because.code()
}

#[test]
fn what_only_a_person_clears_comes_first() {
    assert_eq!(first([share(), limit(60), delayed(Delay::Scheduled, 3_600), paused()]), "paused");
    let closed = Because::Limit { name: "v.calls".to_owned(), used: 0, max: 0, is_blocked: false };
    assert_eq!(first([delayed(Delay::Scheduled, 3_600), blocker(closed, None)]), "limit");
}

#[test]
fn of_what_clears_by_itself_the_last_comes_first_and_the_crowd_comes_last() {
    assert_eq!(first([limit(60), delayed(Delay::Scheduled, 3_600)]), "delayed");
    assert_eq!(first([delayed(Delay::Scheduled, 10), limit(60)]), "limit");
    assert_eq!(first([share(), limit(60)]), "limit");
}

#[test]
fn a_job_that_was_set_aside_until_a_limit_has_room_is_held_by_the_limit() {
    assert_eq!(first([delayed(Delay::SetAside, 61), limit(60)]), "limit");
}

#[test]
fn every_reason_is_a_sentence_that_says_what_to_do_where_somebody_can() {
    let no_worker = Because::NoWorker { queue: "enrich".to_owned(), kind: "a.b".to_owned(), serving: 0 };
    assert_eq!(no_worker.to_string(), "no worker serves the queue enrich; start one");
    assert_eq!(paused().because.to_string(), "the queue enrich was paused by ops");
}
