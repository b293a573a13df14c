//! Accounts that sign with the role of their machine: keys that come, go and are taken back while orders flow.

use std::time::{Duration, Instant};

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use renewd::sandbox::{Role, SECRET_KEY};
use serde_json::Value;

use crate::harness::{Daemon, Settings, Stage, most_sent_in_a_second, policy, stderr, text, until};

const KEYS: &str = "secret_id = \"file:secret-id\"\nsecret_key = \"file:secret-key\"\n";

/// The account `shop` with the role of a machine that finds its metadata service at the practice cloud.
fn role(stage: &Stage) -> String {
    format!("credentials = \"instance-role\"\nmetadata_endpoint = \"{}\"\n", stage.cloud.base_url())
}

fn use_role(stage: &Stage) {
    stage.edit_settings(|text| text.replace(KEYS, &role(stage)));
}

/// A second account, of the other provider, on a machine with a role there.
fn add_games(stage: &Stage) {
    let url = stage.cloud.base_url();
    let games = format!("[account.games]\nprovider = \"volcengine\"\n{}endpoint = \"{url}\"\n", role(stage));
    stage.edit_settings(|text| text + &games);
}

fn servers(instances: &[&str]) -> String {
    policy("servers", instances, "")
        .replace("\"shop\"", "\"games\"")
        .replace("redis", "ecs")
        .replace("ap-guangzhou", "cn-beijing")
}

fn of_role(names: &[&str], lifetime_seconds: u32) -> Role {
    Role { names: names.iter().map(|name| (*name).to_owned()).collect(), lifetime_seconds }
}

fn fetches(stage: &Stage) -> u64 {
    stage.cloud.requests().get("metadata:credentials").map_or(0, |count| count.total)
}

/// How often the cloud refused a session token, by whatever code.
fn refused_tokens(stage: &Stage) -> u64 {
    let requests = stage.cloud.requests();
    let codes = ["AuthFailure.TokenFailure", "4105", "InvalidSecretToken"];
    let of_api = |by_code: &std::collections::BTreeMap<String, u64>| {
        codes.iter().filter_map(|code| by_code.get(*code)).sum::<u64>()
    };
    requests.values().map(|count| of_api(&count.by_code)).sum()
}

fn names(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

fn message<'a>(events: &'a [Value], words: &str) -> Option<&'a Value> {
    events.iter().find(|event| text(event, "message").contains(words))
}

#[test]
fn every_product_of_both_providers_is_ordered_with_the_role_of_the_machine() {
    let stage = Stage::new();
    use_role(&stage);
    add_games(&stage);
    let of = |name: &str, product: &str, instance: &str| {
        policy(name, &[instance], "").replace("\"redis\"", &format!("{product:?}"))
    };
    stage.write_policies(
        &(of("cache", "redis", "crs-sandbox-1")
            + &of("server", "cvm", "ins-sandbox-1")
            + &of("old", "cvm-v2", "ins-sandbox-2")
            + &servers(&["i-sandbox-1"])),
    );
    let daemon = stage.start();
    for instance in ["crs-sandbox-1", "ins-sandbox-1", "ins-sandbox-2", "i-sandbox-1"] {
        stage.until_order(instance, "confirmed");
    }
    let told = daemon.events("account.secrets");
    assert!(message(&told, "account games has new keys of its role, good until").is_some(), "{told:#?}");
    assert!(daemon.events("account.paused").is_empty());
    daemon.stop();
    assert_eq!(fetches(&stage), 2, "one fetch an account: {:?}", stage.cloud.requests());
    assert_eq!(refused_tokens(&stage), 0);
    stage.assert_agreement();
}

#[test]
fn keys_are_replaced_five_minutes_before_they_end_and_the_pace_goes_on_over_it() {
    let account =
        "[account.shop.rate]\n\"redis:RenewInstance\" = 2\n[account.shop.budget]\norders_per_day = 1000";
    let stage = Stage::with(&Settings { account, ..Settings::default() });
    use_role(&stage);
    // Five minutes and six seconds, of which a started second is not counted.
    stage.cloud.set_role(of_role(&["renewer"], 306));
    let ids: Vec<String> = (0..24).map(|number| format!("crs-role-{number}")).collect();
    stage.expire_in_days(&ids, 5);
    stage.write_policies(&policy("fleet", &names(&ids), ""));
    let daemon = stage.start();
    until("keys are fetched", || (fetches(&stage) == 1).then_some(()));
    let first = Instant::now();
    until("orders flow", || (!stage.cloud.ledger().is_empty()).then_some(()));
    until("keys are fetched again", || (fetches(&stage) >= 2).then_some(()));
    let apart = first.elapsed();
    assert!(apart >= Duration::from_secs(4), "after {apart:?}, so more than five minutes before their end");
    assert!(stage.cloud.ledger().len() < ids.len(), "orders flow over it");
    ids.iter().for_each(|id| drop(stage.until_order(id, "confirmed")));
    assert!(daemon.events("account.paused").is_empty());
    daemon.stop();
    assert!(most_sent_in_a_second(&stage.orders()) <= 2, "another key is not another pace");
    assert_eq!(refused_tokens(&stage), 0);
    stage.assert_agreement();
}

