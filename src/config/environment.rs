//! What the process environment gives, as a value: tests need no process of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment variables that configuration and secrets may ask for.
#[derive(Clone)]
pub struct Environment {
    lookup: Arc<Lookup>,
}

impl Environment {
    /// Asks the process each time, so that nothing of it is copied ahead of need.
    pub fn of_process() -> Environment {
        Environment { lookup: Arc::new(|name| std::env::var(name).ok()) }
    }

    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Environment {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let variables: BTreeMap<String, String> = pairs.into_iter().map(owned).collect();
        Environment { lookup: Arc::new(move |name| variables.get(name).cloned()) }
    }

    /// None when unset, empty or not UTF-8.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// `$STATE_DIRECTORY`; systemd gives a colon-separated list when a unit names several.
    pub fn state_directory(&self) -> Option<PathBuf> {
        let list = self.variable("STATE_DIRECTORY")?;
        list.split(':').find(|folder| !folder.is_empty()).map(PathBuf::from)
    }

    pub fn credentials_directory(&self) -> Option<PathBuf> {
        self.variable("CREDENTIALS_DIRECTORY").map(PathBuf::from)
    }

    /// `RENEWD_LOG`, which overrides `log.level`.
    pub fn log_level(&self) -> Option<String> {
        self.variable("RENEWD_LOG")
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}
