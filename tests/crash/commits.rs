//! A kill at each write and at each sync of the database, while every product is being bought.
//!
//! The kernel stops the process on entering the system call, so a write that is killed at was never made and a sync
//! that is killed at leaves a commit written and its caller not told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use renewd::sandbox::{Running, SECRET_KEY, TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::account::Books;
use crate::service::{Life, Service, practice_cloud};

/// How SQLite writes a commit to its journal, and makes it durable.
const CALLS: [&str; 2] = ["pwrite64", "fsync"];
/// Tried unless a step is asked for: before, among and after the purchases of a life.
const SAMPLE: [(&str, u32); 4] = [("pwrite64", 180), ("pwrite64", 290), ("fsync", 30), ("fsync", 45)];
/// More calls than a life makes until everything is bought.
const CALLS_MAX: u32 = 2000;
const LIFE: Duration = Duration::from_secs(20);
const SETTLING: Duration = Duration::from_secs(40);
const PRODUCTS: u32 = 5;

const POLICIES: [(&str, &str, &str, &str, &str); 5] = [
    ("renew-redis", "first", "redis", "ap-guangzhou", "crs-sandbox-1"),
    ("grow-redis", "first", "redis", "ap-guangzhou", "crs-sandbox-2"),
    ("renew-cvm", "first", "cvm", "ap-guangzhou", "ins-sandbox-1"),
    ("renew-old-cvm", "first", "cvm-v2", "gz", "ins-sandbox-2"),
    ("renew-ecs", "second", "ecs", "cn-beijing", "i-sandbox-1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_commit_while_buying_any_product_pays_once_and_knows_it() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: without strace nothing can stop the daemon at a system call");
        return;
    }
    let step = std::env::var("RENEWD_COMMITS").ok().map(|step| step.parse::<usize>().unwrap());
    let mut found = BTreeMap::new();
    for call in CALLS {
        let sample = SAMPLE.iter().filter(|(sampled, _)| *sampled == call).map(|(_, nth)| *nth);
        let points: Box<dyn Iterator<Item = u32>> = match step {
            Some(step) => Box::new((1..CALLS_MAX).step_by(step)),
            None => Box::new(sample),
        };
        for nth in points {
            let Some(states) = kill_at(call, nth).await else { break };
            *found.entry((call, states)).or_insert(0_u32) += 1;
        }
    }
    let kills: u32 = found.values().sum();
    eprintln!(
        "killed at {kills} calls, each product charged once after each; what the kill left, by the open orders:"
    );
    for ((call, states), count) in found {
        eprintln!("{count:>5} at {call:<9} {states}");
    }
    assert!(kills > 0, "no kill came before everything was bought");
}

/// Answers what the kill left of orders; None when everything was bought before that call came.
async fn kill_at(call: &str, nth: u32) -> Option<String> {
    let cloud = practice_cloud("").await;
    let mut service = Service::of(&config(&cloud), &policies());
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fsync", "-e", &inject];
    let mut life = service.start_under(&wrapper.map(str::to_owned), keys());
    let path = service.folder().join("renewd.db");
    let was_killed = was_killed(&mut life, &path).await;
    drop(life);
    let left = left_orders(&path).await;
    if !was_killed {
        return None;
    }
    let mut life = service.start_under(&[], keys());
    settle(&mut life, &path).await;
    life.stop();
    let mut database = open(&path).await.unwrap();
    let books = Books::read(&mut database, cloud.ledger()).await;
    books.assert_balanced();
    books.assert_every_instance_charged_once(PRODUCTS);
    Some(left)
}

fn config(cloud: &Running) -> String {
    let endpoint = cloud.base_url();
    format!(
        "database = \"renewd.db\"\n[log]\nformat = \"json\"\n\
         [account.first]\nprovider = \"tencentcloud\"\nsecret_id = \"env:KEY_ID_first\"\n\
         secret_key = \"env:SECRET_KEY\"\nendpoint = \"{endpoint}\"\n\
         [account.second]\nprovider = \"volcengine\"\naccess_key_id = \"env:KEY_ID_second\"\n\
         secret_access_key = \"env:SECRET_KEY\"\nendpoint = \"{endpoint}\"\n\
         [retry]\nfirst_delay_seconds = 1\nmax_delay_seconds = 3\nsettle_seconds = 3\n"
    )
}

fn policies() -> String {
    let policy = |(name, account, product, region, id): &(&str, &str, &str, &str, &str)| {
        let action = if name.starts_with("grow") {
            "upgrade = { mem_size_mb = 2048 }"
        } else {
            "renew = { months = 1 }"
        };
        format!(
            "[policy.{name}]\naccount = \"{account}\"\nproduct = \"{product}\"\nregion = \"{region}\"\n\
             instances = [\"{id}\"]\nschedule = \"* * * * * *\"\n{action}\n"
        )
    };
    POLICIES.iter().map(policy).collect()
}

fn keys() -> [(String, String); 3] {
    [
        ("KEY_ID_first".to_owned(), format!("{TENCENT_KEY_PREFIX}first")),
        ("KEY_ID_second".to_owned(), format!("{VOLCENGINE_KEY_PREFIX}second")),
        ("SECRET_KEY".to_owned(), SECRET_KEY.to_owned()),
    ]
}

/// As SQLite recovers them: `renew-ecs intended, renew-cvm placed`.
async fn left_orders(path: &Path) -> String {
    let Some(mut database) = open(path).await else { return "no database yet".to_owned() };
    let rows: Result<Vec<(String, String)>, _> =
        sqlx::query_as("SELECT policy, state FROM orders_v ORDER BY id").fetch_all(&mut database).await;
    match rows {
        Err(_) => "no tables yet".to_owned(),
        Ok(rows) if rows.is_empty() => "no order yet".to_owned(),
        Ok(rows) => {
            let open = rows.iter().filter(|(_, state)| state != "confirmed" && state != "refused");
            let open: Vec<String> = open.map(|(policy, state)| format!("{policy} {state}")).collect();
            if open.is_empty() { "none open".to_owned() } else { open.join(", ") }
        }
    }
}

async fn open(path: &Path) -> Option<SqliteConnection> {
    SqliteConnectOptions::new().filename(path).connect().await.ok()
}

async fn was_killed(life: &mut Life, path: &Path) -> bool {
    let deadline = Instant::now() + LIFE;
    while Instant::now() < deadline {
        if life.child.try_wait().unwrap().is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if is_all_bought(path).await {
            return false;
        }
    }
    panic!("neither killed nor done");
}

async fn is_all_bought(path: &Path) -> bool {
    let Some(mut database) = open(path).await else { return false };
    let counted: Result<(u32, u32), _> = sqlx::query_as(
        "SELECT (SELECT count(*) FROM orders WHERE state = 'confirmed'),
                (SELECT count(*) FROM orders WHERE settled_at_ms IS NULL)",
    )
    .fetch_one(&mut database)
    .await;
    counted.is_ok_and(|counted| counted == (PRODUCTS, 0))
}

async fn settle(life: &mut Life, path: &Path) {
    let deadline = Instant::now() + SETTLING;
    while !is_all_bought(path).await {
        life.assert_alive();
        assert!(Instant::now() < deadline, "not settled after a kill");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
