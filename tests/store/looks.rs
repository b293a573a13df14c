//! Which orders are looked at next, and what is read with them: each condition of these reads decides about money.

use jiff::{SignedDuration, Timestamp};
use renewd::domain::failure::{Class, Failure};
use renewd::domain::order::{OrderId, OrderRow};
use renewd::domain::product::{AccountName, Provider};
use renewd::domain::run::Epoch;
use renewd::store::{AfterConfirmed, Claim, NextForRun, OpenOrder, OrderMove, OrderStep};
use sqlx::AssertSqlSafe;

use crate::stage::{Stage, days, policy, start};

const CLOUD: Provider = Provider::TencentCloud;

struct Scene {
    stage: Stage,
    epoch: Epoch,
    now: Timestamp,
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).unwrap()
}

fn hour() -> SignedDuration {
    SignedDuration::from_hours(1)
}

impl Scene {
    /// These instances, each expiring a day later than the one before it, fired and not yet claimed.
    async fn fired(instances: &[&str]) -> Scene {
        let stage = Stage::open().await;
        let epoch = stage.begin().await;
        stage.apply(&[policy("cache", instances)], start()).await;
        let now = start() + hour();
        for (after, instance) in (3..).zip(instances) {
            stage.see(instance, now, now + days(after)).await;
        }
        stage.fire(now).await;
        Scene { stage, epoch, now }
    }

    async fn step(&self, claim: &Claim, row: OrderRow, step: OrderStep) {
        let (run, at) = (claim.job.run, self.now);
        let step = OrderMove { row, run, at, sent_at: Some(at), step, look: None, amount: None };
        assert!(self.stage.store.move_order(step).await.unwrap());
    }

    /// Ordered by this claim, without an answer.
    async fn unknown(&self, claim: &Claim) -> OrderRow {
        let row = self.stage.intend(claim, self.now).await.unwrap().row();
        let failure = Failure::ours(Class::Unknown, "Cut", "the connection broke");
        self.step(claim, row, OrderStep::Unknown { failure, next_look_at: self.now }).await;
        row
    }

    async fn settled(&self, claim: &Claim, row: OrderRow, order_id: Option<&str>) {
        let confirmed = OrderStep::Confirmed {
            order_id: order_id.map(|id| OrderId(id.to_owned())),
            expiry_after: None,
            reason: "renewed".to_owned(),
            next: AfterConfirmed::RunSucceeds,
        };
        self.step(claim, row, confirmed).await;
    }

    /// The order of this claim is called not to have happened, and its run orders again.
    async fn again(&mut self, claim: &Claim, row: OrderRow) -> OrderRow {
        let failure = Failure::ours(Class::Unknown, "NotOrdered", "no sign of it");
        let next = NextForRun::Queue { reason: "judged anew".to_owned() };
        self.step(claim, row, OrderStep::Refused { failure, next }).await;
        let mut claim = self.stage.claim(self.epoch).await.remove(0);
        self.now = self.stage.look_again(&mut claim, self.now).await;
        self.unknown(&claim).await
    }

    async fn to_look_at(&self, name: &str, limit: u32) -> Vec<OpenOrder> {
        let store = &self.stage.store;
        store.orders_to_look_at(&account(name), CLOUD, self.epoch, self.now, limit).await.unwrap()
    }

    async fn has_orders_to_follow(&self, name: &str, at: Timestamp) -> bool {
        self.stage.store.has_orders_to_follow(&account(name), at).await.unwrap()
    }

    async fn without_number(&self, name: &str, at: Timestamp, limit: u32) -> Vec<OrderRow> {
        let found = self.stage.store.orders_without_number(&account(name), CLOUD, at, limit).await.unwrap();
        found.iter().map(|order| order.row).collect()
    }

    async fn edit(&self, row: OrderRow, edit: &str) {
        let edit = AssertSqlSafe(format!("UPDATE orders SET {edit} WHERE id = {}", row.0));
        sqlx::query(edit).execute(&mut self.stage.sql().await).await.unwrap();
    }
}

#[tokio::test]
async fn open_orders_of_the_account_are_looked_at_when_due_and_the_soonest_expiry_first() {
    let scene = Scene::fired(&["crs-2", "crs-1"]).await;
    let claims = scene.stage.claim(scene.epoch).await;
    assert!(!scene.has_orders_to_follow("shop", Timestamp::MAX).await, "nothing is ordered yet");
    let mut rows = Vec::new();
    for claim in claims.iter().rev() {
        rows.push((claim.job.instance.as_str(), scene.unknown(claim).await));
    }
    let (_, accepted) = rows[0];
    let (order_id, request_id, next_look_at) = (None, None, scene.now);
    scene.step(&claims[1], accepted, OrderStep::Placed { order_id, request_id, next_look_at }).await;
    let looked_at = |found: Vec<OpenOrder>| -> Vec<String> {
        found.iter().map(|order| order.instance.as_str().to_owned()).collect()
    };
    assert_eq!(looked_at(scene.to_look_at("shop", 10).await), ["crs-2", "crs-1"]);
    assert_eq!(looked_at(scene.to_look_at("shop", 1).await), ["crs-2"]);
    assert_eq!(looked_at(scene.to_look_at("lab", 10).await), [""; 0]);
    let moment_before = scene.now - SignedDuration::from_millis(1);
    assert!(scene.has_orders_to_follow("shop", scene.now).await);
    assert!(!scene.has_orders_to_follow("shop", moment_before).await);
    assert!(!scene.has_orders_to_follow("lab", scene.now).await);
    assert_eq!(scene.stage.store.next_look(&account("lab")).await.unwrap(), None);

    for claim in &claims {
        let (_, row) = rows.iter().find(|(instance, _)| *instance == claim.job.instance.as_str()).unwrap();
        scene.settled(claim, *row, Some(claim.job.instance.as_str())).await;
    }
    assert_eq!(looked_at(scene.to_look_at("shop", 10).await), [""; 0], "settled");
    assert!(!scene.has_orders_to_follow("shop", Timestamp::MAX).await, "each has its number");
    assert_eq!(scene.stage.store.next_look(&account("shop")).await.unwrap(), None);
}

