//! A year of a fleet, with a mishap each week. Unoptimized it takes minutes: by default its first weeks are played,
//! and the whole of it with `RENEWD_SIM_DAYS=365`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use renewd::domain::policy::{ActionKind, Policy};
use renewd::domain::product::Product;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::sandbox::world::Charge;

use crate::campaign::stay_on_one_core;
use crate::fleet::{ACCOUNTS, CVM, CVM_V2, ECS, cny, days, hours, key_id, policy, schedule, upgrade, with};
use crate::stage::Stage;

const DAYS: i64 = 21;
const YEAR: i64 = 365;
const STEP: Duration = Duration::from_secs(60);
/// Of real time, for the year.
const SECONDS_MAX: u64 = 60;
/// Name, account, product, prefix of the ids, how many.
const FLEET: [(&str, &str, Product, &str, usize); 4] = [
    ("cache", "shop", Product::REDIS, "crs-", 60),
    ("web", "lab", CVM, "ins-w", 50),
    ("old", "shop", CVM_V2, "ins-o", 40),
    ("farm", "farm", ECS, "i-", 50),
];
const GROWING: usize = 12;
const PURCHASES: [&str; 5] = [
    "redis:RenewInstance",
    "redis:UpgradeInstance",
    "cvm:RenewInstances",
    "cvm-v2:RenewInstance",
    "ecs:RenewInstance",
];

#[tokio::test]
async fn in_a_year_nobody_lapses_and_each_term_is_charged_once() {
    let length = std::env::var("RENEWD_SIM_DAYS").map_or(DAYS, |text| text.parse().unwrap());
    stay_on_one_core(0);
    let begun = Instant::now();
    let mut stage = Stage::bare().await.unwrap();
    let ids: Vec<(&str, Vec<String>)> =
        FLEET.map(|(name, .., prefix, count)| (name, named(prefix, count))).into();
    for (number, id) in ids.iter().flat_map(|(_, ids)| ids).enumerate() {
        let expires_at = stage.clocks.true_now() + hours(48 + i64::try_from(number).unwrap() * 5);
        stage.add_instance(id, expires_at);
    }
    for (account, ..) in ACCOUNTS {
        stage.cloud.set_balance(key_id(account), cny(10_000_000));
    }
    stage.policies = policies(&ids).into_iter().map(|policy| (policy.name.to_string(), policy)).collect();
    (stage.exact_events, stage.shortest_step) = (u32::MAX, STEP);
    stage.reload().await.unwrap();
    for day in 0..length {
        if day % 7 == 0 {
            let effect = if day % 2 == 0 { Effect::After } else { Effect::Before };
            stage.cloud.inject(PURCHASES.map(|api| Fault::spoil(api, effect, Spoilt::Drop)).into());
        }
        stage.advance(days(1)).await.unwrap();
        let now = stage.clocks.true_now();
        for id in ids.iter().flat_map(|(_, ids)| ids) {
            assert!(stage.instance(id).expires_at > now, "{id} lapsed on day {day}");
        }
    }
    stage.check_books().await.unwrap();
    check_terms(&stage, length);
    let (charges, took) = (stage.cloud.ledger().len(), begun.elapsed());
    eprintln!(
        "{length} days of {} instances, {charges} charges, in {took:?}",
        ids.iter().map(|(_, ids)| ids.len()).sum::<usize>()
    );
    assert!(length < YEAR || took.as_secs() < SECONDS_MAX, "{took:?}");
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix}{number}")).collect()
}

fn policies(ids: &[(&str, Vec<String>)]) -> Vec<Policy> {
    let of = |name: &str| -> Vec<&str> {
        let found = ids.iter().find(|(of, _)| *of == name).unwrap();
        found.1.iter().map(String::as_str).collect()
    };
    let mut all: Vec<Policy> =
        FLEET.map(|(name, account, product, ..)| policy(name, account, product, &of(name))).into();
    all.push(with(policy("grow", "shop", Product::REDIS, &of("cache")[..GROWING]), |policy| {
        policy.terms.action = upgrade(4096, Some(2));
        policy.schedule = schedule("0 5 20 10 *");
    }));
    all
}

/// Each renewal begins where the one before it ended, and nothing is paid ahead; each dimension grew once.
fn check_terms(stage: &Stage, length: i64) {
    let ledger = stage.cloud.ledger();
    let mut renewals: BTreeMap<&str, Vec<&Charge>> = BTreeMap::new();
    for charge in ledger.iter().filter(|charge| charge.action == ActionKind::Renew) {
        renewals.entry(&charge.instance).or_default().push(charge);
    }
    for (id, charges) in renewals {
        for pair in charges.windows(2) {
            assert_eq!(pair[0].expiry_after, pair[1].expiry_before, "{id}");
        }
        let ahead = stage.instance(id).expires_at.duration_since(stage.clocks.true_now());
        assert!(ahead <= days(15 + 31), "{id} is paid {ahead:#} ahead");
        let terms = charges.len();
        assert!(length < YEAR || (11..=13).contains(&terms), "{id}: {terms} terms in a year");
    }
    if length >= YEAR {
        let upgrades = ledger.iter().filter(|charge| charge.action == ActionKind::Upgrade).count();
        assert_eq!(upgrades, 2 * GROWING, "memory and replicas of each");
    }
}
