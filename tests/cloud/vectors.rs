//! Signatures against published values, stage by stage: one folder a case, one file a stage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use renewd::cloud::canonical::{hex, sha256_hex};
use renewd::cloud::tencentcloud::sign::{Request, Stages, sign, sign_also};
use renewd::domain::secret::Secret;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/tencentcloud");
const INPUTS: [&str; 10] = [
    "also_signed",
    "content_type",
    "host",
    "method",
    "payload",
    "query",
    "secret_id",
    "secret_key",
    "service",
    "timestamp",
];
const ALWAYS_PINNED: [&str; 5] =
    ["payload_hash", "canonical_request", "canonical_request_hash", "string_to_sign", "signature"];

type Case = BTreeMap<String, String>;

#[test]
fn every_stage_of_every_vector_is_met() {
    let names = case_names();
    let expected = [
        "a-",
        "a1-",
        "a2-",
        "b-",
        "b1-",
        "c-",
        "d-",
        "e-",
        "g-",
        "g1-",
        "published-older",
        "published-present",
    ];
    for prefix in expected {
        assert!(names.iter().any(|name| name.starts_with(prefix)), "no vector {prefix}");
    }
    for name in names {
        let case = read_case(&name);
        let computed = computed_stages(&case);
        for stage in ALWAYS_PINNED {
            assert!(case.contains_key(stage), "{name} does not pin {stage}");
        }
        for (file, pinned) in case.iter().filter(|(file, _)| !INPUTS.contains(&file.as_str())) {
            assert_eq!(computed.get(file.as_str()), Some(pinned), "{name}: {file}");
        }
    }
}

/// The two are one second apart; the scope's day must come from the timestamp, in UTC.
#[test]
fn the_day_of_the_scope_turns_at_midnight_utc() {
    let scope = |name| computed_stages(&read_case(name))["string_to_sign"].lines().nth(2).map(str::to_owned);
    let before = scope("b-upgrade-finance-zone-before-midnight");
    let after = scope("c-renew-token-after-midnight");
    assert_eq!(before.as_deref(), Some("2024-02-29/redis/tc3_request"));
    assert_eq!(after.as_deref(), Some("2024-03-01/redis/tc3_request"));
}

#[test]
fn header_values_are_signed_trimmed_and_in_lower_case() {
    let case = read_case("a-renew-sdk-spacing");
    let plain = sign(&request(&case), &secret_key(&case));
    let dressed = Request { host: " Redis.TencentCloudAPI.com ", ..request(&case) };
    assert_eq!(sign(&dressed, &secret_key(&case)).signature, plain.signature);
}

fn case_names() -> Vec<String> {
    let entries = fs::read_dir(FOLDER).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn read_case(name: &str) -> Case {
    let files = fs::read_dir(Path::new(FOLDER).join(name)).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect()
}

fn secret_key(case: &Case) -> Secret {
    Secret::new(&case["secret_key"])
}

fn request(case: &Case) -> Request<'_> {
    Request {
        method: &case["method"],
        host: &case["host"],
        query: &case["query"],
        content_type: &case["content_type"],
        payload: case["payload"].as_bytes(),
        service: &case["service"],
        at: jiff::Timestamp::from_second(case["timestamp"].parse().unwrap()).unwrap(),
    }
}

fn computed_stages(case: &Case) -> BTreeMap<&'static str, String> {
    let also = case.get("also_signed").map(String::as_str).unwrap_or_default();
    let also: Vec<_> = also.lines().map(|line| line.split_once(':').unwrap()).collect();
    let stages: Stages = sign_also(&request(case), &also, &secret_key(case));
    let mut computed = BTreeMap::from([
        ("canonical_request_hash", sha256_hex(stages.canonical_request.as_bytes())),
        ("date_key", hex(&stages.date_key)),
        ("service_key", hex(&stages.service_key)),
        ("signing_key", hex(&stages.signing_key)),
        ("payload_hash", stages.payload_hash.clone()),
        ("canonical_request", stages.canonical_request.clone()),
        ("string_to_sign", stages.string_to_sign.clone()),
        ("signature", stages.signature.clone()),
    ]);
    if let Some(secret_id) = case.get("secret_id") {
        computed.insert("authorization", stages.authorization(secret_id));
    }
    computed
}
