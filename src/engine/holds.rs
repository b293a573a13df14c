//! What holds a whole account: a key that was refused, secrets that cannot be read, an empty balance. Each is tested
//! from time to time and lifts itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::account::Source;
use super::calls::{About, CallError};
use super::{Account, Engine};
use crate::cloud::Cloud;
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::product::Region;
use crate::store::{Pause, StoreError};

/// The kind of pause that a refused key brings.
pub(super) const CREDENTIAL: &str = "credential";
/// And the one of an empty balance.
pub(super) const BALANCE: &str = "balance";
/// Credit and vouchers are not in every balance: however it stands, an order is let through as a test after so many
/// looks at it.
const LOOKS_A_TEST: i32 = 6;

/// What the balance was when an order was refused for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shortage {
    balance: Option<Fen>,
    refused_at: Timestamp,
}

impl Engine {
    /// No call is made with a key that was refused until its next test, and that begins with the secrets read again.
    pub(super) async fn key_refused(
        &self,
        account: &Account,
    ) -> Result<Option<(Timestamp, String)>, StoreError> {
        if let Some(held) = self.hold_without_secrets(account).await? {
            return Ok(Some(held));
        }
        let now = self.now();
        let pauses = self.store.pauses(now).await?;
        let is_ours = |pause: &Pause| pause.name.as_deref() == Some(account.name.as_str());
        let Some(pause) = pauses.into_iter().find(|pause| pause.kind == CREDENTIAL && is_ours(pause)) else {
            return Ok(None);
        };
        let until = pause.until.unwrap_or(now);
        if until <= now {
            if let Err(cause) = self.reread_secrets(account).await {
                tracing::error!(
                    event = "account.paused", account = %account.name, class = CREDENTIAL,
                    "account {} is tested with its old key: {cause}", account.name
                );
            }
            return Ok(None);
        }
        let note = pause.note.map(|note| format!(": {note}")).unwrap_or_default();
        Ok(Some((
            until,
            format!("the key of account {} is refused since {}{note}", account.name, pause.since),
        )))
    }

    /// An account whose secrets were never readable makes no call: the cloud's answer to a blank key would hide
    /// what is wrong. Each look reads them again, and once they can be read the account goes on by itself.
    ///
    /// # Errors
    /// The database failed.
    pub async fn hold_without_secrets(
        &self,
        account: &Account,
    ) -> Result<Option<(Timestamp, String)>, StoreError> {
        if !account.cloud.key_id().is_empty() {
            return Ok(None);
        }
        let (name, now) = (&account.name, self.now());
        if let Source::Role(role) = account.source() {
            // Its keeper fetches them, and says what is wrong.
            let (until, cause) = role.wait(now);
            return Ok(Some((until, format!("account {name} makes no call: {cause}"))));
        }
        let Err(cause) = self.reread_secrets(account).await else {
            self.store.release_account(name, Some(CREDENTIAL), now).await?;
            tracing::info!(
                event = "account.resumed", account = %name,
                "account {name} is resumed: its secrets can be read"
            );
            account.wake.notify_one();
            return Ok(None);
        };
        let until = self.next_test();
        if self.store.hold_account(name, CREDENTIAL, until, &cause, now).await? {
            tracing::error!(
                event = "account.paused", account = %name, class = CREDENTIAL, next_attempt_at = %until,
                "account {name} is paused: {cause}; correct that, and it goes on by itself"
            );
        }
        Ok(Some((until, format!("account {name} makes no call: {cause}"))))
    }

    /// The cloud refused an account's key in a call begun then. Where other secrets are in place, or were put there
    /// meanwhile, it goes on with those; else it is held. Answers whether it is.
    pub(super) async fn hold_refused_key(
        &self,
        account: &Account,
        begun: Timestamp,
        until: Timestamp,
        failure: &Failure,
    ) -> Result<bool, StoreError> {
        if account.had_other_secrets(begun) {
            return Ok(false);
        }
        let note = match self.reread_secrets(account).await {
            Ok(true) => return self.try_new_secrets(account).await.map(|()| false),
            // Somebody else was quicker.
            Ok(false) if account.had_other_secrets(begun) => return Ok(false),
            Ok(false) => failure.to_string(),
            // What the cloud says of an old key matters less than that there is no new one.
            Err(cause) => cause,
        };
        let todo = match account.source() {
            Source::Read(_) => "correct its secrets; they are read again at each test",
            Source::Role(_) => {
                "see that its role is bound to this machine; its keys are fetched again at each test"
            }
        };
        self.hold_account(account, CREDENTIAL, until, failure, &note, todo).await.map(|()| true)
    }

    pub(super) async fn hold_for_balance(
        &self,
        account: &Account,
        until: Timestamp,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let todo = "top it up; orders go on by themselves";
        self.hold_account(account, BALANCE, until, failure, &failure.to_string(), todo).await
    }

