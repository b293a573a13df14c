//! `plan` and `check --online` over the forty instances of `tests/fleet`, every word of their answers pinned: the
//! practice cloud and the commands share a clock that stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use super::check::{self, CheckArgs};
use super::plan::{self, PlanArgs};
use crate::clock::{Clock, ManualClock, Sleep};
use crate::config::{self, Environment};
use crate::daemon;
use crate::domain::money::Fen;
use crate::domain::product::PolicyName;
use crate::engine::{Engine, Lane, Reconcile, SecondWatch, Step, Ticker};
use crate::sandbox::faults::{Effect, Fault, Spoilt};
use crate::sandbox::seed::Seed;
use crate::sandbox::{self, Options, Running, SECRET_KEY};
use crate::store::{DaemonLock, NewSet, PauseScope, Store, Trigger, Word};

const NOW: &str = "2026-11-20T02:00:00Z";
const MINUTE: Duration = Duration::from_secs(60);
const HALF_HOUR_MS: i64 = 1_800_000;
/// Where databases cost no seek: each commit of the store waits for its fsync.
const MEMORY_FOLDER: &str = "/dev/shm";
const ENDPOINT: &str = "http://127.0.0.1:9500";

/// Shows whole minutes: how long a command waits for its permits must not be in its answer.
struct Minutes(ManualClock);

impl Clock for Minutes {
    fn now(&self) -> Timestamp {
        let seconds = self.0.now().as_second();
        Timestamp::from_second(seconds - seconds % 60).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        self.0.sleep(wait)
    }
}

struct Fleet {
    cloud: Running,
    clock: Arc<Minutes>,
    environment: Environment,
    folder: TempDir,
    /// As if the service ran.
    lock: Option<DaemonLock>,
}

impl Fleet {
    async fn new() -> Fleet {
        let clock = Arc::new(Minutes(ManualClock::new(NOW.parse().unwrap())));
        let fixture = fixture();
        let seed = Seed::parse(&fs::read_to_string(fixture.join("seed.toml")).unwrap()).unwrap();
        let options = Options { listen: ([127, 0, 0, 1], 0).into(), seed: Some(seed), clock: clock.clone() };
        let cloud = sandbox::start(options).await.unwrap();
        let memory = Path::new(MEMORY_FOLDER);
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(place).unwrap();
        let settings = fs::read_to_string(fixture.join("renewd.toml")).unwrap();
        fs::write(folder.path().join("renewd.toml"), settings.replace(ENDPOINT, &cloud.base_url())).unwrap();
        fs::create_dir(folder.path().join("policies.d")).unwrap();
        for file in ["redis.toml", "servers.toml"] {
            fs::copy(fixture.join("policies.d").join(file), folder.path().join("policies.d").join(file))
                .unwrap();
        }
        let environment = Environment::of_pairs([
            ("SHOP_SECRET_ID", "AKIDsandbox-shop"),
            ("OFFICE_SECRET_ID", "AKIDsandbox-office"),
            ("VIDEO_KEY_ID", "AKLTsandbox-video"),
            ("SECRET_KEY", SECRET_KEY),
        ]);
        Fleet { cloud, clock, environment, folder, lock: None }
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("renewd.toml")
    }

    /// A service as far as its parts go, which are stepped by hand.
    async fn service(&mut self) -> (Arc<Engine>, Store) {
        let database = self.folder.path().join("renewd.db");
        let lock = self.lock.take().unwrap_or_else(|| DaemonLock::acquire(&database).unwrap());
        let store = Store::open_for_daemon(&database, &lock).await.unwrap();
        self.lock = Some(lock);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let config = config::load(&self.settings(), &self.environment).unwrap().value;
        let engine = daemon::engine_on(&config, &self.environment, store.clone(), clock).unwrap();
        engine.begin_epoch().await.unwrap();
        (engine, store)
    }

