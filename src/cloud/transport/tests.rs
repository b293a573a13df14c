use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::cloud::listener::{Act, Listener, answer};

const SHORT: Duration = Duration::from_millis(200);
const QUICK: Duration = Duration::from_millis(500);
/// For what its size ends: that a busy machine is slow is not to end it first.
const PATIENT: Duration = Duration::from_secs(2);
const BODY: &str = r#"{"InstanceId":"crs-1","Period":1}"#;

/// Sends one purchase; also tells whether it was announced as written.
async fn purchase(url: &str, limits: Limits) -> (Exchange, bool) {
    buy(request(url), limits).await
}

async fn buy(request: Request, limits: Limits) -> (Exchange, bool) {
    let transport = Transport::new(limits).unwrap();
    let written = Arc::new(AtomicBool::new(false));
    let on_written = {
        let written = Arc::clone(&written);
        move || written.store(true, Ordering::SeqCst)
    };
    let exchange = transport.purchase(request, on_written).await;
    (exchange, written.load(Ordering::SeqCst))
}

fn request(url: &str) -> Request {
    let url = Url::parse(url).unwrap();
    Request { method: Method::POST, url, headers: HeaderMap::new(), body: BODY.into() }
}

/// All that it says stands in its query.
fn get(url: &str) -> Request {
    Request { method: Method::GET, body: Bytes::new(), ..request(url) }
}

fn http(listener: &Listener) -> String {
    format!("http://{}/", listener.address)
}

fn assert_lost(exchange: Exchange, class: Class, code: &str, message_part: &str) -> Lost {
    let lost = exchange.unwrap_err();
    assert_eq!((lost.failure.class, lost.failure.code.as_str()), (class, code), "{}", lost.failure);
    assert!(lost.failure.message.contains(message_part), "{}", lost.failure);
    lost
}

#[tokio::test]
async fn a_purchase_goes_out_once_with_its_length_on_a_connection_of_its_own() {
    let listener = Listener::start([
        Act::AnswerAndHold(answer("200 OK", "first")),
        Act::AnswerAndHold(answer("200 OK", "second")),
    ]);
    // The listener holds the first connection and would leave a second request on it unanswered.
    let limits = Limits { purchase_timeout: Duration::from_secs(5), ..Limits::default() };
    let transport = Transport::new(limits).unwrap();
    for expected in ["first", "second"] {
        let received = transport.purchase(request(&http(&listener)), || ()).await.unwrap();
        assert_eq!((received.http_status, received.body), (200, expected.as_bytes().to_vec()));
        assert_eq!(received.server_date, Some(Timestamp::from_second(1_700_000_000).unwrap()));
    }
    let served = listener.finish().await;
    assert!(!served.is_another_waiting);
    for request in served.requests {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, BODY);
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", BODY.len())), "{head}");
        assert!(head.contains(concat!("user-agent: renewd/", env!("CARGO_PKG_VERSION"))), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("accept-encoding"), "{head}");
    }
}

#[tokio::test]
async fn a_purchase_is_announced_when_it_is_written() {
    let listener = Listener::start([Act::Answer(answer("200 OK", ""))]);
    let (exchange, was_written) = purchase(&http(&listener), Limits::default()).await;
    assert!(exchange.is_ok() && was_written);
}

