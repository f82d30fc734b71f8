//! The queues that one would pick instead, and the physical floor, measured on the same server by programs of their own.
//!
//! `../shared/peers/run` builds and starts them; each prints a line of JSON for a figure. They are built before anything
//! is measured. One that cannot be built or run is told about and left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::figures::{Figure, Unit};
use crate::progress::Progress;
use crate::server::TestServer;

/// The peers that store their jobs in PostgreSQL.
const PEERS: [&str; 3] = ["graphile-rs", "graphile-node", "pg-boss"];
/// The physical floor: pgbench with as little durable SQL as the work needs.
const FLOOR: &str = "floor";
/// What no peer knows: it then only makes its database, after it was built.
const NOTHING: &str = "none";
/// Longest run of one peer.
const RUN_MAX: Duration = Duration::from_secs(1_800);

/// A figure of a peer, as its program prints it.
#[derive(Debug, Clone, Deserialize)]
pub struct PeerFigure {
    /// Whose.
    pub peer: String,
    /// Of which version.
    pub version: String,
    /// What it is of.
    pub metric: String,
    /// The median of three.
    pub value: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How the peer was set up.
    #[serde(default)]
    pub settings: String,
}

/// All figures of peers, and of the floor, each with the mode in which it was measured.
#[derive(Debug, Default)]
pub struct Peers {
    peers: Vec<(&'static str, PeerFigure)>,
    floor: Vec<(&'static str, PeerFigure)>,
}

/// The folder of the peers' programs: `MILLPOND_PEERS`, else beside the repository.
fn folder() -> PathBuf {
    std::env::var_os("MILLPOND_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/peers"), PathBuf::from)
}

/// How the programs are started for this server.
#[derive(Debug)]
pub struct Programs {
    run: PathBuf,
    variables: Vec<(&'static str, String)>,
    runs: Vec<(&'static str, BTreeSet<&'static str>)>,
}

impl Programs {
    /// Builds what the figures need.
    ///
    /// # Errors
    /// When the programs are not there, or the server's data folder is not known.
    pub async fn build(
        server: &TestServer,
        figures: &[&Figure],
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let run = folder().join("run");
        if !run.exists() {
            bail!("{} is not there: name the peers' folder in MILLPOND_PEERS", run.display());
        }
        let mut programs = Self { run, variables: server.variables()?, runs: Vec::new() };
        let modes: BTreeSet<&str> =
            figures.iter().filter_map(|figure| figure.beside.peers).map(|of| of.0).collect();
        for peer in PEERS.into_iter().filter(|_| !modes.is_empty()) {
            progress.say(format!("building {peer}"));
            match programs.output(peer, NOTHING).await {
                Ok(_) => programs.runs.push((peer, modes.clone())),
                Err(error) => progress.leave(format!("{peer} is left out: {error:#}")),
            }
        }
        let groups: BTreeSet<&str> =
            figures.iter().filter_map(|figure| figure.beside.floor).map(|of| of.0).collect();
        if !groups.is_empty() {
            programs.runs.push((FLOOR, groups));
        }
        Ok(programs)
    }

    /// Runs them, one after the other.
    pub async fn measure(&self, progress: &Progress) -> Peers {
        let mut measured = Peers::default();
        for (peer, modes) in &self.runs {
            for mode in modes {
                progress.say(format!("{peer} {mode}"));
                match self.output(peer, mode).await {
                    Ok(figures) => {
                        let all = if *peer == FLOOR { &mut measured.floor } else { &mut measured.peers };
                        all.extend(figures.into_iter().map(|one| (*mode, one)));
                    }
                    Err(error) => progress.leave(format!("{peer} {mode} is left out: {error:#}")),
                }
            }
        }
        measured
    }

    async fn output(&self, peer: &str, mode: &str) -> anyhow::Result<Vec<PeerFigure>> {
        let mut command = Command::new("bash");
        command
            .arg(&self.run)
            .args([peer, mode])
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        // A build must not be steered by what this build was steered by.
        for name in ["RUSTFLAGS", "SQLX_OFFLINE", "DATABASE_URL", "CARGO_TARGET_DIR"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(RUN_MAX, command.output())
            .await
            .with_context(|| format!("it did not end within {RUN_MAX:?}"))?
            .context("starting bash")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = errors.lines().rev().take(3).collect();
            bail!("{}: {}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join(" / "));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

impl Peers {
    /// The best peer's figure beside one of ours.
    pub fn best(&self, figure: &Figure) -> Option<&PeerFigure> {
        best(&self.peers, figure.beside.peers?, figure.unit)
    }

    /// The floor's.
    pub fn floor(&self, figure: &Figure) -> Option<&PeerFigure> {
        best(&self.floor, figure.beside.floor?, figure.unit)
    }

    /// Each peer's best figure beside one of ours.
    pub fn each(&self, figure: &Figure) -> Vec<&PeerFigure> {
        let Some(asked) = figure.beside.peers else { return Vec::new() };
        let names: BTreeSet<&str> = self.peers.iter().map(|(_, one)| one.peer.as_str()).collect();
        let of = |name: &str| best(self.peers.iter().filter(|(_, one)| one.peer == name), asked, figure.unit);
        names.into_iter().filter_map(of).collect()
    }
}

/// Of figures whose name begins so, and goes on with no further digit: `enqueue_c1` is not `enqueue_c16`.
fn best<'a>(
    figures: impl IntoIterator<Item = &'a (&'static str, PeerFigure)>,
    (asked, metric): (&str, &str),
    unit: Unit,
) -> Option<&'a PeerFigure> {
    let is_meant = |(mode, one): &&(&str, PeerFigure)| {
        *mode == asked
            && one.metric.strip_prefix(metric).is_some_and(|rest| {
                !rest.starts_with(|next: char| next.is_ascii_digit()) && !rest.ends_with("_async")
            })
    };
    let meant = figures.into_iter().filter(is_meant).map(|(_, one)| one);
    match unit {
        Unit::JobsPerSecond => meant.max_by(|one, other| one.value.total_cmp(&other.value)),
        _ => meant.min_by(|one, other| one.value.total_cmp(&other.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(mode: &'static str, metric: &str, value: f64) -> (&'static str, PeerFigure) {
        let figure = PeerFigure {
            peer: String::new(),
            version: String::new(),
            metric: metric.to_owned(),
            value,
            min: value,
            max: value,
            settings: String::new(),
        };
        (mode, figure)
    }

    #[test]
    fn the_best_of_a_peers_settings_counts() {
        let all = [
            figure("drain", "drain_plain_c10", 9.0),
            figure("drain", "drain_lq5000", 60.0),
            figure("growth", "drain_with_1M", 70.0),
            figure("enq", "enqueue_c16", 99.0),
        ];
        assert_eq!(best(&all, ("drain", "drain_"), Unit::JobsPerSecond).unwrap().metric, "drain_lq5000");
        assert_eq!(best(&all, ("drain", "drain_"), Unit::Milliseconds).unwrap().value, 9.0);
    }

    #[test]
    fn one_client_is_not_sixteen() {
        let all = [("enqueue_c16", 99.0), ("enqueue_c1_async", 50.0), ("enqueue_c1", 3.0)]
            .map(|(metric, value)| figure("enq", metric, value));
        assert_eq!(best(&all, ("enq", "enqueue_c1"), Unit::JobsPerSecond).unwrap().value, 3.0);
    }
}
