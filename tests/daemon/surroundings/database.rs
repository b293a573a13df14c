//! A disk without room, a database that another process holds, a damaged one.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::harness::{Daemon, Stage, policy, stderr, text, until};

const RENEW: &str = "redis:RenewInstance";
const PRICE: &str = "redis:InquiryPriceRenewInstance";
/// The answers come when the trouble is there, and before anybody gives up on them.
const MEANWHILE: Duration = Duration::from_secs(3);
const PAGE: usize = 4096;

/// One order is charged and its answer on its way; another instance is at the till, and only its price, which is
/// on its way too, stands between it and its intent.
fn between_intent_and_answer() -> (Stage, Daemon) {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], "max_price_cny = 10000"));
    // All that was written so far is in the database itself and not in its log.
    stage.expires_in_days("crs-sandbox-1", 100);
    let daemon = stage.start();
    stage.until_run("crs-sandbox-1", "skipped");
    daemon.stop();

    stage.expires_in_days("crs-paid", 3);
    stage.expires_in_days("crs-next", 5);
    let late = |api| Fault::spoil(api, Effect::After, Spoilt::Stall(MEANWHILE));
    stage.cloud.inject(vec![late(RENEW).on("crs-paid"), late(PRICE).on("crs-next")]);
    let both = [policy("paid", &["crs-paid"], ""), policy("next", &["crs-next"], "max_price_cny = 10000")];
    stage.write_policies(&both.concat());
    let daemon = spawn(&stage);
    daemon.until_event("service.ready");
    until("one is charged and the other's price is asked", || {
        let asked = stage.cloud.requests().get(PRICE).is_some_and(|count| count.total == 1);
        (asked && stage.charges_of("crs-paid") == 1).then_some(())
    });
    (stage, daemon)
}

