//! The figures that metrics show: the same as counting all rows would give, whoever wrote them, and over restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::money::Fen;
use renewd::domain::observation::{ChargeType, Facts, Observation, Presence};
use renewd::domain::order::{OrderId, OrderRow};
use renewd::domain::policy::{Action, Policy, Terms, Upgrade};
use renewd::domain::product::{Identity, InstanceId, Product, Region};
use renewd::store::{AfterConfirmed, Claim, Figures, Intent, NextForRun, OrderMove, OrderStep, Sighting};

use crate::firings::engine;
use crate::stage::{Stage, at, days, every_fire, intent, observation, policy, start, word};

async fn figures(stage: &Stage) -> Figures {
    stage.store.figures(start()).await.unwrap()
}

fn ends(figures: &Figures) -> BTreeMap<&str, u64> {
    figures.run_ends.iter().map(|ends| (ends.state.as_str(), ends.runs)).collect()
}

fn entries(figures: &Figures) -> BTreeMap<&str, u64> {
    figures.order_entries.iter().map(|entries| (entries.state.as_str(), entries.orders)).collect()
}

async fn assert_runs_are_as_counted(stage: &Stage) {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT state, count(*) FROM runs GROUP BY state")
        .fetch_all(&mut stage.sql().await)
        .await
        .unwrap();
    let counted: BTreeMap<String, u64> =
        rows.into_iter().map(|(state, count)| (state, count.unsigned_abs())).collect();
    let figures = figures(stage).await;
    assert_eq!(figures.runs.len(), 8, "each state has its figure");
    let told = figures.runs.into_iter().filter(|(_, runs)| *runs > 0).collect();
    assert_eq!(counted, told);
}

async fn move_order(stage: &Stage, claim: &Claim, row: OrderRow, amount: Option<i64>, step: OrderStep) {
    let (run, at) = (claim.job.run, start());
    let amount = amount.map(Fen::new);
    let order_move = OrderMove { row, run, at, sent_at: None, step, look: None, amount };
    assert!(stage.store.move_order(order_move).await.unwrap());
}

fn confirmed() -> OrderStep {
    let (order_id, expiry_after, next) = (None, None, AfterConfirmed::RunSucceeds);
    OrderStep::Confirmed { order_id, expiry_after, reason: "renewed".to_owned(), next }
}

fn placed() -> OrderStep {
    OrderStep::Placed { order_id: Some(OrderId("1".to_owned())), request_id: None, next_look_at: start() }
}

fn unknown() -> OrderStep {
    OrderStep::Unknown { failure: Failure::ours(Class::Unknown, "Cut", "cut"), next_look_at: start() }
}

fn refused() -> OrderStep {
    let failure = Failure::ours(Class::Rejected, "Never", "never");
    OrderStep::Refused { failure, next: NextForRun::Fail { reason: "never".to_owned() } }
}

/// Four runs at their orders: confirmed at a price asked before, confirmed at one learnt then, refused, unknown.
async fn four_orders() -> (Stage, OrderRow) {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    stage.apply(&[policy("cache", &["crs-1", "crs-2", "crs-3", "crs-4", "crs-5"])], start()).await;
    let now = start() + SignedDuration::from_hours(1);
    for id in 1..=5 {
        stage.see(&format!("crs-{id}"), now, now + days(id)).await;
    }
    stage.fire(now).await;
    let claims = stage.claim(epoch).await;
    let mut rows = Vec::new();
    for (claim, amount) in claims.iter().zip([Some(Fen::new(12_345)), None, None, None]) {
        let intent = Intent { amount, ..intent(claim, now) };
        rows.push(stage.store.intend(claim, intent).await.unwrap().unwrap().row());
    }
    move_order(&stage, &claims[0], rows[0], None, placed()).await;
    move_order(&stage, &claims[0], rows[0], None, confirmed()).await;
    move_order(&stage, &claims[1], rows[1], Some(5), confirmed()).await;
    move_order(&stage, &claims[2], rows[2], Some(9_999), refused()).await;
    move_order(&stage, &claims[3], rows[3], None, unknown()).await;
    (stage, rows[3])
}

#[tokio::test]
async fn totals_are_those_of_the_rows_and_a_restart_takes_nothing_back() {
    let (stage, _) = four_orders().await;
    let before = figures(&stage).await;
    assert_eq!(ends(&before), [("cancelled", 0), ("failed", 1), ("skipped", 0), ("succeeded", 2)].into());
    let passed_through = [("confirmed", 2), ("intended", 4), ("placed", 1), ("refused", 1), ("unknown", 1)];
    assert_eq!(entries(&before), passed_through.into());
    assert_eq!(before.spending, [("shop".to_owned(), Fen::new(12_350))], "a refused order costs nothing");
    assert_eq!((before.orders_unknown, before.orders_for_person), (1, 0));
    assert_runs_are_as_counted(&stage).await;

    let stage = stage.reopen().await;
    stage.begin().await;
    let after = figures(&stage).await;
    assert_eq!((ends(&after), entries(&after)), (ends(&before), entries(&before)));
    assert_eq!(after.spending, before.spending);
    assert_runs_are_as_counted(&stage).await;
}

