//! No way to the cloud, or something else at the end of it.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use renewd::sandbox::faults::{Effect, Fault, Spoilt};
use serde_json::Value;

use super::relay::{Relay, Said, Spoil};
use crate::harness::{Daemon, Settings, Stage, command, policy, text, until, write_settings};

const MEMORY_MAX_KIB: u64 = 100 * 1024;

/// What an answer may be when it is not the cloud's, with the code that it is recorded under.
fn answers(elsewhere: &str) -> Vec<(&'static str, &'static str, Said)> {
    let page = |status: &str, more: &str| {
        let body = "<html><body>please sign in</body></html>";
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{more}Content-Length: {length}\r\n\r\n");
        Said::Once([head.as_bytes(), body.as_bytes()].concat())
    };
    let ok = |more: &str| format!("HTTP/1.1 200 OK\r\n{more}").into_bytes();
    let block = vec![b'x'; 0x4000];
    let chunk = [b"4000\r\n".as_slice(), &block, b"\r\n"].concat();
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000).into_bytes();
    vec![
        ("gateway", "HttpStatus", page("502 Bad Gateway", "")),
        ("proxy", "HttpStatus", page("407 Proxy Authentication Required", "Proxy-Authenticate: Basic\r\n")),
        ("portal", "Unreadable", page("200 OK", "")),
        (
            "redirect",
            "HttpStatus",
            page("307 Temporary Redirect", &format!("Location: http://{elsewhere}/\r\n")),
        ),
        ("large", "AnswerTooLarge", Said::Endless(ok("Content-Length: 104857600\r\n\r\n"), block)),
        ("chunks", "AnswerTooLarge", Said::Endless(ok("Transfer-Encoding: chunked\r\n\r\n"), chunk)),
        ("headers", "Unreadable", Said::Endless(ok(""), b"X-A: b\r\n".repeat(100))),
        ("interim", "ConnectionCut", Said::Once(interim)),
        ("garbage", "Unreadable", Said::Once(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec())),
    ]
}

fn relayed(stage: &Stage) -> Relay {
    let relay = Relay::start(stage.cloud.address());
    write_settings(stage.folder(), &relay.base_url(), &Settings::default());
    relay
}

/// The most memory that the process ever held.
fn memory_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn assert_nobody_called(elsewhere: &TcpListener) {
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "a redirect was followed");
}

#[test]
fn whatever_answers_an_order_in_the_clouds_place_it_is_sent_once_and_its_fate_is_found_out() {
    let stage = Stage::new();
    let relay = relayed(&stage);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut spoilt = Vec::new();
    for (name, code, answer) in answers(&elsewhere.local_addr().unwrap().to_string()) {
        for (when, reaches_cloud) in [("before", false), ("after", true)] {
            let instance = format!("crs-{name}-{when}");
            stage.expires_in_days(&instance, 5);
            let (action, answer) = ("RenewInstance", answer.clone());
            relay.spoil([Spoil { action, instance: instance.clone(), reaches_cloud, answer }]);
            spoilt.push((instance, code, reaches_cloud));
        }
    }
    let all: Vec<&str> = spoilt.iter().map(|(instance, ..)| instance.as_str()).collect();
    stage.write_policies(&policy("month", &all, ""));
    let daemon = stage.start();
    for (instance, code, reaches_cloud) in &spoilt {
        stage.until_order(instance, "confirmed");
        let unknown = daemon.until_event_that("order.unknown", |event| event["instance"] == *instance);
        assert_eq!((&unknown["level"], &unknown["class"]), (&"WARN".into(), &"unknown".into()));
        assert_eq!(text(&unknown, "code"), *code, "{unknown:#}");
        // One order a request: the one that never reached the cloud was found out not to have happened.
        let orders = if *reaches_cloud { 1 } else { 2 };
        assert_eq!(relay.purchases_of(instance), orders, "{instance}");
        assert_eq!(stage.orders_of(instance).len(), orders, "{instance}");
    }
    let memory_kib = memory_kib(&daemon);
    assert!(memory_kib < MEMORY_MAX_KIB, "{memory_kib} KiB");
    daemon.stop();
    assert_nobody_called(&elsewhere);
    stage.assert_agreement();
}

#[test]
fn whatever_answers_a_question_in_the_clouds_place_nothing_is_ordered_until_the_cloud_does() {
    let stage = Stage::new();
    let relay = relayed(&stage);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let answers = answers(&elsewhere.local_addr().unwrap().to_string());
    let spoil = |(name, _, answer): &(&str, &str, Said)| {
        let instance = format!("crs-{name}");
        stage.expires_in_days(&instance, 5);
        Spoil { action: "DescribeInstances", instance, reaches_cloud: true, answer: answer.clone() }
    };
    relay.spoil(answers.iter().map(spoil));
    // A region each: what is asked together would be spoilt together.
    let regions = [
        "ap-guangzhou",
        "ap-shanghai",
        "ap-beijing",
        "ap-nanjing",
        "ap-chengdu",
        "ap-chongqing",
        "ap-hongkong",
        "ap-singapore",
        "ap-tokyo",
    ];
    let policies = answers.iter().zip(regions).map(|((name, ..), region)| {
        policy(name, &[&format!("crs-{name}")], "").replace("ap-guangzhou", region)
    });
    stage.write_policies(&policies.collect::<String>());
    let daemon = stage.start();
    for (name, code, _) in &answers {
        let instance = format!("crs-{name}");
        stage.until_order(&instance, "confirmed");
        let is_told = |event: &Value| event["code"] == *code && event["level"] == "WARN";
        let said = ["run.retry", "instances.unread"].map(|kind| daemon.events(kind));
        assert!(said.iter().flatten().any(is_told), "{name}: {said:#?}");
        let runs = stage.runs_of(&instance);
        assert!(runs.iter().all(|run| run["attempts"] == 0), "{runs:#?}");
        assert_eq!((relay.purchases_of(&instance), stage.orders_of(&instance).len()), (1, 1));
    }
    let memory_kib = memory_kib(&daemon);
    assert!(memory_kib < MEMORY_MAX_KIB, "{memory_kib} KiB");
    daemon.stop();
    assert_nobody_called(&elsewhere);
    stage.assert_agreement();
}

