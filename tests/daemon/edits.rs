//! Policies edited at three in the morning: each kind of edit while the service works, noticed by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    self, Daemon, Settings, Stage, assert_each_second_is_accounted_for, instant, most_sent_in_a_second,
    policy, replace_file, text, until,
};

/// Orders a second.
const PACE: usize = 10;
/// Due from the start, and from the storm on.
const LOAD: [usize; 2] = [60, 60];
const SIGNALS: usize = 300;
const ANSWERS: usize = 10;
/// A hundred a second.
const SIGNALS_APART: Duration = Duration::from_millis(10);
const MARKED: usize = 20;
const MARKS: [&str; 2] = ["Asia/Tokyo", "Europe/Berlin"];

/// The folder of policies as configuration managers lay it out: a link into a release, and one that is swapped.
struct Releases<'s> {
    stage: &'s Stage,
}

impl Releases<'_> {
    fn lay_out(stage: &Stage) -> Releases<'_> {
        let releases = Releases { stage };
        fs::remove_dir(stage.folder().join("policies.d")).unwrap();
        symlink("current/policies", stage.folder().join("policies.d")).unwrap();
        releases
    }

    fn write(&self, name: &str, policies: &str) {
        let folder = self.stage.folder().join("releases").join(name).join("policies");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("story.toml"), policies).unwrap();
    }

    /// In one step, as `ln -sfn` does not.
    fn swap_to(&self, name: &str) {
        let new = self.stage.folder().join("next");
        symlink(Path::new("releases").join(name), &new).unwrap();
        fs::rename(new, self.stage.folder().join("current")).unwrap();
    }
}

/// A policy that fires once a year, so that its next firings can be compared.
fn yearly(name: &str, instance: &str, schedule: &str) -> String {
    policy(name, &[instance], "").replace("* * * * * *", schedule)
}

/// What every set of the story holds: one policy to count firings of, and one whose orders go on all the time.
fn base(load: &[&str]) -> String {
    policy("steady", &["crs-steady"], "") + &policy("load", load, "").replace("* * * * * *", "*/5 * * * * *")
}

/// A set that is one whole or another, as every one of its policies shows.
fn marked(load: &[&str], mark: &str) -> String {
    let one = |number| {
        let instance = format!("crs-mark-{number}");
        policy(&format!("mark-{number}"), &[&instance], &format!("timezone = {mark:?}"))
            .replace("* * * * * *", "0 3 * * *")
    };
    base(load) + &(0..MARKED).map(one).collect::<String>()
}

fn marks_in_force(folder: &Path) -> BTreeSet<String> {
    let policies = harness::list(folder, &["policies", "--state", "enabled"]);
    let marked = policies.iter().filter(|row| text(row, "policy").starts_with("mark-"));
    let marks: Vec<_> = marked.map(|row| text(row, "timezone").to_owned()).collect();
    assert!(marks.is_empty() || marks.len() == MARKED, "half of a set: {policies:#?}");
    assert_eq!(policies.iter().filter(|row| ["steady", "load"].contains(&text(row, "policy"))).count(), 2);
    marks.into_iter().collect()
}

/// The next `config.reloaded` after the edit, by nobody's request.
fn edited(daemon: &Daemon, edit: impl FnOnce()) -> Value {
    daemon.after(edit, "config.reloaded")
}

/// The policies as somebody goes on editing them.
struct Desk<'s> {
    stage: &'s Stage,
    daemon: &'s Daemon,
    file: PathBuf,
    base: String,
    policies: BTreeMap<&'static str, String>,
}

