//! Answers that never came or could not be read: never a second charge, never a lost one.

use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};

use serde_json::Value;

use crate::harness::{Settings, Stage, instant, policy, text, until};

const RENEW: &str = "redis:RenewInstance";
/// Long enough to be late, short enough to come before any client gives up.
const LATE: Duration = Duration::from_millis(1500);

fn spoilt() -> [(&'static str, Spoilt); 6] {
    [
        ("code", Spoilt::Code("InternalError".to_owned())),
        ("http", Spoilt::Http(502)),
        ("drop", Spoilt::Drop),
        ("stall", Spoilt::Stall(LATE)),
        ("garbage", Spoilt::Garbage),
        ("truncate", Spoilt::Truncate),
    ]
}

#[test]
fn whatever_spoils_an_answer_before_or_after_the_charge_each_instance_is_charged_once() {
    let stage = Stage::new();
    let mut before = Vec::new();
    let mut after = Vec::new();
    for (name, spoilt) in spoilt() {
        for (effect, word, ids) in
            [(Effect::Before, "before", &mut before), (Effect::After, "after", &mut after)]
        {
            let id = format!("crs-{name}-{word}");
            stage.expires_in_days(&id, 5);
            stage.cloud.inject(vec![Fault::spoil(RENEW, effect, spoilt.clone()).on(&id)]);
            ids.push(id);
        }
    }
    let all: Vec<&str> = before.iter().chain(&after).map(String::as_str).collect();
    stage.write_policies(&policy("month", &all, ""));
    let daemon = stage.start();
    for id in &all {
        stage.until_order(id, "confirmed");
    }
    for id in &before {
        let refused = daemon.until_event_that("order.refused", |event| event["instance"] == id.as_str());
        assert_eq!((&refused["class"], &refused["code"]), (&"unknown".into(), &"NotOrdered".into()));
    }
    daemon.stop();

    stage.assert_agreement();
    for id in &before {
        let orders = stage.orders_of(id);
        let states: Vec<&str> = orders.iter().map(|order| text(order, "state")).collect();
        assert_eq!(states, ["confirmed", "refused"], "{id} was not charged and is ordered exactly once more");
        assert_eq!(orders[1]["error"]["code"], "NotOrdered", "{id}");
        assert_eq!(orders[1]["run_id"], orders[0]["run_id"], "{id}: its run is judged anew");
    }
    for id in &after {
        let orders = stage.orders_of(id);
        assert_eq!(orders.len(), 1, "{id} was charged and is never ordered again: {orders:#?}");
        assert_eq!(stage.until_run(id, "succeeded")["id"], orders[0]["run_id"]);
    }
}

#[test]
fn a_throttled_order_is_tried_again_and_never_counts_as_an_attempt() {
    let stage = Stage::new();
    let throttled = Spoilt::Code("RequestLimitExceeded".to_owned());
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::Before, throttled).on("crs-sandbox-1").times(2)]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();

    let run = stage.until_run("crs-sandbox-1", "succeeded");
    assert_eq!(run["id"], order["run_id"]);
    assert_eq!(run["attempts"], 0, "{run:#}");
    let refused = stage.list(&["orders", "--state", "refused"]);
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|order| order["error"]["class"] == "throttled"), "{refused:#?}");
    stage.assert_agreement();
}

