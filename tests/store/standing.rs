//! How things stand, read for a look ahead: the same as what the writing side would come to.

use jiff::SignedDuration;
use renewd::domain::observation::{Known, Observation, Presence};
use renewd::domain::order::OrderState;
use renewd::domain::policy::{ActionKind, Policy};
use renewd::domain::product::{AccountName, Identity, InstanceId, Product, Region};
use renewd::store::{Sighting, Standing, Store, Subject};

use crate::stage::{Stage, days, every_fire, observation, policy, start};

fn identity(instance: &str) -> Identity {
    Identity::new(
        Product::REDIS,
        &Region::parse("ap-guangzhou").unwrap(),
        &InstanceId::parse(instance).unwrap(),
    )
}

fn subject(policy: &Policy, instance: &str, seen: Option<Observation>) -> Subject {
    Subject {
        identity: identity(instance),
        policy: policy.name.clone(),
        digest: format!("{policy:?}"),
        action: ActionKind::Renew,
        seen,
    }
}

async fn standing(store: &Store, subject: Subject) -> Standing {
    store.standings(&[subject]).await.unwrap().remove(0)
}

#[tokio::test]
async fn what_a_look_would_teach_is_foreseen_as_it_is_then_recorded() {
    let stage = Stage::open().await;
    let cache = policy("cache", &["crs-1"]);
    stage.apply(std::slice::from_ref(&cache), start()).await;
    let (high, low) = (start() + days(40), start() + days(3));
    // Up by a term, back and back again, out of sight and again there, and a little up.
    let shown = [
        Some(low),
        Some(high),
        Some(low),
        Some(low),
        None,
        None,
        Some(low),
        Some(high),
        Some(high + days(1)),
    ];
    for (nth, expiry) in shown.into_iter().enumerate() {
        let seen_at = start() + SignedDuration::from_mins(i64::try_from(nth).unwrap() + 1);
        let mut seen = observation("crs-1", seen_at, expiry.unwrap_or(low));
        if expiry.is_none() {
            seen.presence = Presence::NotVisible;
        }
        let foreseen = standing(&stage.store, subject(&cache, "crs-1", Some(seen.clone()))).await.known;
        let sighting = Sighting { identity: identity("crs-1"), observation: seen };
        let recorded = stage.store.observe(vec![sighting]).await.unwrap().remove(0);
        assert_eq!(foreseen, recorded, "look {nth}");
        assert_eq!(
            standing(&stage.store, subject(&cache, "crs-1", None)).await.known,
            recorded,
            "look {nth}"
        );
    }
}

#[tokio::test]
async fn of_an_instance_that_the_database_does_not_know_only_the_look_counts() {
    let store = Store::in_memory().await.unwrap();
    let cache = policy("cache", &["crs-1"]);
    let unknown = standing(&store, subject(&cache, "crs-1", None)).await;
    assert_eq!(unknown.known, Known::NOTHING);
    let mut seen = observation("crs-1", start(), start() + days(3));
    let known = standing(&store, subject(&cache, "crs-1", Some(seen.clone()))).await.known;
    assert_eq!((known.expires_at(), known.cycle), (Some(start() + days(3)), 1));
    assert_eq!((known.expiry_high, known.lower), (known.expires_at(), None));
    seen.presence = Presence::NotVisible;
    assert_eq!(standing(&store, subject(&cache, "crs-1", Some(seen))).await.known.invisible_looks, 1);
    assert!(store.pasts().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_open_order_its_run_and_what_it_cost_are_found() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    let cache = policy("cache", &["crs-1", "crs-2"]);
    stage.apply(std::slice::from_ref(&cache), start()).await;
    stage.fire(start() + days(1)).await;
    for instance in ["crs-1", "crs-2"] {
        stage.see(instance, start() + SignedDuration::from_secs(1), start() + days(3)).await;
    }
    let claims = stage.claim(epoch).await;
    let now = start() + SignedDuration::from_hours(1);
    let committed = stage.intend(&claims[0], now).await.unwrap();
    let ordered = standing(&stage.store, subject(&cache, claims[0].job.instance.as_str(), None)).await;
    let open = ordered.open.unwrap();
    assert_eq!(
        (open.row, open.state, open.cycle.as_str()),
        (committed.row(), OrderState::Intended, "cycle:1")
    );
    assert_eq!(ordered.paid, Some((committed.row(), "cycle:1".to_owned())));
    assert_eq!(ordered.run.unwrap().run, claims[0].job.run);
    let other = standing(&stage.store, subject(&cache, claims[1].job.instance.as_str(), None)).await;
    assert!(other.open.is_none() && other.paid.is_none() && other.run.is_some());

    let shop = AccountName::parse("shop").unwrap();
    let spent = stage.store.spent(&shop, start(), start()).await.unwrap();
    assert_eq!(spent.orders_today, 1);
    assert_eq!(stage.store.spent(&shop, now + days(1), start()).await.unwrap().orders_today, 0);
}

#[tokio::test]
async fn an_order_is_foreign_to_a_policy_that_says_something_else_now() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    let report = every_fire(policy("report", &["crs-1"]));
    stage.apply(std::slice::from_ref(&report), start()).await;
    stage.fire(start() + days(1)).await;
    stage.see("crs-1", start() + SignedDuration::from_secs(1), start() + days(3)).await;
    let claims = stage.claim(epoch).await;
    let now = start() + SignedDuration::from_hours(1);
    stage.intend(&claims[0], now).await.unwrap();
    let foreign =
        async |policy: &Policy| standing(&stage.store, subject(policy, "crs-1", None)).await.foreign_order_at;
    assert_eq!(foreign(&report).await, None);
    let edited = Policy { enabled: false, ..report.clone() };
    assert_eq!(foreign(&edited).await, Some(now));
    let renamed = every_fire(policy("other-name", &["crs-1"]));
    assert_eq!(foreign(&renamed).await, Some(now));
}
