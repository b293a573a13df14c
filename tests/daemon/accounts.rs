//! Accounts that come, move, change and leave while the service works.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use renewd::clock::SystemClock;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::sandbox::{self, Options, Running, SECRET_KEY};
use serde_json::json;

use crate::harness::{Settings, Stage, instant, most_sent_in_a_second, policy, text, until, write_secret};

const OTHER_KEY: &str = "AKIDsandbox-other";

/// `[account.NAME]` with a key of its own, to be put at the end of `renewd.toml`.
fn account(stage: &Stage, name: &str, key_id: &str) -> String {
    write_secret(&stage.folder().join(format!("{name}-id")), key_id);
    format!(
        "[account.{name}]\nprovider = \"tencentcloud\"\nsecret_id = \"file:{name}-id\"\n\
         secret_key = \"file:secret-key\"\nendpoint = \"{}\"\n",
        stage.cloud.base_url()
    )
}

fn of(account: &str, policy: String) -> String {
    policy.replace("\"shop\"", &format!("{account:?}"))
}

#[test]
fn an_account_that_comes_works_at_once_and_one_that_leaves_leaves_its_open_orders_on_record() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-9", 200);
    let shop = policy("idle", &["crs-sandbox-9"], "");
    stage.write_policies(&shop);
    let daemon = stage.start();

    let without = fs::read_to_string(stage.folder().join("renewd.toml")).unwrap();
    let with = without.clone() + &account(&stage, "other", OTHER_KEY);
    let other = of("other", policy("other", &["crs-sandbox-1"], ""));
    stage.write_policies(&(shop.clone() + &other));
    daemon.until_event("config.refused");
    let added = daemon.after(|| stage.edit_settings(|_| with.clone()), "config.reloaded");
    assert_eq!((&added["settings"], &added["added"]), (&"account.other".into(), &"other".into()));
    assert_eq!(stage.until_order("crs-sandbox-1", "confirmed")["account"], "other");

    // An order of it that nobody can say anything of, and then it is gone.
    let forbidden = Spoilt::Code("UnauthorizedOperation.CamNoAuth".to_owned());
    stage.cloud.inject(vec![
        Fault::spoil("redis:RenewInstance", Effect::Before, Spoilt::Drop).on("crs-sandbox-2"),
        Fault::spoil("billing:DescribeDealsByCond", Effect::Before, forbidden).times(1000),
    ]);
    let more = shop.clone() + &of("other", policy("other", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    stage.write_policies(&more);
    stage.until_order("crs-sandbox-2", "unknown");
    let looks = || stage.cloud.requests().get("billing:DescribeDealsByCond").map_or(0, |count| count.total);
    until("it is followed", || (looks() > 0).then_some(()));
    stage.edit_settings(|_| without);
    let refused =
        daemon.until_event_that("config.refused", |event| text(event, "message").contains("\"other\""));
    assert_eq!(refused["level"], "ERROR", "a policy still names it");
    let removed = daemon.after(|| stage.write_policies(&shop), "config.reloaded");
    assert_eq!((&removed["settings"], &removed["retired"]), (&"account.other".into(), &"other".into()));
    let missed = daemon.until_event_that("config.refused", |event| event["account"] == "other");
    assert!(text(&missed, "message").contains("put it back"), "{missed:#}");
    assert_eq!(stage.status()["unknown_orders"], 1);
    let (before, fired) = (looks(), daemon.events("schedule.fired").len());
    until("it fires on", || (daemon.events("schedule.fired").len() > fired + 4).then_some(()));
    assert!(looks() <= before + 1, "nothing is asked for an account that is gone, but what was on its way");

    // Put back, its order is followed to its end, and made anew.
    stage.cloud.forget_faults();
    stage.write_policies(&more);
    daemon.after(|| stage.edit_settings(|_| with), "config.reloaded");
    stage.until_order("crs-sandbox-2", "confirmed");
    daemon.stop();
    assert_eq!(
        stage.orders_of("crs-sandbox-2").len(),
        2,
        "the one that did not happen, and the one that did"
    );
    stage.assert_agreement();
}

#[test]
fn what_an_account_was_sending_when_it_left_is_recorded_and_what_it_had_in_hand_is_given_back() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-9", 200);
    let shop = policy("idle", &["crs-sandbox-9"], "");
    let other = of("other", policy("other", &["crs-sandbox-1", "crs-sandbox-2", "crs-sandbox-3"], ""));
    stage.write_policies(&(shop.clone() + &other));
    let without = fs::read_to_string(stage.folder().join("renewd.toml")).unwrap();
    let pace = "[account.other.rate]\n\"redis:RenewInstance\" = 0.5\n";
    let with = without.clone() + &account(&stage, "other", OTHER_KEY) + pace;
    stage.edit_settings(|_| with.clone());
    let late = Spoilt::Stall(Duration::from_secs(8));
    stage.cloud.inject(vec![Fault::spoil("redis:RenewInstance", Effect::After, late)]);
    let daemon = stage.start();
    until("an order is charged and not answered", || stage.cloud.ledger().pop());

    stage.write_policies(&shop);
    daemon.after(|| stage.edit_settings(|_| without), "config.reloaded");
    assert_eq!(stage.orders()[0]["state"], "intended", "the answer is still on its way");
    let placed =
        until("its answer is recorded", || stage.list(&["orders", "--state", "placed"]).into_iter().next());
    assert_eq!(placed["order_id"], stage.cloud.ledger()[0].order_id.as_str());
    until("nothing is in hand", || stage.list(&["runs", "--state", "running"]).is_empty().then_some(()));
    assert_eq!(stage.orders().len(), 1);

    stage.write_policies(&(shop + &other));
    daemon.after(|| stage.edit_settings(|_| with.replace("= 0.5", "= 15")), "config.reloaded");
    for instance in ["crs-sandbox-1", "crs-sandbox-2", "crs-sandbox-3"] {
        stage.until_order(instance, "confirmed");
    }
    daemon.stop();
    assert_eq!(stage.orders().len(), 3);
    stage.assert_agreement();
}