    async fn hold_account(
        &self,
        account: &Account,
        kind: &'static str,
        until: Timestamp,
        failure: &Failure,
        note: &str,
        todo: &str,
    ) -> Result<(), StoreError> {
        let is_new = self.store.hold_account(&account.name, kind, until, note, self.now()).await?;
        account.is_held.store(true, Ordering::SeqCst);
        if is_new {
            tracing::error!(
                event = "account.paused", account = %account.name, class = %failure.class, code = failure.code,
                next_attempt_at = %until,
                "account {} is paused, the next test is at {until}: {note}; {todo}", account.name
            );
        }
        Ok(())
    }

    /// Other secrets are in place: what held the account for those before is over.
    pub(super) async fn try_new_secrets(&self, account: &Account) -> Result<(), StoreError> {
        let name = &account.name;
        if self.store.release_account(name, Some(CREDENTIAL), self.now()).await? > 0 {
            tracing::info!(
                event = "account.resumed", account = %name,
                "account {name} is resumed: its secrets were replaced and are tried"
            );
        } else {
            tracing::info!(
                event = "account.secrets", account = %name,
                "account {name} goes on with the secrets that were put in place"
            );
        }
        account.wake.notify_one();
        Ok(())
    }

    /// A corrected secret is taken without a restart; answers whether it is another. What is wrong is told without
    /// the secret.
    pub(super) async fn reread_secrets(&self, account: &Account) -> Result<bool, String> {
        match account.source() {
            Source::Read(read) => {
                let credentials = read().map_err(|cause| format!("its secrets cannot be read: {cause}"))?;
                Ok(self.take_secrets(account, credentials))
            }
            Source::Role(role) => self.reread_role(account, &role).await,
        }
    }

    /// An order went through: what held the account is over.
    pub(super) async fn free_account(&self, account: &Account) {
        if !account.is_held.swap(false, Ordering::SeqCst) {
            return;
        }
        match self.store.release_account(&account.name, None, self.now()).await {
            Ok(0) => {}
            Ok(_) => tracing::info!(
                event = "account.resumed", account = %account.name,
                "account {} is resumed: an order went through", account.name
            ),
            Err(error) => {
                account.is_held.store(true, Ordering::SeqCst);
                tracing::error!(event = "database.failed", account = %account.name, %error, "the account's pause could not be lifted");
            }
        }
    }

    /// Remembers what was too little.
    pub(super) async fn note_shortage(&self, account: &Account) -> Result<(), StoreError> {
        let shortage = Shortage { balance: self.balance(account).await?, refused_at: self.now() };
        *account.shortage.lock().unwrap_or_else(PoisonError::into_inner) = Some(shortage);
        Ok(())
    }

    /// Before a paused account's next test is left to an order: the balance says whether there is any hope. Money
    /// that came lifts the pause, and the soonest expiry goes first.
    pub(super) async fn test_balance(&self, account: &Account) -> Result<(), StoreError> {
        if !account.is_held.load(Ordering::SeqCst) {
            return Ok(());
        }
        let now = self.now();
        let is_due = |pause: &Pause| {
            let is_ours = pause.kind == BALANCE && pause.name.as_deref() == Some(account.name.as_str());
            is_ours && pause.until.is_none_or(|until| until <= now)
        };
        let Some(pause) = self.store.pauses(now).await?.into_iter().find(is_due) else { return Ok(()) };
        let shortage = *account.shortage.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Shortage { balance: Some(before), refused_at }) = shortage else { return Ok(()) };
        let Some(balance) = self.balance(account).await? else { return Ok(()) };
        if balance > before {
            self.store.release_account(&account.name, Some(BALANCE), now).await?;
            tracing::info!(
                event = "account.resumed", account = %account.name,
                "account {} is resumed: its balance rose from {before} to {balance} CNY", account.name
            );
        } else if now.duration_since(refused_at) < self.next_test().duration_since(now) * LOOKS_A_TEST {
            let note = pause.note.unwrap_or_default();
            self.store.hold_account(&account.name, BALANCE, self.next_test(), &note, now).await?;
        }
        Ok(())
    }

    /// None where it cannot be read.
    async fn balance(&self, account: &Account) -> Result<Option<Fen>, StoreError> {
        match self.ask_balance(account).await {
            Ok(balance) => Ok(balance),
            Err(CallError::Cloud(_)) => Ok(None),
            Err(CallError::Store(error)) => Err(error),
        }
    }

    /// None where this build has no way to ask.
    pub(super) async fn ask_balance(&self, account: &Account) -> Result<Option<Fen>, CallError> {
        let Some((api, region)) = Cloud::balance_api(account.provider).zip(Region::parse("global").ok())
        else {
            return Ok(None);
        };
        let about = About { region: &region, order_row: None, instances: 0 };
        let permit = self.permit(account, api, &region).await;
        let at = self.now();
        let call = self.read(api, account.cloud.balance()).await;
        permit.written();
        self.finish_call(account, api, about, at, call).await.map(Some)
    }
}