    /// What it has done this morning: one order paid, the answer to another lost, and a pause by a person.
    async fn with_a_past(mut self) -> Fleet {
        let (engine, store) = self.service().await;
        let set = config::load_all(&self.settings(), &self.environment, self.clock.now()).unwrap().value.1;
        let digest = set.digest.clone();
        let set = NewSet { policies: daemon::entries(set), digest, ..NewSet::default() };
        store.apply_policies(set, self.clock.now()).await.unwrap().unwrap();
        engine.plan_schedules().await.unwrap();
        engine.each_minute().await.unwrap();
        let lost = Fault::spoil("redis:RenewInstance", Effect::Before, Spoilt::Drop);
        self.cloud.inject(vec![lost.on("crs-cache-11")]);
        self.trigger(&store, "session-cache", "crs-cache-11").await;
        self.trigger(&store, "web", "ins-web-8").await;
        self.wait();
        work(&engine).await;
        let word = self.word(Some("a colleague looks after them"));
        let scope = PauseScope::Policy(PolicyName::parse("old-servers").unwrap());
        store.pause(&scope, None, &word).await.unwrap();
        store.close().await;
        self
    }

    async fn trigger(&self, store: &Store, policy: &str, instance: &str) {
        let trigger =
            Trigger { policy: policy.to_owned(), instance: Some(instance.to_owned()), again: false };
        store.trigger(&trigger, &self.word(None)).await.unwrap();
    }

    fn word(&self, note: Option<&str>) -> Word {
        Word { person: "operator".to_owned(), note: note.map(str::to_owned), at: self.clock.now() }
    }

    /// The cloud counts calls by the second, and this one would not pass.
    fn wait(&self) {
        self.clock.0.advance(MINUTE);
    }

    async fn plan(&self, args: PlanArgs, width: Option<usize>) -> (String, u8) {
        self.wait();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let answer =
            plan::answer(&self.settings(), &args, &self.environment, clock, width).await.unwrap().unwrap();
        (self.without_folder(&answer.text), answer.exit)
    }

    async fn check(&self, args: CheckArgs) -> (String, u8) {
        self.wait();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let answer = check::answer(&self.settings(), &args, &self.environment, clock).await.unwrap().unwrap();
        (self.without_folder(&answer.text), answer.exit)
    }

    fn without_folder(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "/etc/renewd")
    }

    fn charges(&self) -> usize {
        self.cloud.ledger().len()
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleet")
}

/// Everything that can be done now.
async fn work(engine: &Arc<Engine>) {
    for account in engine.accounts().values() {
        let mut lane = Lane::new(Arc::clone(engine), Arc::clone(account));
        let reconcile = Reconcile::new(Arc::clone(engine), Arc::clone(account));
        loop {
            let mut step = reconcile.step().await.unwrap();
            while lane.step().await.unwrap() == Step::Worked {
                lane.settle().await;
                step = Step::Worked;
            }
            if step == Step::Idle {
                break;
            }
        }
    }
}

/// The service from half hour to half hour of those hours in which this fleet's policies fire and its days begin.
async fn live(engine: &Arc<Engine>, clock: &Minutes, through: Timestamp) {
    let mut ticker = Ticker::new(Arc::clone(engine));
    let mut second = SecondWatch::new(Arc::clone(engine));
    loop {
        let into = clock.0.now().as_millisecond().rem_euclid(HALF_HOUR_MS);
        clock.0.advance(Duration::from_millis(u64::try_from(HALF_HOUR_MS - into).unwrap()));
        if clock.now() > through {
            return;
        }
        let hour = clock.now().as_second().rem_euclid(86_400) / 3_600;
        if !matches!(hour, 11 | 16..=21) {
            continue;
        }
        while ticker.step().await.unwrap() == Step::Worked {}
        second.step().await.unwrap();
        work(engine).await;
    }
}

fn online() -> PlanArgs {
    PlanArgs { days: 7, offline: false, json: false }
}