/// A file that may not grow answers with an error, and does not end the process: as a full disk does.
fn spawn(stage: &Stage) -> Daemon {
    let renewd = crate::harness::command(stage.folder(), &["run"]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(renewd.get_program()).args(renewd.get_args());
    command.env_clear().stdin(Stdio::null()).stderr(Stdio::piped());
    Daemon::spawn(command)
}

/// From now on, no file of the process takes a byte more; or all do again.
fn set_room(daemon: &Daemon, bytes: Option<u64>) {
    let pid = Pid::from_raw(daemon.pid().cast_signed());
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

fn says(daemon: &Daemon, event: &str, words: &[&str]) {
    daemon.until_event_that(event, |event| {
        event["level"] == "ERROR" && words.iter().all(|words| text(event, "message").contains(words))
    });
}

/// Nothing left that has no row, and once the trouble is over nothing is lost.
fn assert_healed(stage: &Stage, daemon: Daemon) {
    for instance in ["crs-paid", "crs-next"] {
        stage.until_order(instance, "confirmed");
    }
    daemon.until_event("database.recovered");
    daemon.stop();
    stage.assert_agreement();
    assert_eq!(stage.orders_of("crs-paid").len(), 1);
    let priced_and_not_ordered = stage.orders_of("crs-next");
    assert_eq!(priced_and_not_ordered.len(), 1, "what was not recorded was not sent either");
}

#[test]
fn on_a_full_disk_no_order_leaves_an_answer_is_kept_until_there_is_room_and_all_goes_on() {
    let (stage, daemon) = between_intent_and_answer();
    set_room(&daemon, Some(0));
    says(&daemon, "database.failed", &["a lane", "its disk", "nothing is ordered"]);
    says(&daemon, "database.failed", &["the answer to order row", "trying again"]);
    assert_eq!(stage.cloud.ledger().len(), 1);
    let told = daemon.events("database.failed").len();

    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.events("database.failed").len() <= told + 4, "told once by each part, not each second");
    assert_eq!(stage.cloud.requests()[RENEW].total, 1);
    assert!(daemon.events("database.recovered").is_empty(), "nothing was written, so nothing is well again");

    set_room(&daemon, None);
    assert_healed(&stage, daemon);
}

#[test]
fn an_answer_that_a_full_disk_kept_from_being_recorded_is_found_again_after_a_crash() {
    let (stage, daemon) = between_intent_and_answer();
    set_room(&daemon, Some(0));
    says(&daemon, "database.failed", &["the answer to order row", "trying again"]);
    daemon.signal(rustix::process::Signal::KILL);
    drop(daemon);

    let output = Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_renewd"), "--config"])
        .arg(stage.folder().join("renewd.toml"))
        .arg("run")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("File too large"), "{}", stderr(&output));

    let daemon = stage.start();
    daemon.until_event_that("order.unknown", |event| event["code"] == "Interrupted");
    for instance in ["crs-paid", "crs-next"] {
        stage.until_order(instance, "confirmed");
    }
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_database_held_by_another_process_holds_orders_and_is_used_again_when_it_is_let_go() {
    let (stage, daemon) = between_intent_and_answer();
    let held = stage.block_on(async {
        let mut other = open(&stage).await;
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
        other
    });
    says(&daemon, "database.failed", &["a lane", "another process holds it locked"]);
    says(&daemon, "database.failed", &["the answer to order row", "trying again"]);
    assert_eq!(stage.cloud.requests()[RENEW].total, 1);
    stage.block_on(async { held.close().await.unwrap() });
    assert_healed(&stage, daemon);
}

#[test]
fn a_service_whose_database_is_damaged_under_it_says_so_and_ends_without_ordering() {
    let (stage, mut daemon) = between_intent_and_answer();
    damage(&stage, |bytes| {
        let last = bytes.len() - PAGE;
        bytes[PAGE..last].fill(0xa5);
    });
    let status = daemon.until_end();
    assert_eq!(status.code(), Some(1), "{}", daemon.lines().join("\n"));
    says(&daemon, "service.stopped", &["damaged", "renewd backup"]);
    assert_eq!(stage.cloud.requests()[RENEW].total, 1, "the second order did not leave");
    // The answer of the first one is in the log at least: a person can compare.
    let placed = &daemon.events("order.placed")[0];
    assert_eq!(text(placed, "order_id"), stage.cloud.ledger()[0].order_id);

    let output = stage.renewd(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
    assert_eq!(stage.cloud.ledger().len(), 1);
}

#[test]
fn damage_that_only_an_index_of_orders_has_is_found_before_anything_is_ordered() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    let root: i64 = stage.block_on(async {
        let mut database = open(&stage).await;
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'orders_one_a_cycle'";
        let root = sqlx::query_scalar(root).fetch_one(&mut database).await.unwrap();
        database.close().await.unwrap();
        root
    });
    let calls = stage.cloud.requests();
    // The order's entry now names another cycle: the index would let a second order of its cycle stand.
    damage(&stage, |bytes| {
        let page = usize::try_from(root - 1).unwrap() * PAGE;
        let entry = &mut bytes[page..page + PAGE];
        let at = entry.windows(6).position(|word| word == b"cycle:").unwrap() + 6;
        entry[at] ^= 0x07;
    });
    let output = stage.renewd(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for words in ["renewd.db is damaged", "orders_one_a_cycle", "renewd backup"] {
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    assert_eq!(stage.cloud.requests(), calls, "no call was made");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let garbage = vec![0xa5; 4 * PAGE];
    fs::write(stage.database(), &garbage).unwrap();
    let output = stage.renewd(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("renewd.db is damaged"), "{}", stderr(&output));
    assert_eq!(fs::read(stage.database()).unwrap(), garbage);
    assert!(stage.cloud.requests().is_empty());
}

/// Written in place, as a failing disk or a careless program does: the service keeps its file open.
fn damage(stage: &Stage, spoil: impl FnOnce(&mut [u8])) {
    use std::os::unix::fs::FileExt;
    let mut bytes = fs::read(stage.database()).unwrap();
    spoil(&mut bytes);
    let file = fs::OpenOptions::new().write(true).open(stage.database()).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
}

async fn open(stage: &Stage) -> SqliteConnection {
    SqliteConnectOptions::new().filename(stage.database()).connect().await.unwrap()
}
