//! The alert rules in `config/`, judged by Prometheus' own tool, and each of them tested.

use std::fs;
use std::path::Path;
use std::process::Command;

const RULES: &str = "config/prometheus/renewd.rules.yml";
const TESTS: &str = "tests/alerts/renewd.rules.test.yml";

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(root()).output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: without promtool nobody can judge the alert rules");
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_rules_are_rules() {
    promtool(&["check", "rules", RULES]);
}

#[test]
fn each_alert_fires_when_it_has_to_and_not_for_less() {
    promtool(&["test", "rules", TESTS]);
}

#[test]
fn no_alert_is_without_a_test() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (rules, tests) = (read(RULES), read(TESTS));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 7, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
}