#[test]
fn a_run_in_the_hands_of_one_account_goes_to_the_one_that_its_policy_is_given() {
    // One order in twenty seconds: long enough to be overtaken.
    let account_of_shop = "[account.shop.rate]\n\"redis:RenewInstance\" = 0.05";
    let stage = Stage::with(&Settings { account: account_of_shop, ..Settings::default() });
    stage.edit_settings(|text| text + &account(&stage, "other", OTHER_KEY));
    let month = policy("month", &["crs-sandbox-1"], "");
    stage.write_policies(&month);
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "running");

    let moved = daemon.after(|| stage.write_policies(&of("other", month)), "config.reloaded");
    assert_eq!(moved["changed"], "month");
    assert!(stage.list(&["runs", "--state", "running"]).len() == 1, "it still waits for its turn");
    let raise = || stage.edit_settings(|text| text.replace("= 0.05", "= 15"));
    daemon.after(raise, "config.reloaded");

    let order = stage.until_order("crs-sandbox-1", "confirmed");
    assert_eq!((&order["account"], &order["policy_revision"]), (&"other".into(), &2.into()));
    assert_eq!(stage.until_run("crs-sandbox-1", "succeeded")["account"], "other");
    daemon.stop();
    stage.assert_agreement();
}

fn another_cloud(stage: &Stage) -> Running {
    let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
    let options = Options { listen, seed: None, clock: Arc::new(SystemClock::new()) };
    stage.block_on(sandbox::start(options)).unwrap()
}

#[test]
fn an_account_that_is_moved_to_another_place_orders_nothing_there_on_what_was_seen_in_the_old_one() {
    let account = "[account.shop.rate]\n\"redis:RenewInstance\" = 1";
    let stage = Stage::with(&Settings { account, ..Settings::default() });
    let there = another_cloud(&stage);
    let ids: Vec<String> = (0..10).map(|number| format!("crs-move-{number}")).collect();
    for id in &ids {
        stage.expires_in_days(id, 5);
        let far = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 200);
        there.set_instance(id, serde_json::from_value(json!({ "expires_at": far })).unwrap()).unwrap();
    }
    let last = "crs-last";
    let near = stage.expires_in_days(last, 5);
    there.set_instance(last, serde_json::from_value(json!({ "expires_at": near })).unwrap()).unwrap();
    let fleet = policy("fleet", &ids.iter().map(String::as_str).collect::<Vec<_>>(), "");
    stage.write_policies(&fleet);
    let daemon = stage.start();
    until("one is ordered, the others are in hand", || (!stage.cloud.ledger().is_empty()).then_some(()));

    let (here, elsewhere) = (stage.cloud.base_url(), there.base_url());
    let moved =
        daemon.after(|| stage.edit_settings(|text| text.replace(&here, &elsewhere)), "config.reloaded");
    assert_eq!(moved["settings"], "account.shop.endpoint");
    let far = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 100);
    until("all were looked at there", || {
        let seen = stage.list(&["instances"]);
        (seen.iter().filter(|row| instant(&row["expires_at"]) > far).count() == ids.len()).then_some(())
    });
    let week = policy("last", &[last], "");
    daemon.after(|| stage.write_policies(&(fleet + &week)), "config.reloaded");
    stage.until_order(last, "confirmed");
    daemon.stop();
    let bought: Vec<String> = there.ledger().iter().map(|charge| charge.instance.clone()).collect();
    assert_eq!(bought, [last], "what is due there, and nothing that was due in the old place only");
    stage.block_on(there.stop());
}