#[test]
fn a_metadata_service_that_is_away_at_the_start_holds_its_account_alone_until_it_is_back() {
    let stage = Stage::new();
    let keys = KEYS.to_owned();
    let other = format!(
        "[account.other]\nprovider = \"tencentcloud\"\n{keys}endpoint = \"{}\"\n",
        stage.cloud.base_url()
    );
    use_role(&stage);
    stage.edit_settings(|text| text + &other);
    let spoil = |spoilt| Fault::spoil("metadata:roles", Effect::Before, spoilt);
    stage.cloud.inject(vec![
        spoil(Spoilt::Stall(Duration::from_secs(60))),
        spoil(Spoilt::Http(503)),
        spoil(Spoilt::Drop).times(1_000),
    ]);
    let of_other = policy("other", &["crs-sandbox-2"], "").replace("\"shop\"", "\"other\"");
    stage.write_policies(&(policy("shop", &["crs-sandbox-1"], "") + &of_other));
    let daemon = stage.start();

    stage.until_order("crs-sandbox-2", "confirmed");
    let paused = daemon.until_event("account.paused");
    assert_eq!(
        (&paused["level"], &paused["account"], &paused["class"], &paused["code"]),
        (&"ERROR".into(), &"shop".into(), &"unsent".into(), &"NoMetadata".into())
    );
    assert!(text(&paused, "message").contains("no answer from the metadata service"), "{paused:#}");
    let run = stage.until_run("crs-sandbox-1", "waiting");
    assert!(text(&run, "reason").contains("the keys of its role"), "{run:#}");
    until("it was asked again and again", || {
        let count = stage.cloud.requests().get("metadata:roles").map_or(0, |count| count.total);
        (count >= 4).then_some(())
    });
    assert_eq!(stage.charges_of("crs-sandbox-1"), 0);
    assert_eq!(daemon.events("account.paused").len(), 1, "told once");

    stage.cloud.forget_faults();
    let resumed = daemon.until_event("account.resumed");
    assert_eq!(resumed["account"], "shop");
    stage.until_order("crs-sandbox-1", "confirmed");
    assert_eq!(stage.status()["paused"].as_array().map(Vec::len), Some(0));
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn keys_that_are_taken_back_while_orders_flow_are_fetched_anew_once_and_nothing_is_doubled() {
    let account =
        "[account.shop.rate]\n\"redis:RenewInstance\" = 5\n[account.shop.budget]\norders_per_day = 1000";
    let stage = Stage::with(&Settings { account, ..Settings::default() });
    use_role(&stage);
    add_games(&stage);
    stage.edit_settings(|text| text + "[account.games.rate]\n\"ecs:RenewInstance\" = 1\n");
    let ids: Vec<String> = (0..30).map(|number| format!("crs-revoked-{number}")).collect();
    let others: Vec<String> = (0..6).map(|number| format!("i-revoked-{number}")).collect();
    stage.expire_in_days(ids.iter().chain(&others), 5);
    stage.write_policies(&(policy("fleet", &names(&ids), "") + &servers(&names(&others))));
    let daemon = stage.start();
    let of = |product: &str| {
        stage.cloud.ledger().iter().filter(|charge| charge.instance.starts_with(product)).count()
    };
    until("orders flow", || (of("crs-") >= 5 && of("i-") >= 1).then_some(()));

    stage.cloud.revoke_role_keys();
    ids.iter().chain(&others).for_each(|id| drop(stage.until_order(id, "confirmed")));
    assert!(refused_tokens(&stage) >= 2, "{:?}", stage.cloud.requests());
    assert_eq!(fetches(&stage), 4, "once an account: {:?}", stage.cloud.requests());
    assert!(daemon.events("account.paused").is_empty(), "there were new keys at once");
    daemon.stop();
    assert!(most_sent_in_a_second(&stage.orders()) <= 6);
    stage.assert_agreement();
}

#[test]
fn keys_that_end_without_new_ones_are_used_no_more_and_the_account_heals_by_itself() {
    let stage = Stage::new();
    use_role(&stage);
    stage.cloud.set_role(of_role(&["renewer"], 14));
    stage.expires_in_days("crs-sandbox-2", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");

    let refused = Spoilt::Code("InternalError".to_owned());
    stage.cloud.inject(vec![Fault::spoil("metadata:credentials", Effect::Before, refused).times(1_000)]);
    let warned = daemon.until_event_that("account.secrets", |event| event["level"] == "WARN");
    assert!(text(&warned, "message").contains("goes on with the keys that it has until"), "{warned:#}");
    assert!(daemon.events("account.paused").is_empty(), "they are still good");
    let paused = daemon.until_event("account.paused");
    assert_eq!((&paused["class"], &paused["code"]), (&"credential".into(), &"RoleRefused".into()));
    assert!(text(&paused, "message").contains("renewer (InternalError)"), "{paused:#}");
    stage.expires_in_days("crs-sandbox-2", 5);
    let note = text(&stage.status()["paused"][0], "note").to_owned();
    assert!(note.contains("gives no keys of role renewer"), "{note}");
    assert_eq!(stage.charges_of("crs-sandbox-2"), 0);

    stage.cloud.forget_faults();
    daemon.until_event("account.resumed");
    stage.until_order("crs-sandbox-2", "confirmed");
    daemon.stop();
    assert_eq!(refused_tokens(&stage), 0, "no call was made with keys that had ended");
    stage.assert_agreement();
}

#[test]
fn check_and_plan_say_what_is_wrong_with_a_role_and_a_plain_check_asks_nobody() {
    let stage = Stage::new();
    use_role(&stage);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    stage.ok(&["check"]);
    assert!(stage.cloud.requests().is_empty(), "{:?}", stage.cloud.requests());
    stage.ok(&["check", "--online"]);

    let says = |arguments: &[&str], words: &str| {
        let output = stage.renewd(arguments);
        let told = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(words), "{words:?} is not in:\n{told}");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    };
    let online = ["check", "--online"];
    stage.cloud.set_role(of_role(&[], 3_600));
    says(&online, "no role is bound to this machine");
    says(&["plan"], "no role is bound to this machine");
    stage.cloud.set_role(of_role(&["reader", "renewer"], 3_600));
    says(&online, "several roles (reader, renewer)");
    stage.edit_settings(|text| text.replace("instance-role", "instance-role:writer"));
    says(&online, "this machine has no role writer");
    stage.edit_settings(|text| text.replace("instance-role:writer", "instance-role:renewer"));
    stage.ok(&["check", "--online"]);
    let url = stage.cloud.base_url();
    let away = "metadata_endpoint = \"http://127.0.0.1:1\"";
    stage.edit_settings(|text| text.replace(&format!("metadata_endpoint = {url:?}"), away));
    says(&online, "no answer from the metadata service");
    stage.ok(&["check"]);
}

#[test]
fn an_account_goes_from_keys_to_a_role_and_back_without_a_restart() {
    let stage = Stage::new();
    stage.expire_in_days(["crs-sandbox-2", "crs-sandbox-3"], 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2", "crs-sandbox-3"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    assert_eq!(fetches(&stage), 0);

    let changed = daemon.after(|| use_role(&stage), "config.reloaded");
    assert!(text(&changed, "settings").contains("account.shop.credentials"), "{changed:#}");
    until("its keys are fetched", || (fetches(&stage) == 1).then_some(()));
    stage.expires_in_days("crs-sandbox-2", 5);
    stage.until_order("crs-sandbox-2", "confirmed");

    let other = |text: String| text.replace("level = \"info\"", "level = \"debug\"");
    daemon.after(|| stage.edit_settings(other), "config.reloaded");
    let back = || stage.edit_settings(|text| text.replace(&role(&stage), KEYS));
    daemon.after(back, "config.reloaded");
    stage.cloud.revoke_role_keys();
    stage.expires_in_days("crs-sandbox-3", 5);
    stage.until_order("crs-sandbox-3", "confirmed");
    assert!(daemon.events("account.paused").is_empty());
    daemon.stop();
    assert_eq!((fetches(&stage), refused_tokens(&stage)), (1, 0));
    stage.assert_agreement();
}

#[test]
fn no_key_of_a_role_reaches_log_or_database_after_every_fault_of_its_service() {
    let stage = Stage::with(&Settings { level: "trace,renewd=trace", ..Settings::default() });
    use_role(&stage);
    add_games(&stage);
    let spoilt = || {
        [
            Spoilt::Garbage,
            Spoilt::Truncate,
            Spoilt::Http(500),
            Spoilt::Drop,
            Spoilt::Code("Denied".to_owned()),
        ]
    };
    for api in ["metadata:credentials", "metadata:token"] {
        stage.cloud.inject(spoilt().map(|spoilt| Fault::spoil(api, Effect::After, spoilt)).to_vec());
    }
    stage.write_policies(&(policy("month", &["crs-sandbox-1"], "") + &servers(&["i-sandbox-1"])));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    stage.until_order("i-sandbox-1", "confirmed");
    stage.cloud.revoke_role_keys();
    stage.expires_in_days("crs-sandbox-1", 5);
    until("it is renewed again", || (stage.charges_of("crs-sandbox-1") == 2).then_some(()));
    assert_nowhere(&stage, daemon);
}

fn assert_nowhere(stage: &Stage, daemon: Daemon) {
    let mut places: Vec<(String, String)> = Vec::new();
    for name in ["renewd.db", "renewd.db-wal"] {
        let bytes = std::fs::read(stage.folder().join(name)).unwrap();
        places.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    for command in ["orders", "runs", "status", "check"] {
        places.push((command.to_owned(), stage.ok(&[command, "--json"])));
    }
    let lines = daemon.stop();
    assert!(lines.iter().any(|line| !line.contains("renewd::")), "the libraries were let speak as well");
    places.push(("stderr".to_owned(), lines.join("\n")));
    for (place, text) in &places {
        for secret in
            [SECRET_KEY, "sandbox-session-", "AKIDsandbox-role-", "AKLTsandbox-role-", "ecs-metadata-token"]
        {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
}
