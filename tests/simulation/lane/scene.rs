//! The stage with a lane at work on it and somebody who listens to what it says.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use renewd::clock::Clock;
use renewd::domain::policy::Policy;
use renewd::domain::product::AccountName;
use renewd::engine::{Account, Lane, Step};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::store::{PauseScope, Store, Word};
use sqlx::FromRow;
use tracing::subscriber::DefaultGuard;

use super::told::Told;
use crate::fleet::days;
use crate::stage::Stage;

/// From the stage's start to its policies' firing at four.
pub const TO_THE_FIRING: Duration = Duration::from_secs(3 * 3600);
pub const RENEW_REDIS: &str = "redis:RenewInstance";
pub const DESCRIBE_REDIS: &str = "redis:DescribeInstances";

/// Of real time, in which others have their turn.
pub const A_TURN: Duration = Duration::from_millis(1);
/// What takes longer does not happen.
pub const PATIENCE: Duration = Duration::from_secs(3);

pub struct Scene {
    pub stage: Stage,
    told: Told,
    _listening: DefaultGuard,
}

/// A run as its row has it.
#[derive(Debug, FromRow)]
pub struct Run {
    pub id: i64,
    pub state: String,
    pub hold: Option<String>,
    pub attempts: u32,
    pub reason: Option<String>,
    pub class: Option<String>,
    pub code: Option<String>,
    /// From now, to the nearest second.
    pub wait_s: Option<i64>,
}

/// An order as its row has it.
#[derive(Debug, FromRow)]
pub struct Order {
    pub state: String,
    pub order_id: Option<String>,
    pub amount_fen: Option<i64>,
    pub repeats: i64,
    pub class: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub look_s: Option<i64>,
}

impl Scene {
    /// One o'clock; these instances, each with so many days left and looked at once, and these policies.
    pub async fn open(instances: &[(&str, i64)], policies: &[Policy]) -> Scene {
        let (told, _listening) = Told::listen();
        let stage = Stage::bare().await.unwrap();
        for (id, left) in instances {
            stage.add_instance(id, stage.clocks.true_now() + days(*left));
        }
        let mut scene = Scene { stage, told, _listening };
        scene.set(policies).await;
        scene.tick().await;
        scene
    }

    pub async fn set(&mut self, policies: &[Policy]) {
        let named = policies.iter().map(|policy| (policy.name.to_string(), policy.clone()));
        self.stage.policies = named.collect();
        self.stage.reload().await.unwrap();
    }

    pub async fn tick(&mut self) {
        self.stage.life().tick().await.unwrap();
    }

    /// Time passes, and what is due by then is queued.
    pub async fn pass(&mut self, length: Duration) {
        self.stage.clocks.advance(length);
        self.tick().await;
    }

    /// Four o'clock, and nothing said so far counts.
    pub async fn fire(&mut self) {
        self.pass(TO_THE_FIRING).await;
        self.told.forget();
    }

    pub fn lane(&mut self, account: &str) -> &mut Lane {
        let at = self.stage.life().engine.accounts().keys().position(|name| name.as_str() == account);
        &mut self.stage.life().lanes[at.unwrap()]
    }

    /// Of no life's own.
    pub fn another_lane(&mut self, account: &str) -> Lane {
        let account = self.account(account);
        Lane::new(Arc::clone(&self.stage.life().engine), account)
    }

    pub fn account(&mut self, account: &str) -> Arc<Account> {
        let accounts = self.stage.life().engine.accounts();
        Arc::clone(&accounts[&AccountName::parse(account).unwrap()])
    }

    /// One round, whatever it sends still on its way.
    pub async fn step(&mut self, account: &str) -> Step {
        self.lane(account).step().await.unwrap()
    }

    /// One round, and the answer to what it sends.
    pub async fn serve(&mut self, account: &str) -> Step {
        let step = self.step(account).await;
        self.lane(account).settle().await;
        step
    }

    /// Rounds until there is nothing left to do, each with its answer.
    pub async fn work(&mut self, account: &str) {
        for _ in 0..100 {
            if self.serve(account).await == Step::Idle {
                return;
            }
        }
        panic!("the lane finds no rest");
    }

