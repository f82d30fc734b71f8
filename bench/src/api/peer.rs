//! The peer: a Fastify and Prisma service, as the seed S0 had in mind, with the same search, data and answers. Its programs
//! are in `bench/peer`; they are installed and generated in the measurement's temporary folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, raw_sql};
use tokio::process::Command;
use tokio::time::timeout;

use super::client::Client;
use super::process::Service;
use super::requests::Caller;
use super::search_space::Search;
use crate::progress::Progress;
use crate::server::free_port;

const FILES: [&str; 7] = [
    ".npmrc",
    "package.json",
    "package-lock.json",
    "prisma.config.ts",
    "schema.prisma",
    "schemas.mjs",
    "server.mjs",
];
/// Longest installation.
const INSTALL_MAX: Duration = Duration::from_secs(600);

/// Installs its packages and generates its client.
pub(super) async fn install(folder: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("peer"), folder.join("peer"));
    std::fs::create_dir_all(&to)?;
    for file in FILES {
        std::fs::copy(from.join(file), to.join(file))
            .with_context(|| format!("copying {file} of the peer"))?;
    }
    progress.say("npm ci for the peer");
    run(Command::new("npm").args(["ci", "--ignore-scripts"]), &to).await?;
    progress.say("prisma generate for the peer");
    // Only migrations need the engine that it would download; it must be able to name one.
    let mut generate = Command::new("node");
    generate.args(["node_modules/prisma/build/index.js", "generate"]);
    run(generate.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true"), &to).await?;
    Ok(to)
}

async fn run(command: &mut Command, folder: &Path) -> anyhow::Result<()> {
    let command = command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = timeout(INSTALL_MAX, command.output()).await.context("it took too long")?;
    let output =
        output.with_context(|| format!("starting {program}: the peer needs Node.js 20.19 and npm"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{program} of the peer: {}: {told}", output.status);
    }
    Ok(())
}

/// Gives its database the indexes that it wants.
pub(super) async fn index(url: &str, progress: &Progress) -> anyhow::Result<()> {
    progress.say("indexes for the peer");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/indexes.sql"))?;
    let mut conn = PgConnection::connect(url).await?;
    raw_sql(AssertSqlSafe(text)).execute(&mut conn).await?;
    for statement in ["vacuum (analyze) pool_influencers", "checkpoint"] {
        raw_sql(statement).execute(&mut conn).await?;
    }
    Ok(conn.close().await?)
}

/// Starts it, in as many processes as the machine has cores.
pub(super) async fn start(installed: &Path, url: &str, folder: &Path) -> anyhow::Result<Service> {
    let processes = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut command = Command::new("node");
    command
        .arg("server.mjs")
        .current_dir(installed)
        .env("NODE_ENV", "production")
        .env("DATABASE_URL", url)
        .env("PORT", free_port()?.to_string())
        .env("PEER_PROCESSES", processes.to_string());
    Service::start("peer", &mut command, folder).await
}

/// Fails unless all services answer these searches as the first does.
pub(super) async fn compare(
    services: &[&Service],
    callers: &[Caller],
    searches: &[Search],
) -> anyhow::Result<usize> {
    let mut clients: Vec<(&str, Client)> =
        services.iter().map(|service| (service.name, Client::new(service.address))).collect();
    let mut found = 0;
    for (search, caller) in searches.iter().zip(callers.iter().cycle()) {
        let mut first: Option<(&str, Value)> = None;
        for (name, client) in &mut clients {
            let (status, body) = client.ask(&caller.search(search).bytes).await?;
            ensure!(
                status == 200,
                "{name} answers {status} to {}: {}",
                search.query(),
                String::from_utf8_lossy(body)
            );
            let answer: Value = serde_json::from_slice(body)?;
            match &first {
                None => {
                    found += answer["data"].as_array().map_or(0, Vec::len);
                    first = Some((name, answer));
                }
                Some((other, expected)) => ensure!(
                    *expected == answer,
                    "{} is answered differently\nby {other}: {expected}\nby {name}: {answer}",
                    search.query()
                ),
            }
        }
    }
    ensure!(found > 0, "the searches that were compared find nobody");
    Ok(found)
}
