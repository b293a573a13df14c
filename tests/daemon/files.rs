//! Which files are parsed: those that changed, and never one that is as it was when it was accepted.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Daemon, Stage, command, policy, replace_file, text};

const MANY: usize = 200;

fn daily(name: &str, instance: &str) -> String {
    policy(name, &[instance], "").replace("* * * * * *", "0 3 * * *")
}

fn file(stage: &Stage, name: &str) -> PathBuf {
    stage.folder().join("policies.d").join(name)
}

fn write(stage: &Stage, name: &str, text: &str) {
    replace_file(&file(stage, name), text);
}

fn edited(daemon: &Daemon, edit: impl FnOnce()) -> Value {
    daemon.after(edit, "config.reloaded")
}

fn parsed_and_unchanged(event: &Value) -> [u64; 2] {
    ["files_parsed", "files_unchanged"].map(|field| event[field].as_u64().expect("a number of files"))
}

/// Two files of one policy each, in force.
fn two_files() -> Stage {
    let stage = Stage::new();
    stage.expire_in_days(["crs-a", "crs-b"], 200);
    write(&stage, "a.toml", &daily("one", "crs-a"));
    write(&stage, "b.toml", &daily("two", "crs-b"));
    stage
}

#[test]
fn of_many_files_only_those_are_parsed_that_are_other_than_when_they_were_accepted() {
    let stage = Stage::new();
    let many = MANY as u64;
    let instances = (0..MANY).map(|number| format!("crs-{number}"));
    stage.expire_in_days(instances, 200);
    for number in 0..MANY {
        write(&stage, &format!("{number:03}.toml"), &daily(&format!("p-{number}"), &format!("crs-{number}")));
    }
    let daemon = stage.start();
    assert_eq!(parsed_and_unchanged(&daemon.until_event("config.loaded")), [many, 0]);

    let later = daily("p-7", "crs-7").replace("0 3", "0 4");
    let changed = edited(&daemon, || write(&stage, "007.toml", &later));
    assert_eq!((parsed_and_unchanged(&changed), &changed["changed"]), ([1, many - 1], &"p-7".into()));
    assert_eq!(changed["policies"], many, "those of unchanged files are in force: {changed:#}");
    let removed = edited(&daemon, || fs::remove_file(file(&stage, "008.toml")).unwrap());
    assert_eq!((parsed_and_unchanged(&removed), &removed["retired"]), ([0, many - 1], &"p-8".into()));
    let back = edited(&daemon, || write(&stage, "008.toml", &daily("p-8", "crs-8")));
    assert_eq!((parsed_and_unchanged(&back), &back["returned"]), ([1, many - 1], &"p-8".into()));
    let (old, new) = (file(&stage, "009.toml"), file(&stage, "renamed.toml"));
    let renamed = edited(&daemon, || fs::rename(old, new).unwrap());
    assert_eq!((parsed_and_unchanged(&renamed), &renamed["changes"]), ([1, many - 1], &0.into()));
    daemon.stop();
    let source = &stage.list(&["policies", "--policy", "p-9"])[0]["source"];
    assert!(source.as_str().is_some_and(|source| source.ends_with("renamed.toml:1")), "{source}");

    let daemon = stage.start();
    let loaded = daemon.until_event("config.loaded");
    assert_eq!((parsed_and_unchanged(&loaded), &loaded["changes"]), ([0, many], &0.into()));
    assert_eq!(loaded["policies"], many);
    daemon.stop();
    assert!(stage.ok(&["check"]).contains(&format!("fine: {MANY} policies")), "check parses them all");
}

#[test]
fn what_a_policy_shares_with_one_in_an_unchanged_file_is_refused_with_both_places() {
    let stage = two_files();
    let server = daily("server", "ins-x").replace("redis", "cvm");
    write(&stage, "c.toml", &format!("# kept as it is\n\n{server}"));
    let daemon = stage.start();
    let same_server = server.replace("\"cvm\"", "\"cvm-v2\"").replace("ap-guangzhou", "gz");
    let clashes = [
        (
            daily("third", "crs-a"),
            "policies `one` and `third` both renew `crs-a`",
            "a.toml:5:14",
            "z.toml:5:14",
        ),
        (daily("one", "crs-z"), "there are two policies named `one`", "a.toml:1:9", "z.toml:1:9"),
        (
            same_server.replace("policy.server", "policy.again"),
            "policies `server` and `again` both renew `ins-x`",
            "c.toml:7:14",
            "z.toml:5:14",
        ),
        (
            daily("far", "crs-a").replace("ap-guangzhou", "ap-shanghai"),
            "both renew `crs-a`, in ap-guangzhou and in ap-shanghai",
            "a.toml:5:14",
            "z.toml:5:14",
        ),
    ];
    for (policy, words, there, here) in clashes {
        let refused = daemon.after(|| write(&stage, "z.toml", &policy), "config.refused");
        for part in [words, there, here] {
            assert!(text(&refused, "message").contains(part), "no {part} in {}", text(&refused, "message"));
        }
    }
    // Its own file gives it up in the same edit.
    let moved = edited(&daemon, || {
        fs::remove_file(file(&stage, "a.toml")).unwrap();
        write(&stage, "z.toml", &daily("third", "crs-a"));
    });
    assert_eq!((&moved["added"], &moved["retired"]), (&"third".into(), &"one".into()));
    assert_eq!(parsed_and_unchanged(&moved), [1, 2]);
    daemon.stop();
}