#[tokio::test]
async fn what_a_command_does_beside_the_service_counts_as_well() {
    let (stage, row) = four_orders().await;
    let command = stage.command().await;
    command.resolve_paid(row, None, &word(start())).await.unwrap();
    let figures = figures(&stage).await;
    assert_eq!(entries(&figures)["confirmed"], 3);
    assert_eq!(ends(&figures)["succeeded"], 3);
    assert_eq!(figures.orders_unknown, 0);
    assert_runs_are_as_counted(&stage).await;
}

#[tokio::test]
async fn an_order_that_a_person_is_asked_about_is_counted_until_it_is_settled() {
    let (stage, row) = four_orders().await;
    let asked = "UPDATE orders SET person_asked_ms = 1 WHERE state = 'unknown'";
    sqlx::query(asked).execute(&mut stage.sql().await).await.unwrap();
    assert_eq!(figures(&stage).await.orders_for_person, 1);
    stage.store.resolve_not_paid(row, false, &word(start())).await.unwrap();
    assert_eq!(figures(&stage).await.orders_for_person, 0);
}

#[tokio::test]
async fn an_amount_learnt_after_the_confirmation_is_added_and_a_run_that_history_drops_stays_counted() {
    let (stage, _) = four_orders().await;
    let mut sql = stage.sql().await;
    for statement in [
        "UPDATE orders SET amount_fen = 105 WHERE amount_fen = 5",
        "UPDATE orders SET amount_fen = 7 WHERE state = 'refused'",
        "INSERT INTO runs (policy_id, policy_revision, instance_id, account, action, origin, due_at_ms, priority_ms,
             created_at_ms) SELECT policy_id, 1, instance_id, account, action, 'trigger', 9, 0, 9 FROM runs LIMIT 1",
        "UPDATE runs SET state = 'skipped', finished_at_ms = 10, reason = 'not due' WHERE due_at_ms = 9",
        "DELETE FROM runs WHERE due_at_ms = 9",
    ] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }
    let figures = figures(&stage).await;
    assert_eq!(figures.spending, [("shop".to_owned(), Fen::new(12_450))]);
    assert_eq!(ends(&figures)["skipped"], 1);
    assert_runs_are_as_counted(&stage).await;
}

#[tokio::test]
async fn a_total_that_nothing_was_added_to_yet_is_zero_from_the_first_set_on() {
    let stage = Stage::open().await;
    stage.apply(&[policy("cache", &["crs-1"])], start()).await;
    let figures = figures(&stage).await;
    assert_eq!(ends(&figures).into_values().collect::<Vec<_>>(), [0; 4]);
    assert_eq!(entries(&figures).into_values().collect::<Vec<_>>(), [0; 5]);
    assert_eq!(figures.spending, [("shop".to_owned(), Fen::new(0))]);
    assert_eq!((figures.fired, figures.caught_up, figures.too_old), (0, 0, 0));
}

#[tokio::test]
async fn firings_are_counted_by_policy_and_missed_instants_by_what_became_of_them() {
    let stage = Stage::open().await;
    let hourly = |name: &str, id: &str| {
        let policy = policy(name, &[id]);
        let schedule = renewd::domain::policy::ScheduleText {
            expression: "0 * * * *".to_owned(),
            zone: "UTC".to_owned(),
        };
        Policy { schedule, ..policy }
    };
    let always = |name: &str, id: &str| every_fire(hourly(name, id));
    stage.apply(&[hourly("cache", "crs-1"), always("one", "crs-2"), always("two", "crs-3")], start()).await;
    // Down for two days and a half: 60 instants, of which every_fire policies make up for 24.
    let (engine, clock) = engine(&stage, start() + SignedDuration::from_hours(60)).await;
    engine.plan_schedules().await.unwrap();
    engine.fire_due().await.unwrap();
    let down = figures(&stage).await;
    assert_eq!((down.fired, down.caught_up, down.too_old), (3, 60 + 24 + 24, 36 + 36));

    clock.advance(Duration::from_secs(3600));
    engine.fire_due().await.unwrap();
    let up = figures(&stage).await;
    assert_eq!((up.fired, up.caught_up, up.too_old), (6, 108, 72));
}

