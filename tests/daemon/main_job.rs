//! From a policy file to renewals with order numbers, every part a process of its own.

use renewd::sandbox::TENCENT_KEY_PREFIX;
use serde_json::Value;

use crate::harness::{
    Daemon, Settings, assert_agreement, command, list, ok, policy, start, until, write_policies,
    write_settings,
};

const INSTANCES: [&str; 3] = ["crs-sandbox-1", "crs-sandbox-2", "crs-sandbox-3"];

#[test]
fn a_policy_file_becomes_renewals_whose_order_numbers_are_the_ledgers_and_none_is_charged_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cloud = Daemon::spawn(command(folder, &["sandbox", "--listen", "127.0.0.1:0"]));
    let address = until("the practice cloud says where it listens", || {
        let said = cloud.lines().into_iter().find(|line| line.contains(TENCENT_KEY_PREFIX))?;
        said.split("on ").nth(1)?.split(": ").next().map(str::to_owned)
    });
    write_settings(folder, &address, &Settings::default());
    let year = policy("year", &INSTANCES[2..], "").replace("months = 1", "months = 12");
    write_policies(folder, &[policy("month", &INSTANCES[..2], ""), year].concat());

    let daemon = start(folder);
    until("all are renewed and fired again", || {
        let runs = list(folder, &["runs"]);
        let skipped = |instance: &&str| {
            runs.iter().filter(|run| run["instance"] == **instance && run["state"] == "skipped").count() > 2
        };
        // While an order waits for its expiry to move, later firings are skipped as well.
        let confirmed = list(folder, &["orders", "--state", "confirmed"]).len();
        (confirmed == INSTANCES.len() && INSTANCES.iter().all(skipped)).then_some(())
    });
    daemon.stop();

    let (orders, runs) = (list(folder, &["orders"]), list(folder, &["runs"]));
    assert_agreement(&ledger(&address), &orders);
    assert_eq!(orders.len(), INSTANCES.len(), "one order an instance: {orders:#?}");
    for order in &orders {
        let months = if order["instance"] == INSTANCES[2] { 12 } else { 1 };
        assert_eq!((&order["state"], &order["months"]), (&"confirmed".into(), &months.into()));
        let run = runs.iter().find(|run| run["id"] == order["run_id"]).unwrap();
        assert_eq!(run["state"], "succeeded");
        assert_eq!(run["instance"], order["instance"]);
    }
    let others = runs.iter().filter(|run| run["state"] != "succeeded" && run["finished_at"].is_string());
    for run in others {
        assert_eq!(run["state"], "skipped", "{run:#}");
    }
    let table = ok(folder, &["orders"]);
    for order in &orders {
        assert!(table.contains(order["order_id"].as_str().unwrap()), "{table}");
    }
}

fn ledger(address: &str) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(async {
        let answer = reqwest::get(format!("{address}/_sandbox/ledger")).await.unwrap();
        answer.text().await.unwrap()
    });
    serde_json::from_str(&text).unwrap()
}
