//! The user that the server runs as.
//!
//! PostgreSQL refuses to run as root. As root the server runs as whoever owns the existing cluster, else as `postgres`,
//! else as `nobody`; as anybody else it runs as the caller. The unprivileged user must be able to pass through every
//! folder above the cluster: our own data folder is opened to its group (pass only, no listing), folders of others are
//! never touched but named in the error.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};

use super::error::EmbeddedError;

/// An unprivileged user to drop to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name: String,
}

impl Account {
    /// The user for the server of this cluster; `None` when it is the caller.
    pub(crate) fn choose(pgdata: &Path) -> Result<Option<Self>, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        if let Some(owner) = std::fs::metadata(pgdata).ok().filter(|metadata| metadata.uid() != 0) {
            let known = User::from_uid(Uid::from_raw(owner.uid())).ok().flatten();
            let unnamed = || Self { uid: owner.uid(), gid: owner.gid(), name: format!("#{}", owner.uid()) };
            return Ok(Some(known.map_or_else(unnamed, Self::from)));
        }
        let named = |name| User::from_name(name).ok().flatten().filter(|user: &User| !user.uid.is_root());
        let user = named("postgres").or_else(|| named("nobody")).ok_or(EmbeddedError::NoUser)?;
        Ok(Some(user.into()))
    }

    fn may_pass(&self, folder: &std::fs::Metadata) -> bool {
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name }
    }
}

/// The outermost folder on the way to `path` that the account cannot pass through.
pub(crate) fn closed_folder(path: &Path, account: &Account) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed =
        |folder: &&Path| std::fs::metadata(folder).map_or(true, |metadata| !account.may_pass(&metadata));
    above.into_iter().find(closed).map(Path::to_path_buf)
}

/// Where to make a short-lived data folder: the system's temporary folder, or `/tmp` when that is one which the
/// server's user cannot pass (root's private one).
pub fn temporary_dir() -> PathBuf {
    let usual = std::env::temp_dir();
    let probe = usual.join("x");
    match Account::choose(&probe) {
        Ok(Some(account)) if closed_folder(&probe, &account).is_some() => "/tmp".into(),
        _ => usual,
    }
}

/// Makes the data folder if it is missing and gives its real path, passable for the server's user.
pub(crate) fn prepare_data_dir(data_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    create_with_parents(data_dir)?;
    let root = data_dir.canonicalize().map_err(EmbeddedError::io("resolve", data_dir))?;
    if let Some(account) = Account::choose(&root.join("postgres"))? {
        open_to(&root, &account)?;
    }
    Ok(root)
}

/// Lets the account pass through a folder of ours; refuses when a folder above it is closed.
pub(crate) fn open_to(folder: &Path, account: &Account) -> Result<(), EmbeddedError> {
    if let Some(closed) = closed_folder(folder, account) {
        return Err(EmbeddedError::NotTraversable { folder: closed, user: account.name.clone() });
    }
    let metadata = std::fs::metadata(folder).map_err(EmbeddedError::io("read", folder))?;
    if account.may_pass(&metadata) {
        return Ok(());
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(EmbeddedError::NotTraversable {
            folder: folder.to_path_buf(),
            user: account.name.clone(),
        });
    }
    chown(folder, None, Some(account.gid)).map_err(EmbeddedError::io("change the group of", folder))?;
    let mode = std::fs::Permissions::from_mode((metadata.mode() & 0o7777) | 0o010);
    std::fs::set_permissions(folder, mode).map_err(EmbeddedError::io("change the mode of", folder))
}

/// The folder itself is private; folders above it that had to be made can be passed by everybody, whatever the umask.
fn create_with_parents(folder: &Path) -> Result<(), EmbeddedError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    {
        create_with_parents(parent)?;
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755))
            .map_err(EmbeddedError::io("change the mode of", parent))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        // Another process that starts on the same folder was a moment faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        result => result.map_err(EmbeddedError::io("create", folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> Account {
        Account { uid: 54_321, gid: 54_321, name: "stranger".to_owned() }
    }

    #[test]
    fn a_closed_folder_above_is_named() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("closed");
        std::fs::create_dir_all(closed.join("data")).unwrap();
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.path(), everybody.clone()).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_folder(&closed.join("data"), &stranger()), Some(closed.clone()));
        let message = open_to(&closed.join("data"), &stranger()).unwrap_err().to_string();
        assert!(
            message.contains(&closed.display().to_string()) && message.contains("chmod o+x"),
            "{message}"
        );
        std::fs::set_permissions(&closed, everybody).unwrap();
        assert_eq!(closed_folder(&closed.join("data"), &stranger()), None);
    }

    #[test]
    fn folders_made_on_the_way_can_be_passed_and_the_last_is_private() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("one/two/data");
        create_with_parents(&deep).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&root.path().join("one/two")), mode(&deep)), (0o755, 0o700));
    }
}