#[test]
fn what_every_policy_is_judged_by_makes_all_files_be_parsed_again() {
    let stage = two_files();
    let daemon = stage.start();
    let zone = edited(&daemon, || stage.edit_settings(|text| format!("timezone = \"Asia/Tokyo\"\n{text}")));
    assert_eq!((parsed_and_unchanged(&zone), &zone["changed"]), ([2, 0], &"one, two".into()));
    let level = edited(&daemon, || stage.edit_settings(|text| text.replace("\"info\"", "\"debug\"")));
    assert_eq!(parsed_and_unchanged(&level), [0, 2], "no policy is judged by the log level");
    let mall = "[account.mall]\nprovider = \"tencentcloud\"\nsecret_id = \"file:secret-id\"\nsecret_key = \"file:secret-key\"\n";
    let account = edited(&daemon, || stage.edit_settings(|text| format!("{text}{mall}")));
    assert_eq!(parsed_and_unchanged(&account), [2, 0]);
    let no_shop = |text: String| text.replace("[account.shop]", "[account.store]");
    let refused = daemon.after(|| stage.edit_settings(no_shop), "config.refused");
    let said = text(&refused, "message");
    assert!(said.contains("a.toml:2:11") && said.contains("b.toml:2:11"), "{said}");
    let shop = |text: String| text.replace("[account.store]", "[account.shop]");
    assert_eq!(parsed_and_unchanged(&edited(&daemon, || stage.edit_settings(shop))), [0, 2]);
    daemon.stop();
}

#[test]
fn a_file_that_is_broken_and_repaired_is_known_again_and_one_with_a_warning_warns_each_time() {
    let stage = two_files();
    let doubtful = daily("rare", "crs-b").replace("0 3 * * *", "0 3 1 1 *").replace("two", "rare");
    write(&stage, "b.toml", &doubtful);
    let daemon = stage.start();
    assert_eq!(daemon.events("config.doubtful").len(), 1);

    let refused = daemon.after(|| write(&stage, "a.toml", "[policy.one]\nacount = 1"), "config.refused");
    assert!(text(&refused, "message").contains("a.toml:2:1"), "{refused:#}");
    let repaired = edited(&daemon, || write(&stage, "a.toml", &daily("one", "crs-a")));
    assert_eq!((parsed_and_unchanged(&repaired), &repaired["changes"]), ([1, 1], &0.into()));
    assert_eq!(daemon.events("config.doubtful").len(), 2, "b.toml is parsed to warn again");
    daemon.stop();

    // While the service is down, the last policy of all goes.
    fs::remove_file(file(&stage, "b.toml")).unwrap();
    write(&stage, "a.toml", "# nothing\n");
    let daemon = stage.start();
    let said = daemon.until_event("config.refused");
    assert!(text(&said, "message").contains("no policy at all"), "{said:#}");
    daemon.stop();
}

#[test]
fn a_policy_of_an_unchanged_file_is_refused_once_its_zone_has_left_the_system() {
    let stage = two_files();
    let zones = stage.folder().join("zoneinfo");
    for zone in ["UTC", "Asia/Tokyo"] {
        let copy = zones.join(zone);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(Path::new("/usr/share/zoneinfo").join(zone), copy).unwrap();
    }
    write(
        &stage,
        "b.toml",
        &policy("two", &["crs-b"], "timezone = \"Asia/Tokyo\"").replace("* * * * * *", "0 3 * * *"),
    );
    let start = || {
        let mut run = command(stage.folder(), &["run"]);
        run.env("TZDIR", &zones);
        let daemon = Daemon::spawn(run);
        daemon.until_event("service.ready");
        daemon
    };
    for parsed in [[2, 0], [0, 2]] {
        let daemon = start();
        assert_eq!(parsed_and_unchanged(&daemon.until_event("config.loaded")), parsed);
        daemon.stop();
    }
    fs::remove_file(zones.join("Asia/Tokyo")).unwrap();
    let daemon = start();
    let refused = daemon.until_event("config.refused");
    assert!(text(&refused, "message").contains("b.toml:8:12"), "{refused:#}");
    daemon.stop();
}