#[test]
fn accounts_without_a_way_to_their_cloud_wait_unsent_and_hold_up_no_other() {
    let stage = Stage::new();
    let relay = Relay::start(stage.cloud.address());
    relay.close();
    // A label too long for any name server, so that none is asked.
    let nowhere = format!("http://{}.invalid", "a".repeat(64));
    let no_tls = format!("https://{}", stage.cloud.address());
    let accounts = [("nowhere", nowhere), ("no-tls", no_tls), ("refused", relay.base_url())];
    let path = stage.folder().join("renewd.toml");
    let mut settings = fs::read_to_string(&path).unwrap();
    let mut policies = policy("month", &["crs-sandbox-1"], "");
    for (name, endpoint) in &accounts {
        let keys =
            "provider = \"tencentcloud\"\nsecret_id = \"file:secret-id\"\nsecret_key = \"file:secret-key\"";
        write!(settings, "\n[account.{name}]\n{keys}\nendpoint = \"{endpoint}\"\n").unwrap();
        stage.expires_in_days(&format!("crs-{name}"), 5);
        let of_account =
            policy(name, &[&format!("crs-{name}")], "").replace("\"shop\"", &format!("\"{name}\""));
        policies.push_str(&of_account);
    }
    fs::write(path, settings).unwrap();
    stage.write_policies(&policies);
    let daemon = stage.start();
    stage.until_order("crs-sandbox-1", "confirmed");
    for (name, _) in &accounts {
        let retry = daemon.until_event_that("run.retry", |event| event["account"] == *name);
        assert_eq!((&retry["level"], &retry["class"]), (&"WARN".into(), &"unsent".into()), "{retry:#}");
        let words = if *name == "nowhere" { "could not look up" } else { "could not connect to" };
        assert!(text(&retry, "message").contains(words), "{retry:#}");
        let run = stage.until_run(&format!("crs-{name}"), "waiting");
        assert_eq!((&run["attempts"], &run["error"]["class"]), (&0.into(), &"unsent".into()), "{run:#}");
    }
    relay.open();
    stage.until_order("crs-refused", "confirmed");
    daemon.stop();
    assert_eq!(stage.cloud.ledger().len(), 2);
    stage.assert_agreement();
}

#[test]
fn an_order_that_finds_nobody_listening_is_unsent_and_sent_again_without_counting() {
    let stage = Stage::new();
    let relay = relayed(&stage);
    let price = "redis:InquiryPriceRenewInstance";
    let late = Spoilt::Stall(Duration::from_secs(2));
    stage.cloud.inject(vec![Fault::spoil(price, Effect::After, late)]);
    stage.write_policies(&policy("month", &["crs-sandbox-1"], "max_price_cny = 10000"));
    let daemon = stage.start();
    until("the price is asked", || {
        stage.cloud.requests().get(price).filter(|count| count.total == 1).map(drop)
    });
    relay.close();
    let refused = daemon.until_event("order.refused");
    assert_eq!(
        (&refused["level"], &refused["class"], &refused["code"]),
        (&"WARN".into(), &"unsent".into(), &"Unsent".into())
    );
    assert!(text(&refused, "message").contains("could not connect to"), "{refused:#}");
    relay.open();
    let order = stage.until_order("crs-sandbox-1", "confirmed");
    daemon.stop();
    let runs = stage.runs_of("crs-sandbox-1");
    let run = runs.iter().find(|run| run["id"] == order["run_id"]).unwrap();
    assert_eq!(run["attempts"], 0, "{run:#}");
    assert_eq!(relay.purchases_of("crs-sandbox-1"), 1);
    stage.assert_agreement();
}

#[test]
fn a_proxy_of_the_environment_is_named_and_neither_asked_nor_needed() {
    let stage = Stage::new();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    stage.write_policies(&policy("month", &["crs-sandbox-1"], ""));
    let mut run = command(stage.folder(), &["run"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        run.env(name, &address);
    }
    let daemon = Daemon::spawn(run);
    daemon.until_event("service.ready");
    stage.until_order("crs-sandbox-1", "confirmed");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        let words = format!("{name} is set and not used");
        daemon.until_event_that("config.doubtful", |event| text(event, "message").starts_with(&words));
    }
    daemon.stop();
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "the proxy was called");
    stage.assert_agreement();
}
