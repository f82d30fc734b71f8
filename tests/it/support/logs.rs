//! Everything that the suite logs, for a search through it: set `TEST_LOGS` to a folder, run the tests, and then
//! `tests/acceptance/log_scan.py` on the folder.
//!
//! The test process writes the lines of all its tests to one file, in the format of production and in more detail, but without
//! the net that takes secrets out: what is judged is what our code logs. Lines of the real binary come through
//! the net; the search counts every hole that the net left in them as a find.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Once, OnceLock};

use tracing_subscriber::EnvFilter;

/// In the most detail that anybody will ever ask of our own crates; others as in production. (sqlx in more detail shows
/// statements, and those of tests hold what they like.)
const FILTER: &str = "info,api=trace,config=trace,db=trace,jobs=trace,kernel=trace,millpond=trace,outbound=trace,\
                      partners=trace,pool=trace,queue=trace,sandbox=trace,scheduler=trace,telemetry=trace,\
                      vendors=trace,webhooks=trace,workers=trace";

/// Where logs are gathered, if they are.
fn folder() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::var_os("TEST_LOGS").map(PathBuf::from)).as_ref()
}

fn file(name: &str) -> Option<File> {
    let path = folder()?.join(name);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    Some(file.unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display())))
}

/// Has this process' lines gathered from now on, if they are wanted. Called by everything that tests begin with.
pub fn gather() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(file) = file(&format!("tests-{}.jsonl", std::process::id())) else { return };
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_env_filter(EnvFilter::new(FILTER))
            .with_writer(file)
            .init();
    });
}

/// Has a process of the real binary log as much, if that is wanted and its test has no wish of its own.
pub fn in_detail(command: &mut Command) {
    const VARIABLE: &str = "MILLPOND_LOG__FILTER";
    if folder().is_some() && !command.get_envs().any(|(name, _)| name == VARIABLE) {
        command.env(VARIABLE, FILTER);
    }
}

/// Where the lines of a process of the real binary go, if they are wanted.
pub fn of_process(pid: u32) -> Option<File> {
    file(&format!("process-{pid}.log"))
}
