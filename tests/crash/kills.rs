//! The kills, and what must hold after the last of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use renewd::sandbox::Running;
use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::account::Books;
use crate::service::{Life, Service, practice_cloud};

const RENEW: &str = "redis:RenewInstance";
const ACCOUNTS: [&str; 2] = ["first", "second"];
const KILLS_DEFAULT: u32 = 8;
/// A fleet fires every two seconds: one for thousands of kills, or on a busy machine for hundreds, would do nothing but
/// fire.
const KILLS_PER_FLEET: u32 = 50;
/// Enough that purchases are still to be made at the last kill.
const INSTANCES_PER_KILL: u32 = 6;
/// The daemon after the last kill has this long for what is left.
const SETTLING: Duration = Duration::from_secs(40);

const SETTINGS: &str = "[retry]\nfirst_delay_seconds = 1\nmax_delay_seconds = 3\nsettle_seconds = 3\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_moment_never_pays_twice_and_forgets_no_charge() {
    let kills = number("RENEWD_KILLS").unwrap_or(u64::from(KILLS_DEFAULT));
    let kills = u32::try_from(kills).unwrap();
    let seed = number("RENEWD_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("RENEWD_KILLS={kills} RENEWD_SEED={seed}");
    let mut random = Random::new(seed);
    let mut total = Total::default();
    let mut left = kills;
    while left > 0 {
        let of_fleet = left.min(KILLS_PER_FLEET);
        left -= of_fleet;
        kill_a_fleets_daemon(of_fleet, &mut random, &mut total).await;
        eprintln!("{} kills: {total}", kills - left);
    }
    assert!(total.intents > 0, "no kill fell between an intent and its answer");
}

async fn kill_a_fleets_daemon(kills: u32, random: &mut Random, total: &mut Total) {
    let fleet = kills * INSTANCES_PER_KILL;
    let cloud = practice_cloud(&seed_of(fleet)).await;
    cloud.inject(faults(fleet, random));
    let mut service = Service::new(&cloud, &ACCOUNTS, SETTINGS, &policies(fleet));

    let started = Instant::now();
    let mut tally = Tally::default();
    for _ in 0..kills {
        let mut life = service.start(&ACCOUNTS);
        live_a_while(&mut life, &cloud, random).await;
        let log = life.log();
        drop(life);
        tally.read(&log);
    }
    let killing = started.elapsed();
    let mut life = service.start(&ACCOUNTS);
    let path = service.folder().join("renewd.db");
    let mut database = SqliteConnectOptions::new().filename(path).read_only(true).connect().await.unwrap();
    let quiet_at_ms = settle(&mut life, &mut database, fleet).await;
    life.stop();

    let books = Books::read(&mut database, cloud.ledger()).await;
    total.lives_cut_short += tally.lives_with_interrupted;
    total.intents += tally.interrupted.len();
    total.charges += books.charges();
    total.double_charges += books.double_charges().len();
    total.lost_charges += books.lost_charges().len();
    total.killing += killing;
    total.settling += started.elapsed() - killing;
    books.assert_balanced();
    books.assert_every_instance_charged_once(fleet);
    books.assert_runs_ended(quiet_at_ms);
    books.assert_instants_accounted_for();
}

#[derive(Default)]
struct Total {
    lives_cut_short: u32,
    /// Committed by lives that did not see their answers.
    intents: usize,
    charges: usize,
    double_charges: usize,
    lost_charges: usize,
    killing: Duration,
    settling: Duration,
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of them left {} intents without an answer; charges {}, double charges {}, lost charges {}; killing took \
             {:.1?}, settling {:.1?}",
            self.lives_cut_short,
            self.intents,
            self.charges,
            self.double_charges,
            self.lost_charges,
            self.killing,
            self.settling
        )
    }
}