#[tokio::test]
async fn a_settled_order_without_a_number_is_asked_for_an_hour_later_by_its_own_account() {
    let scene = Scene::fired(&["crs-1", "crs-2"]).await;
    let claims = scene.stage.claim(scene.epoch).await;
    let mut rows = Vec::new();
    for claim in &claims {
        let row = scene.unknown(claim).await;
        scene.settled(claim, row, None).await;
        rows.push(row);
    }
    let wanted = scene.now + hour();
    let moment_before = wanted - SignedDuration::from_millis(1);
    assert_eq!(scene.without_number("shop", wanted, 10).await, rows);
    assert_eq!(scene.without_number("shop", wanted, 1).await, rows[..1]);
    assert_eq!(scene.without_number("shop", moment_before, 10).await, []);
    assert_eq!(scene.without_number("lab", wanted, 10).await, []);
    assert!(scene.has_orders_to_follow("shop", wanted).await);
    assert!(!scene.has_orders_to_follow("shop", moment_before).await);
    assert!(!scene.has_orders_to_follow("lab", wanted).await);
}

/// An open order after an earlier one of the same instance and cycle was called not to have happened.
async fn second_order() -> (Scene, Claim, OrderRow, OrderRow) {
    let mut scene = Scene::fired(&["crs-1", "crs-2"]).await;
    let claim = scene.stage.claim(scene.epoch).await.remove(0);
    let first = scene.unknown(&claim).await;
    let second = scene.again(&claim, first).await;
    (scene, claim, first, second)
}

#[tokio::test]
async fn of_two_earlier_orders_the_later_takes_the_number() {
    let (mut scene, claim, first, second) = second_order().await;
    scene.again(&claim, second).await;
    let open = scene.to_look_at("shop", 10).await.remove(0);
    let [one, other] = ["4711", "4712"].map(|id| OrderId(id.to_owned()));
    let listed = vec![(one.clone(), scene.now), (other.clone(), scene.now)];
    let taken = scene.stage.store.attribute_late(&open, listed).await.unwrap();
    assert_eq!(taken, [(second, one), (first, other)]);
}

#[tokio::test]
async fn an_earlier_order_tells_of_a_second_one_and_of_a_late_list_only_by_all_of_its_marks() {
    const NUMBER: &str = "order_id = '4711', number_wanted_at_ms = NULL";
    let week_ago = "intended_at_ms = (SELECT max(intended_at_ms) FROM orders) - 7 * 24 * 3600000";
    for (edit, is_second, list_was_late) in [
        ("months = 1", true, true),
        ("order_id = NULL", true, false),
        ("account = 'lab'", true, false),
        (week_ago, true, false),
        (&format!("{week_ago} + 1"), true, true),
        ("error = json_set(error, '$.code', 'Sold')", false, false),
        ("error = json_set(error, '$.code', 'RenewedElsewhere')", false, true),
        ("cycle = 'e99'", false, true),
        ("action = 'upgrade'", false, true),
        ("instance_id = (SELECT id FROM instances WHERE instance = 'crs-2')", false, true),
    ] {
        let (scene, _, first, second) = second_order().await;
        scene.edit(first, NUMBER).await;
        scene.edit(first, edit).await;
        let open = scene.to_look_at("shop", 10).await.remove(0);
        assert_eq!(open.row, second);
        assert_eq!((open.is_second, open.list_was_late), (is_second, list_was_late), "{edit}");
    }
}

#[tokio::test]
async fn a_number_goes_to_an_earlier_order_only_by_all_of_its_marks() {
    for (edit, is_taken) in [
        ("months = 1", true),
        ("error = json_set(error, '$.code', 'ResolvedNotPaid')", true),
        ("error = json_set(error, '$.code', 'RenewedElsewhere')", false),
        ("error = json_set(error, '$.code', 'Sold')", false),
        ("order_id = '4710', number_wanted_at_ms = NULL", false),
        ("action = 'upgrade'", false),
        ("instance_id = (SELECT id FROM instances WHERE instance = 'crs-2')", false),
    ] {
        let (scene, _, first, _) = second_order().await;
        scene.edit(first, edit).await;
        let open = scene.to_look_at("shop", 10).await.remove(0);
        let listed = vec![(OrderId("4711".to_owned()), scene.now)];
        let taken = scene.stage.store.attribute_late(&open, listed).await.unwrap();
        let rows: Vec<OrderRow> = taken.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, if is_taken { vec![first] } else { vec![] }, "{edit}");
    }
}