#[test]
fn a_wrong_key_pauses_and_the_right_one_lets_orders_go_on_without_a_restart_and_nothing_is_doubled() {
    let account =
        "[account.shop.rate]\n\"redis:RenewInstance\" = 5\n[account.shop.budget]\norders_per_day = 1000";
    let stage = Stage::with(&Settings { account, max_delay_seconds: 600, ..Settings::default() });
    let ids: Vec<String> = (0..40).map(|number| format!("crs-key-{number}")).collect();
    stage.expire_in_days(&ids, 5);
    stage.write_policies(&policy("fleet", &ids.iter().map(String::as_str).collect::<Vec<_>>(), ""));
    let daemon = stage.start();
    until("orders flow", || (stage.cloud.ledger().len() >= 5).then_some(()));

    stage.write_secret("sandbox-secret-kye");
    let paused = daemon.until_event("account.paused");
    assert_eq!(
        (&paused["level"], &paused["class"], &paused["account"]),
        (&"ERROR".into(), &"credential".into(), &"shop".into())
    );
    assert!(text(&paused, "message").contains("AuthFailure.SignatureFailure"), "{paused:#}");
    let fired = daemon.events("schedule.fired").len();
    until("it fires on", || (daemon.events("schedule.fired").len() > fired + 2).then_some(()));
    let ordered = stage.cloud.ledger().len();
    assert!(ordered < ids.len(), "all {ordered} were ordered before the key was noticed");

    stage.write_secret(SECRET_KEY);
    daemon.until_event("account.resumed");
    ids.iter().for_each(|id| drop(stage.until_order(id, "confirmed")));
    assert_eq!(daemon.events("account.paused").len(), 1, "told once");
    assert_eq!(stage.status()["paused"], json!([]));

    // A rotation while the old key still works.
    let new_key = || write_secret(&stage.folder().join("secret-id"), "AKIDsandbox-behaviour-2");
    assert_eq!(daemon.after(new_key, "config.reloaded")["secrets"], "shop");
    stage.expires_in_days(&ids[0], 5);
    until("it is renewed again", || (stage.charges_of(&ids[0]) == 2).then_some(()));
    until("all is settled", || {
        stage.orders().iter().all(|order| order["settled_at"].is_string()).then_some(())
    });
    daemon.stop();
    assert_eq!(stage.cloud.ledger().len(), ids.len() + 1);
    assert!(most_sent_in_a_second(&stage.orders()) <= 5);
}

#[test]
fn secrets_that_can_no_longer_be_read_hold_their_account_alone_until_they_can() {
    let stage = Stage::new();
    stage.edit_settings(|text| text + &account(&stage, "other", OTHER_KEY));
    stage.expires_in_days("crs-sandbox-8", 200);
    stage.expires_in_days("crs-sandbox-9", 200);
    let other = of("other", policy("other", &["crs-sandbox-8"], ""));
    stage.write_policies(&(policy("shop", &["crs-sandbox-9"], "") + &other));
    let daemon = stage.start();
    stage.until_run("crs-sandbox-8", "skipped");

    let key = stage.folder().join("other-id");
    fs::rename(&key, stage.folder().join("away")).unwrap();
    let paused = daemon.until_event("account.paused");
    assert_eq!((&paused["account"], &paused["class"]), (&"other".into(), &"credential".into()));
    assert!(text(&paused, "message").contains("other-id` cannot be read"), "{paused:#}");
    stage.expires_in_days("crs-sandbox-9", 5);
    stage.until_order("crs-sandbox-9", "confirmed");
    stage.expires_in_days("crs-sandbox-8", 5);
    stage.until_run("crs-sandbox-8", "waiting");
    assert_eq!(stage.charges_of("crs-sandbox-8"), 0);

    fs::rename(stage.folder().join("away"), &key).unwrap();
    daemon.until_event_that("account.resumed", |event| event["account"] == "other");
    stage.until_order("crs-sandbox-8", "confirmed");
    assert_eq!(daemon.events("account.paused").len(), 1);
    daemon.stop();
    stage.assert_agreement();
}
