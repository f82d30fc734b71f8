//! What was asked for, what became of it, and whether that is what should have.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comfy_table::{Table, presets};
use db::Pool;
use kernel::ids::JobId;
use queue::{TAKEN_BACK_MAX, WORKER_LOST};
use uuid::Uuid;

/// How a job is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// With its effect.
    Completed,
    /// Without an effect, for this reason.
    Failed(&'static str),
    /// Like this, unless somebody calls it off first; then without an effect.
    OrCancelled(&'static Expected),
}

/// Jobs that were accepted; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    accepted: HashMap<Uuid, Expected>,
    leases_get_lost: bool,
}

impl Ledger {
    /// Enters a job whose storing was confirmed.
    pub fn accept(&self, job: JobId, expected: Expected) {
        self.book().accepted.insert(job.uuid(), expected);
    }

    /// Says that workers are made to lose their leases: a job may have bad luck three times, and is then given up.
    pub fn leases_get_lost(&self) {
        self.book().leases_get_lost = true;
    }

    /// How many jobs were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.book().accepted.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares what was accepted with the traces in the database. Nothing may be running any more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn check(&self, pool: &Pool) -> Result<Findings, sqlx::Error> {
        let traces = Traces::read(pool).await?;
        let book = self.book();
        Ok(findings(&book, &traces))
    }
}

/// What a checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Jobs whose storing was confirmed.
    pub accepted: usize,
    /// Jobs that began at least once, and how often jobs began in all.
    pub started: (usize, usize),
    /// Jobs with an effect.
    pub effected: usize,
    /// Jobs that ended.
    pub finished: usize,
    /// Jobs that ended because three incarnations of workers lost their leases while they held them.
    pub given_up: usize,
    /// Accepted jobs that are nowhere, or have completed without their effect.
    pub lost: usize,
    /// Jobs that have not ended.
    pub left: usize,
    /// Jobs that nobody asked for, or that ended in another way than they should have, or twice.
    pub unexpected: usize,
    /// Effects beyond each job's first.
    pub duplicate_effects: usize,
    /// Some of what is wrong, in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Whether everything is as it should be.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.lost == 0 && self.left == 0 && self.unexpected == 0 && self.duplicate_effects == 0
    }

    /// The findings as a table of one line.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "accepted",
            "started",
            "starts",
            "effected",
            "finished",
            "given up",
            "lost",
            "left",
            "unexpected",
            "duplicate effects",
        ]);
        let (started, starts) = self.started;
        let counts = [
            self.accepted,
            started,
            starts,
            self.effected,
            self.finished,
            self.given_up,
            self.lost,
            self.left,
            self.unexpected,
            self.duplicate_effects,
        ];
        table.add_row(counts.map(|count| count.to_string()));
        table
    }
}

/// How a job ended.
struct Ending {
    ended: String,
    code: Option<String>,
    /// The processes that were lost while they ran it.
    lost_with: Vec<String>,
}

/// What is found in the database.
struct Traces {
    live: HashSet<Uuid>,
    endings: HashMap<Uuid, Vec<Ending>>,
    starts: HashMap<Uuid, usize>,
    effects: HashMap<Uuid, usize>,
}

impl Traces {
    #[allow(clippy::disallowed_methods, reason = "some tables are made by each run")]
    async fn read(pool: &Pool) -> Result<Self, sqlx::Error> {
        let live: Vec<Uuid> =
            sqlx::query_scalar("select id from jobs where kind like 'fault.%'").fetch_all(pool).await?;
        let ended: Vec<(Uuid, String, Option<String>, Vec<String>)> = sqlx::query_as(
            "select id, ended::text, error ->> 'code',
                    array(select entry ->> 'worker' from jsonb_array_elements(coalesce(errors, '[]')) as entry
                          where entry ->> 'code' = 'WORKER_LOST' and entry ->> 'worker' is not null)
             from jobs_finished where kind like 'fault.%'",
        )
        .fetch_all(pool)
        .await?;
        let mut endings: HashMap<Uuid, Vec<Ending>> = HashMap::new();
        for (job, ended, code, lost_with) in ended {
            endings.entry(job).or_default().push(Ending { ended, code, lost_with });
        }
        let starts = count(pool, "select job, count(*) from fault_starts group by job").await?;
        let effects = count(pool, "select job, count(*) from fault_effects group by job").await?;
        Ok(Self { live: live.into_iter().collect(), endings, starts, effects })
    }
}

#[allow(clippy::disallowed_methods, reason = "the tables are made by each run")]
async fn count(pool: &Pool, query: &'static str) -> Result<HashMap<Uuid, usize>, sqlx::Error> {
    let counts: Vec<(Uuid, i64)> = sqlx::query_as(query).fetch_all(pool).await?;
    Ok(counts.into_iter().map(|(job, count)| (job, usize::try_from(count).unwrap_or_default())).collect())
}

/// Examples that are told of each fault.
const EXAMPLES_MAX: usize = 5;