/// Each in a file of its own beside the fleet, so that a change of any word is seen.
fn pin(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(fixture().join("answers"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_plan_of_forty_instances_says_of_each_what_will_be_done_and_why() {
    let fleet = Fleet::new().await.with_a_past().await;
    let before = fleet.charges();
    let (text, exit) = fleet.plan(online(), None).await;
    assert_eq!((exit, fleet.charges()), (0, before));
    pin("plan", &text);
    let (narrow, _) = fleet.plan(online(), Some(80)).await;
    assert!(narrow.lines().take(44).all(|line| line.chars().count() <= 80), "{narrow}");
    pin("plan-of-80-columns", &narrow);
}

#[tokio::test]
async fn a_plan_in_json_says_the_same_with_exact_times_and_sums() {
    let fleet = Fleet::new().await.with_a_past().await;
    let (text, _) = fleet.plan(PlanArgs { json: true, ..online() }, None).await;
    let plan = parsed(&text);
    let instances = plan["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 40);
    let count = |mark: &str| instances.iter().filter(|line| line["mark"] == mark).count();
    for mark in ["renew", "upgrade", "skip", "blocked"] {
        assert!(count(mark) > 0, "{mark}");
        assert_eq!(plan["totals"][mark], count(mark), "{mark}");
        let of_accounts =
            plan["accounts"].as_array().unwrap().iter().map(|account| account[mark].as_u64().unwrap());
        assert_eq!(of_accounts.sum::<u64>(), count(mark) as u64, "{mark}");
    }
    let products: BTreeSet<_> = instances.iter().map(|line| line["product"].as_str()).collect();
    assert_eq!(products.len(), 4);
    pin("plan-json", &text);
}

#[tokio::test]
async fn a_plan_offline_goes_by_the_last_looks_and_asks_no_cloud() {
    let fleet = Fleet::new().await.with_a_past().await;
    let calls = |fleet: &Fleet| fleet.cloud.requests().values().map(|count| count.total).sum::<u64>();
    let before = calls(&fleet);
    let nobody = Fleet { environment: Environment::of_pairs([]), ..fleet };
    let (text, exit) = nobody.plan(PlanArgs { offline: true, ..online() }, None).await;
    assert_eq!((exit, calls(&nobody)), (0, before));
    pin("plan-offline", &text);
}

#[tokio::test]
async fn a_check_of_forty_instances_online_tells_everything_that_is_wrong_at_once() {
    let fleet = Fleet::new().await;
    let (text, exit) = fleet.check(CheckArgs { online: true, json: false }).await;
    assert_eq!((exit, fleet.charges()), (1, 0));
    pin("check-online", &text);
    let (text, exit) = fleet.check(CheckArgs { online: true, json: true }).await;
    assert_eq!(exit, 1);
    let report = parsed(&text);
    assert_eq!(report["instances"].as_array().unwrap().len(), 40);
    assert!(!fleet.folder.path().join("renewd.db").exists(), "a check leaves nothing behind");
    pin("check-online-json", &text);
}

/// What a fleet is charged for in some days is what its plan said before: the same orders, at the same times.
#[tokio::test]
async fn four_days_of_the_service_bring_the_orders_that_were_planned_for_them() {
    let mut fleet = Fleet::new().await.with_a_past().await;
    // Warned of in the plan, an empty account would be another story.
    fleet.cloud.set_balance("AKIDsandbox-shop", Fen::new(100_000_000));
    fleet.cloud.set_balance("AKLTsandbox-video", Fen::new(100_000_000));
    let (text, _) = fleet.plan(PlanArgs { days: 4, json: true, ..online() }, None).await;
    let plan = parsed(&text);
    let before = fleet.charges();
    let (engine, store) = fleet.service().await;
    live(&engine, &fleet.clock, plan["through"].as_str().unwrap().parse().unwrap()).await;
    store.close().await;

    // The one whose fate was not known when it was planned is settled meanwhile, and ordered.
    const UNKNOWN: &str = "crs-cache-11";
    let mut charged: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    for charge in fleet.cloud.ledger().split_off(before) {
        charged.entry(charge.instance).or_default().push(charge.at);
    }
    assert_eq!(charged.remove(UNKNOWN).map(|times| times.len()), Some(1));
    for line in plan["instances"].as_array().unwrap() {
        let instance = line["instance"].as_str().unwrap();
        if instance == UNKNOWN {
            continue;
        }
        let times = charged.remove(instance).unwrap_or_default();
        assert_eq!(times.len() as u64, line["orders"].as_u64().unwrap(), "{line:#}\ncharged at {times:?}");
        let turn = line["turn_comes_at"].as_str().or(line["due_at"].as_str());
        if let (Some(first), Some(turn)) = (times.first(), turn) {
            let late = first.duration_since(turn.parse().unwrap());
            // What waits for a new day looks for it every hour.
            let allowed = if line["turn_comes_at"].is_null() { 2 } else { 62 };
            assert!(
                (0..=allowed * 60).contains(&late.as_secs()),
                "{instance} was ordered at {first}: {line:#}"
            );
        }
    }
    assert!(charged.is_empty(), "charged and not planned: {charged:?}");
}