impl Desk<'_> {
    fn text(&self) -> String {
        self.policies.values().fold(self.base.clone(), |text, policy| text + policy)
    }

    fn put(&mut self, name: &'static str, policy: String) {
        self.policies.insert(name, policy);
    }

    /// Writes into the file itself.
    fn save(&self) -> Value {
        edited(self.daemon, || fs::write(&self.file, self.text()).unwrap())
    }

    fn save_by_rename(&self) -> Value {
        edited(self.daemon, || replace_file(&self.file, &self.text()))
    }

    fn good_edits(&mut self) {
        let (stage, daemon) = (self.stage, self.daemon);
        self.put("extra", policy("extra", &["crs-extra"], ""));
        assert_eq!(self.save()["added"], "extra");
        stage.until_order("crs-extra", "confirmed");

        self.put("moves", yearly("moves", "crs-moves", "0 0 2 2 *"));
        assert_eq!(self.save_by_rename()["changed"], "moves");
        let moved = daemon.until_event_that("config.policy", |event| event["change"] == "changed");
        let day = |at| instant(at).to_zoned(TimeZone::UTC).strftime("%m-%d").to_string();
        assert_eq!(day(&moved["next_due_before"]), "01-01");
        assert_eq!(day(&moved["next_due_at"]), "02-02");

        self.put("months", self.policies["months"].replace("months = 1", "months = 2"));
        assert_eq!(self.save_by_rename()["changed"], "months");
        stage.expires_in_days("crs-months", 5);
        let order = stage.until_order("crs-months", "confirmed");
        assert_eq!((&order["months"], &order["policy_revision"]), (&2.into(), &2.into()));

        self.policies.remove("goes");
        assert_eq!(self.save_by_rename()["retired"], "goes");
        assert_eq!(stage.orders_of("crs-goes").len(), 1, "its order stays");

        self.put("name", policy("new-name", &["crs-name"], ""));
        let renamed = self.save();
        assert_eq!((&renamed["added"], &renamed["retired"]), (&"new-name".into(), &"old-name".into()));
    }

    fn broken_edits(&mut self) {
        let (stage, daemon) = (self.stage, self.daemon);
        let in_force = without_next_firing(stage.list(&["policies"]));
        let broken = self.text().replace("product = \"redis\"", "product = \"redsi\"");
        let refused = daemon.after(|| fs::write(&self.file, broken).unwrap(), "config.refused");
        assert!(text(&refused, "message").contains("redsi"), "{refused:#}");
        assert_eq!(without_next_firing(stage.list(&["policies"])), in_force);
        assert_eq!(stage.status()["policies"]["is_on_disk"], false);

        assert_eq!(self.save()["changes"], 0);
        assert_eq!(stage.status()["policies"]["is_on_disk"], true);

        // Written in pieces: what is still open is not read.
        let refusals = daemon.events("config.refused").len();
        self.put("goes", policy("goes", &["crs-goes"], ""));
        let whole = self.text();
        let (first, second) = whole.split_at(whole.len() / 2);
        let mut open = fs::File::create(&self.file).unwrap();
        open.write_all(first.as_bytes()).unwrap();
        let fired = daemon.events("schedule.fired").len();
        until("it fires on", || (daemon.events("schedule.fired").len() > fired + 4).then_some(()));
        open.write_all(second.as_bytes()).unwrap();
        assert_eq!(edited(daemon, || drop(open))["returned"], "goes");
        assert_eq!(daemon.events("config.refused").len(), refusals);
    }
}

#[test]
fn each_kind_of_edit_under_load_leaves_one_whole_set_and_no_run_or_order_lost_or_doubled() {
    let pace =
        "[account.shop.rate]\n\"redis:RenewInstance\" = 10\n[account.shop.budget]\norders_per_day = 1000";
    let stage = Stage::with(&Settings { account: pace, ..Settings::default() });
    let load: Vec<String> = (0..LOAD.iter().sum()).map(|number| format!("crs-load-{number}")).collect();
    let load: Vec<&str> = load.iter().map(String::as_str).collect();
    let (early, late) = load.split_at(LOAD[0]);
    stage.expire_in_days(early.iter().chain(&["crs-extra", "crs-goes", "crs-name"]), 5);
    stage.expire_in_days(late.iter().chain(&["crs-steady", "crs-moves", "crs-months"]), 200);
    stage.expire_in_days((0..MARKED).map(|number| format!("crs-mark-{number}")), 200);
    let policies = BTreeMap::from([
        ("goes", policy("goes", &["crs-goes"], "")),
        ("months", policy("months", &["crs-months"], "")),
        ("moves", yearly("moves", "crs-moves", "0 0 1 1 *")),
        ("name", policy("old-name", &["crs-name"], "")),
    ]);
    let releases = Releases::lay_out(&stage);
    releases.write("first", &policies.values().fold(base(&load), |text, policy| text + policy));
    releases.swap_to("first");
    let daemon = stage.start();
    stage.until_order("crs-goes", "confirmed");
    stage.until_order("crs-name", "confirmed");
    let file = stage.folder().join("policies.d/story.toml");
    let mut desk = Desk { stage: &stage, daemon: &daemon, file, base: base(&load), policies };
    desk.good_edits();
    desk.broken_edits();

    releases.write("second", &marked(&load, MARKS[1]));
    let swapped = edited(&daemon, || releases.swap_to("second"));
    assert_eq!(swapped["changes"], MARKED + desk.policies.len(), "{swapped:#}");
    assert_eq!(marks_in_force(stage.folder()), BTreeSet::from([MARKS[1].to_owned()]));
    // The release that was swapped away is watched no more, the new one is.
    releases.write("second", &(marked(&load, MARKS[1]) + &desk.policies["extra"]));
    daemon.until_event_that("config.reloaded", |event| event["returned"] == "extra");

    stage.expire_in_days(late, 5);
    let is_late = |instance: &str| late.contains(&instance);
    let late_orders = || stage.cloud.ledger().iter().filter(|charge| is_late(&charge.instance)).count();
    until("there is work for the storm", || (late_orders() > 0).then_some(()));
    let before = late_orders();
    storm(&stage, &releases, &daemon, &load);
    assert!(late_orders() > before + PACE, "orders went on through the storm");

    let due = load.len() + 4;
    let confirmed = || stage.list(&["orders", "--state", "confirmed"]).len();
    until("every order is confirmed", || (confirmed() == due).then_some(()));
    daemon.stop();
    stage.assert_agreement();
    let orders = stage.orders();
    assert_eq!(orders.len(), due, "nothing was refused or tried twice");
    assert!(most_sent_in_a_second(&orders) <= PACE, "{} in one second", most_sent_in_a_second(&orders));
    assert_each_second_is_accounted_for(stage.runs_of("crs-steady"));
}

