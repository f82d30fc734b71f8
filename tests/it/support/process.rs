//! The real binary as a process: started, spoken to, killed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, Method, RequestBuilder};
use tokio::sync::oneshot;

use super::{BINARY, TestDb, api, found, keyring, logs, within};

/// The last lines of a process's log that a failing test shows.
const LINES_MAX: usize = 200;

/// A running `millpond`; killed when it is dropped.
pub struct MillpondProcess {
    child: Child,
    ready: Option<oneshot::Receiver<String>>,
    log: Arc<Mutex<VecDeque<String>>>,
    client: Client,
}

impl MillpondProcess {
    /// Starts the binary on a test's database, with this run's keys, a free port, and more settings as variables.
    pub fn start(db: &TestDb, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .envs(db.variables())
            .env("MILLPOND_ENCRYPTION__KEYS", keyring().to_text())
            .env("MILLPOND_HTTP__LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied());
        Self::start_command(command)
    }

    /// Runs a command of the binary on a test's database, with this run's keys, to its good end, and answers what it printed.
    pub fn output(db: &TestDb, arguments: &[&str]) -> String {
        let mut command = Command::new(BINARY);
        command.args(arguments).envs(db.variables()).env("MILLPOND_ENCRYPTION__KEYS", keyring().to_text());
        let output = command.stdin(Stdio::null()).output();
        let output = output.expect("the binary runs");
        if let Some(mut lines) = logs::of_process(std::process::id()) {
            let _ = lines.write_all(&output.stderr);
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Starts a command made by the test.
    pub fn start_command(mut command: Command) -> Self {
        logs::in_detail(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (told, ready) = oneshot::channel();
        follow(child.stdout.take().expect("its output"), log.clone(), Some(told), None);
        let lines = logs::of_process(child.id());
        follow(child.stderr.take().expect("its log"), log.clone(), None, lines);
        Self { child, ready: Some(ready), log, client: api::client() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line `ready … url=…` and answers the address; shows the log when it ends before.
    pub async fn ready_url(&mut self) -> String {
        let ready = self.ready.take().expect("asked once");
        match within("the process to say that it is ready", ready).await {
            Ok(url) => url,
            Err(_) => panic!("the process ended before it was ready; it said:\n{}", self.log()),
        }
    }

    /// A request to an address of it.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// The last lines it wrote.
    pub fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("    {line}\n")).collect()
    }

    /// SIGKILL, and waits for its end.
    pub fn kill_9(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("collected");
    }

    /// Sends a signal by name: `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "no signal {name}");
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        found("the process to end", async || self.child.try_wait().expect("its state")).await
    }
}

/// The account that commands of this test run under, as they name it.
pub fn account() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

impl Drop for MillpondProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the process {} said last:\n{}", self.pid(), self.log());
        }
    }
}

/// Keeps the last lines of an output, all of them in a file if there is one, and tells the first address after `ready`.
fn follow(
    output: impl Read + Send + 'static,
    log: Arc<Mutex<VecDeque<String>>>,
    mut told: Option<oneshot::Sender<String>>,
    mut file: Option<File>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let url = line.split_whitespace().find_map(|word| word.strip_prefix("url="));
            if let Some(url) = url.filter(|_| line.starts_with("ready"))
                && let Some(told) = told.take()
            {
                let _ = told.send(url.to_owned());
            }
            if let Some(file) = &mut file {
                let _ = writeln!(file, "{line}");
            }
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LINES_MAX {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}
