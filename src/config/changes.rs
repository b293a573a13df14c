//! What differs between the `renewd.toml` that runs and the one on disk, in names only.

use std::collections::BTreeSet;

use crate::config::settings::Config;

impl Config {
    /// The keys and sections that differ in `other`, none when it would run the same.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        // Taken apart, so that a new key cannot be forgotten here.
        let Config { source: _, database, policies, timezone, log, http, accounts, retry, history } = self;
        let parts = [
            ("database", *database != other.database),
            ("policies", *policies != other.policies),
            ("timezone", *timezone != other.timezone),
            ("[log]", *log != other.log),
            ("[http]", *http != other.http),
            ("[retry]", *retry != other.retry),
            ("[history]", *history != other.history),
        ];
        let changed = parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned());
        let names: BTreeSet<_> = accounts.keys().chain(other.accounts.keys()).collect();
        let of_accounts = names.into_iter().filter_map(|name| {
            let what = match (accounts.get(name), other.accounts.get(name)) {
                (Some(old), Some(new)) if old == new => return None,
                (Some(_), Some(_)) => "",
                (None, _) => " (new)",
                (_, None) => " (gone)",
            };
            Some(format!("[account.{name}]{what}"))
        });
        changed.chain(of_accounts).collect()
    }
}
