//! Using the server: pools, migrations, templates, keys, and the refusals that say what to do.

use db::embedded::EmbeddedError;
use db::embedded::template::TestCluster;
use db::{ConnectOptions as PoolOptions, DbError};
use kernel::sealing::Keyring;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[tokio::test]
async fn databases_are_cloned_from_a_migrated_template_and_removed_again() {
    let cluster = TestCluster::start(BINARY).await.unwrap();
    let names = ["one", "two", "three"];
    let clones =
        futures::future::join_all(names.map(|name| cluster.create_database_from_template(name))).await;
    for clone in clones {
        let pool = db::connect(&PoolOptions::new(clone.unwrap())).await.unwrap();
        db::migrate(&pool).await.unwrap();
        drop(pool);
    }
    for name in names {
        cluster.drop_database(name).await.unwrap();
        assert!(cluster.database(name).connect().await.is_err());
    }
    let hostile = cluster.create_database_from_template("x; drop database millpond").await;
    assert!(matches!(hostile, Err(EmbeddedError::DatabaseName(_))));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_process_with_other_keys_refuses_the_database() {
    let cluster = TestCluster::start(BINARY).await.unwrap();
    let database = cluster.create_database_from_template("keys").await.unwrap();
    let pool = db::connect(&PoolOptions::new(database)).await.unwrap();
    let (ours, others) = (Keyring::generate(), Keyring::generate());
    // The first process may be several at once.
    let firsts = futures::future::join_all((0..4).map(|_| db::check_keys(&pool, &ours))).await;
    assert!(firsts.iter().all(Result::is_ok), "{firsts:?}");

    let refusal = db::check_keys(&pool, &others).await.unwrap_err();
    assert!(matches!(refusal, DbError::WrongKeys(_)));
    assert!(refusal.to_string().contains("MILLPOND_ENCRYPTION__KEYS"), "{refusal}");

    let rotated = Keyring::parse(&format!("{}\n{}", others.to_text(), ours.to_text())).unwrap();
    db::check_keys(&pool, &rotated).await.unwrap();
    pool.close().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_pool_without_prepared_statements_leaves_none_on_the_server() {
    let cluster = TestCluster::start(BINARY).await.unwrap();
    let database = cluster.create_database_from_template("plain").await.unwrap();
    let mut options = PoolOptions::new(database);
    (options.prepared, options.connections_max) = (false, 1);
    let pool = db::connect(&options).await.unwrap();
    db::check_keys(&pool, &Keyring::generate()).await.unwrap();
    let left =
        sqlx::raw_sql("select count(*) from pg_prepared_statements where name <> ''").fetch_one(&pool).await;
    assert_eq!(left.unwrap().get::<i64, _>(0), 0);
    pool.close().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_listens_on_a_private_socket_only() {
    let folder = folder();
    let server = start(folder.path()).await;
    let mut connection = server.connect_options().connect().await.unwrap();
    let row =
        sqlx::raw_sql("select current_setting('listen_addresses')").fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<String, _>(0), "");
    let sockets = std::fs::metadata(server.socket_dir()).unwrap();
    assert_eq!(sockets.permissions().mode() & 0o777, 0o700);
    assert!(server.socket_dir().join(".s.PGSQL.5432").as_os_str().len() <= 107);
    let cluster = std::fs::metadata(folder.path().join("postgres")).unwrap();
    assert_eq!(cluster.uid(), sockets.uid());
    assert_ne!(cluster.uid(), 0, "the server never runs as root");

    let by_url: PgConnectOptions = server.url().parse().unwrap();
    by_url.connect().await.expect("the address works for other programs").close().await.unwrap();
    connection.close().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unset_durability_means_durable() {
    let folder = folder();
    let server = Server::start_or_attach(ServerOptions::new(folder.path(), BINARY)).await.unwrap();
    let mut connection = server.connect_options().connect().await.unwrap();
    for setting in ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"] {
        let question = sqlx::AssertSqlSafe(format!("show {setting}"));
        let row = sqlx::raw_sql(question).fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<String, _>(0), "on", "{setting}");
    }
    connection.close().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_the_servers_user_cannot_reach_is_named() {
    let outer = folder();
    if std::fs::metadata(outer.path()).unwrap().uid() != 0 {
        return; // Only root drops to another user.
    }
    std::fs::set_permissions(outer.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let refusal = Server::start_or_attach(options(&outer.path().join("data"))).await.unwrap_err().to_string();
    assert!(refusal.contains(&outer.path().display().to_string()), "{refusal}");
    assert!(refusal.contains("--data-dir"), "{refusal}");
}
