//! `renewd why`: each situation told so that it is understood without the manual.

use jiff::{SignedDuration, Timestamp};
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::json;

use crate::harness::{Settings, Stage, policy, until_or_tell};

/// An instance, and what `why` has to say of it.
const SITUATIONS: [(&str, &[&str]); 12] = [
    (
        "crs-renewed",
        &[
            "is succeeded",
            "renewed: it now expires at",
            "passed    due:",
            "is confirmed",
            "redis:RenewInstance: ok",
        ],
    ),
    ("crs-far", &["is skipped", "not due: it expires at", "due within 15 days of that", "STOPS     due:"]),
    ("crs-auto", &["is skipped", "the console's auto-renew is on", "STOPS     auto-renew: on"]),
    (
        "crs-dear",
        &[
            "is failed",
            "the price is 100.00 CNY, above max_price_cny = 50",
            "STOPS     price: 100.00 CNY, cap 50",
        ],
    ),
    (
        "crs-postpaid",
        &["is failed", "not prepaid", "take it out of the policy", "STOPS     prepaid: postpaid"],
    ),
    (
        "crs-absent",
        &[
            "is failed",
            "not visible in ap-guangzhou with account shop",
            "correct the policy",
            "STOPS     visible: no",
        ],
    ),
    ("crs-returned", &["is failed", "somebody returned it; never ordered", "STOPS     state: isolated"]),
    ("crs-refused", &["is failed", "LimitExceeded.PeriodExceedMaxLimit", "is refused"]),
    ("crs-rights", &["is waiting", "UnauthorizedOperation", "again ", "is refused"]),
    ("crs-paused", &["is waiting", "policy", "paused", "operator", "moving house"]),
    ("crs-unknown", &["is unknown", "ConnectionCut", "times more, last", "it is watched", "--not-paid`"]),
    (
        "crs-grown",
        &["is skipped", "it has the wanted size already", "STOPS     size: as the policy wants it"],
    ),
];

#[test]
fn each_situation_is_told_with_its_test_its_orders_and_what_comes_next() {
    let stage = Stage::with(&Settings { max_delay_seconds: 30, ..Settings::default() });
    stage.expires_in_days("crs-sandbox-9", 200);
    stage.write_policies(&policy("paused", &["crs-sandbox-9"], ""));
    stage.start().stop();
    stage.ok(&["pause", "--policy", "paused", "--note", "moving house"]);
    for (instance, _) in SITUATIONS.iter().filter(|(instance, _)| *instance != "crs-absent") {
        stage.expires_in_days(instance, 5);
    }
    stage.expires_in_days("crs-far", 200);
    stage.change("crs-auto", json!({ "auto_renew": true }));
    stage.change("crs-postpaid", json!({ "charge_type": "postpaid" }));
    stage.change("crs-returned", json!({ "state": "isolated" }));
    let code = |code: &str| Spoilt::Code(code.to_owned());
    let renew = |spoilt, id: &str| Fault::spoil("redis:RenewInstance", Effect::Before, spoilt).on(id);
    let list = Fault::spoil("billing:DescribeDealsByCond", Effect::Before, Spoilt::Http(500));
    stage.cloud.inject(vec![
        renew(code("LimitExceeded.PeriodExceedMaxLimit"), "crs-refused").times(1000),
        renew(code("UnauthorizedOperation"), "crs-rights").times(1000),
        renew(Spoilt::Drop, "crs-unknown"),
        list.on("crs-unknown").times(1000),
    ]);
    let plain = ["crs-renewed", "crs-far", "crs-auto", "crs-postpaid", "crs-absent", "crs-returned"];
    let grow = policy("grown", &["crs-grown"], "");
    // Once, a few seconds from now: a later firing would be the one that `why` tells of.
    let second = (Timestamp::now() + SignedDuration::from_secs(4)).as_second().rem_euclid(60);
    stage.write_policies(
        &[
            policy("plain", &plain, ""),
            policy("refused", &["crs-refused", "crs-rights", "crs-unknown"], ""),
            policy("dear", &["crs-dear"], "max_price_cny = 50"),
            policy("paused", &["crs-paused"], ""),
            grow.replace("renew = { months = 1 }", "upgrade = { mem_size_mb = 1024 }"),
        ]
        .concat()
        .replace("* * * * * *", &format!("{second} * * * * *")),
    );
    let daemon = stage.start();
    for (instance, words) in SITUATIONS {
        let tell = || String::from_utf8(stage.renewd(&["why", instance]).stdout).unwrap();
        let fits = |told: &String| words.iter().all(|word| told.contains(word));
        let told =
            until_or_tell(&format!("{instance} is told with {words:?}"), || Some(tell()).filter(fits), tell);
        assert!(told.lines().count() < 30, "{told}");
        // To be read aloud by `cargo test --test daemon each_situation -- --nocapture`.
        eprintln!("{told}");
    }
    daemon.stop();
}

#[test]
fn before_its_first_run_what_is_known_of_an_instance_is_told_and_only_what_nothing_names_is_a_failure() {
    let stage = Stage::new();
    let expires_at = stage.expires_in_days("crs-sandbox-1", 40);
    let yearly = |policy: String| policy.replace("* * * * * *", "0 0 1 1 *");
    stage.write_policies(
        &[
            yearly(policy("sparse", &["crs-sandbox-1", "crs-slip"], "")),
            yearly(policy("off", &["crs-sandbox-2"], "enabled = false")),
        ]
        .concat(),
    );
    let daemon = stage.start();
    let told = |instance: &str, words: &[&str]| {
        let tell = || stage.ok(&["why", instance]);
        let fits = |told: &String| words.iter().all(|word| told.contains(word));
        until_or_tell(&format!("{instance} is told with {words:?}"), || Some(tell()).filter(fits), tell)
    };
    let day = expires_at.strftime("expires %Y-%m-%d").to_string();
    let seen =
        told("crs-sandbox-1", &["under policy sparse", "no run yet", "-01-01 00:00:00Z (0 0 1 1 *)", &day]);
    assert!(!seen.contains("you  "), "{seen}");
    told(
        "crs-slip",
        &[
            "has not fired yet",
            "not visible in ap-guangzhou with account shop, last look",
            "in policy sparse (",
        ],
    );
    told("crs-sandbox-2", &["its policy is disabled"]);
    daemon.stop();

    let unknown = stage.renewd(&["why", "crs-nobodys"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("no policy in force names crs-nobodys"), "{said}");
}
