//! The policy files as one set: their reading order, and their digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::config::clashes::Clashes;
use crate::config::contained::contained;
use crate::config::diagnostic::Severity;
use crate::config::disclosure::Disclosure;
use crate::config::known::{self, Basis, KnownFiles};
use crate::config::plan::Plans;
use crate::config::policy::{self, Draft};
use crate::config::reader::{Findings, parse};
use crate::config::regular;
use crate::config::settings::Surroundings;
use crate::config::source::{SourceFile, unreadable};
use crate::domain::policy::Policy;
use crate::domain::product::PolicyName;

/// All policies of all files that were parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// In the order of the files and of the tables in them.
    pub policies: Vec<Policy>,
    pub sources: BTreeMap<PolicyName, PolicySource>,
    /// SHA-256 of all that the set follows from: the files, and what `renewd.toml` adds to them.
    pub digest: String,
    /// The parsed files that need not be parsed again while they stay what they are; not those with warnings, which
    /// are to be told again.
    pub parsed: Vec<PolicyFile>,
    /// How many were parsed in all.
    pub parsed_count: usize,
    /// The paths of those that were known, and not parsed.
    pub unchanged: Vec<String>,
}

/// A file that has been read without a mistake or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    pub path: String,
    /// Over all that the verdict on it follows from.
    pub digest: String,
    pub policies: Vec<PolicyName>,
}

/// Where a policy is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    pub file: Arc<Path>,
    /// From 1.
    pub line: usize,
}

/// Reads what it can of every file that is not known, one after the other; the caller discards the set if there is a
/// mistake.
pub(crate) fn read(
    surroundings: &Surroundings,
    known: &KnownFiles,
    now: Timestamp,
    findings: &Findings,
) -> PolicySet {
    let mut plans = Plans::new(now);
    let mut clashes = Clashes::new(findings);
    let mut digest = SetDigest::of(surroundings);
    let basis = Basis::of(surroundings);
    let mut set = PolicySet::default();
    let mistakes_before = findings.mistake_count();
    warn_of_other_names(&surroundings.policies, findings);
    for path in list(&surroundings.policies, findings) {
        let found_before = findings.count();
        let Some(bytes) = read_bytes(&path, findings) else { continue };
        digest.add(&path, &bytes);
        let digest = basis.digest(&path, &bytes);
        if let Some((path, _)) = digest.as_ref().filter(|(path, digest)| known.hold(path, digest)) {
            set.unchanged.push(path.clone());
            continue;
        }
        let read = || read_file(&path, bytes, surroundings, &mut plans, findings);
        let (file, drafts) = match contained(&path, read) {
            Ok(read) => read,
            Err(defect) => {
                findings.note(*defect);
                continue;
            }
        };
        let first = set.policies.len();
        for draft in drafts {
            clashes.look_at(&file, &draft);
            set.add(&file, draft);
        }
        set.parsed_count += 1;
        if let Some((path, digest)) = digest.filter(|_| findings.count() == found_before) {
            let policies = set.policies[first..].iter().map(|policy| policy.name.clone()).collect();
            set.parsed.push(PolicyFile { path, digest, policies });
        }
    }
    let found_nothing = set.policies.is_empty() && findings.mistake_count() == mistakes_before;
    if set.parsed_count > 0 && set.unchanged.is_empty() && found_nothing {
        refuse_no_policy(&surroundings.policies, findings);
    }
    PolicySet { digest: digest.finish(), ..set }
}

impl PolicySet {
    fn add(&mut self, file: &SourceFile, draft: Draft) {
        let start = Range::from(draft.name_span).start;
        let Some(policy) = draft.into_policy() else { return };
        let source = PolicySource { file: file.shared_path(), line: file.line_number(start) };
        self.sources.insert(policy.name.clone(), source);
        self.policies.push(policy);
    }
}

/// The digest that [`PolicySet`] would have, without parsing: to see whether anything changed.
pub(crate) fn read_digest(surroundings: &Surroundings, findings: &Findings) -> String {
    let mut digest = SetDigest::of(surroundings);
    for path in list(&surroundings.policies, findings) {
        if let Some(bytes) = read_bytes(&path, findings) {
            digest.add(&path, &bytes);
        }
    }
    digest.finish()
}

/// The names that the files give their policies, whatever else is wrong with them.
pub(crate) fn read_names(policies: &Path) -> BTreeSet<PolicyName> {
    let findings = Findings::default();
    let mut names = BTreeSet::new();
    for path in list(policies, &findings) {
        let Ok(file) = SourceFile::read(&path, Disclosure::Open) else { continue };
        let (reader, root) = parse(&file, &findings);
        let table = reader.root(&root).take("policy").and_then(|entry| entry.table("`policy`", ""));
        let entries = table.map(|table| table.named_entries()).unwrap_or_default();
        names.extend(entries.iter().filter_map(|entry| PolicyName::parse(entry.key).ok()));
    }
    names
}

