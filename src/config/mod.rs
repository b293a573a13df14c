//! Configuration: files become [`Config`] and [`PolicySet`], or a [`Refusal`] with every mistake in them.
//!
//! Invariant: nothing read as a secret, or in place of a reference to one, is part of a message.

mod account;
mod changes;
mod clashes;
mod contained;
mod diagnostic;
mod disclosure;
mod doubts;
mod encoding;
mod environment;
pub mod examples;
mod expiry;
mod known;
mod line;
mod mark;
mod on_disk;
mod parsing;
mod plan;
mod policies;
mod policy;
mod reader;
mod region;
mod regular;
mod reopened;
mod repairs;
pub mod secrets;
mod settings;
mod source;
mod syntax;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;

use crate::domain::product::{AccountName, PolicyName};

pub use account::{Account, Budget, CredentialSource, KNOWN_APIS};
pub use changes::KeyChange;
pub use diagnostic::{Diagnostic, Place, Refusal, Severity, Spot};
pub use environment::Environment;
pub use expiry::{TooLate, warn_of_expiries};
pub use known::KnownFiles;
pub use mark::ServiceMark;
pub use on_disk::{Entries, OnDisk, Places};
pub use policies::{PolicyFile, PolicySet, PolicySource};
pub use policy::DEFAULT_WITHIN_DAYS;
pub use settings::{Config, HistoryConfig, HttpConfig, LogConfig, LogFormat, RetryConfig};

use reader::Findings;
pub(crate) use reader::suggestion;
use settings::{Secrets, Surroundings};

/// Something read without a mistake, and what is doubtful about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<T> {
    pub value: T,
    pub warnings: Vec<Diagnostic>,
}

/// Reads `renewd.toml`.
///
/// # Errors
/// All its mistakes.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded<Config>, Refusal> {
    let findings = Findings::default();
    let (config, _) =
        settings::read(path, environment, Secrets::LeftAlone, &findings).map_err(Refusal::of_one)?;
    accept(config, findings)
}

/// What a command beside the daemon goes by.
#[derive(Debug)]
pub struct Lenient {
    /// Where the file has mistakes, only the paths and the zone are to be trusted.
    pub config: Config,
    pub refused: Option<Refusal>,
}

/// Reads `renewd.toml` for what needs little more than its database: a mistake elsewhere in it must not keep
/// an operator from looking, or from stopping orders.
///
/// # Errors
/// All its mistakes, when they leave a doubt which database is meant.
pub fn load_leniently(path: &Path, environment: &Environment) -> Result<Lenient, Refusal> {
    let findings = Findings::default();
    let (config, surroundings) =
        settings::read(path, environment, Secrets::LeftAlone, &findings).map_err(Refusal::of_one)?;
    match accept((), findings) {
        Ok(_) => Ok(Lenient { config, refused: None }),
        Err(refusal) if surroundings.is_database_certain => Ok(Lenient { config, refused: Some(refusal) }),
        Err(refusal) => Err(refusal),
    }
}

/// How a file that is refused wants the log written, as far as that can be read.
pub fn log_format(path: &Path, environment: &Environment) -> LogFormat {
    let read = settings::read(path, environment, Secrets::LeftAlone, &Findings::default());
    read.map(|(config, _)| config.log.format).unwrap_or_default()
}

/// Reads the policies that `config` names. `now` is only the start of the look ahead for warnings.
///
/// # Errors
/// All mistakes of all policy files.
pub fn load_policies(config: &Config, now: Timestamp) -> Result<Loaded<PolicySet>, Refusal> {
    load_changed_policies(config, &KnownFiles::default(), now)
}

/// As [`load_policies`], without those of the files that are known: what they share with the rest is not looked for.
///
/// # Errors
/// All mistakes of the other policy files.
pub fn load_changed_policies(
    config: &Config,
    known: &KnownFiles,
    now: Timestamp,
) -> Result<Loaded<PolicySet>, Refusal> {
    let findings = Findings::default();
    let set = policies::read(&Surroundings::of(config), known, now, &findings);
    accept(set, findings)
}

/// What the files name, whatever else is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub accounts: BTreeSet<AccountName>,
    pub policies: BTreeSet<PolicyName>,
}

/// Reads the names of accounts and policies: an order must be stoppable also while the files have mistakes.
pub fn names(config: &Config, environment: &Environment) -> Names {
    let read = settings::read(&config.source, environment, Secrets::LeftAlone, &Findings::default());
    let accounts = read.ok().and_then(|(_, surroundings)| surroundings.accounts).unwrap_or_default();
    Names { accounts: accounts.into_keys().collect(), policies: policies::read_names(&config.policies) }
}

/// Reads both, so that their mistakes are reported together.
///
/// # Errors
/// All mistakes of all files.
pub fn load_all(
    path: &Path,
    environment: &Environment,
    now: Timestamp,
) -> Result<Loaded<(Config, PolicySet)>, Refusal> {
    load_all_changed(path, environment, &KnownFiles::default(), now)
}

/// As [`load_all`], with the policies as [`load_changed_policies`] has them.
///
/// # Errors
/// All mistakes of `renewd.toml` and of the other policy files.
pub fn load_all_changed(
    path: &Path,
    environment: &Environment,
    known: &KnownFiles,
    now: Timestamp,
) -> Result<Loaded<(Config, PolicySet)>, Refusal> {
    read_all(path, environment, Secrets::LeftAlone, known, now)
}

/// As [`load_all`], and looks whether the service could read its secrets: no secret is part of what it answers.
///
/// # Errors
/// All mistakes of all files, and each `file:` that cannot be a secret.
pub fn check_all(
    path: &Path,
    environment: &Environment,
    now: Timestamp,
) -> Result<Loaded<(Config, PolicySet)>, Refusal> {
    read_all(path, environment, Secrets::LookedAt, &KnownFiles::default(), now)
}

fn read_all(
    path: &Path,
    environment: &Environment,
    secrets: Secrets,
    known: &KnownFiles,
    now: Timestamp,
) -> Result<Loaded<(Config, PolicySet)>, Refusal> {
    let findings = Findings::default();
    let (config, surroundings) =
        settings::read(path, environment, secrets, &findings).map_err(Refusal::of_one)?;
    let set = policies::read(&surroundings, known, now, &findings);
    accept((config, set), findings)
}

/// [`PolicySet::digest`] of what is on disk now, without parsing it.
///
/// # Errors
/// A file or the folder cannot be read.
pub fn digest_on_disk(config: &Config) -> Result<String, Refusal> {
    let findings = Findings::default();
    let digest = policies::read_digest(&Surroundings::of(config), &findings);
    accept(digest, findings).map(|loaded| loaded.value)
}

fn accept<T>(value: T, findings: Findings) -> Result<Loaded<T>, Refusal> {
    let warnings = Refusal::unless_only_warnings(findings.into_diagnostics())?;
    Ok(Loaded { value, warnings })
}
