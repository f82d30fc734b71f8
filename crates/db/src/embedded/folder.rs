//! The data folder: what lies where, the two locks, and the recorded state of the server.
//!
//! ```text
//! postgres/     the cluster (PGDATA), owned by the server's user
//! programs/     PostgreSQL's programs, when they had to be obtained
//! owner.lock    locked by the process that owns the server, for its lifetime
//! server.lock   locked by the watchdog, for its lifetime: longer than the owner's by the time it takes to stop
//! server.json   where the server listens, and whether it is ready
//! server.log    what initdb and the server print
//! ```
//! Locks are advisory locks of the kernel on open files. They end with the process that holds them, and children do not
//! inherit them, because such files are closed when another program is executed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::EmbeddedError;

/// A log larger than this at a start is moved aside, in bytes; one old log is kept.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// How much of the end of the log an error shows, in bytes.
const LOG_TAIL_BYTES: u64 = 4096;

/// Paths in a data folder. The root is absolute and free of links.
#[derive(Clone, Debug)]
pub(crate) struct DataFolder {
    pub(crate) root: PathBuf,
}

/// What `server.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The folder of the socket.
    pub(crate) socket_dir: PathBuf,
    /// The port number in the socket's name.
    pub(crate) port: u16,
    /// The watchdog's process.
    pub(crate) watchdog_pid: u32,
    /// The server's process, once started.
    pub(crate) postgres_pid: Option<u32>,
    /// Whether the server takes connections and the database exists.
    pub(crate) ready: bool,
}

/// An exclusive lock, held until dropped.
#[derive(Debug)]
pub(crate) struct FolderLock(#[expect(dead_code, reason = "held for its effect")] File);

impl DataFolder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// Where a cluster is made before it is renamed to [`Self::pgdata`].
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.root.join("postgres.unfinished")
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    fn state(&self) -> PathBuf {
        self.root.join("server.json")
    }

    /// The major version of the cluster in this folder, if there is one.
    pub(crate) fn cluster_major(&self) -> Option<u32> {
        std::fs::read_to_string(self.pgdata().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// `None` when a live process owns the server of this folder.
    pub(crate) fn try_own(&self) -> Result<Option<FolderLock>, EmbeddedError> {
        try_lock(&self.root.join("owner.lock"))
    }

    /// `None` while another watchdog is still there.
    pub(crate) fn try_serve(&self) -> Result<Option<FolderLock>, EmbeddedError> {
        try_lock(&self.root.join("server.lock"))
    }

    /// The recorded state; unreadable or foreign content counts as none.
    pub(crate) fn read_state(&self) -> Option<State> {
        serde_json::from_slice(&std::fs::read(self.state()).ok()?).ok()
    }

    /// Replaces the recorded state in one step, so that a reader never sees half of it.
    pub(crate) fn write_state(&self, state: &State) -> Result<(), EmbeddedError> {
        let path = self.state();
        let text = serde_json::to_vec(state)
            .map_err(std::io::Error::other)
            .map_err(EmbeddedError::io("write", &path))?;
        let mut file =
            tempfile::NamedTempFile::new_in(&self.root).map_err(EmbeddedError::io("write", &path))?;
        file.write_all(&text).map_err(EmbeddedError::io("write", &path))?;
        file.persist(&path).map_err(|error| error.error).map_err(EmbeddedError::io("write", &path))?;
        Ok(())
    }

    /// Nothing reads the state once the server is on its way out.
    pub(crate) fn remove_state(&self) {
        let _ = std::fs::remove_file(self.state());
    }

    /// Opens the log for appending; an overlong one is moved aside first.
    pub(crate) fn open_log(&self) -> Result<File, EmbeddedError> {
        let path = self.log();
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            std::fs::rename(&path, self.root.join("server.log.1"))
                .map_err(EmbeddedError::io("rename", &path))?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)
            .map_err(EmbeddedError::io("open", &path))
    }

    /// The end of the log, no earlier than `from`.
    pub(crate) fn log_tail(&self, from: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log())?;
            let start = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES).max(from);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        read().unwrap_or_default()
    }
}

fn try_lock(path: &Path) -> Result<Option<FolderLock>, EmbeddedError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(EmbeddedError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(FolderLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(EmbeddedError::io("lock", path)(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path().to_path_buf());
        let owner = folder.try_own().unwrap();
        assert!(owner.is_some() && folder.try_own().unwrap().is_none());
        drop(owner);
        assert!(folder.try_own().unwrap().is_some());
    }

    #[test]
    fn a_garbled_state_counts_as_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path().to_path_buf());
        assert_eq!(folder.read_state(), None);
        std::fs::write(folder.state(), b"{\"socket_dir\":").unwrap();
        assert_eq!(folder.read_state(), None);
        let state = State {
            socket_dir: "/tmp/x".into(),
            port: 5432,
            watchdog_pid: 1,
            postgres_pid: None,
            ready: false,
        };
        folder.write_state(&state).unwrap();
        assert_eq!(folder.read_state(), Some(state));
    }

    #[test]
    fn the_tail_of_the_log_starts_no_earlier_than_asked() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(root.path().to_path_buf());
        folder.open_log().unwrap().write_all(b"before\nafter\n").unwrap();
        assert_eq!(folder.log_tail(7), "after");
        assert_eq!(folder.log_tail(0), "before\nafter");
    }
}
