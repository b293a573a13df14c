//! `renewd.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tracing_subscriber::EnvFilter;

use crate::config::account::{self, Account, References};
use crate::config::contained::contained;
use crate::config::diagnostic::Diagnostic;
use crate::config::disclosure::{ACCOUNT, Disclosure};
use crate::config::environment::Environment;
use crate::config::on_disk::digest_of;
use crate::config::reader::{Entry, Findings, Table, alike_to, nearest, parse, quoted};
use crate::config::regular;
use crate::config::source::{SourceFile, unreadable};
use crate::domain::product::{AccountName, Provider};
use crate::schedule::Schedule;

/// `renewd.toml`, whole and valid, with every path resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub source: PathBuf,
    /// SHA-256 of the file's text.
    pub digest: String,
    pub database: PathBuf,
    /// A folder of `*.toml` or one file.
    pub policies: PathBuf,
    /// Zone of schedules and of budget days.
    pub timezone: String,
    pub log: LogConfig,
    pub http: Option<HttpConfig>,
    pub accounts: BTreeMap<AccountName, Account>,
    pub retry: RetryConfig,
    pub history: HistoryConfig,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// tracing filter syntax.
    pub level: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal under systemd, text on a terminal, else JSON.
    #[default]
    Auto,
    Journal,
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    pub first_delay_seconds: u32,
    pub max_delay_seconds: u32,
    /// Of busy and unavailable answers only.
    pub max_attempts: u32,
    /// How long an unknown outcome is watched before it may be called "not ordered".
    pub settle_seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    pub skipped_days: u32,
    pub runs_days: u32,
}

const DAY_SECONDS: u32 = 86_400;
/// An instance is shut down at its expiry: a longer silence between attempts would outlast the warning of it.
const LONGEST_DELAY_SECONDS: u32 = DAY_SECONDS;
const LONGEST_SETTLE_SECONDS: u32 = 30 * DAY_SECONDS;
const MOST_ATTEMPTS: u32 = 10_000;
const LONGEST_HISTORY_DAYS: u32 = 36_500;

const DATABASE_FILE: &str = "renewd.db";
const DEFAULT_ZONE: &str = "UTC";
const DEFAULT_LEVEL: &str = "info";
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Auto, level: DEFAULT_LEVEL.to_owned() }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            first_delay_seconds: 30,
            max_delay_seconds: 3600,
            max_attempts: 12,
            settle_seconds: 6 * 3600,
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        HistoryConfig { skipped_days: 30, runs_days: 400 }
    }
}

/// What policies refer to; kept apart from [`Config`] so that policies can be checked beside a refused one.
pub(crate) struct Surroundings {
    pub(crate) policies: PathBuf,
    pub(crate) timezone: String,
    /// None when the file is too broken to know which accounts it names.
    pub(crate) accounts: Option<BTreeMap<AccountName, Option<Provider>>>,
    /// Whether the file says beyond doubt which database is meant, mistakes elsewhere aside.
    pub(crate) is_database_certain: bool,
}

impl Surroundings {
    pub(crate) fn of(config: &Config) -> Surroundings {
        let accounts = config.accounts.iter();
        Surroundings {
            policies: config.policies.clone(),
            timezone: config.timezone.clone(),
            accounts: Some(accounts.map(|(name, account)| (name.clone(), Some(account.provider))).collect()),
            is_database_certain: true,
        }
    }
}

/// Whether a read of the file also looks at what its references to secrets name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    LookedAt,
    LeftAlone,
}

/// Reads the file as far as it can be read; the caller discards the [`Config`] if there is a mistake.
///
/// # Errors
/// The file cannot be read at all.
pub(crate) fn read(
    path: &Path,
    environment: &Environment,
    secrets: Secrets,
    findings: &Findings,
) -> Result<(Config, Surroundings), Box<Diagnostic>> {
    contained(path, || read_file(path, environment, secrets, findings)).and_then(|read| read)
}

