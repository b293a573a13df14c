//! Tencent Cloud as its documents say: envelopes, common codes, quotas, and one file a service. API 3.0 is called
//! at `/`, signed either way it knows; the legacy v2 API at its own path.
//!
//! Source: the "common parameters", "signature method v3", "signature method v1" and "common error codes" pages of
//! each API 3.0 product.

mod arguments;
mod billing;
mod cvm;
mod cvm_v2;
mod envelope;
mod redis;
mod stamp;
mod verify;
mod verify_flat;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use jiff::Timestamp;

use crate::domain::product::{Provider, Region};
use crate::domain::region;
use crate::sandbox::desk::{Act, ApiName, Read, Ready, Refusal};
use crate::sandbox::replays::Once;
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::tencentcloud::envelope::Envelope;
use crate::sandbox::tencentcloud::verify_flat::{Parameters, V1, V2};

/// Where the legacy v2 API is called.
pub(crate) const V2_PATH: &str = "/v2/index.php";
/// The service of its CVM, as configuration and faults write it.
const V2_SERVICE: &str = "cvm-v2";
/// The documented size of a request.
pub(crate) const MAX_REQUEST_BYTES: usize = 10 * 1024 * 1024;
/// One action of one service.
#[derive(Debug)]
struct Api {
    name: ApiName,
    version: &'static str,
    /// The documented quota of one key in one region.
    per_second: usize,
    /// Whether `X-TC-Region` is required.
    is_regional: bool,
    read: fn(Arguments) -> Result<Act, Refusal>,
}

const SERVICES: [&[Api]; 4] = [redis::APIS, cvm::APIS, cvm_v2::APIS, billing::APIS];

pub(crate) fn api_names() -> impl Iterator<Item = ApiName> {
    apis().map(|api| api.name)
}

/// Verifies a call and reads its parameters.
pub(crate) fn read(request: &Request<Bytes>, now: Timestamp) -> Read {
    if let Some(parameters) = signed_by_v1(request) {
        return read_v1(request, parameters, now);
    }
    let api = verify::claimed_service(request).and_then(|service| find_api(&service, action_of(request)?));
    Read { api: api.map(|api| api.name), envelope: Box::new(Envelope::V3), ready: admissible(request, now) }
}

/// The parameters of a call that names its action among them, where the newer signature has it in a header.
fn signed_by_v1(request: &Request<Bytes>) -> Option<Parameters> {
    if request.headers().contains_key(AUTHORIZATION) || action_of(request).is_some() {
        return None;
    }
    Parameters::of_request(request, &V1).ok().filter(|parameters| parameters.get("Action").is_some())
}

fn read_v1(request: &Request<Bytes>, parameters: Parameters, now: Timestamp) -> Read {
    let api = find_api_v1(request, &parameters);
    Read {
        api: api.as_ref().ok().map(|api| api.name),
        envelope: Box::new(Envelope::V3),
        ready: admissible_v1(request, parameters, api, now),
    }
}

/// As [`read`], of the legacy API.
pub(crate) fn read_v2(request: &Request<Bytes>, now: Timestamp) -> Read {
    let parameters = Parameters::of_request(request, &V2);
    let action = parameters.as_ref().ok().and_then(|parameters| parameters.get("Action"));
    let api = action.and_then(|action| find_api(V2_SERVICE, action));
    Read {
        api: api.map(|api| api.name),
        envelope: Box::new(Envelope::V2),
        ready: parameters.and_then(|parameters| admissible_v2(request, parameters, now)),
    }
}

/// A call too large to be read.
pub(crate) fn read_too_large() -> Read {
    let refusal = Refusal::new("RequestSizeLimitExceeded", "the request is larger than 10 MB");
    Read { api: None, envelope: Box::new(Envelope::V3), ready: Err(refusal) }
}

fn admissible(request: &Request<Bytes>, now: Timestamp) -> Result<Ready, Refusal> {
    let action = action_of(request).ok_or_else(|| missing("X-TC-Action"))?;
    let version = verify::header(request, "x-tc-version").ok_or_else(|| missing("X-TC-Version"))?;
    let caller = verify::verify(request, now)?;
    if !apis().any(|api| api.name.service() == caller.service) {
        return Err(Refusal::new("NoSuchProduct", format!("there is no product `{}`", caller.service)));
    }
    let api = find_api(&caller.service, action).ok_or_else(|| {
        Refusal::new("InvalidAction", format!("{} has no action `{action}`", caller.service))
    })?;
    if version != api.version {
        let message = format!("{} has no version `{version}`, only `{}`", caller.service, api.version);
        return Err(Refusal::new("NoSuchVersion", message));
    }
    let region = verify::header(request, "x-tc-region").unwrap_or_default();
    if api.is_regional && region.is_empty() {
        return Err(missing("X-TC-Region"));
    }
    check_region(api, region)?;
    let act = Arguments::of_request(request).and_then(api.read);
    let (name, per_second, region) = (api.name, api.per_second, region.to_owned());
    let token = verify::header(request, "x-tc-token").map(str::to_owned);
    Ok(Ready { api: name, per_second, key_id: caller.key_id, token, region, once: None, act })
}

