//! Starting after deaths of every combination of owner, watchdog and server, and over what they left behind.

use super::*;

/// A server owned by another process, with a number kept in it.
async fn owned_elsewhere(folder: &Path) -> (Owner, Server) {
    seen_through(Owner::start(folder).await, folder).await
}

async fn seen_through(owner: Owner, folder: &Path) -> (Owner, Server) {
    assert!(owner.owns());
    let view = start(folder).await;
    keep(&view.connect_options(), 42).await;
    (owner, view)
}

async fn assert_recovers(folder: &Path, before: &Server) {
    let after = start(folder).await;
    assert!(after.is_owner());
    assert_eq!(kept(&after.connect_options()).await, 42);
    let pids = (before.postgres_pid().unwrap(), before.watchdog_pid());
    assert_gone(pids.0, pids.1, before.socket_dir()).await;
    after.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_stops_when_its_owner_is_killed() {
    let folder = folder();
    let (owner, view) = owned_elsewhere(folder.path()).await;
    owner.kill_9().await;
    assert_gone(view.postgres_pid().unwrap(), view.watchdog_pid(), view.socket_dir()).await;
}

#[tokio::test]
async fn a_start_right_after_the_owner_was_killed_recovers() {
    let folder = folder();
    let (owner, view) = owned_elsewhere(folder.path()).await;
    owner.kill_9().await;
    assert_recovers(folder.path(), &view).await;
}

#[tokio::test]
async fn a_start_after_watchdog_and_owner_were_killed_stops_the_orphan_and_recovers() {
    let folder = folder();
    let (owner, view) = owned_elsewhere(folder.path()).await;
    kill_9(view.watchdog_pid());
    owner.kill_9().await;
    assert!(runs(view.postgres_pid().unwrap()), "the orphan is what this test is about");
    assert_recovers(folder.path(), &view).await;
}

#[tokio::test]
async fn a_start_after_everything_was_killed_recovers() {
    let folder = folder();
    // Durable, because nobody is left to write what a commit only promised.
    let owner = Owner::start_with(folder.path(), &[]).await;
    let (owner, view) = seen_through(owner, folder.path()).await;
    kill_9(view.watchdog_pid());
    kill_9(view.postgres_pid().unwrap());
    owner.kill_9().await;
    assert_recovers(folder.path(), &view).await;
}

#[tokio::test]
async fn an_owner_whose_watchdog_was_killed_still_stops_its_server() {
    let folder = folder();
    let server = start(folder.path()).await;
    let (postgres, socket_dir) = (server.postgres_pid().unwrap(), server.socket_dir().to_path_buf());
    kill_9(server.watchdog_pid());
    server.stop().await.unwrap();
    assert!(!runs(postgres) && !socket_dir.exists());
}

#[tokio::test]
async fn a_stale_pid_file_whose_number_another_process_got_is_recovered() {
    let folder = folder();
    let server = start(folder.path()).await;
    let pid_file = folder.path().join("postgres/postmaster.pid");
    let text = std::fs::read_to_string(&pid_file).unwrap();
    let pid = server.postgres_pid().unwrap().to_string();
    keep(&server.connect_options(), 5).await;
    server.stop().await.unwrap();

    // A stranger of the server's own user would make PostgreSQL itself refuse; we are one where it runs as us.
    std::fs::write(&pid_file, text.replacen(&pid, &std::process::id().to_string(), 1)).unwrap();
    let server = start(folder.path()).await;
    assert_eq!(kept(&server.connect_options()).await, 5);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn leftover_locks_state_and_socket_of_a_dead_run_do_not_hinder() {
    let folder = folder();
    let sockets = tempfile::Builder::new().prefix("millpond-").tempdir().unwrap();
    std::fs::write(sockets.path().join(".s.PGSQL.5432"), "").unwrap();
    for lock in ["owner.lock", "server.lock"] {
        std::fs::write(folder.path().join(lock), "").unwrap();
    }
    let state = serde_json::json!({
        "socket_dir": sockets.path(), "port": 5432, "watchdog_pid": 999_999, "postgres_pid": 999_998, "ready": true,
    });
    std::fs::write(folder.path().join("server.json"), state.to_string()).unwrap();
    let server = start(folder.path()).await;
    assert!(server.is_owner() && !sockets.path().exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let folder = folder();
    let unfinished = folder.path().join("postgres.unfinished");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let server = start(folder.path()).await;
    keep(&server.connect_options(), 1).await;
    assert!(!unfinished.exists());
    server.stop().await.unwrap();
}