/// A hundred SIGHUPs a second while whole and broken sets take turns on disk: whoever looks sees one whole set.
fn storm(stage: &Stage, releases: &Releases<'_>, daemon: &Daemon, load: &[&str]) {
    for mark in MARKS {
        releases.write(mark.split('/').next().unwrap(), &marked(load, mark));
    }
    releases.write("broken", &(marked(load, MARKS[0]) + "[policy.half"));
    let (reloads, is_over) = (daemon.events("config.reloaded").len(), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                seen.push(marks_in_force(stage.folder()));
            }
            seen
        });
        // A busy machine answers to fewer of them: the storm lasts until it has answered often enough.
        let answered = || daemon.events("config.reloaded").len() - reloads;
        let storm = (0..10 * SIGNALS).take_while(|number| *number < SIGNALS || answered() <= ANSWERS);
        for number in storm {
            if number % 20 == 0 {
                releases.swap_to(["Asia", "broken", "Europe"][number / 20 % 3]);
            }
            daemon.signal(Signal::HUP);
            std::thread::sleep(SIGNALS_APART);
        }
        is_over.store(true, Ordering::SeqCst);
        looks.join().unwrap()
    });
    assert!(seen.iter().all(|marks| marks.len() == 1), "a mixture was in force: {seen:?}");
    let answers = daemon.events("config.reloaded").split_off(reloads);
    assert!(answers.len() > ANSWERS, "it answered: {answers:#?}");
    assert!(
        answers.iter().filter(|event| event["changes"] != 0).count() > 1,
        "sets took turns: {answers:#?}"
    );
    releases.swap_to("Asia");
    until("what is on disk is in force", || {
        (marks_in_force(stage.folder()) == BTreeSet::from([MARKS[0].to_owned()])).then_some(())
    });
}

/// Next firings move on by themselves.
pub fn without_next_firing(mut policies: Vec<Value>) -> Vec<Value> {
    policies.iter_mut().for_each(|row| row["next_due_at"] = Value::Null);
    policies
}

#[test]
fn a_folder_that_is_moved_away_and_another_in_its_place_are_both_noticed() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let folder = stage.folder().join("policies.d");

    let gone = daemon.after(|| fs::rename(&folder, stage.folder().join("old.d")).unwrap(), "config.refused");
    assert!(text(&gone, "message").contains("policies.d"), "{gone:#}");
    let other = stage.folder().join("new.d");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.toml"), policy("week", &["crs-sandbox-1"], "")).unwrap();
    assert_eq!(edited(&daemon, || fs::rename(&other, &folder).unwrap())["added"], "week");
    // The new folder is watched like the old one.
    let more = policy("more", &["crs-sandbox-2"], "");
    assert_eq!(edited(&daemon, || fs::write(folder.join("b.toml"), more).unwrap())["added"], "more");
    let fewer = edited(&daemon, || fs::remove_file(folder.join("b.toml")).unwrap());
    assert_eq!(fewer["retired"], "more");
    daemon.stop();
}

#[test]
fn a_policy_file_that_is_a_link_is_read_again_when_what_it_leads_to_changes() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    let elsewhere = stage.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("real.toml"), policy("month", &["crs-sandbox-1"], "")).unwrap();
    symlink("../elsewhere/real.toml", stage.folder().join("policies.d/link.toml")).unwrap();
    let daemon = stage.start();
    let week = policy("week", &["crs-sandbox-1"], "");
    assert_eq!(edited(&daemon, || replace_file(&elsewhere.join("real.toml"), &week))["added"], "week");
    daemon.stop();
}

#[test]
fn what_changes_nothing_is_passed_over_in_silence_and_a_refusal_is_told_once() {
    let stage = Stage::new();
    stage.expires_in_days("crs-sandbox-1", 200);
    let month = policy("month", &["crs-sandbox-1"], "");
    stage.write_policies(&month);
    let daemon = stage.start();
    let file = stage.folder().join("policies.d/story.toml");

    replace_file(&file, &month);
    fs::write(stage.folder().join("policies.d/.story.toml.swp"), "swap").unwrap();
    fs::write(stage.folder().join("policies.d/story.toml~"), "backup").unwrap();
    // A later edit is told of, so an earlier one would have been.
    let refused = daemon.after(|| replace_file(&file, "[policy.half"), "config.refused");
    assert_eq!(refused["level"], "ERROR");
    assert!(daemon.events("config.reloaded").is_empty());
    replace_file(&file, "[policy.half");
    assert_eq!(daemon.reload("config.refused")["level"], "ERROR", "who asks is answered");
    assert_eq!(daemon.events("config.refused").len(), 2);

    let repaired = edited(&daemon, || replace_file(&file, &month));
    assert!(text(&repaired, "message").contains("nothing differs"), "{repaired:#}");
    assert!(text(&daemon.reload("config.reloaded"), "message").contains("nothing differs"));
    daemon.stop();
}
