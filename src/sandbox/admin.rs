//! The controls of the practice cloud, for people and tests: plain HTTP, no key.

use hyper::body::Bytes;
use hyper::{Method, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::product::InstanceId;
use crate::sandbox::delivery::Answer;
use crate::sandbox::faults::Fault;
use crate::sandbox::instance::InstanceChange;
use crate::sandbox::seed;
use crate::sandbox::yuan::Yuan;
use crate::sandbox::{Role, Shared, TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX};

pub(super) const ROOT: &str = "/_sandbox";

const HELP: &str = "\
The practice cloud. Point an account's `endpoint` here; key ids AKIDsandbox... (Tencent)
and AKLTsandbox... (Volcengine), secret sandbox-secret-key.

GET    /_sandbox/ledger            charges that took effect
GET    /_sandbox/requests          counters by API
PUT    /_sandbox/instances/ID      {expires_at, state, auto_renew, spec, charge_type, price_cny_per_month,
                                   data_disk_price_cny_per_month, product}, each optional; state = running | busy | isolated | gone; made when there is none
PUT    /_sandbox/balance/KEY_ID    CNY, as a number or {\"cny\": 100}
POST   /_sandbox/faults            [{api, instance?, effect: before | after, kind: code | http | drop | stall |
                                   garbage | truncate | lag, code?, http_status?, delay_ms?, times}];
                                   before = no charge, after = charged, then the answer is spoilt; lag = readers
                                   see what was bought delay_ms later, so on a purchase only 'after'
PUT    /_sandbox/role              {names, lifetime_seconds}, each optional: the role of this machine, whose temporary keys the
                                   metadata services here hand out (an account's `metadata_endpoint`); its account is
                                   KEY_ID AKIDsandbox-role or AKLTsandbox-role; faults: metadata:roles, :credentials, :token
GET    /_sandbox/role              what it is
DELETE /_sandbox/role/keys         end all temporary keys handed out so far
GET    /_sandbox/faults            faults that still wait
DELETE /_sandbox/faults            forget them
";

fn help() -> String {
    let indented: String = seed::FORMAT.lines().map(|line| format!("    {line}\n")).collect();
    format!("{HELP}\n`renewd sandbox --seed FILE` starts with more:\n\n{indented}")
}

/// What is wrong with an admin call.
struct Complaint {
    status: u16,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedBalance {
    cny: Yuan,
}

pub(super) fn answer(shared: &Shared, request: &Request<Bytes>) -> Answer {
    let path = request.uri().path().strip_prefix(ROOT).unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let done = match (request.method(), parts.as_slice()) {
        (&Method::GET, [""]) => return Answer::text(200, help()),
        (&Method::GET, ["ledger"]) => Ok(json!(shared.lock().world.ledger())),
        (&Method::GET, ["requests"]) => Ok(json!(shared.lock().counters.snapshot())),
        (&Method::GET, ["faults"]) => Ok(json!(shared.lock().faults.waiting())),
        (&Method::POST, ["faults"]) => post_faults(shared, request.body()),
        (&Method::DELETE, ["faults"]) => {
            shared.lock().faults.clear();
            Ok(json!([]))
        }
        (&Method::GET, ["role"]) => Ok(json!(shared.lock().roles.role)),
        (&Method::PUT, ["role"]) => put_role(shared, request.body()),
        (&Method::DELETE, ["role", "keys"]) => {
            shared.lock().roles.revoke();
            Ok(json!({}))
        }
        (&Method::PUT, ["instances", id]) => put_instance(shared, id, request.body()),
        (&Method::PUT, ["balance", key_id]) => put_balance(shared, key_id, request.body()),
        (method, _) => Err(Complaint {
            status: 404,
            message: format!("no admin call {method} {ROOT}{path}; GET {ROOT}/ lists them"),
        }),
    };
    match done {
        Ok(value) => Answer::json(200, &value),
        Err(Complaint { status, message }) => Answer::json(status, &json!({ "error": message })),
    }
}

fn post_faults(shared: &Shared, body: &[u8]) -> Result<Value, Complaint> {
    let faults: Vec<Fault> = read(body)?;
    let queue = &mut shared.lock().faults;
    queue.extend(faults);
    Ok(json!(queue.waiting()))
}

fn put_role(shared: &Shared, body: &[u8]) -> Result<Value, Complaint> {
    let role: Role = read(body)?;
    shared.lock().roles.role = role.clone();
    Ok(json!(role))
}

fn put_instance(shared: &Shared, id: &str, body: &[u8]) -> Result<Value, Complaint> {
    InstanceId::parse(id).map_err(|reason| Complaint::bad(format!("the id `{id}` {reason}")))?;
    let change: InstanceChange = read(body)?;
    let now = shared.clock.now();
    let mut memory = shared.lock();
    let instance =
        memory.world.set_instance(id, change, now).map_err(|error| Complaint::bad(error.to_string()))?;
    Ok(json!(instance))
}

fn put_balance(shared: &Shared, key_id: &str, body: &[u8]) -> Result<Value, Complaint> {
    if ![TENCENT_KEY_PREFIX, VOLCENGINE_KEY_PREFIX].iter().any(|prefix| key_id.starts_with(prefix)) {
        let wanted = format!("{TENCENT_KEY_PREFIX} or {VOLCENGINE_KEY_PREFIX}");
        return Err(Complaint::bad(format!("the key id `{key_id}` does not begin with {wanted}")));
    }
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let Yuan(balance) = if is_object { read::<NamedBalance>(body)?.cny } else { read(body)? };
    shared.lock().world.set_balance(key_id, balance);
    Ok(json!({ "key_id": key_id, "cny": balance.as_yuan_number() }))
}

/// The path to the mistake, and serde's words for it with line and column.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Complaint> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        match error.path().to_string() {
            path if path == "." => Complaint::bad(error.inner().to_string()),
            path => Complaint::bad(format!("{path}: {}", error.inner())),
        }
    })?;
    deserializer.end().map_err(|error| Complaint::bad(error.to_string()))?;
    Ok(value)
}

impl Complaint {
    fn bad(message: String) -> Complaint {
        Complaint { status: 400, message }
    }
}