fn list(path: &Path, findings: &Findings) -> Vec<PathBuf> {
    match list_files(path) {
        Ok(paths) if paths.is_empty() => {
            let message = format!("there is no policy file (*.toml) in {}", path.display());
            findings.mistake_of_file(path, message, "write one, such as the example policies.d/redis.toml");
            paths
        }
        Ok(paths) => paths,
        Err(error) => {
            findings.note(*unreadable(path, &error));
            Vec::new()
        }
    }
}

fn read_bytes(path: &Path, findings: &Findings) -> Option<Vec<u8>> {
    let note = |error: io::Error| match error.kind() {
        io::ErrorKind::IsADirectory => {
            let message = format!("{} is a folder with the name of a policy file", path.display());
            let help = "give it a name without .toml, or move it away: folders in here are not read";
            findings.mistake_of_file(path, message, help);
        }
        _ => findings.note(*unreadable(path, &error)),
    };
    regular::read(path).map_err(note).ok()
}

/// A file that its owner takes for a policy file, and that is none, would let its instances lapse in silence.
fn warn_of_other_names(folder: &Path, findings: &Findings) {
    let seems_to_be_read = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        !is_read(path) && !name.starts_with('.') && (name.ends_with(".toml") || name.ends_with(".toml.txt"))
    };
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(seems_to_be_read);
    paths.sort();
    for path in paths {
        let message = format!("{} is not read: its name does not end in `.toml`", path.display());
        let help = "rename it to end in `.toml`, in small letters; if it is not to be read, move it away";
        findings.note_of_file(Severity::Warning, &path, message, help);
    }
}

/// One file, or those of a folder in name order. Hidden files are editors' and are left alone.
pub(crate) fn list_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| is_read(path));
    paths.sort();
    Ok(paths)
}

fn is_read(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension().is_some_and(|extension| extension == "toml") && !is_hidden
}

fn read_file(
    path: &Path,
    bytes: Vec<u8>,
    surroundings: &Surroundings,
    plans: &mut Plans,
    findings: &Findings,
) -> (SourceFile, Vec<Draft>) {
    let (file, misread) = SourceFile::of_bytes(path, bytes, Disclosure::Open);
    misread.into_iter().for_each(|mistake| findings.note(*mistake));
    let drafts = read_text(&file, surroundings, plans, findings);
    (file, drafts)
}

fn read_text(
    file: &SourceFile,
    surroundings: &Surroundings,
    plans: &mut Plans,
    findings: &Findings,
) -> Vec<Draft> {
    let (reader, root) = parse(file, findings);
    let mut root = reader.root(&root);
    let help = "write [policy.NAME] and its keys on the lines below";
    let table = root.take("policy").and_then(|entry| entry.table("`policy`", help));
    let mut entries = table.map(|table| table.named_entries()).unwrap_or_default();
    for (path, entry) in root.detached_entries() {
        match path.as_slice() {
            [_, _] => entries.push(entry),
            [_, _, part] => policy::read_part(&entry, part),
            _ => {}
        }
    }
    root.refuse_unknown_keys_but_for(key_of_main_file);
    entries.iter().filter_map(|entry| policy::read(entry, surroundings, plans)).collect()
}

fn key_of_main_file(key: &str) -> Option<&'static str> {
    const OF_MAIN_FILE: [&str; 8] =
        ["account", "database", "history", "http", "log", "policies", "retry", "timezone"];
    OF_MAIN_FILE
        .contains(&key)
        .then_some("it belongs into renewd.toml; a policy file holds [policy.NAME] only")
}

/// A file cut short by an editor or a full disk looks the same as one emptied on purpose, and taking it for that
/// would retire every policy in silence.
fn refuse_no_policy(files: &Path, findings: &Findings) {
    let message = "the policy files hold no policy at all: taking them would retire every one".to_owned();
    let help = "write [policy.NAME], or take the comment signs off an example; to renew nothing on purpose write \
                enabled = false into the policies, or run `renewd pause`";
    findings.mistake_of_file(files, message, help);
}

struct SetDigest(Sha256);

impl SetDigest {
    fn of(surroundings: &Surroundings) -> SetDigest {
        let mut digest = SetDigest(Sha256::new());
        known::add(&mut digest.0, surroundings.timezone.as_bytes());
        for (name, provider) in surroundings.accounts.iter().flatten() {
            known::add(&mut digest.0, name.as_str().as_bytes());
            known::add(&mut digest.0, provider.map_or("", |provider| provider.as_str()).as_bytes());
        }
        digest
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) {
        known::add(&mut self.0, path.file_name().unwrap_or_default().as_encoded_bytes());
        known::add(&mut self.0, bytes);
    }

    fn finish(self) -> String {
        HEXLOWER.encode(&self.0.finalize())
    }
}