fn read_file(
    path: &Path,
    environment: &Environment,
    secrets: Secrets,
    findings: &Findings,
) -> Result<(Config, Surroundings), Box<Diagnostic>> {
    let bytes = regular::read(path).map_err(|error| with_a_way_out(unreadable(path, &error), path))?;
    // Of a file that was not written to its end the line that names the database may be what is missing.
    let may_be_cut = bytes.contains(&0);
    let (file, misread) = SourceFile::of_bytes(path, bytes, Disclosure::Guarded);
    misread.into_iter().for_each(|mistake| findings.note(*mistake));
    let (reader, root) = parse(&file, findings);
    let mut root = reader.root(&root);
    let folder = path.parent().unwrap_or(Path::new(""));
    let default_database = || environment.state_directory().unwrap_or(folder.to_owned()).join(DATABASE_FILE);
    let look_in = (secrets == Secrets::LookedAt).then_some(environment);
    let references = References { folder, look_in };
    let (providers, accounts) = read_accounts(&mut root, references);
    for (path, entry) in root.detached_entries() {
        read_detached(&path, &entry, references);
    }
    let database = read_database(&mut root, folder);
    let is_database_certain = !may_be_cut && lines_like_database(&file) == usize::from(database.is_some());
    let config = Config {
        source: path.to_owned(),
        digest: digest_of(file.text().as_bytes()),
        database: database.unwrap_or_else(default_database),
        policies: root
            .take("policies")
            .and_then(|entry| read_path(&entry, folder))
            .unwrap_or_else(|| folder.join("policies.d")),
        timezone: read_zone(&mut root).unwrap_or(DEFAULT_ZONE.to_owned()),
        log: read_log(&mut root, environment, findings),
        http: root.take("http").and_then(|entry| read_http(&entry)),
        accounts,
        retry: root.take("retry").and_then(|entry| read_retry(&entry)).unwrap_or_default(),
        history: root.take("history").and_then(|entry| read_history(&entry)).unwrap_or_default(),
    };
    root.refuse_unknown_keys_but_for(|key| {
        (key == "policy")
            .then_some("policies belong into files of their own, in the folder that `policies` names")
    });
    let surroundings = Surroundings {
        policies: config.policies.clone(),
        timezone: config.timezone.clone(),
        accounts: (!reader.are_names_in_doubt(ACCOUNT)).then_some(providers),
        is_database_certain,
    };
    Ok((config, surroundings))
}

/// Whoever begins has no such file yet, or keeps it elsewhere.
fn with_a_way_out(mut mistake: Box<Diagnostic>, path: &Path) -> Box<Diagnostic> {
    if matches!(path.try_exists(), Ok(false)) {
        let help = "copy config/renewd.toml of the source there, or name another file with --config FILE or RENEWD_CONFIG";
        mistake.help = Some(help.to_owned());
    }
    mistake
}

/// Lines that give a database, in their place or not, well spelt or not: more than one that is understood may
/// mean any.
fn lines_like_database(file: &SourceFile) -> usize {
    let is_of_word =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | char::REPLACEMENT_CHARACTER);
    // Whatever stands behind the key: `:`, a blank or nothing are slips of the `=`.
    let is_like = |line: &&str| {
        let key = line.split(|c| !is_of_word(c)).find(|word| !word.is_empty());
        !line.trim_start().starts_with('#') && key.is_some_and(|key| alike_to("database", key))
    };
    file.text().lines().filter(is_like).count()
}

type Declared = (BTreeMap<AccountName, Option<Provider>>, BTreeMap<AccountName, Account>);

