//! The invariants of `docs/architecture.md`, read from `cargo metadata` and from the tree itself.
//!
//! A test that fails here names the file or crate and the rule. Either the change belongs elsewhere, or the rule
//! has changed: then it is changed in the document and here, in one commit.

mod coverage;
mod dependencies;
mod files;
mod metrics;
mod sql;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The crates that are SQL and rules.
const DOMAINS: [&str; 6] = ["audit", "identity", "partners", "pool", "schedules", "webhooks"];

/// A crate of the workspace.
struct Member {
    folder: PathBuf,
    /// What it is built with, tests aside.
    needs: BTreeSet<String>,
}

/// The workspace, by name of crate.
static MEMBERS: LazyLock<BTreeMap<String, Member>> = LazyLock::new(|| {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo describes the workspace");
    let member = |package: &cargo_metadata::Package| {
        let needs = package.dependencies.iter().filter(|needed| needed.kind != DependencyKind::Development);
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
        let member = Member {
            folder: folder.as_std_path().to_path_buf(),
            needs: needs.map(|needed| needed.name.clone()).collect(),
        };
        (package.name.to_string(), member)
    };
    metadata.workspace_packages().into_iter().map(member).collect()
});

impl Member {
    /// Its sources as (path within the workspace, text).
    fn sources(&self) -> Vec<(PathBuf, String)> {
        files_below(&self.folder.join("src"), &["rs", "sql"])
    }
}

/// The folder of the whole workspace.
fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the workspace is there")
}

/// Hand-written files with one of these endings, as (path within the workspace, text).
fn files_below(folder: &Path, endings: &[&str]) -> Vec<(PathBuf, String)> {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", "dist", "generated"];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&name) {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path.strip_prefix(root()).unwrap_or(&path).to_path_buf(), text));
            }
        }
    }
    found.sort();
    found
}

/// Fails with every breach, one a line.
fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
