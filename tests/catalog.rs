//! What the journal says below an entry that somebody has to act on: for each such event in the code its id, for each
//! id its words, and nothing that belongs to none.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use renewd::telemetry::MESSAGE_IDS;

const CATALOG: &str = "systemd/renewd.catalog";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Subject and text by id.
fn catalog() -> BTreeMap<u128, (String, String)> {
    let text = fs::read_to_string(root().join(CATALOG)).unwrap();
    let mut entries = BTreeMap::new();
    for entry in text.split("\n-- ").skip(1) {
        let (id, entry) = entry.split_once('\n').unwrap();
        assert_eq!(id.len(), 32, "{id}");
        let (head, words) = entry.split_once("\n\n").unwrap();
        assert!(head.lines().any(|line| line == "Defined-By: renewd"), "{id}: {head}");
        let subject = head.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
        let entry = (subject.to_owned(), words.trim().to_owned());
        assert!(entries.insert(u128::from_str_radix(id, 16).unwrap(), entry).is_none(), "{id} stands twice");
    }
    entries
}

/// The kinds of all events at level error, as the code writes them.
fn errors_in_the_code() -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for path in sources(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for opening in ["tracing::error!(", "job_event!(error,", "order_event!(error,"] {
            for (at, _) in text.match_indices(opening) {
                let rest = text[at + opening.len()..].trim_start();
                let literal = rest.strip_prefix("event = ").unwrap_or(rest);
                let kind = literal.strip_prefix('"').and_then(|rest| rest.split('"').next());
                let kind = kind.unwrap_or_else(|| panic!("{}: an error without its kind", path.display()));
                kinds.insert(kind.to_owned());
            }
        }
    }
    kinds
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_source = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    // Tests beside the code make events of their own.
    let is_tests = |path: &PathBuf| path.ends_with("tests.rs");
    let files = files.into_iter().filter(|path| is_source(path) && !is_tests(path));
    files.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn each_event_that_somebody_must_act_on_has_an_id_and_no_other_has_one() {
    let with_id: BTreeSet<String> = MESSAGE_IDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(with_id, errors_in_the_code());
}

#[test]
fn each_id_has_its_words_and_no_words_are_without_an_id() {
    let ids: BTreeSet<u128> = MESSAGE_IDS.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), MESSAGE_IDS.len(), "two kinds share an id");
    let catalog = catalog();
    assert_eq!(ids, catalog.keys().copied().collect());
    for (subject, words) in catalog.values() {
        assert!(!subject.is_empty() && words.len() > 100, "{subject}: what happened, and what to do");
    }
}

#[test]
fn systemd_reads_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = ("usr/lib/systemd/catalog", "var/lib/systemd/catalog");
    for path in [from, to] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    fs::copy(root().join(CATALOG), folder.path().join(from).join("renewd.catalog")).unwrap();
    let journalctl =
        |argument: &str| Command::new("journalctl").arg("--root").arg(folder.path()).arg(argument).output();
    let Ok(updated) = journalctl("--update-catalog") else {
        eprintln!("SKIPPED: without journalctl nobody but ourselves reads the catalog");
        return;
    };
    assert!(updated.status.success() && updated.stderr.is_empty(), "{updated:?}");
    let listed = String::from_utf8(journalctl("--list-catalog").unwrap().stdout).unwrap();
    for (kind, id) in MESSAGE_IDS {
        assert!(listed.contains(&format!("{id:032x} renewd: ")), "{kind} is not in\n{listed}");
    }
}