fn admissible_v1(
    request: &Request<Bytes>,
    parameters: Parameters,
    api: Result<&'static Api, Refusal>,
    now: Timestamp,
) -> Result<Ready, Refusal> {
    parameters.require("Version")?;
    let once = verify_flat::verify(request, &parameters, now)?;
    let api = api?;
    let region = parameters.get("Region").unwrap_or_default().to_owned();
    if api.is_regional && region.is_empty() {
        return Err(missing("Region"));
    }
    check_region(api, &region)?;
    Ok(ready_once(api, once, region, parameters))
}

/// Every region sells all instances here, but one that does not exist sells none.
fn check_region(api: &Api, text: &str) -> Result<(), Refusal> {
    if !api.is_regional || region::is_known(Provider::TencentCloud, text) {
        return Ok(());
    }
    Err(Refusal::new("UnsupportedRegion", format!("there is no region `{text}`")))
}

/// The service is not among the parameters: where the host does not name one, the version tells.
fn find_api_v1(request: &Request<Bytes>, parameters: &Parameters) -> Result<&'static Api, Refusal> {
    let host = verify::header(request, "host").unwrap_or_default();
    let label = host.split('.').next().unwrap_or_default();
    let is_named = apis().any(|api| api.name.service() == label);
    let (action, version) = (parameters.require("Action")?, parameters.require("Version")?);
    let mut known = apis()
        .filter(|api| api.name.service() != V2_SERVICE && (!is_named || api.name.service() == label))
        .filter(|api| api.name.action() == action)
        .peekable();
    if known.peek().is_none() {
        return Err(Refusal::new("InvalidAction", format!("there is no action `{action}`")));
    }
    known
        .find(|api| api.version == version)
        .ok_or_else(|| Refusal::new("NoSuchVersion", format!("`{action}` has no version `{version}`")))
}

fn admissible_v2(request: &Request<Bytes>, parameters: Parameters, now: Timestamp) -> Result<Ready, Refusal> {
    let once = verify_flat::verify(request, &parameters, now)?;
    let action = parameters.get("Action").unwrap_or_default();
    let api = find_api(V2_SERVICE, action)
        .ok_or_else(|| Refusal::new("6100", format!("there is no action `{action}` here")))?;
    let region = parameters.get("Region").unwrap_or_default().to_owned();
    if region.is_empty() {
        return Err(missing("Region"));
    }
    let code = Region::parse(&region).ok().and_then(|region| region.v2_code());
    if code.is_none_or(|code| code.as_str() != region) {
        return Err(invalid("Region", "is not the code of a region"));
    }
    Ok(ready_once(api, once, region, parameters))
}

fn ready_once(api: &Api, once: Once, region: String, parameters: Parameters) -> Ready {
    let token = parameters.get("Token").map(str::to_owned);
    let act = (api.read)(Arguments::of_pairs(parameters.into_business()));
    let (name, per_second, key_id) = (api.name, api.per_second, once.key_id.clone());
    Ready { api: name, per_second, key_id, token, region, once: Some(once), act }
}

fn missing(name: &str) -> Refusal {
    Refusal::new("MissingParameter", format!("`{name}` is missing"))
}

fn invalid(name: &str, problem: &str) -> Refusal {
    Refusal::new("InvalidParameter", format!("`{name}` {problem}"))
}

fn apis() -> impl Iterator<Item = &'static Api> {
    SERVICES.into_iter().flatten()
}

fn find_api(service: &str, action: &str) -> Option<&'static Api> {
    apis().find(|api| api.name.service() == service && api.name.action() == action)
}

