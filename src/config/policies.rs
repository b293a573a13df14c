//! The policy files as one set: their reading order, clashes between them, and their digest.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::plan::Plans;
use crate::config::policy::{self, Draft};
use crate::config::reader::{Findings, parse, quoted};
use crate::config::settings::Surroundings;
use crate::config::source::{Disclosure, SourceFile, unreadable};
use crate::domain::policy::{ActionKind, Policy};
use crate::domain::product::{Identity, InstanceId, PolicyName, Provider};

/// All policies of all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    /// In the order of the files and of the tables in them.
    pub policies: Vec<Policy>,
    pub sources: BTreeMap<PolicyName, PolicySource>,
    /// SHA-256 of all that the set follows from: the files, and what `renewd.toml` adds to them.
    pub digest: String,
}

/// Where a policy is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
}

/// Reads what it can of every file; the caller discards the set if there is a mistake.
pub(crate) fn read(surroundings: &Surroundings, now: Timestamp, findings: &Findings) -> PolicySet {
    let files = read_files(&surroundings.policies, findings);
    let mut plans = Plans::new(now);
    let mut clashes = Clashes::new(findings);
    let mut set =
        PolicySet { policies: vec![], sources: BTreeMap::new(), digest: digest(surroundings, &files) };
    let mistakes_before = findings.mistake_count();
    for file in &files {
        for draft in read_file(file, surroundings, &mut plans, findings) {
            clashes.look_at(file, &draft);
            let Some(policy) = draft.policy else { continue };
            let source =
                PolicySource { file: file.path().to_owned(), line: file.line_number(draft.name_span.start) };
            set.sources.insert(policy.name.clone(), source);
            set.policies.push(policy);
        }
    }
    let found_nothing = set.policies.is_empty() && findings.mistake_count() == mistakes_before;
    if let Some(file) = files.first().filter(|_| found_nothing) {
        refuse_no_policy(file, findings);
    }
    set
}

/// The digest that [`PolicySet`] would have, without parsing: to see whether anything changed.
pub(crate) fn read_digest(surroundings: &Surroundings, findings: &Findings) -> String {
    digest(surroundings, &read_files(&surroundings.policies, findings))
}

fn read_files(path: &Path, findings: &Findings) -> Vec<SourceFile> {
    let paths = match list_files(path) {
        Ok(paths) => paths,
        Err(error) => {
            findings.note(*unreadable(path, &error));
            return Vec::new();
        }
    };
    if paths.is_empty() {
        let message = format!("there is no policy file (*.toml) in {}", path.display());
        findings.mistake_of_file(path, message, "write one, such as the example policies.d/redis.toml");
    }
    let read = |path: &PathBuf| SourceFile::read(path, Disclosure::Open);
    paths.iter().filter_map(|path| read(path).map_err(|mistake| findings.note(*mistake)).ok()).collect()
}

/// One file, or those of a folder in name order. Hidden files are editors' and are left alone.
fn list_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    let is_hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !is_hidden(path));
    paths.sort();
    Ok(paths)
}

fn read_file(
    file: &SourceFile,
    surroundings: &Surroundings,
    plans: &mut Plans,
    findings: &Findings,
) -> Vec<Draft> {
    let (reader, root) = parse(file, findings);
    let mut root = reader.root(&root);
    let table = root.take("policy").and_then(|entry| entry.table("`policy`"));
    let entries = table.map(|table| table.named_entries()).unwrap_or_default();
    root.refuse_unknown_keys();
    entries.iter().filter_map(|entry| policy::read(entry, surroundings, plans)).collect()
}

/// A file cut short by an editor or a full disk looks the same as one emptied on purpose, and taking it for that
/// would retire every policy in silence.
fn refuse_no_policy(file: &SourceFile, findings: &Findings) {
    findings.note(Diagnostic {
        severity: Severity::Error,
        message: "the policy files hold no policy at all: taking them would retire every one".to_owned(),
        place: file.place(0..0),
        related: None,
        help: Some(
            "write [policy.NAME], or take the comment signs off an example; to renew nothing on purpose write \
             enabled = false into the policies, or run `renewd pause`"
                .to_owned(),
        ),
    });
}

