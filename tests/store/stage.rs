//! A database of its own for each test, and short ways to what tests need of it.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use renewd::domain::observation::{
    AutoRenew, ChargeType, Facts, InstanceState, Known, Observation, Presence,
};
use renewd::domain::order::Committed;
use renewd::domain::policy::{Action, OnAutoRenew, OnUnknown, Policy, Renew, RenewWhen, ScheduleText, Terms};
use renewd::domain::product::{
    AccountName, Identity, InstanceId, PolicyName, Product, Provider, Region, TencentProduct,
};
use renewd::domain::run::{Epoch, Origin};
use renewd::store::{
    Budget, Claim, DaemonLock, Filter, Firing, FiringRow, Intent, NewSet, PolicyEntry, RunRecord, Sighting,
    Store, Withheld, Word,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

pub const CVM: Product = Product::TencentCloud(TencentProduct::Cvm);
pub const CVM_V2: Product = Product::TencentCloud(TencentProduct::CvmV2);

pub struct Stage {
    pub store: Store,
    pub folder: TempDir,
    _lock: DaemonLock,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When the tests begin.
pub fn start() -> Timestamp {
    at("2026-03-01T00:00:00Z")
}

pub fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

impl Stage {
    pub async fn open() -> Stage {
        Stage::open_in(tempfile::tempdir().unwrap()).await
    }

    /// The database in another folder, as a process of its own would find it.
    pub async fn reopen_at(self, folder: TempDir) -> Stage {
        self.store.close().await;
        Stage::open_in(folder).await
    }

    async fn open_in(folder: TempDir) -> Stage {
        let path = folder.path().join("renewd.db");
        let lock = DaemonLock::acquire(&path).unwrap();
        let store = Store::open_for_daemon(&path, &lock).await.unwrap();
        Stage { store, folder, _lock: lock }
    }

    /// As a new process would find it.
    pub async fn reopen(self) -> Stage {
        self.store.close().await;
        let Stage { folder, _lock, .. } = self;
        drop(_lock);
        Stage::open_in(folder).await
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("renewd.db")
    }

    /// Another process's way in.
    pub async fn command(&self) -> Store {
        Store::open_for_command(&self.path()).await.unwrap()
    }

    pub async fn sql(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).foreign_keys(true).connect().await.unwrap()
    }

    pub async fn begin(&self) -> Epoch {
        self.store.begin_epoch(start(), "test").await.unwrap().epoch
    }

    pub async fn apply(&self, set: &[Policy], now: Timestamp) -> Vec<(String, i64, &'static str)> {
        let entries = set.iter().map(|policy| PolicyEntry {
            policy: policy.clone(),
            source: "test.toml:1".to_owned(),
            digest: format!("{policy:?}"),
        });
        let set = NewSet { policies: entries.collect(), digest: "set".to_owned(), ..NewSet::default() };
        let applied = self.store.apply_policies(set, now).await.unwrap();
        let applied = applied.expect("nothing is due when a set is applied");
        let plan =
            |change: renewd::store::PolicyChange| (change.policy, change.revision, change.kind.as_str());
        applied.changes.into_iter().map(plan).collect()
    }

    /// Fires every schedule once for `due_at` and queues its runs.
    pub async fn fire(&self, due_at: Timestamp) {
        self.record_firing(due_at).await;
        while self.store.queue_runs(due_at).await.unwrap().is_some() {}
    }

    pub async fn record_firing(&self, due_at: Timestamp) {
        let unplanned = self.store.schedules_unplanned().await.unwrap();
        let planned = self.store.schedules_due(Timestamp::MAX).await.unwrap();
        let known = unplanned.into_iter().map(|(id, _, watermark)| (id, watermark));
        let known = known.chain(planned.into_iter().map(|due| (due.id, due.watermark)));
        let firings = known.map(|(schedule_id, watermark_before)| Firing {
            schedule_id,
            watermark_before,
            watermark: due_at,
            next_due: Some(due_at + days(1)),
            rows: vec![FiringRow {
                origin: Origin::Schedule,
                due_at,
                missed_count: 0,
                every_fire: None,
                active_after: None,
                active_through: due_at - SignedDuration::from_millis(1),
                policy_id: None,
            }],
            too_old: Vec::new(),
        });
        self.store.fire(firings.collect()).await.unwrap();
    }

    pub async fn claim(&self, epoch: Epoch) -> Vec<Claim> {
        self.claim_of("shop", epoch).await
    }

    pub async fn claim_of(&self, account: &str, epoch: Epoch) -> Vec<Claim> {
        let account = AccountName::parse(account).unwrap();
        self.store.claim(&account, Provider::TencentCloud, epoch, 100_000, start()).await.unwrap()
    }

    pub async fn see(&self, instance: &str, observed_at: Timestamp, expires_at: Timestamp) -> Known {
        let region = Region::parse("ap-guangzhou").unwrap();
        let id = InstanceId::parse(instance).unwrap();
        let sighting = Sighting {
            identity: Identity::new(Product::REDIS, &region, &id),
            observation: observation(instance, observed_at, expires_at),
        };
        self.store.observe(vec![sighting]).await.unwrap().remove(0)
    }

    /// A look a moment after `now`; answers that moment. What was allowed again by `now` asks for it.
    pub async fn look_again(&self, claim: &mut Claim, now: Timestamp) -> Timestamp {
        assert_eq!(self.intend(claim, now).await.unwrap_err(), Withheld::Superseded, "the look is older");
        let at = now + SignedDuration::from_millis(1);
        let instance = claim.job.instance.clone();
        claim.known = self.see(instance.as_str(), at, claim.known.expires_at().unwrap()).await;
        at
    }

    pub async fn runs(&self) -> Vec<RunRecord> {
        self.store.runs(&Filter::default()).await.unwrap()
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql().await).await.unwrap()
    }

    pub async fn intend(&self, claim: &Claim, now: Timestamp) -> Result<Committed, Withheld> {
        self.store.intend(claim, intent(claim, now)).await.unwrap()
    }
}