fn action_of(request: &Request<Bytes>) -> Option<&str> {
    verify::header(request, "x-tc-action")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use serde_json::{Value, json};

    use crate::sandbox::desk::Visit;
    use crate::sandbox::world::World;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    /// A call of each API that succeeds.
    fn good_call() -> impl Strategy<Value = (&'static str, Value)> {
        let term = json!({ "InstanceId": "crs-sandbox-1", "Period": 1 });
        let target = json!({ "InstanceId": "crs-sandbox-1", "MemSize": 2048 });
        let servers = json!({ "InstanceIds": ["ins-sandbox-1"], "InstanceChargePrepaid": { "Period": 1 } });
        let window =
            json!({ "StartTime": "2027-01-01 00:00:00", "EndTime": "2027-02-01 00:00:00", "Limit": 20 });
        prop::sample::select(vec![
            ("redis:RenewInstance", term.clone()),
            ("redis:InquiryPriceRenewInstance", term),
            ("redis:UpgradeInstance", target.clone()),
            ("redis:InquiryPriceUpgradeInstance", target),
            ("cvm:RenewInstances", servers.clone()),
            ("cvm:InquiryPriceRenewInstances", servers),
            ("cvm:DescribeInstances", json!({ "Limit": 20, "Offset": 0, "InstanceIds": ["ins-sandbox-1"] })),
            (
                "redis:DescribeInstances",
                json!({ "Limit": 20, "Offset": 0, "InstanceIds": ["crs-sandbox-1"] }),
            ),
            ("billing:DescribeDealsByCond", window),
            ("billing:DescribeAccountBalance", json!({})),
        ])
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "InstanceId",
            "InstanceIds",
            "Period",
            "InstanceChargePrepaid",
            "RenewPortableDataDisk",
            "MemSize",
            "RedisShardNum",
            "RedisReplicasNum",
            "SwitchOption",
            "ModifyPayMode",
            "Limit",
            "Offset",
            "Status",
            "StatusSet",
            "AutoRenew",
            "BillingMode",
            "OrderBy",
            "OrderType",
            "StartTime",
            "EndTime",
            "ResourceId",
            "OrderId",
        ])
    }

    fn value() -> impl Strategy<Value = Value> {
        let texts = ["", "curDeadline", "prepaid", "9999-12-31 23:59:59", "-9999-99-99 99:99:99"];
        let scalar = prop_oneof![
            prop::sample::select(vec![i64::MIN, -1, 0, 1, 4, 36, 1_000, i64::MAX]).prop_map(Value::from),
            prop::sample::select(texts.to_vec()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::Null),
        ];
        prop_oneof![scalar.clone(), prop::collection::vec(scalar, 0..4).prop_map(Value::from)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2), ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn no_header_makes_the_reader_panic(
            authorization in "(TC3-HMAC-SHA256 )?Credential=[A-Za-z/é]{0,40}/tc3_request, SignedHeaders=[a-z;-]{0,9}content-type;host, Signature=.{0,9}|.{0,80}",
            timestamp in "-?[0-9]{0,30}|1800000000",
            query in "[!-~&&[^#<>\"]]{0,60}",
            body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let head = Request::builder().method("POST").uri(format!("/?{query}"));
            let head = head.header("x-tc-action", "RenewInstance").header("x-tc-version", "2018-04-12");
            let head = head.header("x-tc-timestamp", timestamp).header("authorization", authorization.into_bytes());
            if let Ok(request) = head.body(Bytes::from(body)) {
                prop_assert!(read(&request, now()).ready.is_err());
            }
        }

        #[test]
        fn no_parameters_make_a_call_panic_or_charge_without_an_order(
            (api, mut parameters) in good_call(),
            changes in prop::collection::btree_map(name(), value(), 0..3),
            lag_seconds in prop::sample::select(vec![0, 60, u64::MAX]),
        ) {
            parameters.as_object_mut().unwrap().extend(changes.into_iter().map(|(name, value)| (name.to_owned(), value)));
            let head = Request::builder().method("POST").header("content-type", "application/json");
            let request = head.body(Bytes::from(parameters.to_string())).unwrap();
            let lag = Duration::from_secs(lag_seconds);
            let visit = Visit { key_id: "AKIDsandbox", region: "ap-guangzhou", now: now(), request_id: "r", lag };
            let mut world = World::new(now());
            let api = apis().find(|known| known.name.0 == api).unwrap();
            let act = Arguments::of_request(&request).and_then(api.read);
            let answer = act.and_then(|act| (act.perform)(&mut world, &visit));
            let is_purchase = matches!(api.name.action(), "RenewInstance" | "RenewInstances" | "UpgradeInstance");
            prop_assert_eq!(world.ledger().len(), usize::from(is_purchase && answer.is_ok()));
        }
    }
}
