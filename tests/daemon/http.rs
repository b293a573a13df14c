//! `/healthz`, `/readyz`, and clients that are slow, rude or many: none of them touches the work.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::harness::{Stage, policy, text, until};
use crate::scrape::{Scrape, get, request};

#[test]
fn a_service_whose_database_takes_no_change_is_alive_and_not_ready_until_it_does() {
    let stage = Stage::new();
    stage.listen("127.0.0.1:0");
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let address = daemon.http();
    let readiness = |status: u16| {
        until(&format!("/readyz answers {status}"), || {
            let answer = get(address, "/readyz");
            (answer.status == status).then_some(answer.body)
        })
    };
    assert_eq!(readiness(200), "ready\n");
    assert_eq!(Scrape::of(address).count("renewd_ready", &[]), Some(1));

    let held = stage.block_on(async {
        let options = SqliteConnectOptions::new().filename(stage.database());
        let mut other = options.connect().await.unwrap();
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
        other
    });
    let why = readiness(503);
    assert!(why.starts_with("not ready: the database "), "{why}");
    let alive = get(address, "/healthz");
    assert_eq!((alive.status, alive.body.as_str()), (200, "alive\n"));
    until("a scrape says so too", || {
        (Scrape::of(address).count("renewd_ready", &[]) == Some(0)).then_some(())
    });

    stage.block_on(async { held.close().await.unwrap() });
    readiness(200);
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
    stage.assert_agreement();
}

#[test]
fn only_what_is_served_can_be_had_and_only_by_asking_for_it() {
    let stage = Stage::new();
    stage.listen("127.0.0.1:0");
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let address = daemon.http();
    assert_eq!(get(address, "/").status, 404);
    assert_eq!(get(address, "/metrics?name=x").status, 200);
    let ask = |method: &str, more: &str| {
        request(
            address,
            &format!("{method} /metrics HTTP/1.1\r\nHost: renewd\r\nConnection: close\r\n{more}\r\n"),
        )
    };
    let head = ask("HEAD", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("text/plain; version=0.0.4"), "{}", head.head);
    let refused = ask("POST", "Content-Length: 1000000000\r\n");
    assert_eq!(refused.status, 405);
    assert!(refused.head.to_lowercase().contains("allow: get, head"), "{}", refused.head);
    assert_eq!(ask("GET", &format!("X: {}\r\n", "x".repeat(40_000))).status, 431);
    assert_eq!(request(address, "nonsense\r\n\r\n").status, 400);
    daemon.stop();
}

#[test]
fn idle_and_slow_clients_by_the_hundred_hold_up_neither_orders_nor_a_scrape_for_long() {
    let stage = Stage::new();
    stage.listen("127.0.0.1:0");
    let ids: Vec<String> = (0..20).map(|id| format!("crs-held-{id}")).collect();
    for id in &ids {
        stage.expires_in_days(id, 5);
    }
    stage.write_policies(&policy("rest", &["crs-sandbox-1"], "").replace("* * * * * *", "0 0 1 1 *"));
    let daemon = stage.start();
    let address = daemon.http();
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    let slow: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    for mut stream in &slow {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow").unwrap();
    }

    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stage.write_policies(&policy("month", &ids, ""));
    daemon.reload("config.reloaded");
    for id in &ids {
        stage.until_order(id, "confirmed");
    }
    let charged: Vec<Timestamp> = stage.cloud.ledger().iter().map(|charge| charge.at).collect();
    let took = charged[charged.len() - 1].duration_since(charged[0]);
    // Twenty at 18 a second, on a machine that may be busy with other tests.
    assert!(took.as_secs_f64() < 10.0, "{took} for {} orders", charged.len());

    let begun = Instant::now();
    assert!(Scrape::of(address).count("renewd_orders_total", &[("state", "confirmed")]).is_some());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?} for a scrape", begun.elapsed());
    for mut stream in idle.into_iter().chain(slow) {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = Vec::new();
        // Closed by the service, in whatever way; waiting in vain is an error of its own.
        let closed = stream.read_to_end(&mut rest);
        assert!(closed.is_ok_and(|_| rest.is_empty() || rest.starts_with(b"HTTP/1.1 408")));
    }
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn a_flood_of_requests_is_answered_in_turn_and_no_faster_than_anybody_needs() {
    let stage = Stage::new();
    stage.listen("127.0.0.1:0");
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    let address = daemon.http();
    let begun = Instant::now();
    let clients =
        (0..20).map(|_| std::thread::spawn(move || [(); 5].map(|()| get(address, "/metrics").status)));
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.join().unwrap(), [200; 5]);
    }
    // Five at once, and then as many each tenth of a second.
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?} for a hundred", begun.elapsed());
    stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
}

#[test]
fn a_port_that_another_program_has_is_told_and_taken_when_it_is_free_and_renewals_never_wait_for_it() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let stage = Stage::new();
    stage.listen(&address.to_string());
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    let failed = daemon.until_event("http.failed");
    assert_eq!(failed["level"], "ERROR");
    for words in [address.to_string().as_str(), "in use", "renewed all the same", "change `listen`"] {
        assert!(text(&failed, "message").contains(words), "{failed:#}");
    }
    drop(other);
    assert_eq!(daemon.http(), address);
    assert_eq!(get(address, "/readyz").status, 200);
    assert_eq!(daemon.events("http.failed").len(), 1, "it is told once");
    daemon.stop();
    stage.assert_agreement();
}

#[test]
fn without_an_http_table_nothing_listens() {
    let stage = Stage::new();
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    // Column 4 is the state, 0A for listening; column 10 the inode.
    let listening = sockets.lines().skip(1).filter(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[3] == "0A" && inodes.iter().any(|inode| inode == columns[9])
    });
    assert_eq!(listening.count(), 0, "{sockets}");
    assert!(daemon.events("http.listening").is_empty());
    daemon.stop();
}
