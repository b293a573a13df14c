//! Signatures against published values, stage by stage: one folder a case, one file a stage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use renewd::cloud::canonical::{hex, sha256_hex};
use renewd::cloud::volcengine::sign::{Request, query, sign};
use renewd::domain::secret::Secret;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/volcengine");
const CASES: [&str; 4] = ["v1-renew", "v2-describe-encoding", "v3-renew-token", "v4-get-order-post"];
/// `query` and `date` are inputs of the signature and outputs of what makes them.
const INPUTS: [&str; 10] = [
    "access_key",
    "content_type",
    "host",
    "method",
    "parameters",
    "payload",
    "region",
    "secret_key",
    "service",
    "token",
];
const ALWAYS_PINNED: [&str; 7] = [
    "query",
    "payload_hash",
    "canonical_request",
    "canonical_request_hash",
    "string_to_sign",
    "signature",
    "authorization",
];

type Case = BTreeMap<String, String>;

#[test]
fn every_stage_of_every_vector_is_met() {
    for name in CASES {
        let case = read_case(name);
        let computed = computed_stages(&case);
        for stage in ALWAYS_PINNED {
            assert!(case.contains_key(stage), "{name} does not pin {stage}");
        }
        for (file, pinned) in case.iter().filter(|(file, _)| !INPUTS.contains(&file.as_str())) {
            assert_eq!(computed.get(file.as_str()), Some(pinned), "{name}: {file}");
        }
    }
}

#[test]
fn the_whole_key_chain_of_a_renewal_is_pinned() {
    let case = read_case("v1-renew");
    for key in ["date_key", "region_key", "service_key", "signing_key"] {
        assert!(case.contains_key(key), "{key}");
    }
}

#[test]
fn an_empty_value_keeps_its_sign_and_repeated_names_keep_their_order() {
    assert_eq!(query(&[("b", ""), ("a", "2"), ("a", "1"), ("B", "x")]), "B=x&a=2&a=1&b=");
}

#[test]
fn the_scope_takes_its_day_from_the_date_in_utc() {
    let case = read_case("v1-renew");
    let late: Timestamp = "2024-01-02T23:59:59-00:00".parse().unwrap();
    let stages = sign(&Request { at: late, ..request(&case, None) }, &Secret::new(&case["secret_key"]));
    assert_eq!((stages.date.as_str(), &stages.scope[..8]), ("20240102T235959Z", "20240102"));
    let next = Request { at: late + jiff::SignedDuration::from_secs(1), ..request(&case, None) };
    assert_eq!(&sign(&next, &Secret::new(&case["secret_key"])).scope[..8], "20240103");
}

fn read_case(name: &str) -> Case {
    let files = fs::read_dir(Path::new(FOLDER).join(name)).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect()
}

fn request<'a>(case: &'a Case, token: Option<&'a Secret>) -> Request<'a> {
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", &case["date"]).unwrap();
    Request {
        method: &case["method"],
        host: &case["host"],
        query: &case["query"],
        content_type: case.get("content_type").map(String::as_str),
        token,
        payload: case["payload"].as_bytes(),
        region: &case["region"],
        service: &case["service"],
        at: at.to_zoned(TimeZone::UTC).unwrap().timestamp(),
    }
}

fn computed_stages(case: &Case) -> BTreeMap<&'static str, String> {
    let token = case.get("token").map(|token| Secret::new(token));
    let stages = sign(&request(case, token.as_ref()), &Secret::new(&case["secret_key"]));
    let parameters: Vec<_> = case["parameters"].lines().map(|line| line.split_once('=').unwrap()).collect();
    BTreeMap::from([
        ("query", query(&parameters)),
        ("canonical_request_hash", sha256_hex(stages.canonical_request.as_bytes())),
        ("date_key", hex(&stages.date_key)),
        ("region_key", hex(&stages.region_key)),
        ("service_key", hex(&stages.service_key)),
        ("signing_key", hex(&stages.signing_key)),
        ("authorization", stages.authorization(&case["access_key"])),
        ("date", stages.date),
        ("payload_hash", stages.payload_hash),
        ("signed_headers", stages.signed_headers),
        ("canonical_request", stages.canonical_request),
        ("string_to_sign", stages.string_to_sign),
        ("signature", stages.signature),
    ])
}