    /// Lets others go on until that is so.
    pub async fn until(&self, is_so: impl Fn(&Scene) -> bool) {
        let looking = async {
            while !is_so(self) {
                tokio::time::sleep(A_TURN).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("others come that far");
    }

    pub fn told(&self, event: &str, fields: &[&str]) -> Vec<String> {
        self.told.of(event, fields)
    }

    pub fn forget_told(&self) {
        self.told.forget();
    }

    /// The instances charged for, in their order.
    pub fn charged(&self) -> Vec<String> {
        self.stage.cloud.ledger().into_iter().map(|charge| charge.instance).collect()
    }

    pub fn asked(&self, api: &str) -> u64 {
        self.stage.cloud.requests().get(api).map_or(0, |count| count.total)
    }

    pub fn spoil(&self, api: &str, effect: Effect, spoilt: Spoilt, times: u32) {
        self.stage.cloud.inject(vec![Fault::spoil(api, effect, spoilt).times(times)]);
    }

    /// Refuses the next calls with this code.
    pub fn refuse(&self, api: &str, code: &str, times: u32) {
        self.spoil(api, Effect::Before, Spoilt::Code(code.to_owned()), times);
    }

    pub async fn runs(&mut self, instance: &str) -> Vec<Run> {
        let now = self.now().as_millisecond();
        sqlx::query_as(
            "SELECT r.id, r.state, r.hold, r.attempts, r.reason, r.error ->> 'class' AS class,
                    r.error ->> 'code' AS code,
                    cast(round((r.next_attempt_at_ms - ?2) / 1000.0) AS INTEGER) AS wait_s
             FROM runs r JOIN instances i ON i.id = r.instance_id WHERE i.instance = ?1 ORDER BY r.id",
        )
        .bind(instance)
        .bind(now)
        .fetch_all(self.stage.database())
        .await
        .unwrap()
    }

    /// The latest.
    pub async fn run(&mut self, instance: &str) -> Run {
        self.runs(instance).await.pop().expect("a run")
    }

    /// State, what it waits for and for how long.
    pub async fn waits(&mut self, instance: &str) -> (String, Option<String>, Option<i64>) {
        let run = self.run(instance).await;
        (run.state, run.hold, run.wait_s)
    }

    pub async fn reason(&mut self, instance: &str) -> String {
        self.run(instance).await.reason.unwrap_or_default()
    }

    pub async fn orders(&mut self, instance: &str) -> Vec<Order> {
        let now = self.now().as_millisecond();
        sqlx::query_as(
            "SELECT o.state, o.order_id, o.amount_fen, o.repeats, o.error ->> 'class' AS class,
                    o.error ->> 'code' AS code, o.error ->> 'message' AS message,
                    cast(round((o.next_look_at_ms - ?2) / 1000.0) AS INTEGER) AS look_s
             FROM orders o JOIN instances i ON i.id = o.instance_id WHERE i.instance = ?1 ORDER BY o.id",
        )
        .bind(instance)
        .bind(now)
        .fetch_all(self.stage.database())
        .await
        .unwrap()
    }

    /// The latest.
    pub async fn order(&mut self, instance: &str) -> Order {
        self.orders(instance).await.pop().expect("an order")
    }

    pub async fn states(&mut self, instance: &str) -> Vec<String> {
        self.runs(instance).await.into_iter().map(|run| run.state).collect()
    }

    pub async fn pause(&mut self, scope: PauseScope, length: Option<Duration>) {
        let now = self.now();
        let until = length.map(|length| now + length);
        self.store().pause(&scope, until, &operator(now)).await.unwrap();
    }

    pub fn store(&mut self) -> Store {
        self.stage.life().engine.store.clone()
    }

    pub fn now(&self) -> Timestamp {
        self.stage.clocks.now()
    }

    pub async fn sql(&mut self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(self.stage.database()).await.unwrap();
    }
}

pub fn operator(at: Timestamp) -> Word {
    Word { person: "operator".to_owned(), note: None, at }
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// As [`Scene::waits`] has it.
pub fn waiting(hold: &str, wait_s: i64) -> (String, Option<String>, Option<i64>) {
    ("waiting".to_owned(), Some(hold.to_owned()), Some(wait_s))
}
