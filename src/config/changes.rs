//! What differs between the `renewd.toml` that runs and the one on disk, key by key, and what of it a running
//! service can take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::account::{Account, CredentialSource, key_names, role_words};
use crate::config::settings::{Config, HistoryConfig, LogConfig, LogFormat, RetryConfig};
use crate::domain::product::Provider;

/// One key, or one account, that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// As in `account.shop.budget.orders_per_day`.
    pub key: String,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// None where the key is not written and has no default.
    Value(Option<String>, Option<String>),
    Added,
    Removed,
}

/// What a process holds from its start to its end.
const TAKE_RESTART: [&str; 3] = ["database", "http.listen", "log.format"];

type Keys = BTreeMap<String, String>;

impl KeyChange {
    /// Whether only a restart takes it.
    pub fn takes_restart(&self) -> bool {
        TAKE_RESTART.contains(&self.key.as_str())
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
        match &self.change {
            Change::Value(old, new) => write!(f, "{} {} → {}", self.key, words(old), words(new)),
            Change::Added => write!(f, "{} added", self.key),
            Change::Removed => write!(f, "{} removed", self.key),
        }
    }
}

impl Config {
    /// In the order of their names, none when both would run the same.
    pub fn changes_to(&self, other: &Config) -> Vec<KeyChange> {
        let mut changes = differing("", &self.keys(), &other.keys());
        let names: BTreeSet<_> = self.accounts.keys().chain(other.accounts.keys()).collect();
        for name in names {
            let key = format!("account.{name}");
            match (self.accounts.get(name), other.accounts.get(name)) {
                (Some(old), Some(new)) => {
                    changes.extend(differing(&format!("{key}."), &old.keys(), &new.keys()))
                }
                (None, _) => changes.push(KeyChange { key, change: Change::Added }),
                (_, None) => changes.push(KeyChange { key, change: Change::Removed }),
            }
        }
        changes
    }

    /// This one as far as a service that runs with `running` can take it.
    pub fn beside(self, running: &Config) -> Config {
        Config {
            database: running.database.clone(),
            http: running.http,
            log: LogConfig { format: running.log.format, ..self.log },
            ..self
        }
    }

    /// All but the accounts'. Taken apart, so that a new key cannot be forgotten here.
    fn keys(&self) -> Keys {
        let Config {
            source: _,
            digest: _,
            database,
            policies,
            timezone,
            log: LogConfig { format, level },
            http,
            accounts: _,
            retry: RetryConfig { first_delay_seconds, max_delay_seconds, max_attempts, settle_seconds },
            history: HistoryConfig { skipped_days, runs_days },
        } = self;
        let format = match format {
            LogFormat::Auto => "auto",
            LogFormat::Journal => "journal",
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        };
        keys([
            ("database", Some(database.display().to_string())),
            ("policies", Some(policies.display().to_string())),
            ("timezone", Some(timezone.clone())),
            ("log.format", Some(format.to_owned())),
            ("log.level", Some(level.clone())),
            ("http.listen", http.map(|http| http.listen.to_string())),
            ("retry.first_delay_seconds", Some(first_delay_seconds.to_string())),
            ("retry.max_delay_seconds", Some(max_delay_seconds.to_string())),
            ("retry.max_attempts", Some(max_attempts.to_string())),
            ("retry.settle_seconds", Some(settle_seconds.to_string())),
            ("history.skipped_days", Some(skipped_days.to_string())),
            ("history.runs_days", Some(runs_days.to_string())),
        ])
    }
}

impl Account {
    /// Whether its calls go where the other's go: only then its work can go on with the other's.
    pub fn is_same_place(&self, other: &Account) -> bool {
        let place = |account: &Account| (account.provider, account.endpoint.clone(), account.bare_time_zone);
        place(self) == place(other)
    }

    fn keys(&self) -> Keys {
        let Account { provider, credentials, endpoint, bare_time_zone, rate, budget } = self;
        let mut keys = keys([
            ("provider", Some(provider.to_string())),
            ("endpoint", endpoint.as_ref().map(ToString::to_string)),
            ("bare_time_zone", Some(bare_time_zone.to_string())),
            ("budget.orders_per_day", budget.orders_per_day.map(|count| count.to_string())),
            ("budget.cny_per_day", budget.cny_per_day.map(|amount| amount.to_string())),
            ("budget.cny_per_month", budget.cny_per_month.map(|amount| amount.to_string())),
        ]);
        keys.extend(credentials.keys(*provider));
        keys.extend(rate.iter().map(|(api, pace)| (format!("rate.{api:?}"), pace.to_string())));
        keys
    }
}

impl CredentialSource {
    fn keys(&self, provider: Provider) -> Keys {
        match self {
            CredentialSource::Keys { key_id, secret, token } => {
                let [key_name, secret_name] = key_names(provider);
                keys([
                    (key_name, Some(key_id.to_string())),
                    (secret_name, Some(secret.to_string())),
                    ("token", token.as_ref().map(ToString::to_string)),
                ])
            }
            CredentialSource::Role { name, metadata_endpoint } => keys([
                ("credentials", Some(role_words(name.as_ref()))),
                ("metadata_endpoint", metadata_endpoint.as_ref().map(ToString::to_string)),
            ]),
        }
    }
}

