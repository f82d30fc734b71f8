//! The one private PostgreSQL cluster of a test process.
//!
//! A thread of its own, with a runtime of its own, starts the cluster when the first test asks and carries out
//! orders until the process ends: tests come and go with their runtimes. The server's watchdog notices the end of
//! the process, however it ends, stops the server and removes its folder.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::NaiveDate;
use db::embedded::template::TestCluster;
use kernel::clock::now;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{mpsc, oneshot};

use super::{BINARY, Pooler, logs, pooled};

/// Databases made ahead, so that a test does not wait for its clone.
const STOCK: usize = 2;
/// Used databases that may wait for a quiet moment to be removed.
const USED_MAX: usize = 50;

/// A new database with the full schema.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) url: String,
    /// As the test connects: through the pooler, if there is one.
    pub(super) options: PgConnectOptions,
    /// The server itself.
    pub(super) server: PgConnectOptions,
}

/// The server, and what stands in front of it.
struct Place {
    cluster: TestCluster,
    pooler: Option<Pooler>,
    /// The day, in UTC, on which the template was made.
    day: NaiveDate,
}

enum Order {
    Create(oneshot::Sender<Result<Database, String>>),
    Drop(String),
}

static KEEPER: OnceLock<mpsc::UnboundedSender<Order>> = OnceLock::new();

/// Clones a database from the template.
pub(super) async fn create_database() -> Database {
    logs::gather();
    let (sender, made) = oneshot::channel();
    keeper().send(Order::Create(sender)).expect("the cluster's keeper lives as long as the process");
    made.await.expect("the keeper answers").unwrap_or_else(|error| panic!("no test database: {error}"))
}

/// Has a database removed soon; nobody waits for it, and what is left goes with the cluster.
pub(super) fn drop_database(name: String) {
    let _ = keeper().send(Order::Drop(name));
}

fn keeper() -> &'static mpsc::UnboundedSender<Order> {
    KEEPER.get_or_init(|| {
        let (sender, orders) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("test-cluster".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime for the cluster").block_on(keep(orders));
            })
            .expect("a thread for the cluster");
        sender
    })
}

async fn keep(mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut place = start().await;
    let mut stock = Vec::new();
    let mut used = Vec::new();
    loop {
        let order = match orders.try_recv() {
            Ok(order) => Some(order),
            // Nobody waits: a good moment to make the next databases and to remove the used ones.
            Err(_) if stock.len() < STOCK && place.is_ok() => {
                stock.push(create(&place).await);
                None
            }
            Err(_) if !used.is_empty() => {
                drop_one(&place, &mut used).await;
                None
            }
            Err(_) => match orders.recv().await {
                Some(order) => Some(order),
                None => return,
            },
        };
        match order {
            Some(Order::Create(asked)) => {
                if renew(&mut place).await {
                    stock.clear();
                }
                let database = match stock.pop() {
                    Some(database) => database,
                    None => create(&place).await,
                };
                // Not received: the test is gone, and its database stays until the cluster goes.
                let _ = asked.send(database);
            }
            Some(Order::Drop(name)) => used.push(name),
            None => {}
        }
        if used.len() > USED_MAX {
            drop_one(&place, &mut used).await;
        }
    }
}

/// Makes the template anew when the day has turned, for its schema has the weeks that came next when it was made.
async fn renew(place: &mut Result<Place, String>) -> bool {
    let Ok(Place { cluster, day, .. }) = place else { return false };
    let today = now().date_naive();
    if *day == today {
        return false;
    }
    match cluster.renew_template().await {
        Ok(()) => *day = today,
        Err(error) => *place = Err(described(&error)),
    }
    true
}

async fn start() -> Result<Place, String> {
    let day = now().date_naive();
    let cluster = TestCluster::start(BINARY).await.map_err(|error| described(&error))?;
    let pooler = match pooled() {
        true => Some(Pooler::in_front_of_all(&cluster.server().connect_options()).await),
        false => None,
    };
    Ok(Place { cluster, pooler, day })
}

async fn drop_one(place: &Result<Place, String>, used: &mut Vec<String>) {
    if let (Some(name), Ok(place)) = (used.pop(), place) {
        // What cannot be removed goes with the cluster.
        let _ = place.cluster.drop_database(&name).await;
    }
}

async fn create(place: &Result<Place, String>) -> Result<Database, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Place { cluster, pooler, .. } = place.as_ref().map_err(Clone::clone)?;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let server = cluster.create_database_from_template(&name).await.map_err(|error| described(&error))?;
    if let Some(pooler) = pooler {
        let url = pooler.url_of(&name);
        let options = url.parse().map_err(|error: sqlx::Error| described(&error))?;
        return Ok(Database { name, url, options, server });
    }
    // The server's own address, with this database in place of its first one.
    let url = cluster.server().url().replacen("/millpond?", &format!("/{name}?"), 1);
    Ok(Database { name, url, options: server.clone(), server })
}

fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