#[test]
fn a_busy_instance_is_tried_again_and_each_refusal_counts_as_an_attempt() {
    let stage = Stage::new();
    let busy = Spoilt::Code("ResourceInUse.InstanceBeenLocked".to_owned());
    stage.cloud.inject(vec![Fault::spoil(RENEW, Effect::Before, busy).on("crs-sandbox-1").times(2)]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();

    let runs = stage.runs_of("crs-sandbox-1");
    let attempts: i64 = runs.iter().map(|run| run["attempts"].as_i64().unwrap()).sum();
    assert_eq!(attempts, 2, "{runs:#?}");
    let succeeded = runs.iter().find(|run| run["id"] == order["run_id"]).unwrap();
    assert_eq!(succeeded["state"], "succeeded");
    stage.assert_agreement();
}

#[test]
fn an_instance_that_the_cloud_is_at_work_on_is_looked_at_ever_more_seldom_and_told_of_once() {
    let stage = Stage::new();
    stage.edit_settings(|text| text.replace("[retry]", "[retry]\nmax_attempts = 3"));
    stage.change("crs-sandbox-1", serde_json::json!({ "state": "busy" }));
    // A later firing would take over from a run whose attempts are used up.
    stage.write_policies(&policy("month", &["crs-sandbox-1"], "").replace("* * * * * *", "0 3 1 1 *"));
    let daemon = stage.start();
    stage.ok(&["trigger", "month"]);
    let told = daemon.until_event_that("run.waiting", |event| event["level"] == "ERROR");
    assert_eq!((&told["class"], &told["code"]), (&"busy".into(), &"AtWork".into()), "{told:#}");
    let run = told["run"].clone();
    let of_run = |level: &str| {
        let waits = daemon.events("run.waiting").into_iter();
        waits.filter(|event| event["run"] == run && event["level"] == level).count()
    };
    assert_eq!(of_run("WARN"), 2, "the attempts before the last");
    let attempts =
        || stage.runs_of("crs-sandbox-1").iter().map(|run| run["attempts"].as_i64().unwrap()).max();
    until("it goes on being looked at", || (attempts() > Some(3)).then_some(()));
    assert_eq!(of_run("ERROR"), 1);

    stage.change("crs-sandbox-1", serde_json::json!({ "state": "running" }));
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn an_empty_balance_pauses_the_account_and_a_top_up_heals_it_soonest_expiry_first() {
    let stage = Stage::new();
    let ids = ["crs-late", "crs-soon", "crs-middle"];
    for (id, days) in ids.into_iter().zip([9, 3, 6]) {
        stage.expires_in_days(id, days);
    }
    stage.cloud.set_balance(crate::harness::KEY_ID, renewd::domain::money::Fen::new(0));
    stage.write_policies(&policy("month", &ids, ""));
    let daemon = stage.start();
    let paused = daemon.until_event("account.paused");
    assert_eq!(paused["level"], "ERROR");
    assert_eq!(paused["account"], "shop");
    assert_eq!(paused["code"], "ResourceUnavailable.AccountBalanceNotEnough");
    let status = stage.status();
    assert_eq!(status["paused"][0]["name"], "shop", "{status:#}");
    assert!(stage.cloud.ledger().is_empty());
    until("the balance was read, and read again", || {
        let requests = serde_json::to_value(stage.cloud.requests()).unwrap();
        (requests["billing:DescribeAccountBalance"]["total"].as_u64() > Some(2)).then_some(())
    });
    assert_eq!(stage.orders().len(), 1, "no order is tried while the balance has not risen");

    stage.cloud.set_balance(crate::harness::KEY_ID, renewd::domain::money::Fen::new(1_000_000));
    for id in ids {
        stage.until_order(id, "confirmed");
    }
    daemon.until_event("account.resumed");
    daemon.stop();
    let charged: Vec<String> = stage.cloud.ledger().iter().map(|charge| charge.instance.clone()).collect();
    assert_eq!(charged, ["crs-soon", "crs-middle", "crs-late"]);
    assert_eq!(stage.status()["paused"].as_array().map(Vec::len), Some(0));
    stage.assert_agreement();
}

#[test]
fn an_empty_balance_that_may_not_be_read_is_tested_by_orders_and_told_once() {
    let stage = Stage::new();
    let unreadable = Spoilt::Code("UnauthorizedOperation.CamNoAuth".to_owned());
    let fault = Fault::spoil("billing:DescribeAccountBalance", Effect::Before, unreadable);
    stage.cloud.inject(vec![fault.times(1000)]);
    stage.cloud.set_balance(crate::harness::KEY_ID, renewd::domain::money::Fen::new(0));
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    let daemon = stage.start();
    until("several tests were refused", || (stage.orders().len() > 2).then_some(()));
    let lines = daemon.stop();
    let errors: Vec<_> = lines.iter().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("account.paused"));
}

#[test]
fn a_wrong_secret_stops_all_calls_and_the_corrected_file_is_taken_by_itself_before_the_next_test() {
    let stage = Stage::with(&Settings {
        secret: "sandbox-secret-kye",
        max_delay_seconds: 600,
        ..Settings::default()
    });
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let paused = daemon.until_event("account.paused");
    assert_eq!((&paused["level"], &paused["class"]), (&"ERROR".into(), &"credential".into()));
    let run = stage.until_run("crs-sandbox-1", "waiting");
    assert!(text(&run, "reason").contains("AuthFailure.SignatureFailure"), "{run:#}");
    let fires_on = || {
        let fired = daemon.events("schedule.fired").len();
        until("it fires on", || (daemon.events("schedule.fired").len() > fired + 2).then_some(()));
    };
    // What was on its way when the first answer came is refused as well.
    fires_on();
    let refused = calls_refused(&stage);
    fires_on();
    assert_eq!(calls_refused(&stage), refused, "firings went on, calls did not");
    assert!(stage.orders().is_empty(), "no order was even intended");

    stage.write_secret(renewd::sandbox::SECRET_KEY);
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    assert!(instant(&order["sent_at"]) < instant(&paused["next_attempt_at"]), "{order:#}");
    assert_eq!(calls_refused(&stage), refused);
    daemon.until_event("account.resumed");
    daemon.stop();
    stage.assert_agreement();
}

fn calls_refused(stage: &Stage) -> Value {
    let requests = serde_json::to_value(stage.cloud.requests()).unwrap();
    requests["redis:DescribeInstances"]["by_code"]["AuthFailure.SignatureFailure"].clone()
}

#[test]
fn a_refusal_that_was_charged_all_the_same_is_not_ordered_again_by_its_firing_or_its_retry() {
    let stage = Stage::new();
    let code = |code: &str| Spoilt::Code(code.to_owned());
    let renew = |spoilt, id: &str| Fault::spoil("redis:RenewInstance", Effect::After, spoilt).on(id);
    stage.cloud.inject(vec![
        renew(code("RequestLimitExceeded"), "crs-sandbox-1"),
        renew(code("ResourceInUse.InstanceBeenLocked"), "crs-sandbox-2"),
        renew(code("LimitExceeded.PeriodExceedMaxLimit"), "crs-sandbox-3"),
    ]);
    let ids = ["crs-sandbox-1", "crs-sandbox-2", "crs-sandbox-3"];
    let every = policy("every", &ids, "").replace("{ months = 1 }", "{ months = 1, every_fire = true }");
    stage.write_policies(&every.replace("* * * * * *", "0 0 1 1 *"));
    let daemon = stage.start();
    stage.ok(&["trigger", "every"]);
    for id in ids {
        let failed = stage.until_run(id, "failed");
        if id == "crs-sandbox-3" {
            stage.ok(&["retry", &failed["id"].to_string()]);
            until("the retry has ended", || {
                let runs = stage.runs_of(id);
                (runs.len() == 2 && runs.iter().all(|run| run["state"] == "failed")).then_some(())
            });
        }
        let told = |run: &Value| run["error"]["code"] == "RefusedYetMoved";
        assert!(stage.runs_of(id).iter().any(told), "{:#?}", stage.runs_of(id));
        assert_eq!(stage.charges_of(id), 1);
    }
    assert!(daemon.events("run.failed").iter().any(|event| event["code"] == "RefusedYetMoved"));
    daemon.stop();
}
