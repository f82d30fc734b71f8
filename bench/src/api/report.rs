//! What came of it: tables for people, one JSON document for programs.

use std::io::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use super::Args;
use super::load::{ClosedLoop, Latency, OpenLoop};
use super::plans::{Plans, Worst};

/// What issue and docs promise of the open loop, in milliseconds.
const P50_MS_MAX: f64 = 15.0;
const P95_MS_MAX: f64 = 60.0;
const P99_MS_MAX: f64 = 150.0;
/// Searches a second, of the peer's.
const TIMES_PEER_MIN: f64 = 3.0;

/// Processor time in seconds; or in cores, when it was divided by the time it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    pub(super) service: f64,
    /// PostgreSQL's, when its data folder is known.
    pub(super) server: Option<f64>,
    pub(super) driver: f64,
    /// Of everything on the machine.
    pub(super) all: Option<f64>,
}

/// A run of the open loop.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) opened: OpenLoop,
    /// In cores.
    pub(super) cpu: Cpu,
    /// Resident bytes of the API: after the run, and at most so far.
    pub(super) memory: (u64, u64),
}

/// How many searches a service answers.
#[derive(Debug)]
pub(super) struct Capacity {
    pub(super) name: String,
    pub(super) runs: Vec<(ClosedLoop, Cpu)>,
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) args: Args,
    /// The first search of a process loads the pool.
    pub(super) first_search_ms: f64,
    /// Resident bytes of the API: in the end, and at most.
    pub(super) memory: (u64, u64),
    pub(super) opened: Vec<Opened>,
    pub(super) plans: Option<Plans>,
    /// Searches that all services answered alike, and creators in those answers.
    pub(super) compared: (usize, usize),
    pub(super) capacity: Vec<Capacity>,
}

/// The middle, the least and the greatest of some runs.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// A promise, and whether it is kept.
struct Promise {
    name: &'static str,
    value: String,
    spread: String,
    target: String,
    kept: Option<bool>,
}

impl Cpu {
    /// Cores used since `before`, which is so many seconds ago.
    pub(super) fn since(self, before: Self, seconds: f64) -> Self {
        Self {
            service: (self.service - before.service) / seconds,
            server: self.server.zip(before.server).map(|(now, then)| (now - then) / seconds),
            driver: (self.driver - before.driver) / seconds,
            all: self.all.zip(before.all).map(|(now, then)| (now - then) / seconds),
        }
    }

    /// What was taken by others, who had better not been there; and by the kernel on nobody's account.
    fn others(self) -> Option<f64> {
        Some((self.all? - self.service - self.server? - self.driver).max(0.0))
    }
}

impl Capacity {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), runs: Vec::new() }
    }

    fn per_s(&self) -> Spread {
        Spread::of(self.runs.iter().map(|(closed, _)| closed.per_s))
    }

    /// The run in the middle.
    fn middle(&self) -> Option<&(ClosedLoop, Cpu)> {
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_by(|left, right| left.0.per_s.total_cmp(&right.0.per_s));
        runs.get(runs.len() / 2).copied()
    }

    fn errors(&self) -> usize {
        self.runs.iter().map(|(closed, _)| closed.errors.count).sum()
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }

    fn shown(self, digits: usize) -> String {
        format!("{:.digits$} – {:.digits$}", self.min, self.max)
    }
}

impl Report {
    fn of_runs(&self, value: impl Fn(&OpenLoop) -> f64) -> Spread {
        Spread::of(self.opened.iter().map(|run| value(&run.opened)))
    }

    /// The run whose p99 is in the middle.
    fn middle(&self) -> Option<&Opened> {
        let mut runs: Vec<&Opened> = self.opened.iter().collect();
        runs.sort_by(|left, right| left.opened.all.p99_ms.total_cmp(&right.opened.all.p99_ms));
        runs.get(runs.len() / 2).copied()
    }

    fn capacity_of(&self, name: &str) -> Option<&Capacity> {
        self.capacity.iter().find(|one| one.name == name)
    }

    fn errors(&self) -> usize {
        let capacity: usize = self.capacity.iter().map(Capacity::errors).sum();
        self.opened.iter().map(|run| run.opened.errors.count).sum::<usize>() + capacity
    }