fn read_accounts(root: &mut Table<'_>, references: References<'_>) -> Declared {
    let mut declared = Declared::default();
    let help = "write [account.NAME] and its keys on the lines below";
    let table = root.take(ACCOUNT).and_then(|entry| entry.table("`account`", help));
    for entry in table.iter().flat_map(Table::named_entries) {
        let (provider, account) = account::read(&entry, references);
        match AccountName::parse(entry.key) {
            Ok(name) => {
                declared.0.insert(name.clone(), provider);
                declared.1.extend(account.map(|account| (name, account)));
            }
            Err(error) => {
                entry.fail_at_key(
                    format!("the name of account {} {error}", quoted(entry.key)),
                    "write [account.NAME] with letters, digits, `-`, `_` and `.`",
                );
            }
        }
    }
    declared
}

/// A table that stands apart from the others, for what is wrong in it.
fn read_detached(path: &[&str], entry: &Entry<'_>, references: References<'_>) {
    match path {
        ["log"] => drop(read_log_table(entry)),
        ["http"] => drop(read_http(entry)),
        ["retry"] => drop(read_retry(entry)),
        ["history"] => drop(read_history(entry)),
        [_, _] => drop(account::read(entry, references)),
        [_, _, part] => account::read_part(entry, part),
        _ => {}
    }
}

fn read_database(root: &mut Table<'_>, folder: &Path) -> Option<PathBuf> {
    let entry = root.take("database").filter(|entry| !entry.is_in_doubt())?;
    let path = read_path(&entry, folder)?;
    if path.is_dir() {
        entry.fail("`database` names a folder", format!("name the file in it, such as {DATABASE_FILE}"));
        return None;
    }
    Some(path)
}

fn read_path(entry: &Entry<'_>, folder: &Path) -> Option<PathBuf> {
    let text = entry.text()?;
    if text.is_empty() {
        entry.fail(format!("`{}` is empty", entry.key), "write a path, or leave the key out");
        return None;
    }
    Some(folder.join(text))
}

fn read_zone(root: &mut Table<'_>) -> Option<String> {
    let entry = root.take("timezone")?;
    let zone = entry.text()?;
    match Schedule::parse("@daily", zone) {
        Ok(_) => Some(zone.to_owned()),
        Err(error) => {
            entry.fail(error.to_string(), error.help());
            None
        }
    }
}

fn read_log(root: &mut Table<'_>, environment: &Environment, findings: &Findings) -> LogConfig {
    let mut log = root.take("log").and_then(|entry| read_log_table(&entry)).unwrap_or_default();
    if let Some(level) = environment.log_level() {
        match read_level(&level) {
            Ok(level) => log.level = level,
            Err((message, help)) => {
                findings.mistake_of_file(Path::new("RENEWD_LOG"), format!("RENEWD_LOG {message}"), &help);
            }
        }
    }
    log
}

fn read_log_table(entry: &Entry<'_>) -> Option<LogConfig> {
    let mut table = entry.table("`log`", "write [log] and its keys on the lines below")?;
    let formats = [
        ("auto", LogFormat::Auto),
        ("journal", LogFormat::Journal),
        ("json", LogFormat::Json),
        ("text", LogFormat::Text),
    ];
    let format = table.take("format").and_then(|entry| entry.choice(&formats)).unwrap_or_default();
    let level = table.take("level").and_then(|entry| {
        let level = entry.text()?;
        let read = read_level(level);
        read.map_err(|(message, help)| entry.fail(format!("`level` {message}"), help)).ok()
    });
    table.refuse_unknown_keys();
    Some(LogConfig { format, level: level.unwrap_or(DEFAULT_LEVEL.to_owned()) })
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
const LEVEL_HELP: &str =
    "write error, warn, info, debug or trace, or a filter such as \"info,renewd::engine=debug\"";

/// Much of what the filter syntax takes would silence everything: a lone word is the name of a module to it, a
/// number a level, brackets a span. Gives back what passes without blanks, as the service reads it.
fn read_level(level: &str) -> Result<String, (String, String)> {
    let mut lone_levels = 0;
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    for part in &parts {
        let (target, word) =
            part.split_once('=').map_or((None, *part), |(target, word)| (Some(target), word));
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            let near = nearest(word, LEVELS).map(|near| format!("did you mean `{near}`?"));
            let message = format!("is not a level: {}", quoted(word));
            return Err((message, near.unwrap_or_else(|| LEVEL_HELP.to_owned())));
        }
        match target {
            None => lone_levels += 1,
            Some(target) if is_module_path(target) => {}
            Some(target) => {
                let message = format!("is not for the name of a module: {}", quoted(target));
                return Err((message, LEVEL_HELP.to_owned()));
            }
        }
    }
    if lone_levels > 1 {
        let help = "write one level for all, and others only as module=level";
        return Err((
            format!("has {lone_levels} levels for all modules: {}", quoted(level)),
            help.to_owned(),
        ));
    }
    let level = parts.join(",");
    match EnvFilter::builder().parse(&level) {
        Ok(_) => Ok(level),
        Err(error) => Err((format!("is {}: {error}", quoted(&level)), LEVEL_HELP.to_owned())),
    }
}