fn findings(book: &Book, traces: &Traces) -> Findings {
    let mut found = Findings {
        accepted: book.accepted.len(),
        started: (traces.starts.len(), traces.starts.values().sum()),
        effected: traces.effects.len(),
        finished: traces.endings.len(),
        left: traces.live.len(),
        duplicate_effects: traces.effects.values().map(|count| count - 1).sum(),
        ..Findings::default()
    };
    let mut examples = Vec::new();
    let mut tell = |count: usize, words: String| {
        if count <= EXAMPLES_MAX {
            examples.push(words);
        }
    };
    for (job, expected) in &book.accepted {
        let effects = traces.effects.get(job).copied().unwrap_or_default();
        let Some(endings) = traces.endings.get(job) else {
            if !traces.live.contains(job) {
                found.lost += 1;
                tell(found.lost, format!("{job} is nowhere"));
            }
            continue;
        };
        if let [ending] = endings.as_slice() {
            let expected = match expected {
                Expected::OrCancelled(_) if ending.ended == "cancelled" && effects == 0 => continue,
                Expected::OrCancelled(otherwise) => *otherwise,
                expected => expected,
            };
            match expected {
                Expected::Completed if ending.ended == "completed" && effects == 0 => {
                    found.lost += 1;
                    tell(found.lost, format!("{job} completed without its effect"));
                }
                Expected::Completed if ending.ended == "completed" => {}
                Expected::Failed(code)
                    if ending.ended == "failed" && ending.code.as_deref() == Some(code) && effects == 0 => {}
                Expected::Completed if book.leases_get_lost && ending.is_given_up() => found.given_up += 1,
                _ => {
                    found.unexpected += 1;
                    tell(
                        found.unexpected,
                        format!("{job} {} ({:?}) with {effects} effects", ending.ended, ending.code),
                    );
                }
            }
        } else {
            found.unexpected += 1;
            tell(found.unexpected, format!("{job} ended {} times", endings.len()));
        }
    }
    let known = traces
        .live
        .iter()
        .chain(traces.endings.keys())
        .chain(traces.starts.keys())
        .chain(traces.effects.keys());
    let strangers: HashSet<&Uuid> = known.filter(|job| !book.accepted.contains_key(*job)).collect();
    for job in &strangers {
        tell(1, format!("nobody asked for {job}"));
    }
    found.unexpected += strangers.len();
    for (job, count) in traces.effects.iter().filter(|(_, count)| **count > 1).take(EXAMPLES_MAX) {
        examples.push(format!("{job} has {count} effects"));
    }
    found.examples = examples;
    found
}

impl Ending {
    /// Whether it is dead because as many incarnations as it takes lost their leases while they held it.
    fn is_given_up(&self) -> bool {
        let distinct: HashSet<&String> = self.lost_with.iter().collect();
        self.ended == "failed"
            && self.code.as_deref() == Some(WORKER_LOST)
            && distinct.len() >= usize::try_from(TAKEN_BACK_MAX).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(how: &str) -> Vec<Ending> {
        vec![Ending { ended: how.into(), code: None, lost_with: Vec::new() }]
    }

    #[test]
    fn each_kind_of_fault_is_counted_as_what_it_is() {
        let [good, gone, hollow, twice, stranger, failed] = std::array::from_fn(|_| Uuid::now_v7());
        let accepted = [good, gone, hollow, twice, failed].map(|job| (job, Expected::Completed));
        let book = Book { accepted: accepted.into(), ..Book::default() };
        let endings = [good, hollow, twice, stranger].map(|job| (job, ended("completed")));
        let mut endings: HashMap<_, _> = endings.into();
        endings.insert(failed, ended("failed"));
        let traces = Traces {
            live: HashSet::new(),
            endings,
            starts: HashMap::new(),
            effects: [(good, 1), (twice, 3), (stranger, 1)].into(),
        };
        let found = findings(&book, &traces);
        assert_eq!((found.lost, found.unexpected, found.duplicate_effects), (2, 2, 2), "{found:?}");
        assert!(!found.is_good());
    }

    #[test]
    fn three_lost_workers_excuse_a_dead_job_where_workers_get_lost_and_two_do_not() {
        let lost: [Uuid; 3] = std::array::from_fn(|_| Uuid::now_v7());
        let job = Uuid::now_v7();
        let count = |lost_with: &[Uuid], leases_get_lost| {
            let ending = Ending {
                ended: "failed".into(),
                code: Some(WORKER_LOST.into()),
                lost_with: lost_with.iter().map(Uuid::to_string).collect(),
            };
            let book = Book { accepted: [(job, Expected::Completed)].into(), leases_get_lost };
            let traces = Traces {
                live: HashSet::new(),
                endings: [(job, vec![ending])].into(),
                starts: HashMap::new(),
                effects: HashMap::new(),
            };
            let found = findings(&book, &traces);
            (found.given_up, found.unexpected)
        };
        assert_eq!(count(&lost, true), (1, 0));
        assert_eq!(count(&lost, false), (0, 1));
        assert_eq!(count(&lost[..2], true), (0, 1));
    }
}
