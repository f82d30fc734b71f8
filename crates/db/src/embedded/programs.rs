//! Finding PostgreSQL's own programs on this machine.
//!
//! Places are looked at in the order a person would expect to win: the folder that was set, `pg_config`, `PATH`, then
//! the folders that Debian, Fedora, Homebrew and Postgres.app use, newest version first. A place counts only if it
//! holds `initdb` and `postgres`, both of at least [`MAJOR_MIN`], and if the server's user can reach them. What was
//! found and refused is kept for the message.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::{Account, closed_folder};

/// Oldest major version that is used.
pub const MAJOR_MIN: u32 = 15;

/// The two programs that a private server needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Makes a cluster.
    pub initdb: PathBuf,
    /// The server itself.
    pub postgres: PathBuf,
    /// Major version, for example 15.
    pub major: u32,
}

/// Where to look. [`Search::default`] is this machine as its environment describes it.
#[derive(Clone, Debug)]
pub struct Search {
    /// A folder of programs that somebody set; when given, it is the only place.
    pub explicit: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// Folders of the usual distributions, in order of preference.
    pub usual: Vec<PathBuf>,
    /// Only this major version will do, because a cluster of it exists already.
    pub major_only: Option<u32>,
}

impl Default for Search {
    fn default() -> Self {
        Self { explicit: None, path: std::env::var_os("PATH"), usual: usual_folders(), major_only: None }
    }
}

/// No usable programs: what was looked at, and what to do.
#[derive(Clone, Debug)]
pub struct NotFound {
    refused: Vec<String>,
    major_only: Option<u32>,
}

impl std::error::Error for NotFound {}

impl NotFound {
    /// Why each place was refused.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().map(String::as_str)
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.major_only {
            Some(major) => write!(
                out,
                "PostgreSQL {major} is not installed, and the data folder was made by PostgreSQL {major}, whose files no \
                 other version reads."
            )?,
            None => write!(out, "PostgreSQL {MAJOR_MIN} or newer is not installed.")?,
        }
        for reason in &self.refused {
            write!(out, "\n  looked at {reason}")?;
        }
        let (suffix, brew) = match self.major_only {
            Some(major) => (format!("-{major}"), major),
            None => (String::new(), 17),
        };
        write!(
            out,
            "\nInstall it:\n  Debian, Ubuntu:  apt install postgresql{suffix}\n  Fedora, RHEL:    dnf install \
             postgresql-server\n  macOS:           brew install postgresql@{brew}\nor set DATABASE_URL to a server that \
             runs already."
        )
    }
}

impl Programs {
    /// Finds programs on this machine.
    ///
    /// # Errors
    /// [`NotFound`], which says what was looked at and what to install.
    pub fn find() -> Result<Self, NotFound> {
        Self::find_for(&Search::default(), None)
    }

    /// Finds programs in the given places that the given user can run. Runs `postgres --version` for each place.
    pub(crate) fn find_for(search: &Search, account: Option<&Account>) -> Result<Self, NotFound> {
        let mut refused = Vec::new();
        let mut seen: Vec<PathBuf> = Vec::new();
        for folder in search.folders(&mut refused) {
            if seen.contains(&folder) {
                continue;
            }
            match Self::in_folder(&folder, search.major_only, account) {
                Ok(programs) => return Ok(programs),
                Err(Some(reason)) => refused.push(reason),
                Err(None) => {}
            }
            seen.push(folder);
        }
        Err(NotFound { refused, major_only: search.major_only })
    }

    /// `Err(None)` means that there is nothing there worth mentioning.
    fn in_folder(
        folder: &Path,
        major_only: Option<u32>,
        account: Option<&Account>,
    ) -> Result<Self, Option<String>> {
        let (initdb, postgres) = (folder.join("initdb"), folder.join("postgres"));
        if !postgres.is_file() || !initdb.is_file() {
            let lacking = if initdb.is_file() { "postgres" } else { "initdb" };
            let partly = postgres.is_file() || initdb.is_file();
            return Err(partly.then(|| format!("{}: no {lacking} there", folder.display())));
        }
        if let Some(closed) = account.and_then(|account| closed_folder(&postgres, account)) {
            return Err(Some(format!(
                "{}: the server's user cannot pass {}",
                folder.display(),
                closed.display()
            )));
        }
        let major = major_of(&postgres).map_err(|reason| Some(format!("{}: {reason}", folder.display())))?;
        if major_only.is_some_and(|only| only != major) || major < MAJOR_MIN {
            return Err(Some(format!("{}: PostgreSQL {major} does not fit", folder.display())));
        }
        Ok(Self { initdb, postgres, major })
    }
}

impl Search {
    /// The folders to try, in order. Reasons why a whole source gave none are appended to `refused`.
    fn folders(&self, refused: &mut Vec<String>) -> Vec<PathBuf> {
        if let Some(folder) = &self.explicit {
            if !folder.is_dir() {
                refused.push(format!("{}: no such folder", folder.display()));
            }
            return vec![real(folder)];
        }
        let on_path: Vec<PathBuf> =
            self.path.iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()).collect();
        let from_config =
            on_path.iter().map(|folder| folder.join("pg_config")).find_map(|program| bindir(&program));
        if from_config.is_none() {
            refused.push("pg_config: none on PATH".to_owned());
        }
        // A distribution may link initdb into PATH from the folder where its siblings are.
        let linked = on_path.iter().filter_map(|folder| folder.join("initdb").canonicalize().ok());
        let from_path: Vec<PathBuf> =
            linked.filter_map(|initdb| initdb.parent().map(Path::to_path_buf)).collect();
        if from_path.is_empty() {
            refused.push("PATH: no initdb there".to_owned());
        }
        from_config.into_iter().chain(from_path).chain(self.usual.iter().map(|folder| real(folder))).collect()
    }
}

fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
}

fn bindir(pg_config: &Path) -> Option<PathBuf> {
    let output =
        Command::new(pg_config).arg("--bindir").output().ok().filter(|output| output.status.success())?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    folder.is_absolute().then(|| real(&folder))
}

fn major_of(postgres: &Path) -> Result<u32, String> {
    let output = Command::new(postgres).arg("--version").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_major(&text)
        .ok_or_else(|| format!("postgres --version answered {:?} ({})", text.trim(), output.status))
}

/// Reads `postgres (PostgreSQL) 17.2 (Debian …)`, also `18beta1`.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// The folders of Debian, Fedora and RHEL, Homebrew and Postgres.app, newest version first within each.
fn usual_folders() -> Vec<PathBuf> {
    let mut folders = newest_first("/usr/lib/postgresql", "", "bin");
    folders.extend(newest_first("/usr", "pgsql-", "bin"));
    folders.push(PathBuf::from("/usr/bin"));
    for prefix in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        folders.extend(newest_first(prefix, "postgresql@", "bin"));
        folders.push(Path::new(prefix).join("postgresql/bin"));
    }
    folders.push(PathBuf::from("/Applications/Postgres.app/Contents/Versions/latest/bin"));
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    folders
}

/// Folders `parent/<prefix><version>/<leaf>`, newest version first.
pub(crate) fn newest_first(parent: impl AsRef<Path>, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent.as_ref()) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version: Option<Vec<u32>> =
                name.strip_prefix(prefix)?.split('.').map(|part| part.parse().ok()).collect();
            Some((version?, entry.path().join(leaf)))
        })
        .collect();
    found.sort_by(|left, right| right.0.cmp(&left.0));
    found.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fake(folder: &Path, version: &str) {
        std::fs::create_dir_all(folder).unwrap();
        for name in ["initdb", "postgres"] {
            // By a process of its own: what a test beside this one starts would inherit the file while it is written, and
            // what is being written cannot be run.
            let write =
                r#"printf '#!/bin/sh\necho "postgres (PostgreSQL) %s"\n' "$1" > "$0" && chmod 755 "$0""#;
            let mut shell = std::process::Command::new("sh");
            assert!(
                shell.args(["-c", write]).arg(folder.join(name)).arg(version).status().unwrap().success()
            );
        }
    }

    fn nowhere() -> Search {
        Search { explicit: None, path: Some(OsString::new()), usual: Vec::new(), major_only: None }
    }

    #[test]
    fn versions_of_releases_and_betas_are_read() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("mysqld  Ver 8.0"), None);
    }

    #[test]
    fn nothing_found_says_what_to_install() {
        let message = Programs::find_for(&nowhere(), None).unwrap_err().to_string();
        for words in ["apt install postgresql", "dnf install postgresql-server", "brew install postgresql@17"]
        {
            assert!(message.contains(words), "{message}");
        }
        assert!(message.contains("DATABASE_URL"), "{message}");
    }

    #[test]
    fn a_version_that_is_too_old_is_named() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("bin"), "13.4");
        let search = Search { usual: vec![root.path().join("bin")], ..nowhere() };
        let message = Programs::find_for(&search, None).unwrap_err().to_string();
        assert!(message.contains("PostgreSQL 13 does not fit"), "{message}");
    }

    #[test]
    fn a_link_on_path_leads_to_the_real_folder() {
        let root = tempfile::tempdir().unwrap();
        let (real, linked) = (root.path().join("real"), root.path().join("linked"));
        fake(&real, "17.2");
        std::fs::create_dir(&linked).unwrap();
        symlink(real.join("initdb"), linked.join("initdb")).unwrap();
        let found = Programs::find_for(&Search { path: Some(linked.into()), ..nowhere() }, None).unwrap();
        assert_eq!((found.major, found.postgres), (17, real.canonicalize().unwrap().join("postgres")));
    }

    #[test]
    fn an_existing_cluster_asks_for_its_own_version() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("17/bin"), "17.2");
        fake(&root.path().join("16/bin"), "16.9");
        let usual = newest_first(root.path(), "", "bin");
        let newest = Search { usual: usual.clone(), ..nowhere() };
        assert_eq!(Programs::find_for(&newest, None).unwrap().major, 17);
        let only = Search { usual, major_only: Some(16), ..nowhere() };
        assert_eq!(Programs::find_for(&only, None).unwrap().major, 16);
        let none = Search { major_only: Some(15), ..only };
        assert!(Programs::find_for(&none, None).unwrap_err().to_string().contains("postgresql-15"));
    }

    #[test]
    fn versions_sort_as_numbers() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9.6", "16", "17", "old", "100"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let names: Vec<_> = newest_first(root.path(), "", "")
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["100", "17", "16", "9.6"]);
    }
}
