//! Instances that must not be ordered, each with its reason; budgets that hold.

use serde_json::json;

use crate::harness::{Settings, Stage, policy, text, until};

#[test]
fn what_must_not_be_ordered_ends_with_its_reason_and_nothing_is_charged() {
    let stage = Stage::new();
    stage.change("crs-sandbox-2", json!({ "auto_renew": true }));
    stage.change("crs-sandbox-3", json!({ "charge_type": "postpaid" }));
    stage.expires_in_days("crs-sandbox-4", 200);
    stage.write_policies(
        &[
            policy("capped", &["crs-sandbox-1"], "max_price_cny = 99.99"),
            policy("rest", &["crs-sandbox-2", "crs-sandbox-3", "crs-sandbox-4", "crs-absent"], ""),
        ]
        .concat(),
    );
    let daemon = stage.start();
    for (instance, state, words) in [
        ("crs-sandbox-1", "failed", "the price is 100.00 CNY, above max_price_cny = 99.99"),
        ("crs-sandbox-2", "skipped", "auto-renew is on"),
        ("crs-sandbox-3", "failed", "not prepaid"),
        ("crs-sandbox-4", "skipped", "not due"),
        ("crs-absent", "failed", "crs-absent is not visible in ap-guangzhou with account shop"),
    ] {
        let run = stage.until_run(instance, state);
        assert!(text(&run, "reason").contains(words), "{run:#}");
        assert_eq!(run["error"].is_object(), state == "failed", "{run:#}");
        assert!(stage.ok(&["why", instance]).contains(instance));
    }
    // It is looked for more than once before it is called absent.
    daemon.until_event_that("run.waiting", |event| event["instance"] == "crs-absent");
    let failed = daemon.until_event_that("run.failed", |event| event["instance"] == "crs-sandbox-1");
    assert_eq!((&failed["level"], &failed["code"]), (&"ERROR".into(), &"PriceAboveCap".into()));
    daemon.stop();
    assert!(stage.orders().is_empty());
    assert!(stage.cloud.ledger().is_empty());
}

#[test]
fn a_price_below_the_cap_is_ordered_and_recorded_with_the_order() {
    let stage = Stage::new();
    stage.write_policies(&policy("capped", &["crs-sandbox-1"], "max_price_cny = 100"));
    let daemon = stage.start();
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    assert_eq!(order["amount_cny"], 100.0);
    stage.assert_agreement();
}

#[test]
fn a_used_up_budget_lets_the_soonest_expiry_through_and_the_others_wait() {
    let account = "[account.shop.budget]\norders_per_day = 1\n";
    let stage = Stage::with(&Settings { account, ..Settings::default() });
    stage.expires_in_days("crs-late", 9);
    stage.expires_in_days("crs-soon", 3);
    stage.expires_in_days("crs-last", 10);
    stage.write_policies(&policy("month", &["crs-late", "crs-soon", "crs-last"], ""));
    let daemon = stage.start();
    stage.until_order("crs-soon", "confirmed");
    stage.until_run("crs-last", "waiting");
    let waiting = stage.until_run("crs-late", "waiting");
    assert!(text(&waiting, "reason").contains("budget of 1 orders a day"), "{waiting:#}");
    until("it fired again, to no effect", || (stage.runs_of("crs-late").len() > 3).then_some(()));
    let said = daemon.events("run.waiting").into_iter().filter(|event| event["level"] == "ERROR");
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), 1, "one account, one finding: {said:#?}");
    assert_eq!(said[0]["code"], "OrdersPerDay");
    daemon.stop();
    assert!(stage.orders_of("crs-late").is_empty());
    stage.assert_agreement();
}

#[test]
fn each_firing_looks_again_so_an_expiry_that_came_nearer_is_seen() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "skipped");
    assert_eq!(stage.charges_of("crs-sandbox-1"), 0);

    stage.expires_in_days("crs-sandbox-1", 5);

    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}
