//! The engine under fire: every scenario of `bench faults`, in its small size. `cargo run --release -p bench -- faults
//! --long` plays them in full.

use std::process::{Command, Stdio};

use bench::faults::process::Launcher;
use bench::faults::scenarios::find;
use bench::faults::stage::{Size, Stage};
use bench::faults::worker::run_if_asked;

use crate::support::{TestDb, pooled};

/// The test of this name is what this program does as a worker process.
const WORKER: &str = "faults::under_fire::a_worker_that_reaches_no_database_says_so_and_ends";

#[test]
fn a_worker_that_reaches_no_database_says_so_and_ends() {
    if let Some(ended) = run_if_asked() {
        let well = format!("{ended:?}") == format!("{:?}", std::process::ExitCode::SUCCESS);
        assert!(well, "the worker failed");
        return;
    }
    let nowhere = bench::faults::worker::WorkerSpec::new("postgres://nobody@127.0.0.1:9/nowhere");
    let spec = serde_json::to_string(&nowhere).unwrap();
    let mut command = worker_command();
    // The end of its input would be its end.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut worker = command.env(bench::faults::worker::VARIABLE, spec).spawn().unwrap();
    let input = worker.stdin.take();
    let output = worker.wait_with_output().unwrap();
    drop(input);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot connect to the database at 127.0.0.1:9"), "it said:\n{said}");
}

fn worker_command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", WORKER, "--nocapture", "--test-threads=1"]);
    command
}

/// Plays a scenario on a database of its own, and shows what the checker found when it is not what it should be.
async fn play(name: &str) {
    let db = TestDb::new().await;
    let stage = Stage {
        url: db.url().to_owned(),
        launcher: Launcher::new(worker_command),
        size: Size::Suite,
        sessions: !pooled(),
        tells: false,
    };
    let played = find(name).expect("a scenario of this name").play(stage).await;
    let report = played.unwrap_or_else(|error| panic!("{name} does not hold: {error:#}"));
    let findings = &report.findings;
    assert!(findings.is_good(), "{}\n{:#?}\n{:?}", findings.table(), findings.examples, report.notes);
    assert!(findings.accepted > 100, "too few jobs to show anything: {}", findings.table());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_lose_nothing_and_repeat_no_effect() {
    play("killing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_stand_still_past_their_lease_change_nothing_when_they_go_on() {
    play("freezing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immediate_restart_of_the_server_is_waited_out() {
    play("restarting").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_terminated_are_made_anew() {
    play("terminating").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_silence_and_lost_answers_to_commits_are_survived() {
    play("cutting").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_jobs_are_redriven_in_bulk_none_twice_and_none_left_whoever_is_killed_over_it() {
    play("redriving").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_aborts_its_process_is_dead_after_three_workers_and_takes_no_other_with_it() {
    play("poisoning").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_or_never_return_starve_nobody() {
    play("blocking").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_transaction_does_not_let_work_pile_up() {
    play("idling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_told_to_stop_finish_what_they_run_and_nothing_runs_twice() {
    play("draining").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_the_next_version_beside_the_old_loses_nothing() {
    play("upgrading").await;
}
