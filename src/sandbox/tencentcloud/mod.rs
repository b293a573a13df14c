//! Tencent Cloud as its documents say: envelopes, common codes, quotas, and one file a service. API 3.0 is called
//! at `/`, the legacy v2 API at its own path.
//!
//! Source: the "common parameters", "signature method v3" and "common error codes" pages of each API 3.0 product.

mod arguments;
mod billing;
mod cvm;
mod cvm_v2;
mod envelope;
mod redis;
mod stamp;
mod verify;
mod verify_v2;

use std::borrow::Cow;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::sandbox::Memory;
use crate::sandbox::delivery::Delivery;
use crate::sandbox::faults::{Acted, Call};
use crate::sandbox::pace::QuotaKey;
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::tencentcloud::envelope::Envelope;
use crate::sandbox::tencentcloud::verify_v2::{Once, Parameters};
use crate::sandbox::world::World;

pub(crate) use crate::sandbox::tencentcloud::verify_v2::Replays;

/// Where the legacy v2 API is called.
pub(crate) const V2_PATH: &str = "/v2/index.php";
/// The service of its CVM, as configuration and faults write it.
const V2_SERVICE: &str = "cvm-v2";
/// The documented size of a request.
pub(crate) const MAX_REQUEST_BYTES: usize = 10 * 1024 * 1024;
/// Under which name calls are counted that name no API we know.
const UNKNOWN_API: &str = "unknown";

/// One action of one service.
#[derive(Debug)]
struct Api {
    /// `service:Action`, as configuration and faults write it.
    name: &'static str,
    version: &'static str,
    /// The documented quota of one key in one region.
    per_second: usize,
    /// Whether `X-TC-Region` is required.
    is_regional: bool,
    read: fn(Arguments) -> Result<Act, Refusal>,
}

const SERVICES: [&[Api]; 4] = [redis::APIS, cvm::APIS, cvm_v2::APIS, billing::APIS];

/// A call whose parameters are read.
struct Act {
    /// What faults may aim at.
    instances: Vec<String>,
    perform: Box<Perform>,
}

/// Gives the fields of a successful `Response`.
type Perform = dyn FnOnce(&mut World, &Visit<'_>) -> Result<Value, Refusal> + Send;

/// Who calls, from where, when.
struct Visit<'a> {
    key_id: &'a str,
    region: &'a str,
    now: Timestamp,
    request_id: &'a str,
    /// Reads and what a purchase shows to readers lag by so much.
    lag: Duration,
}

/// A documented error code with words of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    code: Cow<'static, str>,
    message: String,
}

/// A call with a good signature. Parameters are judged after the quota: a call with bad ones uses it up too.
struct Ready {
    route: Route,
    /// Of a call that may be made once only.
    once: Option<Once>,
    act: Result<Act, Refusal>,
}

struct Route {
    api: &'static Api,
    envelope: Envelope,
    key_id: String,
    region: String,
}

/// What can be said of a call without the memory of the cloud.
pub(crate) struct Read {
    api_name: &'static str,
    envelope: Envelope,
    ready: Result<Ready, Refusal>,
}

pub(crate) fn knows_api(name: &str) -> bool {
    apis().any(|api| api.name == name || api.action() == name)
}

pub(crate) fn api_names() -> Vec<&'static str> {
    apis().map(|api| api.name).collect()
}

/// Verifies a call and reads its parameters.
pub(crate) fn read(request: &Request<Bytes>, now: Timestamp) -> Read {
    let api = verify::claimed_service(request).and_then(|service| find_api(&service, action_of(request)?));
    Read {
        api_name: api.map_or(UNKNOWN_API, |api| api.name),
        envelope: Envelope::V3,
        ready: Ready::read(request, now),
    }
}

/// As [`read`], of the legacy API.
pub(crate) fn read_v2(request: &Request<Bytes>, now: Timestamp) -> Read {
    let parameters = Parameters::of_request(request);
    let action = parameters.as_ref().ok().and_then(|parameters| parameters.get("Action"));
    let api = action.and_then(|action| find_api(V2_SERVICE, action));
    Read {
        api_name: api.map_or(UNKNOWN_API, |api| api.name),
        envelope: Envelope::V2,
        ready: parameters.and_then(|parameters| Ready::read_v2(request, parameters, now)),
    }
}

/// A call too large to be read.
pub(crate) fn read_too_large() -> Read {
    let refusal = Refusal::new("RequestSizeLimitExceeded", "the request is larger than 10 MB");
    Read { api_name: UNKNOWN_API, envelope: Envelope::V3, ready: Err(refusal) }
}

impl Read {
    /// Holds the call against quota and faults and carries it out.
    pub(crate) fn answer(self, memory: &mut Memory, now: Timestamp, moment: Duration) -> Delivery {
        memory.counters.arrived(self.api_name, moment);
        let request_id = memory.request_ids.next();
        let admitted = self.ready.and_then(|ready| ready.admit(memory, now, moment));
        let (code, delivery) = match admitted {
            Ok((route, act)) => route.play(act, memory, now, &request_id),
            Err(refusal) => {
                let answer = self.envelope.refusal(&refusal, &request_id);
                (refusal.code.into_owned(), Delivery::Whole(answer))
            }
        };
        memory.counters.ended(self.api_name, &code);
        delivery
    }
}

