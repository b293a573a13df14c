//! Reading the files again while the service works: all or nothing.
//!
//! Everything that can fail is prepared before anything changes: first the policies, in one transaction, then, in
//! memory and at once, what `renewd.toml` says. What fails after that only leaves something untold, and is done again
//! at the next look.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::{self, blocking};
use super::news::{self, News};
use super::{Daemon, DaemonError, start, supervisor};
use crate::cloud::Credentials;
use crate::config::{self, Config, KeyChange, OnDisk, Places, Refusal};
use crate::domain::product::AccountName;
use crate::engine::{Account, Accounts, Engine, Settings, Terms};
use crate::store::{Applied, NewSet, StoreError};

/// Why the files are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// A person asked, and is answered whatever comes of it.
    Asked,
    /// Something may have changed, or it was time for a look.
    Noticed,
}

/// What was last read, and whether it runs.
pub(super) struct Seen {
    pub(super) on_disk: OnDisk,
    pub(super) is_accepted: bool,
}

/// What a look at the disk brings.
struct Look {
    on_disk: OnDisk,
    /// None where nothing is other than at the last look.
    files: Option<Read>,
    secrets: Secrets,
}

type Read = Result<files::Read<Config>, Refusal>;
type Secrets = BTreeMap<AccountName, Result<Credentials, String>>;

/// What a new `renewd.toml` comes down to.
struct Plan {
    config: Config,
    settings: Settings,
    accounts: Accounts,
    /// Of the accounts that stay.
    terms: Vec<(Arc<Account>, Terms)>,
    arrivals: Vec<Arc<Account>>,
    departures: Vec<AccountName>,
    taken: Vec<KeyChange>,
    /// Left to a restart.
    postponed: Vec<KeyChange>,
}

impl Daemon {
    /// Where a change of what the service goes by would show.
    pub(super) async fn places(&self) -> Places {
        let (config, environment) = (self.config.clone(), self.environment.clone());
        blocking(move || Places::of(&config, &environment)).await
    }

    /// Reads files and secrets again. What has any mistake is refused as a whole, and all stays as it runs.
    ///
    /// # Errors
    /// The database failed.
    pub(super) async fn reload(&mut self, occasion: Occasion) -> Result<(), DaemonError> {
        if occasion == Occasion::Asked {
            supervisor::announce_reloading();
        }
        let taken = self.look_and_take(occasion).await;
        if taken.is_err() {
            self.seen = None;
        }
        supervisor::announce_ready();
        taken
    }

    async fn look_and_take(&mut self, occasion: Occasion) -> Result<(), DaemonError> {
        let look = self.look(occasion).await?;
        self.mark_again();
        if occasion == Occasion::Noticed && look.files.is_some() {
            supervisor::announce_reloading();
        }
        self.take(look, occasion).await
    }

    async fn look(&self, occasion: Occasion) -> Result<Look, StoreError> {
        let seen = self.seen.as_ref().filter(|seen| seen.is_accepted || occasion == Occasion::Noticed);
        let (on_disk, files) = self.read(seen.map(|seen| &seen.on_disk)).await?;
        let config = match &files {
            Some(Ok(read)) => &read.with,
            _ => &self.config,
        };
        let (accounts, environment) = (config.accounts.clone(), self.environment.clone());
        let secrets = blocking(move || {
            let read = |account: &config::Account| start::credentials(&account.credentials, &environment);
            accounts.iter().filter_map(|(name, account)| Some((name.clone(), read(account)?))).collect()
        });
        Ok(Look { on_disk, files, secrets: secrets.await })
    }

    /// The files, unless they are what was seen.
    async fn read(&self, seen: Option<&OnDisk>) -> Result<(OnDisk, Option<Read>), StoreError> {
        let mut policies = self.config.policies.clone();
        loop {
            // Before they are read: what is written meanwhile is another edit.
            let source = self.config.source.clone();
            let on_disk = {
                let (source, policies) = (source.clone(), policies.clone());
                blocking(move || OnDisk::look(&source, &policies)).await
            };
            if seen == Some(&on_disk) {
                return Ok((on_disk, None));
            }
            let (environment, now) = (self.environment.clone(), self.clock.now());
            let load = move |known: &_| config::load_all_changed(&source, &environment, known, now);
            match files::read(&self.engine.store, load).await? {
                // It names other policies than those just looked at.
                Ok(read) if read.with.policies != policies => policies = read.with.policies,
                files => return Ok((on_disk, Some(files))),
            }
        }
    }

