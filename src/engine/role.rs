//! Accounts that sign with their machine's role: its keys are fetched before they are needed, and again before they
//! end.
//!
//! Invariant: at most one fetch of a role is under way, whoever asks for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch as channel};

use super::account::Source;
use super::holds::CREDENTIAL;
use super::{Account, Engine, Part, Step, repeat};
use crate::cloud::{Credentials, Issued, Role};
use crate::domain::failure::{Class, Failure};
use crate::retry::Pace;
use crate::store::StoreError;

/// As the vendors' own tools do. Calls signed until then are answered well before the keys end.
const REFRESH_BEFORE_END: SignedDuration = SignedDuration::from_mins(5);
/// The service is on the machine and costs nothing to ask: an account should not wait long once it answers again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// What is signed later than this before the keys end may arrive after it.
const UNUSED_BEFORE_END: SignedDuration = SignedDuration::from_secs(5);
/// Until a fetch that has just begun has ended.
const SOON: SignedDuration = SignedDuration::from_secs(1);

/// A role with what this life knows of its keys.
pub struct RoleSource {
    role: Arc<Role>,
    flight: Mutex<Option<Flight>>,
    state: Mutex<State>,
}

type Fetched = Result<Arc<Issued>, Failure>;
type Flight = WeakShared<BoxFuture<'static, Fetched>>;

struct State {
    /// Of the keys in use.
    expires_at: Option<Timestamp>,
    next_at: Timestamp,
    failures: u32,
    /// Why the last fetch brought nothing.
    trouble: Option<Failure>,
}

impl RoleSource {
    pub fn new(role: Role) -> RoleSource {
        let state = State { expires_at: None, next_at: Timestamp::MIN, failures: 0, trouble: None };
        RoleSource { role: Arc::new(role), flight: Mutex::default(), state: Mutex::new(state) }
    }

    pub(super) fn is_same(&self, other: &RoleSource) -> bool {
        self.role.is_same(&other.role)
    }

    pub(super) fn quota(&self) -> String {
        self.role.quota()
    }

    /// Who asks while somebody else waits for an answer gets that one.
    async fn fetch(&self) -> Fetched {
        let landing = {
            let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
            match flight.as_ref().and_then(WeakShared::upgrade) {
                Some(under_way) => under_way,
                None => {
                    let role = Arc::clone(&self.role);
                    let begun = async move { role.fetch().await.map(Arc::new) }.boxed().shared();
                    *flight = begun.downgrade();
                    begun
                }
            }
        };
        landing.await
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let state = self.state();
        now >= state.next_at || state.has_run_out(now)
    }

    /// Whether the keys in use have to be let go; from then on there are none.
    fn let_go(&self, now: Timestamp) -> bool {
        let mut state = self.state();
        let has_run_out = state.has_run_out(now);
        state.expires_at = state.expires_at.filter(|_| !has_run_out);
        has_run_out
    }

    /// What an account without keys waits for, and until when.
    pub(super) fn wait(&self, now: Timestamp) -> (Timestamp, String) {
        let state = self.state();
        let words = match &state.trouble {
            Some(failure) => no_keys(failure),
            None => "the keys of its role are being fetched".to_owned(),
        };
        (state.next_at.max(now + SOON), words)
    }

    fn note_fetched(&self, issued: &Issued, now: Timestamp, pace: Pace) {
        // Keys of a very short life are not asked for without a pause.
        let next_at = (issued.expires_at - REFRESH_BEFORE_END).max(now + duration(pace.first_delay));
        *self.state() = State { expires_at: Some(issued.expires_at), next_at, failures: 0, trouble: None };
    }

    fn note_failure(&self, failure: &Failure, now: Timestamp, pace: Pace) {
        let mut state = self.state();
        let longest = pace.max_delay.min(LONGEST_BACKOFF);
        let delay = pace.first_delay.saturating_mul(1 << state.failures.min(16)).min(longest);
        state.failures = state.failures.saturating_add(1);
        state.next_at = now + duration(delay);
        state.trouble = Some(failure.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_run_out(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end - UNUSED_BEFORE_END <= now)
    }
}

fn duration(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}

fn no_keys(failure: &Failure) -> String {
    format!("the keys of its role cannot be had: {}", failure.message)
}

impl Engine {
    /// Fetches now and takes what comes. Answers whether the keys are others than before.
    pub(super) async fn fetch_role(&self, account: &Account, role: &RoleSource) -> Result<bool, Failure> {
        let fetched = tokio::select! {
            fetched = role.fetch() => fetched,
            () = self.stopped() => Err(Failure::ours(Class::Unsent, "Stopping", "the service is stopping")),
        };
        let (now, pace) = (self.now(), self.settings().pace);
        match fetched {
            // Another source took its place meanwhile.
            Ok(_) if !account.goes_by(role) => Ok(false),
            Ok(issued) => {
                role.note_fetched(&issued, now, pace);
                Ok(self.take_secrets(account, issued.credentials.clone()))
            }
            Err(failure) => {
                role.note_failure(&failure, now, pace);
                Err(failure)
            }
        }
    }

    /// As [`Engine::fetch_role`], for who has nothing but words for what is wrong.
    pub(super) async fn reread_role(&self, account: &Account, role: &RoleSource) -> Result<bool, String> {
        self.fetch_role(account, role).await.map_err(|failure| no_keys(&failure))
    }

