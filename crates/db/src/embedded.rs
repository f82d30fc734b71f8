//! A private PostgreSQL server for installations that set nothing up.
//!
//! [`Server::start_or_attach`] is given a data folder. It finds PostgreSQL's programs (or obtains them), initialises a
//! cluster the first time, and serves it on a local socket in a short private folder. A folder that is already served
//! by a live process is attached to instead.
//!
//! Guarantees, and how they are kept:
//! - **One owner.** The owner holds an exclusive lock on `owner.lock` for its lifetime; the kernel releases it however
//!   the owner ends, so no stale lock can exist.
//! - **No server without an owner.** The server is a child of a watchdog (a hidden subcommand of our own binary, in its
//!   own process group) whose standard input is a pipe held by the owner. The end of the pipe is the end of the
//!   server. The watchdog holds `server.lock` for its lifetime, so the next watchdog waits until the last server is
//!   gone.
//! - **Every leftover is recovered** by the next start: a server whose watchdog was killed too, a `postmaster.pid` of a
//!   dead server or of a number that another process got since, socket folders, a half-made cluster.
//! - **Nothing listens on the network.** The only door is a socket in a folder of mode 0700 that belongs to the
//!   server's user; that folder is the authentication.
//! - **Every wait is bounded**; past the bound there is an error which names what was waited for and what to do.

mod account;
mod cluster;
mod command;
mod error;
mod folder;
mod obtain;
mod programs;
mod recovery;
mod server;
pub mod template;
pub mod watchdog;

use std::path::PathBuf;

pub use account::temporary_dir;
pub use command::run_hidden;
pub use error::EmbeddedError;
pub use obtain::{DEFAULT_RELEASE_ADDRESS, archive_name};
pub use programs::{MAJOR_MIN, NotFound, Programs, Search};
pub use server::{Measured, Server, ServerOptions};

/// Where data is kept when nobody says where: `/var/lib/millpond` for root, else the user's data folder, else (no
/// `HOME`) a folder below the current one.
pub fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/millpond");
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_default()
        .join("millpond")
}