#[tokio::test]
async fn a_firing_that_is_queued_in_several_chunks_is_one() {
    let stage = Stage::open().await;
    let ids: Vec<String> = (0..12_000).map(|id| format!("crs-{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.apply(&[policy("large", &ids), policy("small", &["crs-x"])], start()).await;
    stage.fire(at("2026-03-01T04:00:00Z")).await;
    assert_eq!(figures(&stage).await.fired, 2);
    assert_runs_are_as_counted(&stage).await;
}

fn upgrade(name: &str, ids: &[&str]) -> Policy {
    let upgrade = policy(name, ids);
    let wanted = Upgrade { mem_size_mb: 4096, shards: None, replicas: None, allow_shrink: false };
    Policy { terms: Terms { action: Action::Upgrade(wanted), ..upgrade.terms.clone() }, ..upgrade }
}

#[tokio::test]
async fn an_instance_has_one_expiry_and_the_next_firing_of_the_policy_that_renews_it() {
    let stage = Stage::open().await;
    let set = |is_enabled| {
        let cache = Policy { enabled: is_enabled, ..policy("cache", &["crs-1", "crs-2", "crs-unseen"]) };
        [upgrade("grow", &["crs-1", "crs-3"]), cache]
    };
    stage.apply(&set(true), start()).await;
    let (engine, _) = engine(&stage, start()).await;
    engine.plan_schedules().await.unwrap();
    for (id, days_left) in [("crs-1", 30), ("crs-2", 10), ("crs-3", 20)] {
        stage.see(id, start(), start() + days(days_left)).await;
    }
    let shown = async || -> BTreeMap<String, (Timestamp, Option<Timestamp>)> {
        let expiries = figures(&stage).await.expiries.into_iter();
        expiries.map(|expiry| (expiry.instance, (expiry.expires_at, expiry.next_firing))).collect()
    };
    let next = Some(at("2026-03-01T04:00:00Z"));
    let expiry = |days_left| start() + days(days_left);
    let wanted =
        [("crs-1", (expiry(30), next)), ("crs-2", (expiry(10), next)), ("crs-3", (expiry(20), None))];
    assert_eq!(shown().await, wanted.map(|(id, shown)| (id.to_owned(), shown)).into());

    stage.apply(&set(false), start()).await;
    assert!(shown().await.values().all(|(_, next)| next.is_none()), "a disabled policy plans nothing");
    stage.apply(&[], start()).await;
    assert!(shown().await.is_empty(), "what no policy names is none of ours");
}

#[tokio::test]
async fn of_a_large_fleet_those_that_expire_soonest_are_shown() {
    let stage = Stage::open().await;
    let ids: Vec<String> = (0..1_500).map(|id| format!("crs-{id}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.apply(&[policy("fleet", &ids)], start()).await;
    let soonest_last = "UPDATE instances SET observed_at_ms = 1, visible = 1, expires_at_ms = 2000000 - id";
    sqlx::query(soonest_last).execute(&mut stage.sql().await).await.unwrap();
    let expiries = figures(&stage).await.expiries;
    assert_eq!(expiries.len(), 1000);
    let latest = expiries.iter().map(|expiry| expiry.expires_at.as_millisecond()).max().unwrap();
    let not_shown = stage.count("SELECT count(*) FROM instances WHERE expires_at_ms <= 1999499").await;
    assert_eq!((latest, not_shown), (1_999_499, 1000), "none that expires sooner is left out");
}

#[tokio::test]
async fn as_many_instances_are_at_risk_as_the_view_says() {
    let stage = Stage::open().await;
    let epoch = stage.begin().await;
    let ids = [
        "crs-near",
        "crs-past",
        "crs-far",
        "crs-unseen",
        "crs-gone",
        "crs-postpaid",
        "crs-unclear",
        "crs-paid",
    ];
    let others =
        [upgrade("grow", &["crs-only-grown"]), Policy { enabled: false, ..policy("off", &["crs-off"]) }];
    stage.apply(&[[policy("cache", &ids)].as_slice(), &others].concat(), start()).await;
    let now = Timestamp::now();
    for (id, days_left) in [
        ("crs-near", 2),
        ("crs-past", -4),
        ("crs-far", 4),
        ("crs-paid", 1),
        ("crs-only-grown", 1),
        ("crs-off", 1),
    ] {
        stage.see(id, now, now + days(days_left)).await;
    }
    see(&stage, "crs-gone", now, Presence::NotVisible).await;
    let Presence::Visible(facts) = observation("crs-x", now, now).presence else { unreachable!() };
    let unclear = Facts { expires_at: None, ..facts };
    see(&stage, "crs-unclear", now, Presence::Visible(unclear.clone())).await;
    let postpaid = Facts { charge: ChargeType::from_text("postpaid"), ..unclear };
    see(&stage, "crs-postpaid", now, Presence::Visible(postpaid)).await;
    stage.fire(now).await;
    let claim = stage.claim(epoch).await.into_iter().find(|claim| claim.job.instance.as_str() == "crs-paid");
    let claim = claim.unwrap();
    let row = stage.intend(&claim, now).await.unwrap().row();
    move_order(&stage, &claim, row, None, placed()).await;

    let at_risk: Vec<String> =
        stage.store.instances_at_risk().await.unwrap().into_iter().map(|row| row.instance).collect();
    assert_eq!(at_risk.len(), 6, "{at_risk:?}");
    let figures = stage.store.figures(now).await.unwrap();
    assert_eq!(figures.instances_at_risk, 6, "{at_risk:?}");
}

async fn see(stage: &Stage, id: &str, observed_at: Timestamp, presence: Presence) {
    let (region, instance) = (Region::parse("ap-guangzhou").unwrap(), InstanceId::parse(id).unwrap());
    let identity = Identity::new(Product::REDIS, &region, &instance);
    let observation = Observation { instance, observed_at, presence };
    stage.store.observe(vec![Sighting { identity, observation }]).await.unwrap();
}