    fn promises(&self) -> Vec<Promise> {
        let latency = |name, value: fn(&Latency) -> f64, most: f64| {
            let spread = self.of_runs(|run| value(&run.all));
            Promise {
                name,
                value: format!("{:.1} ms", spread.median),
                spread: spread.shown(1),
                target: format!("≤ {most} ms"),
                kept: Some(spread.median <= most),
            }
        };
        let errors = self.errors();
        let mut promises = vec![
            latency("open loop p50", |latency| latency.p50_ms, P50_MS_MAX),
            latency("open loop p95", |latency| latency.p95_ms, P95_MS_MAX),
            latency("open loop p99", |latency| latency.p99_ms, P99_MS_MAX),
            Promise {
                name: "errors, all loads",
                value: errors.to_string(),
                spread: String::new(),
                target: "0".to_owned(),
                kept: Some(errors == 0),
            },
        ];
        let ours = self.capacity_of("API").map(Capacity::per_s);
        let ratio = |name, other: &str, target: Option<f64>| {
            let (ours, other) = (ours?, self.capacity_of(other)?.per_s());
            let ratio = ours.median / other.median;
            Some(Promise {
                name,
                value: format!("{ratio:.2} ×"),
                spread: String::new(),
                target: target.map_or_else(|| "–".to_owned(), |target| format!("≥ {target} ×")),
                kept: target.map(|target| ratio >= target),
            })
        };
        promises.extend(ratio("capacity / bare handler", "bare handler", None));
        promises.extend(ratio("capacity / peer", "peer", Some(TIMES_PEER_MIN)));
        promises.extend(ratio("capacity / peer that counts to 10,001", "peer, totals to 10,001", None));
        promises
    }
}

