//! Who starts the server, who shares it, and what ends it.

use super::*;

#[tokio::test]
async fn a_second_start_on_one_folder_attaches_and_leaves_the_server_alone() {
    let folder = folder();
    let owner = start(folder.path()).await;
    let guest = start(folder.path()).await;
    assert!(owner.is_owner() && !guest.is_owner());
    assert_eq!(owner.postgres_pid(), guest.postgres_pid());
    keep(&guest.connect_options(), 1).await;
    guest.stop().await.unwrap();
    assert_eq!(kept(&owner.connect_options()).await, 1);

    let other_process = Owner::start(folder.path()).await;
    assert!(!other_process.owns());
    other_process.kill_9().await;
    assert_eq!(kept(&owner.connect_options()).await, 1);
    owner.stop().await.unwrap();
}

#[tokio::test]
async fn of_many_processes_that_start_at_once_exactly_one_becomes_the_owner() {
    let folder = folder();
    let starts = (0..5).map(|_| start(folder.path()));
    let servers = futures::future::join_all(starts).await;
    assert_eq!(servers.iter().filter(|server| server.is_owner()).count(), 1);
    assert!(servers.iter().all(|server| server.postgres_pid() == servers[0].postgres_pid()));
    for server in servers {
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn stopping_leaves_no_process_and_no_socket_and_data_persist_between_runs() {
    let folder = folder();
    let first = start(folder.path()).await;
    keep(&first.connect_options(), 7).await;
    let (postgres, watchdog) = (first.postgres_pid().unwrap(), first.watchdog_pid());
    let socket_dir = first.socket_dir().to_path_buf();
    first.stop().await.unwrap();
    assert!(!runs(postgres) && !runs(watchdog) && !socket_dir.exists());

    let second = start(folder.path()).await;
    assert!(second.is_owner());
    assert_eq!(kept(&second.connect_options()).await, 7);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_the_owner_stops_the_server() {
    let folder = folder();
    let server = start(folder.path()).await;
    let (postgres, watchdog) = (server.postgres_pid().unwrap(), server.watchdog_pid());
    let socket_dir = server.socket_dir().to_path_buf();
    drop(server);
    assert_gone(postgres, watchdog, &socket_dir).await;
}

#[tokio::test]
async fn a_signal_to_the_terminals_process_group_does_not_reach_the_server() {
    let folder = folder();
    let owner = Owner::start(folder.path()).await;
    let guest = start(folder.path()).await;
    let group = |pid: u32| said("ps", &["-o", "pgid=", "-p", &pid.to_string()]);
    assert_eq!(group(guest.watchdog_pid()), guest.watchdog_pid().to_string());
    assert_ne!(group(guest.postgres_pid().unwrap()), group(owner.process.id().unwrap()));
}

#[tokio::test]
async fn a_server_that_dies_by_itself_is_reported_to_its_owner() {
    let folder = folder();
    let server = start(folder.path()).await;
    kill_9(server.postgres_pid().unwrap());
    let words = timeout(WAIT_MAX, server.ended()).await.expect("a report in time");
    assert!(words.contains("PostgreSQL server ended"), "{words}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_test_cluster_removes_its_folder_when_it_stops() {
    let folder = folder();
    let data = folder.path().join("data");
    let mut options = options(&data);
    options.remove_on_stop = true;
    let server = Server::start_or_attach(options).await.unwrap();
    assert!(data.join("postgres").exists());
    server.stop().await.unwrap();
    assert!(!data.exists() && folder.path().exists());
}