#[tokio::test]
async fn a_purchase_without_a_body_is_announced_when_it_is_written() {
    let listener = Listener::start([Act::Answer(answer("200 OK", "done"))]);
    let url = format!("{}?Action=Renew%2B~", http(&listener));
    let (exchange, was_written) = buy(get(&url), Limits::default()).await;
    assert_eq!(exchange.unwrap().body, b"done");
    assert!(was_written);
    let served = listener.finish().await;
    let head = &served.requests[0];
    assert!(head.starts_with("GET /?Action=Renew%2B~ HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn a_purchase_without_a_body_that_never_left_is_not_announced() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = Listener::start([Act::Blurt(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]);
    for url in [format!("http://{address}/"), format!("https://{}/", listener.address)] {
        let (exchange, was_written) = buy(get(&url), Limits::default()).await;
        assert_lost(exchange, Class::Unsent, "NotConnected", "could not connect to 127.0.0.1");
        assert!(!was_written, "{url}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_unsent() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (exchange, was_written) = purchase(&format!("http://{address}/?secret"), Limits::default()).await;
    let lost = assert_lost(exchange, Class::Unsent, "NotConnected", "Connection refused");
    assert!(!lost.failure.message.contains("secret"));
    assert!(!was_written);
}

#[tokio::test]
async fn an_unknown_name_is_unsent() {
    // A label too long for any name server, so that none is asked.
    let name = "a".repeat(64);
    let (exchange, was_written) = purchase(&format!("http://{name}.invalid/"), Limits::default()).await;
    assert_lost(exchange, Class::Unsent, "NotConnected", "could not look up");
    assert!(!was_written);
}

#[tokio::test]
async fn a_failed_tls_handshake_is_unsent() {
    let listener = Listener::start([Act::Blurt(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]);
    let (exchange, was_written) =
        purchase(&format!("https://{}/", listener.address), Limits::default()).await;
    assert_lost(exchange, Class::Unsent, "NotConnected", "could not connect to 127.0.0.1");
    assert!(!was_written);
}

#[tokio::test]
async fn a_connect_timeout_is_unsent_though_it_is_a_timeout_too() {
    let listener = Listener::start([Act::Blurt(Vec::new())]);
    let limits = Limits { connect_timeout: SHORT, ..Limits::default() };
    let (exchange, was_written) = purchase(&format!("https://{}/", listener.address), limits).await;
    assert_lost(exchange, Class::Unsent, "NotConnected", "timed out");
    assert!(!was_written);
}

#[tokio::test]
async fn a_connection_dropped_after_the_request_is_unknown_and_not_tried_again() {
    let listener = Listener::start([Act::Answer(Vec::new())]);
    let (exchange, was_written) = purchase(&http(&listener), Limits::default()).await;
    let lost = assert_lost(exchange, Class::Unknown, "ConnectionCut", "broke before the answer");
    assert_eq!(lost.http_status, None);
    assert!(was_written);
    assert!(!listener.finish().await.is_another_waiting);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_unknown() {
    let listener = Listener::start([Act::AnswerAndHold(Vec::new())]);
    let limits = Limits { purchase_timeout: SHORT, ..Limits::default() };
    let (exchange, _) = purchase(&http(&listener), limits).await;
    assert_lost(exchange, Class::Unknown, "Timeout", "no whole answer");
}

#[tokio::test]
async fn a_body_that_stops_is_unknown_and_keeps_status_and_date() {
    let begun = answer("200 OK", "begun").strip_suffix(b"n").unwrap().to_vec();
    let listener = Listener::start([Act::Answer(begun.clone()), Act::AnswerAndHold(begun)]);
    let (cut, _) = purchase(&http(&listener), Limits::default()).await;
    let lost = assert_lost(cut, Class::Unknown, "ConnectionCut", "broke before the answer");
    assert_eq!(lost.http_status, Some(200));
    assert!(lost.server_date.is_some());
    let limits = Limits { purchase_timeout: SHORT, ..Limits::default() };
    let (stalled, _) = purchase(&http(&listener), limits).await;
    assert_lost(stalled, Class::Unknown, "Timeout", "no whole answer");
}

#[tokio::test]
async fn garbage_is_unknown() {
    let listener = Listener::start([Act::Answer(b"\0\x01garbage\r\n\r\n".to_vec())]);
    let (exchange, _) = purchase(&http(&listener), Limits::default()).await;
    assert_lost(exchange, Class::Unknown, "Unreadable", "not HTTP");
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit_and_not_past_it() {
    let acts = [64, 65].map(|length| Act::Answer(answer("200 OK", &"x".repeat(length))));
    let listener = Listener::start(acts);
    let limits = Limits { purchase_answer_max_bytes: 64, ..Limits::default() };
    let (fits, _) = purchase(&http(&listener), limits).await;
    assert_eq!(fits.unwrap().body.len(), 64);
    let (too_large, _) = purchase(&http(&listener), limits).await;
    assert_lost(too_large, Class::Unknown, "AnswerTooLarge", "more than 64 bytes");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec();
    let listener = Listener::start([Act::Answer(redirect)]);
    let (exchange, _) = purchase(&http(&listener), Limits::default()).await;
    assert_eq!(exchange.unwrap().http_status, 307);
    assert!(!listener.finish().await.is_another_waiting);
}

#[tokio::test]
async fn what_never_ends_is_unknown_in_bounded_time_whether_bought_or_read() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
    let status = b"HTTP/1.1 200 OK\r\n".to_vec();
    let wide = [b"X-Flood: ".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
    let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    let large = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n".to_vec();
    let loris = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    let (at_once, steadily, slowly) = (Duration::ZERO, Duration::from_millis(1), Duration::from_millis(20));
    for (what, code, first, again, pause) in [
        ("a chunked body", "AnswerTooLarge", chunked, chunk, at_once),
        ("a body of 100 MB", "AnswerTooLarge", large, vec![b'x'; 0x1000], at_once),
        ("many headers", "Unreadable", status.clone(), b"X-A: b\r\n".to_vec(), at_once),
        ("wide headers", "Unreadable", status.clone(), wide, at_once),
        (
            "one header",
            "Unreadable",
            [&status, b"X-Flood: ".as_slice()].concat(),
            vec![b'x'; 0x1000],
            at_once,
        ),
        ("interim answers", "Timeout", early.clone(), early, steadily),
        ("a head, byte by byte", "Timeout", status, b"x".to_vec(), slowly),
        ("a body, byte by byte", "Timeout", loris, b"x".to_vec(), slowly),
    ] {
        let endless = Act::Endless(first, again, pause);
        let listener = Listener::start([endless.clone(), endless]);
        let longest = if code == "Timeout" { QUICK } else { PATIENT };
        let limits = Limits {
            purchase_timeout: longest,
            read_timeout: longest,
            read_answer_max_bytes: PURCHASE_ANSWER_MAX_BYTES,
            ..Limits::default()
        };
        let transport = Transport::new(limits).unwrap();
        let both = async {
            let bought = transport.purchase(request(&http(&listener)), || ()).await;
            (bought, transport.read(request(&http(&listener))).await)
        };
        let (bought, read) = tokio::time::timeout(10 * QUICK, both).await.expect(what);
        assert_lost(bought, Class::Unknown, code, "");
        assert_lost(read, Class::Unknown, code, "");
        assert!(!listener.finish().await.is_another_waiting, "{what}");
    }
}

#[tokio::test]
async fn reads_have_limits_of_their_own() {
    let listener =
        Listener::start([Act::Answer(answer("200 OK", &"x".repeat(65))), Act::AnswerAndHold(Vec::new())]);
    let limits = Limits { read_answer_max_bytes: 64, read_timeout: SHORT, ..Limits::default() };
    let transport = Transport::new(limits).unwrap();
    let too_large = transport.read(request(&http(&listener))).await;
    assert_lost(too_large, Class::Unknown, "AnswerTooLarge", "more than 64 bytes");
    let late = transport.read(request(&http(&listener))).await;
    assert_lost(late, Class::Unknown, "Timeout", "no whole answer");
}
