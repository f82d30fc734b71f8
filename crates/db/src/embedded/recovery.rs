//! What the last server left behind, made good before the next one starts. Called with `server.lock` held, so no other
//! watchdog of this folder is alive.
//!
//! - A server that still runs (its watchdog was killed, so nobody stopped it) is stopped.
//! - A `postmaster.pid` whose process number belongs to something else by now is removed: PostgreSQL itself would take
//!   that process for a running server and refuse. One whose process is gone is left to PostgreSQL, which checks the
//!   shared memory it names before it goes on.
//! - Socket folders of ours are removed.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::cluster::{SOCKET_DIR_PREFIX, stop_foreign};
use super::error::EmbeddedError;
use super::folder::DataFolder;

/// Makes the folder ready for a new server.
pub(crate) async fn recover(folder: &DataFolder) -> Result<(), EmbeddedError> {
    let pgdata = folder.pgdata();
    let pid_file = pgdata.join("postmaster.pid");
    let left = PidFile::read(&pid_file);
    if let Some(left) = &left {
        if is_our_server(left.pid, &pgdata) {
            tracing::warn!(pid = left.pid, "stopping an earlier server of this data folder");
            if !stop_foreign(left.pid, || is_our_server(left.pid, &pgdata)).await {
                return Err(EmbeddedError::Stuck { pid: left.pid });
            }
        } else if exists(left.pid) {
            std::fs::remove_file(&pid_file).map_err(EmbeddedError::io("remove", &pid_file))?;
        }
    }
    let recorded = folder.read_state().map(|state| state.socket_dir);
    for dir in recorded.into_iter().chain(left.and_then(|left| left.socket_dir)) {
        remove_socket_dir(&dir);
    }
    folder.remove_state();
    Ok(())
}

/// Removes a socket's folder, if it is one of ours. Best effort: what stays behind is an empty private folder.
pub(crate) fn remove_socket_dir(dir: &Path) {
    let ours = dir
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(SOCKET_DIR_PREFIX));
    let plain = std::fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir());
    if !(ours && plain) {
        return;
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

/// The lines of `postmaster.pid` that matter here.
struct PidFile {
    pid: i32,
    socket_dir: Option<PathBuf>,
}

impl PidFile {
    fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let pid = text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        let socket_dir = text.lines().nth(4).filter(|line| line.starts_with('/')).map(PathBuf::from);
        Some(Self { pid, socket_dir })
    }
}

fn exists(pid: i32) -> bool {
    !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// Whether this process is a server of this cluster. A server works in its data folder and has it in its command line;
/// where the first cannot be read (another user's process, in a container), the second decides.
fn is_our_server(pid: i32, pgdata: &Path) -> bool {
    let Ok(pgdata) = pgdata.canonicalize() else { return false };
    if Path::new("/proc/self/cmdline").exists() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        // A zombie has no command line.
        let is_postgres = words.first().is_some_and(|program| program.ends_with(b"postgres"));
        let in_folder = std::fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == pgdata);
        let named =
            words.windows(2).any(|pair| pair[0] == b"-D" && pair[1] == pgdata.as_os_str().as_encoded_bytes());
        return is_postgres && (in_folder || named);
    }
    let listed = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    listed.is_ok_and(|output| {
        let command = String::from_utf8_lossy(&output.stdout).into_owned();
        command.contains("postgres") && command.contains(&pgdata.display().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with_pid_file(pid: i32) -> (tempfile::TempDir, DataFolder) {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path().canonicalize().unwrap());
        std::fs::create_dir(folder.pgdata()).unwrap();
        let text = format!("{pid}\n{}\n1\n5432\n/tmp/elsewhere\n\n", folder.pgdata().display());
        std::fs::write(folder.pgdata().join("postmaster.pid"), text).unwrap();
        (root, folder)
    }

    #[tokio::test]
    async fn a_pid_file_whose_number_belongs_to_another_process_is_removed() {
        let ourselves = i32::try_from(std::process::id()).unwrap();
        let (_root, folder) = folder_with_pid_file(ourselves);
        recover(&folder).await.unwrap();
        assert!(!folder.pgdata().join("postmaster.pid").exists());
    }

    #[tokio::test]
    async fn a_pid_file_of_a_dead_process_is_left_to_postgres() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        let (_root, folder) = folder_with_pid_file(pid);
        recover(&folder).await.unwrap();
        assert!(folder.pgdata().join("postmaster.pid").exists());
    }

    #[test]
    fn only_socket_folders_of_ours_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let (ours, other) = (root.path().join("millpond-abc"), root.path().join("other"));
        for dir in [&ours, &other] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join(".s.PGSQL.5432.lock"), "").unwrap();
            remove_socket_dir(dir);
        }
        assert!(!ours.exists() && other.join(".s.PGSQL.5432.lock").exists());
    }
}
