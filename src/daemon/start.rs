//! From configuration to an engine: the database, the accounts with their secrets, the settings.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::DaemonError;
use super::files::{self, Read, blocking};
use crate::clock::Clock;
use crate::cloud::{BuildError, Cloud, Credentials, Role};
use crate::config::{
    self, Config, CredentialSource, Environment, KnownFiles, Loaded, PolicySet, Refusal, secrets,
};
use crate::domain::policy::Policy;
use crate::domain::product::AccountName;
use crate::domain::secret::SecretRef;
use crate::engine::{Account, Engine, Limits, RoleSource, Settings, Source, Terms};
use crate::retry::Pace;
use crate::store::{DaemonLock, Filter, PolicyEntry, Store, StoreError};

/// Locks and opens the database, and reads the policies. Where the policies are refused and no set was ever accepted, nothing is made.
pub(super) async fn open(
    config: &Config,
    now: Timestamp,
) -> Result<(DaemonLock, Store, Result<Read<()>, Refusal>), DaemonError> {
    let load = {
        let config = config.clone();
        move |known: &KnownFiles| {
            let loaded = config::load_changed_policies(&config, known, now)?;
            Ok(Loaded { value: ((), loaded.value), warnings: loaded.warnings })
        }
    };
    let first = match config.database.exists() {
        true => None,
        false => {
            let load = load.clone();
            let read = blocking(move || load(&KnownFiles::default())).await;
            Some(Read::of(read.map_err(DaemonError::Refused)?))
        }
    };
    let lock = DaemonLock::acquire(&config.database)?;
    let store = Store::open_for_daemon(&config.database, &lock).await?;
    let read = match first {
        Some(read) => Ok(read),
        None => files::read(&store, load).await?,
    };
    match read {
        Err(refusal) if store.set_in_force().await?.digest.is_none() => {
            store.close().await;
            Err(DaemonError::Refused(refusal))
        }
        read => Ok((lock, store, read)),
    }
}

pub(super) fn engine(
    config: &Config,
    environment: &Environment,
    store: Store,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Engine>, DaemonError> {
    let accounts = config
        .accounts
        .iter()
        .map(|(name, account)| self::account(name, account, environment, &clock))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Engine::new(store, clock, accounts, settings(config)?)))
}

pub(super) fn settings(config: &Config) -> Result<Settings, DaemonError> {
    let zone = TimeZone::get(&config.timezone)
        .map_err(|error| DaemonError::Zone { zone: config.timezone.clone(), error })?;
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Ok(Settings {
        pace: Pace {
            first_delay: seconds(config.retry.first_delay_seconds),
            max_delay: seconds(config.retry.max_delay_seconds),
            max_attempts: config.retry.max_attempts,
        },
        settle: seconds(config.retry.settle_seconds),
        zone,
    })
}

/// One account whose secrets cannot be read must not keep the others from being renewed: it is held, with blank keys
/// that no call is made with, until they can be read.
pub(super) fn account(
    name: &AccountName,
    account: &config::Account,
    environment: &Environment,
    clock: &Arc<dyn Clock>,
) -> Result<Account, DaemonError> {
    // Of a role they are fetched by its keeper: nobody waits for that here.
    let credentials = credentials(&account.credentials, environment).and_then(Result::ok);
    let cloud = Cloud::new(
        account.provider,
        credentials.unwrap_or_else(Credentials::none),
        account.endpoint.clone(),
        account.bare_time_zone.to_time_zone(),
        Arc::clone(clock),
    );
    let cloud = cloud.map_err(|error| not_set_up(name, &error))?;
    let terms = terms(name, account, environment, clock)?;
    Ok(Account::new(name.clone(), account.provider, cloud, terms))
}

fn not_set_up(name: &AccountName, error: &BuildError) -> DaemonError {
    DaemonError::Account { account: name.to_string(), reason: error.to_string() }
}

