//! Redis upgrades: absolute sizes, one dimension an order, never beside a renewal.

use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::{Value, json};

use crate::harness::{Stage, instant, policy, text, until};

const RENEWAL: &str = "renew = { months = 1 }";

fn upgrade(name: &str, instances: &[&str], target: &str) -> String {
    policy(name, instances, "").replace(RENEWAL, &format!("upgrade = {{ {target} }}"))
}

fn confirmed(stage: &Stage, instance: &str, action: &str) -> Vec<Value> {
    let mut orders = stage.orders_of(instance);
    orders.retain(|order| order["action"] == action && order["state"] == "confirmed");
    orders.reverse();
    orders
}

#[test]
fn each_fault_of_an_upgrade_charges_once_and_its_size_settles_it() {
    let stage = Stage::new();
    let ambiguous = "FailedOperation.SystemError".to_owned();
    let spoilt = [
        ("code", Spoilt::Code(ambiguous)),
        ("http", Spoilt::Http(502)),
        ("drop", Spoilt::Drop),
        ("stall", Spoilt::Stall(Duration::from_millis(1500))),
        ("garbage", Spoilt::Garbage),
        ("truncate", Spoilt::Truncate),
    ];
    let mut all = vec!["crs-plain".to_owned()];
    for (name, spoilt) in spoilt {
        for (effect, word) in [(Effect::Before, "before"), (Effect::After, "after")] {
            let id = format!("crs-{name}-{word}");
            stage.cloud.inject(vec![Fault::spoil("redis:UpgradeInstance", effect, spoilt.clone()).on(&id)]);
            all.push(id);
        }
    }
    for id in &all {
        stage.expires_in_days(id, 90);
    }
    let ids: Vec<&str> = all.iter().map(String::as_str).collect();
    stage.write_policies(&upgrade("grow", &ids, "mem_size_mb = 4096"));
    let daemon = stage.start();
    let orders: Vec<Value> = ids.iter().map(|id| stage.until_order(id, "confirmed")).collect();
    let skipped = stage.until_run("crs-plain", "skipped");
    assert!(text(&skipped, "reason").contains("has the wanted size already"), "{skipped:#}");
    daemon.stop();

    stage.assert_agreement();
    for (id, order) in ids.iter().zip(&orders) {
        assert_eq!((&order["action"], &order["months"]), (&"upgrade".into(), &Value::Null), "{id}");
        let ordered = if id.ends_with("before") { 2 } else { 1 };
        assert_eq!(stage.orders_of(id).len(), ordered, "{id}: {:#?}", stage.orders_of(id));
    }
}

#[test]
fn several_dimensions_are_several_orders_each_confirmed_before_the_next() {
    let stage = Stage::new();
    stage.expires_in_days("crs-grow", 90);
    stage.change("crs-grow", json!({ "spec": { "mem_size_mb": 4096, "shards": 2, "replicas": 2 } }));
    let target = "mem_size_mb = 8192, shards = 5, replicas = 1, allow_shrink = true";
    stage.write_policies(&upgrade("grow", &["crs-grow"], target));
    let daemon = stage.start();
    let run = stage.until_run("crs-grow", "succeeded");
    daemon.stop();

    let orders = confirmed(&stage, "crs-grow", "upgrade");
    assert_eq!(orders.len(), 3, "{orders:#?}");
    assert!(orders.iter().all(|order| order["run_id"] == run["id"]), "{orders:#?}");
    for pair in orders.windows(2) {
        assert!(instant(&pair[0]["settled_at"]) <= instant(&pair[1]["sent_at"]), "{pair:#?}");
    }
    let charges: Vec<String> = stage.cloud.ledger().iter().map(|charge| charge.order_id.clone()).collect();
    let numbers: Vec<&str> = orders.iter().map(|order| text(order, "order_id")).collect();
    assert_eq!(charges, numbers);
    assert_eq!(run["reason"], "upgraded: replicas is 1");
}

#[test]
fn an_upgrade_that_would_shrink_anything_orders_nothing_unless_that_is_allowed() {
    let stage = Stage::new();
    for id in ["crs-kept", "crs-shrunk"] {
        stage.expires_in_days(id, 90);
        stage.change(id, json!({ "spec": { "mem_size_mb": 8192, "shards": 1, "replicas": 1 } }));
    }
    stage.write_policies(
        &[
            upgrade("keep", &["crs-kept"], "mem_size_mb = 6144, shards = 3"),
            upgrade("shrink", &["crs-shrunk"], "mem_size_mb = 6144, allow_shrink = true"),
        ]
        .concat(),
    );
    let daemon = stage.start();
    let failed = stage.until_run("crs-kept", "failed");
    assert_eq!(failed["error"]["code"], "ShrinkNotAllowed");
    assert!(text(&failed, "reason").contains("mem_size_mb 8192 → 6144"), "{failed:#}");
    stage.until_order("crs-shrunk", "confirmed");
    daemon.stop();
    assert!(stage.orders_of("crs-kept").is_empty());
    stage.assert_agreement();
}

#[test]
fn an_upgrade_and_a_renewal_of_one_instance_are_never_open_together() {
    let stage = Stage::new();
    stage.expires_in_days("crs-both", 5);
    stage.write_policies(
        &[policy("month", &["crs-both"], ""), upgrade("grow", &["crs-both"], "mem_size_mb = 4096")].concat(),
    );
    let daemon = stage.start();
    until("both are confirmed", || {
        let both = ["renew", "upgrade"].map(|action| confirmed(&stage, "crs-both", action).len());
        (both == [1, 1]).then_some(())
    });
    daemon.stop();
    let [renewal, upgrade] =
        ["renew", "upgrade"].map(|action| confirmed(&stage, "crs-both", action)[0].clone());
    let (first, second) = if renewal["id"].as_i64() < upgrade["id"].as_i64() {
        (&renewal, &upgrade)
    } else {
        (&upgrade, &renewal)
    };
    assert!(instant(&first["settled_at"]) <= instant(&second["sent_at"]), "{first:#}\n{second:#}");
    stage.assert_agreement();
}

#[test]
fn an_upgrade_that_stays_open_past_the_settling_time_does_not_hold_a_renewal_back() {
    let stage = Stage::new();
    stage.expires_in_days("crs-both", 60);
    stage.cloud.inject(vec![Fault::lag("redis:UpgradeInstance", Duration::from_secs(12)).on("crs-both")]);
    let grow = upgrade("grow", &["crs-both"], "mem_size_mb = 4096");
    stage.write_policies(&grow);
    let daemon = stage.start();
    stage.until_order("crs-both", "placed");
    let wide =
        policy("month", &["crs-both"], "").replace(RENEWAL, "renew = { months = 1, within_days = 90 }");
    stage.write_policies(&[grow, wide].concat());
    daemon.reload("config.reloaded");

    until("the renewal is ordered beside the open upgrade", || {
        let orders = stage.orders_of("crs-both");
        let has = |action, states: &[&str]| {
            orders.iter().any(|order| order["action"] == action && states.contains(&text(order, "state")))
        };
        (has("renew", &["placed", "confirmed"]) && has("upgrade", &["placed"])).then_some(())
    });
    until("both are confirmed", || {
        let both = ["renew", "upgrade"].map(|action| confirmed(&stage, "crs-both", action).len());
        (both == [1, 1]).then_some(())
    });
    daemon.stop();
    stage.assert_agreement();
}