fn keys<const N: usize>(values: [(&str, Option<String>); N]) -> Keys {
    values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn differing(prefix: &str, old: &Keys, new: &Keys) -> Vec<KeyChange> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differs = |key: &&&String| old.get(**key) != new.get(**key);
    let change = |key: &String| KeyChange {
        key: format!("{prefix}{key}"),
        change: Change::Value(old.get(key).cloned(), new.get(key).cloned()),
    };
    names.iter().filter(differs).map(|key| change(key)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{self, Environment};

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("renewd.toml");
        fs::write(&path, text).unwrap();
        let config = config::load(&path, &Environment::of_pairs([])).unwrap().value;
        // Where the file lies is no part of what it says.
        let relative = |path: &std::path::Path| path.strip_prefix(folder.path()).unwrap().to_owned();
        Config { database: relative(&config.database), policies: relative(&config.policies), ..config }
    }

    const ONE: &str = r#"
database = "a.db"
policies = "a.d"
[log]
format = "json"
[account.shop]
provider = "tencentcloud"
secret_id = "env:ID"
secret_key = "env:KEY"
[account.shop.rate]
"redis:RenewInstance" = 18
[account.old]
provider = "tencentcloud"
secret_id = "env:ID"
secret_key = "env:KEY"
"#;

    const OTHER: &str = r#"
database = "b.db"
policies = "b.d"
timezone = "Asia/Shanghai"
[log]
format = "text"
level = "debug"
[http]
[account.shop]
provider = "tencentcloud"
secret_id = "env:ID2"
secret_key = "file:key"
token = "env:TOKEN"
endpoint = "https://example.com"
bare_time_zone = "+09:00"
[account.shop.rate]
"redis:RenewInstance" = 2.5
"redis:DescribeInstances" = 3
[account.shop.budget]
orders_per_day = 5
cny_per_day = 10
cny_per_month = 20.50
[account.new]
provider = "tencentcloud"
secret_id = "env:ID"
secret_key = "env:KEY"
[retry]
first_delay_seconds = 1
max_delay_seconds = 2
max_attempts = 3
settle_seconds = 4
[history]
skipped_days = 1
runs_days = 2
"#;

    #[test]
    fn every_key_that_differs_is_told_with_both_of_its_values() {
        let changes = config(ONE).changes_to(&config(OTHER));
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let secret = told.iter().find(|told| told.starts_with("account.shop.secret_key")).unwrap();
        assert!(
            secret.starts_with("account.shop.secret_key env:KEY → file:") && secret.ends_with("/key"),
            "{secret}"
        );
        let others: Vec<&str> = told.iter().filter(|told| *told != secret).map(String::as_str).collect();
        assert_eq!(
            others,
            [
                "database a.db → b.db",
                "history.runs_days 400 → 2",
                "history.skipped_days 30 → 1",
                "http.listen unset → 127.0.0.1:9464",
                "log.format json → text",
                "log.level info → debug",
                "policies a.d → b.d",
                "retry.first_delay_seconds 30 → 1",
                "retry.max_attempts 12 → 3",
                "retry.max_delay_seconds 3600 → 2",
                "retry.settle_seconds 21600 → 4",
                "timezone UTC → Asia/Shanghai",
                "account.new added",
                "account.old removed",
                "account.shop.bare_time_zone +08 → +09",
                "account.shop.budget.cny_per_day unset → 10.00",
                "account.shop.budget.cny_per_month unset → 20.50",
                "account.shop.budget.orders_per_day unset → 5",
                "account.shop.endpoint unset → https://example.com",
                "account.shop.rate.\"redis:DescribeInstances\" unset → 3",
                "account.shop.rate.\"redis:RenewInstance\" 18 → 2.5",
                "account.shop.secret_id env:ID → env:ID2",
                "account.shop.token unset → env:TOKEN",
            ]
        );
    }

    #[test]
    fn what_a_running_service_cannot_take_stays_as_it_runs() {
        let (running, on_disk) = (config(ONE), config(OTHER));
        let taken = on_disk.clone().beside(&running);
        let left: Vec<String> = taken.changes_to(&on_disk).into_iter().map(|change| change.key).collect();
        assert_eq!(left, TAKE_RESTART);
        assert!(running.changes_to(&taken).iter().all(|change| !change.takes_restart()));
        assert_eq!(taken.log.level, "debug");
    }

    #[test]
    fn an_account_moves_with_its_provider_endpoint_or_zone_and_with_nothing_else() {
        let of = |text: &str| config(text).accounts.into_values().next_back().unwrap();
        let (here, there) = (of(ONE), of(OTHER));
        assert!(!here.is_same_place(&there));
        let same = Account { endpoint: None, bare_time_zone: here.bare_time_zone, ..there.clone() };
        assert!(here.is_same_place(&same), "other secrets, pace and budget");
        assert!(!here.is_same_place(&Account { endpoint: None, ..there }));
    }
}
