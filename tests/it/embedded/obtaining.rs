//! Finding PostgreSQL's programs, and obtaining them from a mirror when there are none.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Component, PathBuf};
use std::sync::LazyLock;

use axum::extract::Path as Segment;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use db::embedded::{EmbeddedError, Programs, Search, archive_name};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::*;

/// This machine's own programs as an archive for a mirror, with its version.
static ARCHIVE: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
    let programs = Programs::find().expect("this machine has PostgreSQL");
    let version = said(&programs.postgres, &["--version"]);
    let minor: String = version.split_once('.').unwrap().1.chars().take_while(char::is_ascii_digit).collect();
    (format!("{}.{minor}.0", programs.major), pack(&programs).unwrap())
});

/// A machine without PostgreSQL.
fn nowhere() -> Search {
    Search { explicit: None, path: Some(OsString::new()), usual: Vec::new(), major_only: None }
}

#[test]
fn the_programs_of_this_machine_are_found() {
    let programs = Programs::find().unwrap();
    assert!(programs.major >= 15 && programs.initdb.is_file() && programs.postgres.is_file());
}

#[tokio::test]
async fn without_programs_and_without_a_mirror_the_error_says_what_to_install() {
    let folder = folder();
    let mut options = options(folder.path());
    (options.search, options.release_address) = (nowhere(), String::new());
    let refusal = Server::start_or_attach(options).await.unwrap_err();
    assert!(matches!(refusal, EmbeddedError::NoPrograms(_)));
    let message = refusal.to_string();
    for words in ["apt install postgresql", "dnf install", "brew install", "DATABASE_URL"] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn an_unreachable_mirror_is_named_beside_what_to_install() {
    let folder = folder();
    let mut options = options(folder.path());
    let address = "http://127.0.0.1:1/releases";
    (options.search, options.release_address) = (nowhere(), address.to_owned());
    let message = Server::start_or_attach(options).await.unwrap_err().to_string();
    assert!(message.contains(address) && message.contains("apt install postgresql"), "{message}");
}

#[tokio::test]
async fn programs_are_obtained_from_a_mirror_and_kept() {
    let (version, archive) = &*ARCHIVE;
    let address = mirror(hex(&Sha256::digest(archive))).await;
    let folder = folder();
    let mut options = options(folder.path());
    (options.search, options.release_address) = (nowhere(), address);
    let server = Server::start_or_attach(options.clone()).await.unwrap();
    keep(&server.connect_options(), 3).await;
    assert!(folder.path().join("programs").join(version).join("bin/postgres").is_file());
    assert!(!folder.path().join("programs.unfinished").exists());
    server.stop().await.unwrap();

    // The second run needs no mirror.
    options.release_address = String::new();
    let server = Server::start_or_attach(options).await.unwrap();
    assert_eq!(kept(&server.connect_options()).await, 3);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_archive_with_a_wrong_checksum_is_refused_and_leaves_nothing() {
    let address = mirror("0".repeat(64)).await;
    let folder = folder();
    let mut options = options(folder.path());
    (options.search, options.release_address) = (nowhere(), address);
    let message = Server::start_or_attach(options).await.unwrap_err().to_string();
    assert!(message.contains("does not match expected hash"), "{message}");
    assert!(!folder.path().join("programs").exists());
}

#[tokio::test]
async fn a_cluster_is_never_given_to_another_major_version() {
    let folder = folder();
    start(folder.path()).await.stop().await.unwrap();
    std::fs::write(folder.path().join("postgres/PG_VERSION"), "99\n").unwrap();
    let mut options = options(folder.path());
    options.release_address = String::new();
    let message = Server::start_or_attach(options).await.unwrap_err().to_string();
    assert!(message.contains("PostgreSQL 99 is not installed"), "{message}");
}

/// A mirror on a free port: a release list in GitHub's form, and the files it names.
async fn mirror(checksum: String) -> String {
    let (version, archive) = &*ARCHIVE;
    let name = archive_name(version);
    let sum_name = format!("{name}.sha256");
    let asset =
        |name: &str| serde_json::json!({ "name": name, "browser_download_url": format!("files/{name}") });
    let list = serde_json::json!([
        { "tag_name": "not-a-version", "assets": [] },
        { "tag_name": "99.0.0", "assets": [asset("postgresql-99.0.0-another-machine.tar.gz")] },
        { "tag_name": "14.1.0", "assets": [asset(&archive_name("14.1.0"))] },
        { "tag_name": version, "assets": [asset(&name), asset(&sum_name)] },
    ]);
    let files = move |Segment(asked): Segment<String>| async move {
        match asked {
            asked if asked == name => Ok(archive.clone()),
            asked if asked == sum_name => Ok(format!("{checksum}  {name}\n").into_bytes()),
            _ => Err(StatusCode::NOT_FOUND),
        }
    };
    let list = move || async move { Json(list) };
    let router = Router::new().route("/releases", get(list)).route("/files/{name}", get(files));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/releases")
}

/// Packs what a server needs, keeping the places relative to each other by which PostgreSQL finds its files.
fn pack(programs: &Programs) -> io::Result<Vec<u8>> {
    let bin = programs.postgres.parent().unwrap();
    let folder = |question: &str| -> PathBuf {
        let nearby = Some(bin.join("pg_config")).filter(|program| program.is_file());
        let program = nearby.unwrap_or_else(|| "pg_config".into());
        PathBuf::from(said(program, &[question]))
    };
    let (share, libraries) = (folder("--sharedir"), folder("--pkglibdir"));
    let root = bin.ancestors().find(|root| share.starts_with(root) && libraries.starts_with(root)).unwrap();
    let top = PathBuf::from(format!("postgresql-{}", programs.major));
    let inside = |path: &Path| top.join(path.strip_prefix(root).unwrap());

    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    archive.append_dir_all(inside(&share), &share)?;
    for folder in [bin, libraries.as_path()] {
        archive.append_dir(inside(folder), folder)?;
    }
    for program in [&programs.initdb, &programs.postgres] {
        archive.append_path_with_name(program, inside(program))?;
    }
    for entry in std::fs::read_dir(&libraries)? {
        let library = entry?.path();
        let needed = ["plpgsql.", "dict_snowball."]
            .iter()
            .any(|name| library.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
        if needed {
            archive.append_path_with_name(&library, inside(&library))?;
        }
    }
    let below: Vec<Component> = bin.strip_prefix(root).unwrap().components().collect();
    if below.len() > 1 {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, top.join("bin"), below.iter().collect::<PathBuf>())?;
    }
    let mut gzip = archive.into_inner()?;
    gzip.flush()?;
    gzip.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
