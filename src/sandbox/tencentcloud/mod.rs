//! Tencent Cloud, API 3.0, as its documents say: envelope, common codes, quotas, and one file a service.
//!
//! Source: the "common parameters", "signature method v3" and "common error codes" pages of each API 3.0 product.

mod arguments;
mod billing;
mod redis;
mod stamp;
mod verify;

use std::borrow::Cow;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::sandbox::Memory;
use crate::sandbox::delivery::{Answer, Delivery};
use crate::sandbox::faults::{Acted, Call};
use crate::sandbox::pace::QuotaKey;
use crate::sandbox::tencentcloud::arguments::Arguments;
use crate::sandbox::world::World;

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

const SERVICES: [&[Api]; 2] = [redis::APIS, billing::APIS];

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
    act: Result<Act, Refusal>,
}

struct Route {
    api: &'static Api,
    key_id: String,
    region: String,
}

/// What can be said of a call without the memory of the cloud.
pub(crate) struct Read {
    api_name: &'static str,
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
    Read { api_name: api.map_or(UNKNOWN_API, |api| api.name), ready: Ready::read(request, now) }
}

/// A call too large to be read.
pub(crate) fn read_too_large() -> Read {
    let refusal = Refusal::new("RequestSizeLimitExceeded", "the request is larger than 10 MB");
    Read { api_name: UNKNOWN_API, ready: Err(refusal) }
}

impl Read {
    /// Holds the call against quota and faults and carries it out.
    pub(crate) fn answer(self, memory: &mut Memory, now: Timestamp, moment: Duration) -> Delivery {
        memory.counters.arrived(self.api_name, moment);
        let request_id = memory.request_ids.next();
        let admitted = self.ready.and_then(|ready| ready.admit(memory, moment));
        let (code, delivery) = match admitted {
            Ok((route, act)) => route.play(act, memory, now, &request_id),
            Err(refusal) => (refusal.code.to_string(), Delivery::Whole(refusal.answer(&request_id))),
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
        let route = Route { api, key_id: caller.key_id, region: region.to_owned() };
        Ok(Ready { route, act })
    }

    fn admit(self, memory: &mut Memory, moment: Duration) -> Result<(Route, Act), Refusal> {
        let Ready { route, act } = self;
        let Api { name, per_second, .. } = *route.api;
        let key = QuotaKey { key_id: route.key_id.clone(), api: name, region: route.region.clone() };
        if !memory.pace.admit(key, per_second, moment) {
            let message = format!("more than {per_second} calls of {name} in a second");
            return Err(Refusal::new("RequestLimitExceeded", message));
        }
        Ok((route, act?))
    }
}

impl Route {
    fn play(self, act: Act, memory: &mut Memory, now: Timestamp, request_id: &str) -> (String, Delivery) {
        let refuse =
            |code: &str| Refusal::new(code.to_owned(), "a fault that was asked for").answer(request_id);
        let call = Call { api: self.api.name, instances: &act.instances, refuse: &refuse };
        let Memory { world, faults, .. } = memory;
        let perform = act.perform;
        let played = faults.play(&call, |lag| {
            let visit = Visit { key_id: &self.key_id, region: &self.region, now, lag };
            match perform(world, &visit) {
                Ok(response) => Acted::Done(success(response, request_id)),
                Err(refusal) => {
                    Acted::Refused { answer: refusal.answer(request_id), code: refusal.code.into_owned() }
                }
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

    /// Refusals come with status 200, as every answer of the service itself.
    fn answer(&self, request_id: &str) -> Answer {
        let error = json!({ "Code": self.code, "Message": self.message });
        Answer::json(200, &json!({ "Response": { "Error": error, "RequestId": request_id } }))
    }
}

fn success(mut response: Value, request_id: &str) -> Answer {
    response["RequestId"] = json!(request_id);
    Answer::json(200, &json!({ "Response": response }))
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

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    /// A call of each API that succeeds.
    fn good_call() -> impl Strategy<Value = (&'static str, Value)> {
        let term = json!({ "InstanceId": "crs-sandbox-1", "Period": 1 });
        let window =
            json!({ "StartTime": "2027-01-01 00:00:00", "EndTime": "2027-02-01 00:00:00", "Limit": 20 });
        prop::sample::select(vec![
            ("redis:RenewInstance", term.clone()),
            ("redis:InquiryPriceRenewInstance", term),
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
            let visit = Visit { key_id: "AKIDsandbox", region: "ap-guangzhou", now: now(), lag };
            let mut world = World::new(now());
            let api = apis().find(|known| known.name == api).unwrap();
            let act = Arguments::of_request(&request).and_then(api.read);
            let answer = act.and_then(|act| (act.perform)(&mut world, &visit));
            let is_sold = answer.is_ok_and(|answer| answer.get("DealName").is_some());
            prop_assert_eq!(world.ledger().len(), usize::from(is_sold));
        }
    }
}