/// Such as `renewd::engine`.
fn is_module_path(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.split("::").all(is_name)
}

fn read_http(entry: &Entry<'_>) -> Option<HttpConfig> {
    let mut table = entry.table("`http`", "write [http] and its keys on the lines below")?;
    let listen = table.take("listen").map(|entry| read_listen(&entry));
    table.refuse_unknown_keys();
    match listen {
        None => Some(HttpConfig { listen: DEFAULT_LISTEN }),
        Some(listen) => listen.map(|listen| HttpConfig { listen }),
    }
}

fn read_listen(entry: &Entry<'_>) -> Option<SocketAddr> {
    let text = entry.text()?;
    let listen = text.parse().ok();
    if listen.is_none() {
        entry.fail(
            format!("`listen` is {}, not an address with a port", quoted(text)),
            format!("write for example \"{DEFAULT_LISTEN}\" or \"[::1]:9464\""),
        );
    }
    listen
}

fn read_retry(entry: &Entry<'_>) -> Option<RetryConfig> {
    let mut table = entry.table("`retry`", "write [retry] and its keys on the lines below")?;
    let default = RetryConfig::default();
    let mut number = |key, most: u32, default: u32| {
        let entry = table.take(key);
        let number = entry.as_ref().and_then(|entry| entry.whole_number(1..=most)).unwrap_or(default);
        (number, entry)
    };
    let (first, first_entry) =
        number("first_delay_seconds", LONGEST_DELAY_SECONDS, default.first_delay_seconds);
    let (most, most_entry) = number("max_delay_seconds", LONGEST_DELAY_SECONDS, default.max_delay_seconds);
    let (max_attempts, _) = number("max_attempts", MOST_ATTEMPTS, default.max_attempts);
    let (settle_seconds, _) = number("settle_seconds", LONGEST_SETTLE_SECONDS, default.settle_seconds);
    if let Some(entry) = most_entry.or(first_entry).filter(|_| most < first) {
        entry.fail(
            format!("`max_delay_seconds` is {most}, less than `first_delay_seconds`, which is {first}"),
            "the delays grow from the first to the longest",
        );
    }
    table.refuse_unknown_keys();
    Some(RetryConfig { first_delay_seconds: first, max_delay_seconds: most, max_attempts, settle_seconds })
}

fn read_history(entry: &Entry<'_>) -> Option<HistoryConfig> {
    let mut table = entry.table("`history`", "write [history] and its keys on the lines below")?;
    let default = HistoryConfig::default();
    let mut days = |key, default: u32| {
        table.take(key).and_then(|entry| entry.whole_number(1..=LONGEST_HISTORY_DAYS)).unwrap_or(default)
    };
    let skipped_days = days("skipped_days", default.skipped_days);
    let runs_days = days("runs_days", default.runs_days);
    table.refuse_unknown_keys();
    Some(HistoryConfig { skipped_days, runs_days })
}