    async fn take(&mut self, look: Look, occasion: Occasion) -> Result<(), DaemonError> {
        let Look { on_disk, files, secrets } = look;
        match files {
            None => {
                if occasion == Occasion::Asked {
                    self.engine.store.note_unchanged(self.clock.now()).await?;
                }
                let secrets = renew_secrets(&self.engine, secrets).await?;
                if occasion == Occasion::Asked || !secrets.is_empty() {
                    let policies = self.engine.store.policies_in_force().await?;
                    news::log_reloaded(&News { policies, secrets, ..News::default() });
                }
            }
            Some(Err(refusal)) => {
                self.seen = Some(Seen { on_disk, is_accepted: false });
                news::log_refused(&self.engine, &self.config, &refusal).await?;
                renew_secrets(&self.engine, secrets).await?;
            }
            Some(Ok(files::Read { with: config, set, files, warnings })) => {
                warnings.iter().for_each(news::log_warning);
                let plan = self.plan(config)?;
                let applied = apply(&self.engine, set).await?;
                let settings = OnDisk { settings: plan.config.digest.clone(), ..on_disk };
                self.seen = Some(Seen { on_disk: settings, is_accepted: true });
                let news = self.put_in_force(plan, secrets, applied).await?;
                news::log_reloaded(&News { files: Some(files), ..news });
            }
        }
        Ok(())
    }

    /// Prepares all that can fail.
    fn plan(&self, on_disk: Config) -> Result<Plan, DaemonError> {
        let changes = self.config.changes_to(&on_disk);
        let (postponed, taken) = changes.into_iter().partition(KeyChange::takes_restart);
        let config = on_disk.beside(&self.config);
        let running = self.engine.accounts();
        let (mut accounts, mut terms, mut arrivals) = (Accounts::new(), Vec::new(), Vec::new());
        for (name, account) in &config.accounts {
            let stays = self.config.accounts.get(name).is_some_and(|old| old.is_same_place(account));
            let account = match running.get(name).filter(|_| stays) {
                Some(running) => {
                    let new = start::terms(name, account, &self.environment, &self.clock)?;
                    terms.push((Arc::clone(running), new));
                    Arc::clone(running)
                }
                None => {
                    let arrival = start::account(name, account, &self.environment, &self.clock)?;
                    arrivals.push(Arc::new(arrival));
                    Arc::clone(&arrivals[arrivals.len() - 1])
                }
            };
            accounts.insert(name.clone(), account);
        }
        let is_left = |(name, old): &(&AccountName, &Arc<Account>)| {
            accounts.get(*name).is_none_or(|account| !Arc::ptr_eq(account, old))
        };
        let departures = running.iter().filter(is_left).map(|(name, _)| name.clone()).collect();
        let settings = start::settings(&config)?;
        Ok(Plan { config, settings, accounts, terms, arrivals, departures, taken, postponed })
    }

    /// The policies are in force already. In memory all is taken at once; what the database is told comes after.
    async fn put_in_force(
        &mut self,
        plan: Plan,
        mut secrets: Secrets,
        applied: Applied,
    ) -> Result<News, StoreError> {
        let Plan { config, settings, accounts, terms, arrivals, departures, taken, postponed } = plan;
        let told = self.engine.replace(settings, accounts, terms).await;
        departures.iter().for_each(|name| self.parts.end(name));
        arrivals.iter().for_each(|account| self.parts.begin(account));
        self.config = config;
        told?;
        for account in &arrivals {
            secrets.remove(&account.name);
            start::try_secrets(&self.engine, account).await?;
        }
        let secrets = renew_secrets(&self.engine, secrets).await?;
        if !departures.is_empty() {
            start::miss_accounts(&self.engine, &self.config).await?;
        }
        let policies = applied.policies;
        let changes = news::log_policies(&self.engine, applied).await?;
        news::log_postponed(&self.config, &postponed);
        let keys: Vec<String> = postponed.into_iter().map(|change| change.key).collect();
        self.engine.store.note_settings(&self.config.digest, &keys, self.clock.now()).await?;
        let news = News { policies, changes, settings: taken, secrets, files: None };
        if !news.is_empty() {
            self.parts.clockwork.begin_minute();
        }
        Ok(news)
    }
}

/// Takes a set into force in one transaction, after what came due under the old one.
pub(super) async fn apply(engine: &Engine, set: Arc<NewSet>) -> Result<Applied, StoreError> {
    let applied = loop {
        // What came due under the old set is owed under the old set.
        engine.fire_due().await?;
        if let Some(applied) = engine.store.apply_policies(Arc::clone(&set), engine.clock.now()).await? {
            break applied;
        }
    };
    engine.plan_schedules().await?;
    Ok(applied)
}

/// Answers whose secrets are others than before.
async fn renew_secrets(engine: &Engine, secrets: Secrets) -> Result<Vec<AccountName>, StoreError> {
    let accounts = engine.accounts();
    let mut renewed = Vec::new();
    for (name, read) in secrets {
        let Some(account) = accounts.get(&name) else { continue };
        if engine.renew_secrets(account, read).await? {
            renewed.push(name);
        }
    }
    Ok(renewed)
}
