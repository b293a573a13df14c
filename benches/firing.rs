//! Ten thousand instances due in one second: from the due instant until all their runs are queued and on disk,
//! through the real ticker, the machine's clock and a database file.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use renewd::clock::{Clock, SystemClock};
use renewd::domain::policy::{Action, OnAutoRenew, OnUnknown, Policy, Renew, RenewWhen, ScheduleText, Terms};
use renewd::domain::product::{AccountName, InstanceId, PolicyName, Product, Region};
use renewd::engine::{Engine, Settings, Ticker};
use renewd::retry::Pace;
use renewd::store::{DaemonLock, NewSet, PolicyEntry, Store};
use tokio::sync::{Notify, watch};

const POLICIES: usize = 10;
const INSTANCES_EACH: usize = 1_000;
const ROUNDS: usize = 7;
const TARGET: Duration = Duration::from_millis(200);
/// A round's instant is this far off when the round begins.
const LEAD: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_ROUND: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let mut took = Vec::new();
    for round in 1..=ROUNDS {
        let duration = round_of_firing().await?;
        eprintln!("round {round}: {:.1} ms", milliseconds(duration));
        took.push(duration);
    }
    took.sort_unstable();
    let (Some(min), Some(max)) = (took.first(), took.last()) else { return Ok(ExitCode::FAILURE) };
    let median = took[took.len() / 2];
    let reached = median <= TARGET;
    eprintln!(
        "{} runs queued and durable after their instant: median {:.1} ms, min {:.1} ms, max {:.1} ms; the median {} the target of {} ms",
        POLICIES * INSTANCES_EACH,
        milliseconds(median),
        milliseconds(*min),
        milliseconds(*max),
        if reached { "is within" } else { "MISSES" },
        TARGET.as_millis()
    );
    Ok(if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A fresh database whose policies all fire once, at the next round instant.
async fn round_of_firing() -> Result<Duration, Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("renewd.db");
    let lock = DaemonLock::acquire(&path)?;
    let store = Store::open_for_daemon(&path, &lock).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = Arc::new(Engine::new(store.clone(), Arc::clone(&clock), Vec::new(), settings()));
    engine.begin_epoch().await?;
    let due_at = Timestamp::from_second((clock.now() + LEAD).as_second())?;
    let set = NewSet { policies: policies(due_at)?, digest: "bench".to_owned(), ..NewSet::default() };
    store.apply_policies(set, clock.now()).await?;
    engine.plan_schedules().await?;

    let (stop, stopped) = watch::channel(false);
    let tick = Arc::new(Notify::new());
    tick.notify_one();
    let ticker = tokio::spawn(Ticker::new(Arc::clone(&engine)).run(stopped, Arc::clone(&tick)));
    let queued_at = all_queued(&store, clock.as_ref(), &tick, due_at).await?;
    stop.send(true)?;
    ticker.await?;
    store.close().await;
    Ok(Duration::try_from(queued_at.duration_since(due_at))?)
}

/// The watcher has a connection of its own, as a command has: what it sees is committed.
async fn all_queued(
    store: &Store,
    clock: &dyn Clock,
    tick: &Notify,
    due_at: Timestamp,
) -> Result<Timestamp, Failure> {
    let wanted = i64::try_from(POLICIES * INSTANCES_EACH)?;
    let deadline = clock.monotonic() + Duration::try_from(LEAD)? + LONGEST_ROUND;
    let mut next_tick = clock.monotonic() + Duration::from_secs(1);
    loop {
        let queued: i64 =
            store.status(0).await?.runs.iter().filter(|(state, _)| state == "queued").map(|(_, n)| n).sum();
        let now = clock.now();
        if queued == wanted {
            return Ok(now);
        }
        if queued > wanted || clock.monotonic() > deadline {
            return Err(format!("{queued} of {wanted} runs are queued for {due_at}").into());
        }
        if clock.monotonic() >= next_tick {
            tick.notify_one();
            next_tick += Duration::from_secs(1);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn settings() -> Settings {
    let pace =
        Pace { first_delay: Duration::from_secs(30), max_delay: Duration::from_secs(3600), max_attempts: 12 };
    Settings { pace, settle: Duration::from_secs(21_600), zone: TimeZone::UTC }
}

fn policies(due_at: Timestamp) -> Result<Vec<PolicyEntry>, Failure> {
    let at = due_at.to_zoned(TimeZone::UTC);
    let expression = format!("{} {} {} * * *", at.second(), at.minute(), at.hour());
    (0..POLICIES).map(|number| policy(number, &expression)).collect()
}

fn policy(number: usize, expression: &str) -> Result<PolicyEntry, Failure> {
    let ids = (0..INSTANCES_EACH).map(|id| InstanceId::parse(&format!("crs-{number}-{id}")));
    let renew = Renew { months: 1, when: RenewWhen::WithinDays(15) };
    let policy = Policy {
        name: PolicyName::parse(&format!("fleet-{number}"))?,
        account: AccountName::parse("shop")?,
        product: Product::REDIS,
        region: Region::parse("ap-guangzhou")?,
        instances: ids.collect::<Result<_, _>>()?,
        schedule: ScheduleText { expression: expression.to_owned(), zone: "UTC".to_owned() },
        enabled: true,
        terms: Terms {
            action: Action::Renew(renew),
            max_price: None,
            on_auto_renew: OnAutoRenew::Skip,
            unknown: OnUnknown::Person,
            renew_data_disks: false,
        },
    };
    Ok(PolicyEntry { policy, source: "bench".to_owned(), digest: number.to_string() })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