/// Prints it.
///
/// # Errors
/// When standard output is gone.
pub(super) fn print(report: &Report, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{:#}", document(report))?;
        return Ok(());
    }
    let Args { influencers, partners, rate, seconds, .. } = report.args;
    writeln!(out, "{influencers} influencers, {partners} partners, {rate} requests/s for {seconds} s")?;
    writeln!(out, "{}\n", promises_table(&report.promises()))?;
    if let Some(run) = report.middle() {
        open_loop(&mut out, run)?;
    }
    writeln!(
        out,
        "The first search of the process, which loads the pool: {:.0} ms. The API has resident: {:.0} MiB, at most {:.0} MiB.\n",
        report.first_search_ms,
        mebibytes(report.memory.0),
        mebibytes(report.memory.1)
    )?;
    writeln!(
        out,
        "Capacity: searches, {} connections, {} s each. {} searches with {} creators were answered alike by all before.\n{}",
        report.args.capacity_connections,
        report.args.capacity_seconds,
        report.compared.0,
        report.compared.1,
        capacity_table(&report.capacity)
    )?;
    if let Some(plans) = &report.plans {
        worst(&mut out, plans)?;
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn promises_table(promises: &[Promise]) -> Table {
    let mut table = table(&["", "median", "min – max", "target", "reached"]);
    for promise in promises {
        let kept = match promise.kept {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "–",
        };
        table.add_row([promise.name, &promise.value, &promise.spread, &promise.target, kept]);
    }
    table
}

fn open_loop(out: &mut impl Write, run: &Opened) -> anyhow::Result<()> {
    let Opened { opened, cpu, memory } = run;
    let mut table = table(&["open loop, ms", "requests", "p50", "p95", "p99", "max"]);
    let all = std::iter::once(("all", &opened.all));
    let each = opened.by_operation.iter().map(|(operation, latency)| (operation.name(), latency));
    for (name, latency) in all.chain(each).chain([("driver's lateness", &opened.lateness)]) {
        let times =
            [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms].map(|ms| format!("{ms:.1}"));
        table.add_row([vec![name.to_owned(), latency.count.to_string()], times.into()].concat());
    }
    writeln!(out, "{table}")?;
    let statuses: Vec<String> =
        opened.statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
    writeln!(
        out,
        "{:.0} answers/s ({}); errors: {} {}; {} requests found no free connection. Cores of API / PostgreSQL / driver / others: {}. API resident: {:.0} MiB, at most {:.0} MiB.",
        opened.per_s,
        statuses.join(", "),
        opened.errors.count,
        opened.errors.shown.join(", "),
        opened.queued,
        cores(*cpu),
        mebibytes(memory.0),
        mebibytes(memory.1)
    )?;
    Ok(())
}

fn capacity_table(all: &[Capacity]) -> Table {
    let header = [
        "",
        "searches/s",
        "min – max",
        "p50 ms",
        "p99 ms",
        "cores: service / PostgreSQL / driver / others",
        "errors",
        "API /",
    ];
    let mut table = table(&header);
    let ours = all.first().map(|ours| ours.per_s().median);
    for one in all {
        let Some((middle, cpu)) = one.middle() else { continue };
        let per_s = one.per_s();
        table.add_row([
            one.name.clone(),
            format!("{:.0}", per_s.median),
            per_s.shown(0),
            format!("{:.1}", middle.latency.p50_ms),
            format!("{:.1}", middle.latency.p99_ms),
            cores(*cpu),
            one.errors().to_string(),
            ours.map(|ours| format!("{:.2} ×", ours / per_s.median)).unwrap_or_default(),
        ]);
    }
    table
}

fn worst(out: &mut impl Write, plans: &Plans) -> anyhow::Result<()> {
    writeln!(
        out,
        "\nOf {} combinations of filters, orders and pages, asked one at a time (median {:.1} ms), the worst:",
        plans.asked, plans.median_ms
    )?;
    for (at, one) in plans.worst.iter().enumerate() {
        let Worst { query, http_ms, memory_ms, tested, columns, matches, order, page, .. } = one;
        writeln!(out, "\n{}. {query}: {http_ms:.1} ms over HTTP", at + 1)?;
        writeln!(
            out,
            "   in memory {memory_ms:.1} ms: {tested} creators tested by {columns} columns, {matches} match; {order}"
        )?;
        writeln!(out, "   {page} creators of the page read from the database:")?;
        for line in &one.plan {
            writeln!(out, "      {line}")?;
        }
    }
    writeln!(out, "\nBefore each, the search catches up with the database:")?;
    for line in &plans.catching_up {
        writeln!(out, "      {line}")?;
    }
    Ok(())
}

fn document(report: &Report) -> Value {
    let latency = |latency: &Latency| {
        json!({
            "count": latency.count, "p50Ms": latency.p50_ms, "p95Ms": latency.p95_ms, "p99Ms": latency.p99_ms,
            "maxMs": latency.max_ms,
        })
    };
    let cpu = |cpu: &Cpu| json!({"service": cpu.service, "postgres": cpu.server, "driver": cpu.driver, "others": cpu.others()});
    let opened = |run: &Opened| {
        let each = run.opened.by_operation.iter();
        json!({
            "all": latency(&run.opened.all),
            "operations": each.map(|(one, of)| (one.name().to_owned(), latency(of))).collect::<serde_json::Map<_, _>>(),
            "driverLateness": latency(&run.opened.lateness),
            "perSecond": run.opened.per_s,
            "withoutFreeConnection": run.opened.queued,
            "statuses": run.opened.statuses,
            "errors": run.opened.errors.count,
            "errorsShown": run.opened.errors.shown,
            "cores": cpu(&run.cpu),
            "residentBytes": run.memory.0,
            "residentBytesMax": run.memory.1,
        })
    };
    let capacity = |one: &Capacity| {
        let runs = one.runs.iter().map(|(closed, used)| {
            json!({
                "perSecond": closed.per_s, "latency": latency(&closed.latency), "errors": closed.errors.count,
                "cores": cpu(used),
            })
        });
        json!({"name": one.name, "median": one.per_s().median, "runs": runs.collect::<Vec<_>>()})
    };
    let worst = |one: &Worst| {
        json!({
            "query": one.query, "httpMs": one.http_ms, "memoryMs": one.memory_ms, "tested": one.tested,
            "columns": one.columns, "matches": one.matches, "order": one.order, "page": one.page, "plan": one.plan,
        })
    };
    let promise = |one: &Promise| json!({"name": one.name, "median": one.value, "target": one.target, "reached": one.kept});
    json!({
        "influencers": report.args.influencers,
        "partners": report.args.partners,
        "rate": report.args.rate,
        "seconds": report.args.seconds,
        "figures": report.promises().iter().map(promise).collect::<Vec<_>>(),
        "firstSearchMs": report.first_search_ms,
        "openLoop": report.opened.iter().map(opened).collect::<Vec<_>>(),
        "comparedSearches": report.compared.0,
        "capacity": report.capacity.iter().map(capacity).collect::<Vec<_>>(),
        "worst": report.plans.as_ref().map(|plans| plans.worst.iter().map(worst).collect::<Vec<_>>()),
        "catchingUp": report.plans.as_ref().map(|plans| &plans.catching_up),
    })
}

fn cores(cpu: Cpu) -> String {
    let known = |cores: Option<f64>| cores.map_or_else(|| "?".to_owned(), |cores| format!("{cores:.2}"));
    format!("{:.2} / {} / {:.2} / {}", cpu.service, known(cpu.server), cpu.driver, known(cpu.others()))
}

#[allow(clippy::cast_precision_loss, reason = "bytes of a process")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
