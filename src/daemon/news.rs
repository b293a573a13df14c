//! What is said of a set of files that was taken or refused.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::files::Files;
use crate::config::{self, Config, KeyChange, Refusal};
use crate::domain::product::AccountName;
use crate::engine::Engine;
use crate::store::{Applied, ChangeKind, PolicyChange, StoreError};

/// Policies that get a line of their own; of more only the sum is told.
const LOGGED_POLICIES: usize = 100;
/// Of each kind of change, named in the one line that tells of all.
const NAMED: usize = 10;

/// The difference that a reload made.
#[derive(Default)]
pub(super) struct News {
    /// In force now.
    pub(super) policies: usize,
    pub(super) changes: Changes,
    pub(super) settings: Vec<KeyChange>,
    /// Accounts whose secrets are others than before.
    pub(super) secrets: Vec<AccountName>,
    /// None where nothing was read.
    pub(super) files: Option<Files>,
}

/// Of policies.
#[derive(Default)]
pub(super) struct Changes {
    count: usize,
    /// The first of them.
    told: Vec<Told>,
}

struct Told {
    change: PolicyChange,
    next_due: Option<Timestamp>,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.count == 0 && self.settings.is_empty() && self.secrets.is_empty()
    }

    fn words(&self) -> String {
        let mut words = vec![in_force(self.policies)];
        words.extend(self.changes.told.iter().take(NAMED).map(Told::words));
        if self.changes.count > NAMED {
            words.push(format!("{} more policies changed", self.changes.count - NAMED));
        }
        words.extend(self.settings.iter().map(ToString::to_string));
        words.extend(
            self.secrets.iter().map(|account| format!("the secrets of account {account} are replaced")),
        );
        if self.is_empty() {
            words.push("nothing differs from what ran before".to_owned());
        }
        words.join("; ")
    }
}

impl Told {
    fn words(&self) -> String {
        let PolicyChange { policy, kind, revision, next_due_before } = &self.change;
        let at = |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), |at| at.to_string());
        let (next, before) = (at(self.next_due), at(*next_due_before));
        match kind {
            ChangeKind::Added | ChangeKind::Returned => {
                format!("policy {policy} is {}, revision {revision}; next firing {next}", kind.as_str())
            }
            ChangeKind::Changed => {
                format!(
                    "policy {policy} is changed, revision {revision}; next firing {next}, before it was {before}"
                )
            }
            ChangeKind::Retired => format!(
                "policy {policy} is retired, its next firing was {before}: its orders stay, its unsent runs are \
                 cancelled in 10 minutes"
            ),
        }
    }
}

/// Gives each policy that changed its line.
pub(super) async fn log_policies(engine: &Engine, applied: Applied) -> Result<Changes, StoreError> {
    let count = applied.changes.len();
    let mut told = Vec::new();
    for change in applied.changes.into_iter().take(LOGGED_POLICIES) {
        let next_due = engine.store.next_firing(&change.policy).await?;
        let one = Told { change, next_due };
        log_policy(&one);
        told.push(one);
    }
    if count > LOGGED_POLICIES {
        let more = count - LOGGED_POLICIES;
        tracing::info!(event = "config.policy", changes = more, "{more} more policies changed");
    }
    Ok(Changes { count, told })
}

fn log_policy(told: &Told) {
    let PolicyChange { policy, revision, kind, next_due_before } = &told.change;
    let next_due_at = told.next_due.map(|at| at.to_string());
    let before = next_due_before.map(|at| at.to_string());
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                event = "config.policy",
                policy,
                revision,
                change = kind.as_str(),
                next_due_at,
                next_due_before = before,
                "{}",
                told.words()
            )
        };
    }
    match kind {
        ChangeKind::Retired => log!(warn),
        _ => log!(info),
    }
}

pub(super) fn log_loaded(policies: usize, changes: &Changes, files: Files) {
    let (changes, Files { parsed, unchanged }) = (changes.count, files);
    tracing::info!(
        event = "config.loaded",
        policies,
        changes,
        files_parsed = parsed,
        files_unchanged = unchanged,
        "{}, {changes} changed",
        in_force(policies)
    );
}

pub(super) fn log_reloaded(news: &News) {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Told { change, .. } in &news.changes.told {
        names.entry(change.kind.as_str()).or_default().push(&change.policy);
    }
    let of = |kind: ChangeKind| names.get(kind.as_str()).map(|names| some_of(names));
    let settings: Vec<&str> = news.settings.iter().map(|change| change.key.as_str()).collect();
    let secrets: Vec<&str> = news.secrets.iter().map(AccountName::as_str).collect();
    tracing::info!(
        event = "config.reloaded",
        policies = news.policies,
        files_parsed = news.files.map(|files| files.parsed),
        files_unchanged = news.files.map(|files| files.unchanged),
        changes = news.changes.count,
        added = of(ChangeKind::Added),
        changed = of(ChangeKind::Changed),
        returned = of(ChangeKind::Returned),
        retired = of(ChangeKind::Retired),
        settings = (!settings.is_empty()).then(|| settings.join(", ")),
        secrets = (!secrets.is_empty()).then(|| secrets.join(", ")),
        "{}",
        news.words()
    );
}

fn some_of(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len() - more].join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

fn in_force(policies: usize) -> String {
    let are = if policies == 1 { "policy is" } else { "policies are" };
    format!("{policies} {are} in force")
}

pub(super) async fn log_refused(
    engine: &Engine,
    config: &Config,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let digest = config::digest_on_disk(config).unwrap_or_default();
    let text = refusal.render_for_log();
    tracing::error!(
        event = "config.refused",
        mistakes = refusal.mistakes().count(),
        "the files on disk are refused, all stays as it runs, with the last accepted set:\n{text}"
    );
    engine.store.mark_refused(engine.clock.now(), &digest, &text).await
}

pub(super) fn log_postponed(config: &Config, postponed: &[KeyChange]) {
    if !postponed.is_empty() {
        let changes: Vec<String> = postponed.iter().map(ToString::to_string).collect();
        let keys: Vec<&str> = postponed.iter().map(|change| change.key.as_str()).collect();
        tracing::warn!(
            event = "config.needs_restart",
            settings = keys.join(", "),
            "of {} a running service cannot take this, it needs `systemctl restart renewd`: {}",
            config.source.display(),
            changes.join("; ")
        );
    }
}

pub(super) fn log_warning(warning: &config::Diagnostic) {
    tracing::warn!(event = "config.doubtful", "{}", warning.render(false));
}
