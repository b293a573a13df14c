//! An instance near its expiry with nothing on its way is told of, whatever the cause, and so is what to do.

use std::collections::BTreeMap;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::{Value, json};

use crate::harness::{Daemon, Stage, policy, stderr, text, until};

const TIGHT_KEY: &str = "AKIDsandbox-tight";
const POOR_KEY: &str = "AKIDsandbox-poor";

/// Two more accounts beside `shop`: one whose budget is used up, one without money.
fn add_accounts(stage: &Stage) {
    let path = stage.folder().join("renewd.toml");
    let mut settings = std::fs::read_to_string(&path).unwrap();
    let shop = settings.split("[account.shop]").nth(1).unwrap().split('[').next().unwrap().to_owned();
    for (name, key, more) in
        [("tight", TIGHT_KEY, "[account.tight.budget]\norders_per_day = 0\n"), ("poor", POOR_KEY, "")]
    {
        let account = shop.replace("file:secret-id", &format!("file:{name}-id"));
        settings += &format!("\n[account.{name}]{account}\n{more}");
        std::fs::copy(stage.folder().join("secret-id"), stage.folder().join(format!("{name}-id"))).unwrap();
        std::fs::write(stage.folder().join(format!("{name}-id")), key).unwrap();
    }
    std::fs::write(path, settings).unwrap();
}

/// Instance, the state its run comes to, what the event says of the cause, and what to do.
const CAUSES: [(&str, &str, &str, &str); 9] = [
    ("crs-budget", "waiting", "budget of 0 orders a day is used up", "raise orders_per_day"),
    ("crs-rights", "waiting", "UnauthorizedOperation", "put right what it names"),
    ("crs-auto", "skipped", "the console's auto-renew is on", "put right what it names"),
    ("crs-unknown", "unknown", "nobody can say whether it was charged", "`renewd resolve"),
    ("crs-sparse", "", "its policy has not fired yet", "fire more often"),
    (
        "crs-slip",
        "",
        "its policy has not fired yet",
        "correct its id, its region (ap-guangzhou) or its account (shop) in policy sparse",
    ),
    ("crs-absent", "failed", "not visible in ap-guangzhou with account shop", "put right what it names"),
    ("crs-poor", "waiting", "account poor is paused by renewd", "top the account up"),
    ("crs-disabled", "", "policy disabled is disabled", "enable it"),
];

#[test]
fn each_cause_that_leads_to_a_lapse_is_told_with_what_to_do() {
    let stage = Stage::new();
    add_accounts(&stage);
    stage.cloud.set_balance(POOR_KEY, renewd::domain::money::Fen::new(0));
    for (instance, ..) in
        CAUSES.iter().filter(|(instance, ..)| !["crs-absent", "crs-slip"].contains(instance))
    {
        stage.expires_in_days(instance, 2);
    }
    stage.change("crs-auto", json!({ "auto_renew": true }));
    let code = |code: &str| Spoilt::Code(code.to_owned());
    stage.cloud.inject(vec![
        Fault::spoil("redis:RenewInstance", Effect::Before, code("UnauthorizedOperation"))
            .on("crs-rights")
            .times(1000),
        Fault::spoil("redis:RenewInstance", Effect::Before, Spoilt::Drop).on("crs-unknown"),
        Fault::spoil("billing:DescribeDealsByCond", Effect::Before, code("UnauthorizedOperation.CamNoAuth"))
            .on("crs-unknown")
            .times(1000),
    ]);
    let of = |account: &str, text: String| text.replace("\"shop\"", &format!("{account:?}"));
    stage.write_policies(
        &[
            of("tight", policy("budget", &["crs-budget"], "")),
            of("poor", policy("poor", &["crs-poor"], "")),
            policy("near", &["crs-rights", "crs-auto", "crs-unknown", "crs-absent"], ""),
            policy("sparse", &["crs-sparse", "crs-slip"], "").replace("* * * * * *", "0 0 1 1 *"),
            policy("disabled", &["crs-disabled"], "enabled = false"),
        ]
        .concat(),
    );
    let daemon = stage.start();
    for (instance, state, ..) in CAUSES.iter().filter(|(_, state, ..)| !state.is_empty()) {
        stage.until_run(instance, state);
    }
    let mut told = events(&daemon);
    daemon.stop();
    // The minute's look comes with the start.
    let daemon = stage.start();
    until("each cause is told", || {
        told.extend(events(&daemon));
        (told.len() == CAUSES.len()).then_some(())
    });
    daemon.stop();

    for (instance, _, cause, todo) in CAUSES {
        let event = &told[instance];
        let said = text(event, "message");
        assert!(said.contains(cause), "{instance}: {said}");
        assert!(said.contains(todo), "{instance}: {said}");
        assert_eq!(event["level"], "ERROR");
    }
    let status = stage.status();
    assert_eq!(status["at_risk"].as_array().map(Vec::len), Some(CAUSES.len()), "{status:#}");
    assert!(
        stage.ok(&["status"]).contains("crs-slip (sparse), not visible in ap-guangzhou with account shop")
    );
    assert!(stage.cloud.ledger().is_empty());
}

fn events(daemon: &Daemon) -> BTreeMap<String, Value> {
    let events = daemon.events("instance.at_risk").into_iter();
    events.map(|event| (text(&event, "instance").to_owned(), event)).collect()
}

#[test]
fn check_warns_of_an_instance_that_expires_before_its_policy_fires() {
    let stage = Stage::new();
    let soon = stage.expires_in_days("crs-sandbox-1", 20);
    stage.expires_in_days("crs-sandbox-2", 400);
    stage.write_policies(&policy("month", &["crs-sandbox-1", "crs-sandbox-2"], ""));
    let before = stage.renewd(&["check"]);
    assert!(
        before.status.success() && before.stderr.is_empty(),
        "there is no database yet: {}",
        stderr(&before)
    );
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "skipped");
    stage.until_run("crs-sandbox-2", "skipped");
    daemon.stop();
    let fine = stage.renewd(&["check"]);
    assert!(fine.stderr.is_empty(), "{}", stderr(&fine));

    // The first of June or of December, whichever is months away.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let month = if now.month() <= 6 { 12 } else { 6 };
    let yearly = |schedule: &str| {
        policy("month", &["crs-sandbox-2", "crs-sandbox-1"], "").replace("* * * * * *", schedule)
    };
    stage.write_policies(
        &yearly(&format!("0 3 1 {month} *")).replace("months = 1", "months = 12, every_fire = true"),
    );
    let warned = stage.renewd(&["check"]);
    assert!(warned.status.success());
    let said = stderr(&warned);
    let expiry = soon.strftime("%Y-%m-%d %H:%M:%S+00").to_string();
    assert!(
        said.contains(&format!(
            "warning: `crs-sandbox-1` expires at {expiry}, before policy `month` fires next"
        )),
        "{said}"
    );
    assert!(
        said.contains("story.toml:5:31") && said.contains("renewd trigger month --instance crs-sandbox-1"),
        "{said}"
    );
    assert!(!said.contains("`crs-sandbox-2` expires"), "{said}");
    assert!(String::from_utf8_lossy(&warned.stdout).ends_with(", 1 warning\n"));
}
