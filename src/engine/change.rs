//! Another configuration, taken into force while the work goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::account::{Account, Source, Terms};
use super::withheld::BUDGET_CODES;
use super::{Engine, Settings};
use crate::cloud::{self, Api, Credentials};
use crate::domain::product::AccountName;
use crate::limiter::Key;
use crate::store::StoreError;

pub type Accounts = BTreeMap<AccountName, Arc<Account>>;

impl Engine {
    /// Takes settings and accounts in the place of those in force; `terms` are for the accounts that stay, whose
    /// handles, and so whose work and memory, `accounts` has from the old ones. What was sent through a key's pace
    /// counts on.
    ///
    /// # Errors
    /// The database could not be told to judge anew what the old budgets withheld: those runs wait as long as they
    /// were told to. All else is in force.
    pub async fn replace(
        &self,
        settings: Settings,
        accounts: Accounts,
        terms: Vec<(Arc<Account>, Terms)>,
    ) -> Result<(), StoreError> {
        let mut with_other_limits = Vec::new();
        for (account, terms) in terms {
            // Before anybody can ask for the new one's pace.
            self.limiter.replace_quota(&account.quota(), &terms.source.quota(&account.cloud));
            let has_other_limits = account.replace_terms(terms);
            with_other_limits.extend(has_other_limits.then_some(account));
        }
        self.settings.store(Arc::new(settings));
        self.accounts.store(Arc::new(accounts));
        self.limiter.set_paces(|key| self.configured_pace(key));
        for account in with_other_limits {
            account.forget_told(BUDGET_CODES);
            self.store.retry_withheld(&account.name, BUDGET_CODES, self.now()).await?;
        }
        self.wake_all();
        Ok(())
    }

    /// Of a key that has no pace yet; the account may have left already.
    pub(super) fn pace(&self, account: &Account, key: &Key, api: Api) -> f64 {
        self.configured_pace(key).unwrap_or_else(|| account.rate(api))
    }

    /// The lowest that an account with this key asks for; None where no account has it.
    fn configured_pace(&self, key: &Key) -> Option<f64> {
        let api = cloud::all_apis().find(|api| api.name == key.api)?;
        let accounts = self.accounts();
        let with_key = accounts.values().filter(|account| account.quota() == key.quota);
        with_key.map(|account| account.rate(api)).min_by(f64::total_cmp)
    }

    /// Takes an account's secrets as they were just read; without any that can be read it is held, as at a start.
    /// Answers whether they are others than before.
    ///
    /// # Errors
    /// The database failed.
    pub async fn renew_secrets(
        &self,
        account: &Account,
        read: Result<Credentials, String>,
    ) -> Result<bool, StoreError> {
        let Ok(credentials) = read else {
            account.cloud.replace_credentials(Credentials::none());
            self.hold_without_secrets(account).await?;
            return Ok(false);
        };
        if !self.take_secrets(account, credentials) {
            return Ok(false);
        }
        self.try_new_secrets(account).await?;
        Ok(true)
    }

    /// From the next signature on. Answers whether they are others than before.
    pub(super) fn take_secrets(&self, account: &Account, credentials: Credentials) -> bool {
        if account.cloud.signs_with(&credentials) {
            return false;
        }
        if let Source::Read(_) = account.source() {
            self.limiter.replace_quota(&account.quota(), credentials.key_id.expose());
        }
        account.cloud.replace_credentials(credentials);
        account.note_secrets_replaced(self.now());
        true
    }
}
