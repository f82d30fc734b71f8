//! What the machine did meanwhile: processor time, memory, log volume, dead rows.

use std::path::Path;

use anyhow::Context;
use db::Pool;
use rustix::time::{ClockId, clock_gettime};

/// Microseconds of a clock that all processes of this machine share and nobody sets.
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000
}

/// Processor time that a process has used, in seconds; none when it is gone.
pub fn process_cpu_s(pid: u32) -> Option<f64> {
    let stat = Stat::of(pid)?;
    Some(seconds(stat.own_ticks))
}

/// Processor time that everything on this machine has used, in seconds; none where the kernel does not tell.
pub fn busy_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; what follows is time of others, or counted already.
    Some(seconds([0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum()))
}

/// Processor time that a PostgreSQL server has used, in seconds: the postmaster, its living children, and those it has
/// collected.
///
/// # Errors
/// When `data_dir` is not the data folder of a running server.
pub fn server_cpu_s(data_dir: &Path) -> anyhow::Result<f64> {
    Ok(family_cpu_s(postmaster_pid(data_dir)?)?)
}

/// Processor time that a process and its children have used, in seconds, those included that it has collected.
///
/// # Errors
/// When processes cannot be listed.
pub fn family_cpu_s(first: u32) -> std::io::Result<f64> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(stat) = Stat::of(pid) else { continue };
        if pid == first {
            ticks += stat.own_ticks + stat.children_ticks;
        } else if stat.parent == first {
            ticks += stat.own_ticks;
        }
    }
    Ok(seconds(ticks))
}

/// The first process of the server of this data folder.
///
/// # Errors
/// When `data_dir` is not the data folder of a running server.
pub fn postmaster_pid(data_dir: &Path) -> anyhow::Result<u32> {
    let file = data_dir.join("postmaster.pid");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().parse()?)
}

/// The most memory that a process has had resident, in bytes; none when it is gone.
pub fn memory_peak_bytes(pid: u32) -> Option<u64> {
    memory_bytes(pid, "VmHWM:")
}

/// From here on, [`memory_peak_bytes`] counts anew.
///
/// # Errors
/// When it is not a process of ours.
pub fn forget_memory_peak(pid: u32) -> anyhow::Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
}

/// What a process has resident now, in bytes; none when it is gone.
pub fn memory_now_bytes(pid: u32) -> Option<u64> {
    memory_bytes(pid, "VmRSS:")
}

fn memory_bytes(pid: u32, which: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

/// The part of `/proc/PID/stat` that is asked for.
struct Stat {
    parent: u32,
    own_ticks: u64,
    children_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program, in brackets, may hold anything; what follows it does not.
        let (_, after) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number =
            |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        Some(Self {
            parent: u32::try_from(number(1)).ok()?,
            own_ticks: number(11) + number(12),
            children_ticks: number(13) + number(14),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "ticks of one machine's uptime are far below 2^53")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// How far the server's write-ahead log has come, in bytes.
///
/// # Errors
/// When the server cannot be asked.
pub async fn wal_bytes(pool: &Pool) -> anyhow::Result<u64> {
    let bytes = sqlx::query_scalar!(r#"select (pg_current_wal_insert_lsn() - '0/0')::bigint as "bytes!""#)
        .fetch_one(pool)
        .await?;
    Ok(u64::try_from(bytes)?)
}

/// Row versions that updates and deletes in our tables have left behind so far. Sessions report them at the latest when
/// they end.
///
/// # Errors
/// When the server cannot be asked.
pub async fn dead_rows(pool: &Pool) -> anyhow::Result<u64> {
    let rows = sqlx::query_scalar!(
        r#"select coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint as "rows!" from pg_stat_user_tables"#
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(rows)?)
}