pub(super) fn terms(
    name: &AccountName,
    account: &config::Account,
    environment: &Environment,
    clock: &Arc<dyn Clock>,
) -> Result<Terms, DaemonError> {
    let limits = Limits {
        orders_per_day: account.budget.orders_per_day,
        per_day: account.budget.cny_per_day,
        per_month: account.budget.cny_per_month,
    };
    let source = match account.credentials.clone() {
        CredentialSource::Keys { key_id, secret, token } => {
            let environment = environment.clone();
            Source::Read(Arc::new(move || read_keys(&key_id, &secret, token.as_ref(), &environment)))
        }
        CredentialSource::Role { name: role, metadata_endpoint } => {
            let role = Role::new(account.provider, role, metadata_endpoint, Arc::clone(clock));
            Source::Role(Arc::new(RoleSource::new(role.map_err(|error| not_set_up(name, &error))?)))
        }
    };
    Ok(Terms { rates: account.rate.clone().into_iter().collect(), limits, source })
}

/// None of a role: its keys are nowhere to be read.
pub(super) fn credentials(
    source: &CredentialSource,
    environment: &Environment,
) -> Option<Result<Credentials, String>> {
    match source {
        CredentialSource::Keys { key_id, secret, token } => {
            Some(read_keys(key_id, secret, token.as_ref(), environment))
        }
        CredentialSource::Role { .. } => None,
    }
}

fn read_keys(
    key_id: &SecretRef,
    secret: &SecretRef,
    token: Option<&SecretRef>,
    environment: &Environment,
) -> Result<Credentials, String> {
    let read = |reference| secrets::resolve(reference, environment).map_err(|error| error.to_string());
    let token = token.map(read).transpose()?;
    Ok(Credentials { key_id: read(key_id)?, secret_key: read(secret)?, token })
}

/// A policy of the last accepted set may name an account that `renewd.toml` no longer has, and so may an open order:
/// nothing would ever be done for it, and that is not passed over in silence.
pub(super) async fn miss_accounts(engine: &Engine, config: &Config) -> Result<(), StoreError> {
    for policy in engine.store.policies(&Filter::default()).await? {
        let known = config.accounts.keys().any(|name| name.as_str() == policy.account);
        if !policy.retired && !known {
            tracing::error!(
                event = "config.refused",
                policy = policy.policy,
                account = policy.account,
                "policy {} is in force and its account {} is not in {}: nothing is ordered for it",
                policy.policy,
                policy.account,
                config.source.display()
            );
        }
    }
    for account in engine.store.accounts_with_open_orders().await? {
        if !config.accounts.keys().any(|name| name.as_str() == account) {
            tracing::error!(
                event = "config.refused",
                account,
                "orders of account {account} are still open and it is not in {}: put it back so that they are \
                 followed to their end, or settle them with `renewd resolve`",
                config.source.display()
            );
        }
    }
    Ok(())
}

/// An account that comes tries its key anew, whatever was known of it: who has corrected one expects it to be used.
pub(super) async fn try_secrets(engine: &Engine, account: &Account) -> Result<(), StoreError> {
    let name = &account.name;
    let released = engine.store.release_account(name, Some("credential"), engine.clock.now()).await?;
    let held = engine.hold_without_secrets(account).await?;
    if released > 0 && held.is_none() {
        tracing::info!(
            event = "account.resumed",
            account = %name,
            "account {name} is resumed: its key is tried anew"
        );
    }
    Ok(())
}

/// What other programs read the way out from.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// An order goes straight to the cloud: what stands in between could hold it back, or send it again. Where only a
/// proxy leads out, nothing would be renewed, and the reason must not have to be guessed.
pub(super) fn warn_of_proxies(environment: &Environment) {
    for name in PROXY_VARIABLES.into_iter().filter(|name| environment.variable(name).is_some()) {
        tracing::warn!(
            event = "config.doubtful",
            "{name} is set and not used: renewd calls the clouds directly; let it out to their hosts, or unset {name}"
        );
    }
}

/// The set as the store takes it.
pub fn entries(mut set: PolicySet) -> Vec<PolicyEntry> {
    let sources = std::mem::take(&mut set.sources);
    let place = |policy: &Policy| {
        sources
            .get(&policy.name)
            .map_or_else(String::new, |source| format!("{}:{}", source.file.display(), source.line))
    };
    set.policies
        .into_iter()
        .map(|policy| PolicyEntry { source: place(&policy), digest: digest(&policy), policy })
        .collect()
}

/// Over everything a policy says.
fn digest(policy: &Policy) -> String {
    HEXLOWER.encode(&Sha256::digest(format!("{policy:?}").as_bytes()))
}