impl Ready {
    fn read(request: &Request<Bytes>, now: Timestamp) -> Result<Ready, Refusal> {
        let action = action_of(request).ok_or_else(|| Refusal::missing("X-TC-Action"))?;
        let version =
            verify::header(request, "x-tc-version").ok_or_else(|| Refusal::missing("X-TC-Version"))?;
        let caller = verify::verify(request, now)?;
        if !apis().any(|api| api.service() == caller.service) {
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
            return Err(Refusal::missing("X-TC-Region"));
        }
        let act = Arguments::of_request(request).and_then(api.read);
        let region = region.to_owned();
        let route = Route { api, envelope: Envelope::V3, key_id: caller.key_id, region };
        Ok(Ready { route, once: None, act })
    }

    fn read_v2(request: &Request<Bytes>, parameters: Parameters, now: Timestamp) -> Result<Ready, Refusal> {
        let once = verify_v2::verify(request, &parameters, now)?;
        let action = parameters.get("Action").unwrap_or_default();
        let api = find_api(V2_SERVICE, action)
            .ok_or_else(|| Refusal::new("6100", format!("there is no action `{action}` here")))?;
        let region = parameters.get("Region").unwrap_or_default().to_owned();
        if region.is_empty() {
            return Err(Refusal::missing("Region"));
        }
        let key_id = once.key_id().to_owned();
        let act = (api.read)(Arguments::of_pairs(parameters.into_business()));
        let route = Route { api, envelope: Envelope::V2, key_id, region };
        Ok(Ready { route, once: Some(once), act })
    }

    fn admit(self, memory: &mut Memory, now: Timestamp, moment: Duration) -> Result<(Route, Act), Refusal> {
        let Ready { route, once, act } = self;
        if once.is_some_and(|once| !memory.replays.admit(once, now)) {
            return Err(Refusal::new("4500", "this `Nonce` and `Timestamp` were seen before"));
        }
        let Api { name, per_second, .. } = *route.api;
        let key = QuotaKey { key_id: route.key_id.clone(), api: name, region: route.region.clone() };
        if !memory.pace.admit(key, per_second, moment) {
            let message = format!("more than {per_second} calls of {name} in a second");
            return Err(Refusal::new(route.envelope.too_fast(), message));
        }
        Ok((route, act?))
    }
}

impl Route {
    fn play(self, act: Act, memory: &mut Memory, now: Timestamp, request_id: &str) -> (String, Delivery) {
        let envelope = self.envelope;
        let refuse = |code: &str| {
            let refusal = Refusal::new(code.to_owned(), "a fault that was asked for");
            envelope.refusal(&refusal, request_id)
        };
        let call = Call { api: self.api.name, instances: &act.instances, refuse: &refuse };
        let Memory { world, faults, .. } = memory;
        let perform = act.perform;
        let played = faults.play(&call, |lag| {
            let visit = Visit { key_id: &self.key_id, region: &self.region, now, request_id, lag };
            match perform(world, &visit) {
                Ok(response) => Acted::Done(envelope.success(response, request_id)),
                Err(refusal) => Acted::Refused {
                    answer: envelope.refusal(&refusal, request_id),
                    code: refusal.code.into_owned(),
                },
            }
        });
        (played.code, played.delivery)
    }
}

impl Api {
    fn service(&self) -> &'static str {
        self.name.split_once(':').map_or("", |(service, _)| service)
    }

    fn action(&self) -> &'static str {
        self.name.split_once(':').map_or(self.name, |(_, action)| action)
    }
}

impl Visit<'_> {
    /// The moment whose state a read shows.
    fn read_at(&self) -> Timestamp {
        self.now.checked_sub(signed(self.lag)).unwrap_or(Timestamp::MIN)
    }

    /// The moment from which on readers see a purchase.
    fn seen_from(&self) -> Timestamp {
        self.now.checked_add(signed(self.lag)).unwrap_or(Timestamp::MAX)
    }
}

impl Refusal {
    fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Refusal {
        Refusal { code: code.into(), message: message.into() }
    }

    fn missing(name: &str) -> Refusal {
        Refusal::new("MissingParameter", format!("`{name}` is missing"))
    }

    fn invalid(name: &str, problem: &str) -> Refusal {
        Refusal::new("InvalidParameter", format!("`{name}` {problem}"))
    }
}

fn apis() -> impl Iterator<Item = &'static Api> {
    SERVICES.into_iter().flatten()
}

fn find_api(service: &str, action: &str) -> Option<&'static Api> {
    apis().find(|api| api.service() == service && api.action() == action)
}

fn action_of(request: &Request<Bytes>) -> Option<&str> {
    verify::header(request, "x-tc-action")
}

fn signed(lag: Duration) -> SignedDuration {
    SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use serde_json::json;

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
            let api = apis().find(|known| known.name == api).unwrap();
            let act = Arguments::of_request(&request).and_then(api.read);
            let answer = act.and_then(|act| (act.perform)(&mut world, &visit));
            let is_purchase = matches!(api.action(), "RenewInstance" | "RenewInstances" | "UpgradeInstance");
            prop_assert_eq!(world.ledger().len(), usize::from(is_purchase && answer.is_ok()));
        }
    }
}
