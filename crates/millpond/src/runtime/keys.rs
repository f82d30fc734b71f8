//! The encryption keys: from the setting, else from a file in the data folder that is made on first use.
//!
//! Guarantees: the file is readable by its owner only, and a file that others can read is refused; two processes that
//! make it at once end up with the same keys; with a database address, keys are never made, because the other
//! processes on that database would not have them.

use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use config::{Settings, variable};
use kernel::sealing::Keyring;

use crate::error::CliError;

/// The file's name in the data folder.
const FILE: &str = "keys";
/// Larger files are not key files.
const BYTES_MAX: u64 = 64 * 1024;

/// Keys, and the file that was made for them if it was made just now.
pub(crate) struct Loaded {
    /// The keys.
    pub(crate) keyring: Keyring,
    /// The new file.
    pub(crate) made: Option<PathBuf>,
}

/// The keys of this process. Call it when the data folder exists.
pub(crate) fn load(settings: &Settings) -> Result<Loaded, CliError> {
    if let Some(keyring) = from_setting(settings)? {
        return Ok(Loaded { keyring, made: None });
    }
    if settings.database.url.is_some() {
        return Err(CliError::NoKeys);
    }
    from_file(&settings.data.dir.join(FILE))
}

/// The keys that the setting gives, if it does.
pub(crate) fn from_setting(settings: &Settings) -> Result<Option<Keyring>, CliError> {
    let parse = |text: &str| {
        Keyring::parse(text).map_err(|source| CliError::Keys { place: variable("encryption.keys"), source })
    };
    settings.encryption.keys.as_ref().map(|keys| parse(keys.expose())).transpose()
}

fn from_file(path: &Path) -> Result<Loaded, CliError> {
    let made = match path.try_exists() {
        Ok(false) => make(path)?,
        _ => false,
    };
    let metadata = std::fs::metadata(path).map_err(CliError::file("read", path))?;
    if metadata.mode() & 0o077 != 0 {
        let shown = path.display();
        return Err(CliError::Refused(format!(
            "{shown} can be read by others (mode {:o}): chmod 600 {shown}, and consider these keys known",
            metadata.mode() & 0o777
        )));
    }
    if metadata.len() > BYTES_MAX {
        return Err(CliError::Refused(format!("{} is too long to be a key file", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
    let keyring = Keyring::parse(&text)
        .map_err(|source| CliError::Keys { place: path.display().to_string(), source })?;
    Ok(Loaded { keyring, made: made.then(|| path.to_path_buf()) })
}

/// Makes the file in one step, unless another process was faster. Answers whether it did.
fn make(path: &Path) -> Result<bool, CliError> {
    let failed = || CliError::file("make", path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".keys")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(failed())?;
    let text = format!(
        "# Millpond's encryption keys. Back them up: without them, contact details and webhook secrets in this\n\
         # folder's database cannot be read. The first key encrypts; older ones below it still decrypt.\n{}\n",
        Keyring::generate().to_text()
    );
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed())?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed()(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let made = from_file(&path).unwrap();
        assert_eq!(made.made, Some(path.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!make(&path).unwrap());
        let again = from_file(&path).unwrap();
        assert_eq!((again.keyring.to_text(), again.made), (made.keyring.to_text(), None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no half-made file is left");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        make(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let message = from_file(&path).err().unwrap().to_string();
        assert!(message.contains("chmod 600"), "{message}");
    }

    #[test]
    fn with_a_database_address_no_keys_are_made() {
        let sources = config::Sources::default().with("database.url", "postgres://127.0.0.1:1/nowhere");
        let settings = Settings::load(&sources).unwrap();
        assert!(matches!(load(&settings), Err(CliError::NoKeys)));
        let sources = sources.with("encryption.keys", Keyring::generate().to_text());
        assert!(load(&Settings::load(&sources).unwrap()).is_ok());
    }
}
