//! Secrets stay in memory, whatever goes wrong and however much is logged.

use std::time::Duration;

use renewd::sandbox::SECRET_KEY;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};

use crate::harness::{KEY_ID, Settings, Stage, policy};

#[test]
fn no_secret_and_no_signature_reaches_log_database_or_output_after_every_fault() {
    let stage = Stage::with(&Settings { level: "trace,renewd=trace", ..Settings::default() });
    let wrong = "sandbox-secret-kye";
    stage.write_secret(wrong);
    let spoilt = [
        Spoilt::Code("InternalError".to_owned()),
        Spoilt::Code("AuthFailure.SignatureFailure".to_owned()),
        Spoilt::Code("ResourceInUse.InstanceBeenLocked".to_owned()),
        Spoilt::Http(502),
        Spoilt::Drop,
        Spoilt::Stall(Duration::from_millis(300)),
        Spoilt::Garbage,
        Spoilt::Truncate,
    ];
    let ids: Vec<String> = (1..=spoilt.len()).map(|number| format!("crs-secret-{number}")).collect();
    for (id, spoilt) in ids.iter().zip(spoilt) {
        stage.expires_in_days(id, 5);
        let on = |api| Fault::spoil(api, Effect::Before, spoilt.clone());
        stage.cloud.inject(vec![
            on("redis:RenewInstance").on(id),
            on("redis:DescribeInstances"),
            on("billing:DescribeDealsByCond").on(id),
        ]);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.write_policies(&policy("month", &ids, "max_price_cny = 1000"));
    let daemon = stage.start();
    daemon.until_event("account.paused");
    stage.write_secret(SECRET_KEY);
    for id in &ids {
        stage.until_order(id, "confirmed");
    }
    let secrets =
        [SECRET_KEY, wrong, KEY_ID, "Signature=", "TC3-HMAC-SHA256", "tc3_request", "authorization"];
    let mut places: Vec<(String, String)> = Vec::new();
    for name in ["renewd.db", "renewd.db-wal"] {
        let bytes = std::fs::read(stage.folder().join(name)).unwrap();
        places.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    for command in ["orders", "runs", "instances", "policies", "status", "check"] {
        places.push((command.to_owned(), stage.ok(&[command, "--json"])));
    }
    places.push(("why".to_owned(), stage.ok(&["why", ids[1]])));
    let lines = daemon.stop();
    assert!(lines.iter().any(|line| !line.contains("renewd::")), "the libraries were let speak as well");
    places.push(("stderr".to_owned(), lines.join("\n")));
    for (place, text) in &places {
        for secret in secrets {
            let lowered = text.to_lowercase();
            assert!(!lowered.contains(&secret.to_lowercase()), "{secret} is in {place}");
        }
    }
    stage.assert_agreement();
}