pub fn observation(instance: &str, observed_at: Timestamp, expires_at: Timestamp) -> Observation {
    let facts = Facts {
        expires_at: Some(expires_at),
        state: InstanceState::Running,
        charge: ChargeType::Prepaid,
        auto_renew: AutoRenew::Off,
        renew_flag: None,
        spec: None,
        latest_operation: None,
    };
    Observation {
        instance: InstanceId::parse(instance).unwrap(),
        observed_at,
        presence: Presence::Visible(facts),
    }
}

/// What a lane would ask for, without any budget but the absent one's.
pub fn intent(claim: &Claim, now: Timestamp) -> Intent {
    Intent {
        verdict: None,
        cycle: None,
        months: Some(1),
        amount: None,
        client_token: None,
        expiry_before: claim.known.expires_at(),
        observed_at: claim.known.observation.as_ref().unwrap().observed_at,
        budget: budget(now),
        at: now,
    }
}

pub fn budget(now: Timestamp) -> Budget {
    Budget {
        orders_per_day: None,
        per_day: None,
        per_month: None,
        day_start: now - SignedDuration::from_hours(1),
        month_start: now - days(10),
    }
}

/// One month of these instances, daily at four, by account `shop`.
pub fn policy(name: &str, instances: &[&str]) -> Policy {
    Policy {
        name: PolicyName::parse(name).unwrap(),
        account: AccountName::parse("shop").unwrap(),
        product: Product::REDIS,
        region: Region::parse("ap-guangzhou").unwrap(),
        instances: instances.iter().map(|id| InstanceId::parse(id).unwrap()).collect(),
        schedule: ScheduleText { expression: "0 4 * * *".to_owned(), zone: "UTC".to_owned() },
        enabled: true,
        terms: Terms {
            action: Action::Renew(Renew { months: 1, when: RenewWhen::WithinDays(15) }),
            max_price: None,
            on_auto_renew: OnAutoRenew::Skip,
            unknown: OnUnknown::Person,
            renew_data_disks: false,
        },
    }
}

/// As the operator at the keyboard says it.
pub fn word(at: Timestamp) -> Word {
    Word { person: "operator".to_owned(), note: None, at }
}

pub fn every_fire(policy: Policy) -> Policy {
    let action = Action::Renew(Renew { months: 1, when: RenewWhen::EveryFire });
    Policy { terms: Terms { action, ..policy.terms.clone() }, ..policy }
}