    /// Its keys cannot be fetched. Those in use go on until they end; without any the account makes no call.
    async fn miss_role(
        &self,
        account: &Account,
        role: &RoleSource,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let (name, now, cause) = (&account.name, self.now(), no_keys(failure));
        let (until, good_until) = {
            let state = role.state();
            (state.next_at, state.expires_at)
        };
        if let Some(end) = good_until {
            tracing::warn!(
                event = "account.secrets", account = %name, class = %failure.class, code = failure.code,
                next_attempt_at = %until,
                "account {name} goes on with the keys that it has until {end}: {cause}"
            );
            return Ok(());
        }
        if self.store.hold_account(name, CREDENTIAL, until, &cause, now).await? {
            tracing::error!(
                event = "account.paused", account = %name, class = %failure.class, code = failure.code,
                next_attempt_at = %until,
                "account {name} is paused: {cause}; it is tried again and goes on by itself"
            );
        }
        Ok(())
    }
}

/// Sees to it that an account with a role has keys. It has nothing to do for one with secrets of its own.
pub struct Keeper {
    engine: Arc<Engine>,
    account: Arc<Account>,
    /// New keys are in place, and what held the account for want of them is not lifted yet.
    is_owed: bool,
}

impl Keeper {
    pub fn new(engine: Arc<Engine>, account: Arc<Account>) -> Keeper {
        Keeper { engine, account, is_owed: false }
    }

    /// Until told to stop.
    pub async fn run(mut self, stop: channel::Receiver<bool>, tick: Arc<Notify>) {
        repeat(&Arc::clone(&self.engine), &mut self, stop, &tick).await;
    }

    async fn lift(&mut self) -> Result<(), StoreError> {
        let (engine, name) = (&self.engine, &self.account.name);
        if engine.store.release_account(name, Some(CREDENTIAL), engine.now()).await? > 0 {
            tracing::info!(
                event = "account.resumed", account = %name,
                "account {name} is resumed: the keys of its role are there"
            );
        }
        self.is_owed = false;
        self.account.wake.notify_one();
        Ok(())
    }
}

impl Part for Keeper {
    const NAME: &'static str = "the keeper of a role's keys";

    async fn step(&mut self) -> Result<Step, StoreError> {
        if self.is_owed {
            self.lift().await?;
        }
        let Source::Role(role) = self.account.source() else { return Ok(Step::Idle) };
        let now = self.engine.now();
        if !role.is_due(now) {
            return Ok(Step::Idle);
        }
        if role.let_go(now) {
            self.account.cloud.replace_credentials(Credentials::none());
        }
        match self.engine.fetch_role(&self.account, &role).await {
            Ok(is_other) => {
                self.is_owed = is_other;
                if is_other {
                    log_keys(&self.account, &role);
                    self.lift().await?;
                }
            }
            Err(_) if self.engine.is_stopping() => {}
            Err(failure) => self.engine.miss_role(&self.account, &role, &failure).await?,
        }
        Ok(Step::Idle)
    }
}

fn log_keys(account: &Account, role: &RoleSource) {
    let Some(end) = role.state().expires_at else { return };
    let name = &account.name;
    tracing::info!(
        event = "account.secrets", account = %name,
        "account {name} has new keys of its role, good until {end}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::cloud::RoleName;
    use crate::domain::product::Provider;
    use crate::domain::secret::Secret;

    const PACE: Pace = Pace {
        first_delay: Duration::from_secs(30),
        max_delay: Duration::from_secs(3_600),
        max_attempts: 12,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn source() -> RoleSource {
        let clock = Arc::new(ManualClock::new(at(0)));
        RoleSource::new(Role::new(Provider::TencentCloud, None, None, clock).unwrap())
    }

    fn issued(expires_at: Timestamp) -> Issued {
        let secret = || Secret::new("s");
        let credentials = Credentials { key_id: secret(), secret_key: secret(), token: Some(secret()) };
        Issued { credentials, expires_at, role: RoleName::parse("renewer").unwrap() }
    }

    #[test]
    fn keys_are_due_at_once_then_five_minutes_before_their_end_and_never_without_a_pause() {
        let source = source();
        assert!(source.is_due(at(0)));
        source.note_fetched(&issued(at(3_600)), at(0), PACE);
        assert!(!source.is_due(at(3_299)) && source.is_due(at(3_300)));
        source.note_fetched(&issued(at(3_600)), at(3_300), PACE);
        assert!(
            !source.is_due(at(3_329)) && source.is_due(at(3_330)),
            "the service gave the same ones again"
        );
    }

    #[test]
    fn failures_are_tried_again_at_least_each_minute_and_keys_go_on_until_shortly_before_their_end() {
        let source = source();
        let failure = Failure::ours(Class::Unsent, "NoMetadata", "no answer");
        source.note_fetched(&issued(at(300)), at(0), PACE);
        for (now, next) in [(30, 60), (60, 120), (120, 180), (180, 240), (240, 300)] {
            source.note_failure(&failure, at(now), PACE);
            assert!(!source.is_due(at(next - 6)) && source.is_due(at(next)), "{next}");
            assert!(!source.let_go(at(now)));
        }
        assert!(!source.let_go(at(294)) && source.is_due(at(295)) && source.let_go(at(295)));
        assert!(!source.is_due(at(295)) && !source.let_go(at(299)), "once");
        assert_eq!(
            source.wait(at(295)),
            (at(300), "the keys of its role cannot be had: no answer".to_owned())
        );
        for _ in 0..40 {
            source.note_failure(&failure, at(300), PACE);
        }
        assert!(source.is_due(at(360)));
    }
}