/// Two kinds of moments: anywhere in a life, its start included, and shortly after a purchase has reached the cloud.
async fn live_a_while(life: &mut Life, cloud: &Running, random: &mut Random) {
    if random.one_in(3) {
        tokio::time::sleep(Duration::from_millis(random.below(1500))).await;
        return;
    }
    let wanted = purchases(cloud) + 1 + random.below(6);
    let deadline = Instant::now() + Duration::from_secs(2);
    while purchases(cloud) < wanted && Instant::now() < deadline {
        life.assert_alive();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(random.below(120))).await;
}

fn purchases(cloud: &Running) -> u64 {
    cloud.requests().get(RENEW).map_or(0, |count| count.total)
}

/// Until every instance is renewed, no order is open and every run has ended; answers when that was so.
async fn settle(life: &mut Life, database: &mut SqliteConnection, fleet: u32) -> i64 {
    let deadline = Instant::now() + SETTLING + Duration::from_millis(u64::from(fleet) * 300);
    loop {
        life.assert_alive();
        let (confirmed, open_orders, open_runs, due_ms): (u32, u32, u32, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM orders WHERE state = 'confirmed'),
                    (SELECT count(*) FROM orders WHERE settled_at_ms IS NULL),
                    (SELECT count(*) FROM runs WHERE finished_at_ms IS NULL),
                    (SELECT max(due_at_ms) FROM runs)",
        )
        .fetch_one(&mut *database)
        .await
        .unwrap();
        if confirmed >= fleet && open_orders == 0 && open_runs == 0 {
            return due_ms;
        }
        assert!(
            Instant::now() < deadline,
            "not settled: {confirmed} of {fleet} confirmed, {open_orders} orders and {open_runs} runs open"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Orders that a start found as `intended`, as its log names them.
#[derive(Default)]
struct Tally {
    interrupted: BTreeSet<i64>,
    lives_with_interrupted: u32,
}

impl Tally {
    fn read(&mut self, log: &Path) {
        let before = self.interrupted.len();
        for line in fs::read_to_string(log).unwrap().lines() {
            let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            if event["code"] == "Interrupted" {
                self.interrupted.insert(event["order_row"].as_i64().unwrap());
            }
        }
        self.lives_with_interrupted += u32::from(self.interrupted.len() > before);
    }
}

fn seed_of(fleet: u32) -> String {
    format!(
        "[[instances]]\nprefix = \"crs-fleet-\"\ncount = {fleet}\nexpires_in_days = 3\n\
         [balances]\nAKIDsandboxfirst = 10000000\nAKIDsandboxsecond = 10000000\n"
    )
}

/// Half of the fleet for each account; two policies each, so that firings have several targets.
fn policies(fleet: u32) -> String {
    let mut text = String::new();
    for part in 0..4_u32 {
        let account = ACCOUNTS[usize::from(part % 2 == 1)];
        let ids: Vec<String> =
            (1..=fleet).filter(|id| id % 4 == part).map(|id| format!("\"crs-fleet-{id}\"")).collect();
        let ids = ids.join(", ");
        text += &format!(
            "[policy.part-{part}]\naccount = \"{account}\"\nproduct = \"redis\"\nregion = \"ap-guangzhou\"\n\
             instances = [{ids}]\nschedule = \"*/2 * * * * *\"\nrenew = {{ months = 1 }}\n"
        );
    }
    text
}

/// On six of ten purchases: answers held back or cut, with and without the charge.
fn faults(fleet: u32, random: &mut Random) -> Vec<Fault> {
    let mut faults = Vec::new();
    for id in 1..=fleet {
        let stall = Spoilt::Stall(Duration::from_millis(200 + random.below(600)));
        let (effect, spoilt) = match random.below(10) {
            0..=2 => (Effect::After, stall),
            3 => (Effect::Before, stall),
            4 => (Effect::After, Spoilt::Drop),
            5 => (Effect::Before, Spoilt::Drop),
            _ => continue,
        };
        faults.push(Fault::spoil(RENEW, effect, spoilt).on(&format!("crs-fleet-{id}")));
    }
    faults
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

struct Random(TestRng);

impl Random {
    fn new(seed: u64) -> Random {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Random(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}