/// Names and instances seen so far, over all files.
struct Clashes<'f> {
    findings: &'f Findings,
    names: HashMap<PolicyName, Spanned<'f>>,
    /// Without the region: a vendor gives an id once, so in a second region it is a slip of the pen.
    instances: HashMap<(Provider, InstanceId, ActionKind), Listed<'f>>,
}

type Spanned<'f> = (&'f SourceFile, Range<usize>);

/// Where an instance was listed first.
struct Listed<'f> {
    place: Spanned<'f>,
    /// The place of the policy's name, which tells one policy from another.
    policy: usize,
    identity: Identity,
}

impl<'f> Clashes<'f> {
    fn new(findings: &'f Findings) -> Self {
        Clashes { findings, names: HashMap::new(), instances: HashMap::new() }
    }

    fn look_at(&mut self, file: &'f SourceFile, draft: &Draft) {
        if let Some(name) = &draft.name {
            let span = draft.name_span.clone();
            if let Some(first) = self.names.get(name) {
                let message = format!("there are two policies named {}", quoted(name.as_str()));
                let help = "a name is unique over all files: rename one";
                self.note(file, span, message, first, "first here", help);
            } else {
                self.names.insert(name.clone(), (file, span));
            }
        }
        let (Some(product), Some(region), Some(action)) = (draft.product, &draft.region, draft.action) else {
            return;
        };
        for (instance, span) in &draft.instances {
            let identity = Identity::new(product, region, instance);
            let key = (identity.provider, instance.clone(), action);
            if let Some(first) = self.instances.get(&key) {
                self.note_twice(file, draft, span, first, &identity, action);
                continue;
            }
            let place = (file, span.clone());
            self.instances.insert(key, Listed { place, policy: draft.name_span.start, identity });
        }
    }

    fn note_twice(
        &self,
        file: &SourceFile,
        draft: &Draft,
        span: &Range<usize>,
        first: &Listed<'_>,
        second: &Identity,
        action: ActionKind,
    ) {
        let id = quoted(second.instance.as_str());
        let (first_region, region) = (&first.identity.region, &second.region);
        let is_same_policy = std::ptr::eq(first.place.0, file) && first.policy == draft.name_span.start;
        let (message, label, help) = if is_same_policy {
            (format!("{id} is listed twice"), "first here".to_owned(), "remove one")
        } else if first_region == region {
            let help = "one instance belongs to one policy of an action: take it out of one list";
            (format!("two policies {} {id}", action.as_str()), "first here".to_owned(), help)
        } else {
            let help = "an id exists in one region only: keep it where the console shows it";
            let message = format!("two policies {} {id}, in {first_region} and in {region}", action.as_str());
            (message, format!("first here, in {first_region}"), help)
        };
        self.note(file, span.clone(), message, &first.place, &label, help);
    }

    fn note(
        &self,
        file: &SourceFile,
        span: Range<usize>,
        message: String,
        (first_file, first_span): &Spanned<'_>,
        label: &str,
        help: &str,
    ) {
        self.findings.note(Diagnostic {
            severity: Severity::Error,
            message,
            place: file.place(span),
            related: Some((first_file.place(first_span.clone()), label.to_owned())),
            help: Some(help.to_owned()),
        });
    }
}

/// Lengths go before contents, so that no two sets write the same bytes.
fn digest(surroundings: &Surroundings, files: &[SourceFile]) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(surroundings.timezone.as_bytes());
    for (name, provider) in surroundings.accounts.iter().flatten() {
        add(name.as_str().as_bytes());
        add(provider.map_or("", |provider| provider.as_str()).as_bytes());
    }
    for file in files {
        add(file.path().file_name().unwrap_or_default().as_encoded_bytes());
        add(file.text().as_bytes());
    }
    HEXLOWER.encode(&hash.finalize())
}
