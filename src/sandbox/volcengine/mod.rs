//! Volcengine as its documents say: envelope, common codes, quotas, and one file a service.
//!
//! Source: the OpenAPI documents (docs/6369) on requests, answers and common error codes.

mod arguments;
mod billing;
mod ecs;
mod verify;

use std::borrow::Cow;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::sandbox::Memory;
use crate::sandbox::delivery::{Answer, Delivery};
use crate::sandbox::faults::{Acted, Call};
use crate::sandbox::pace::QuotaKey;
use crate::sandbox::volcengine::arguments::Arguments;
use crate::sandbox::world::World;

/// Under which name calls are counted that name no API we know.
const UNKNOWN_API: &str = "unknown";

/// One action of one service.
#[derive(Debug)]
struct Api {
    /// `service:Action`, as configuration and faults write it.
    name: &'static str,
    version: &'static str,
    /// The quota of one key in one region.
    per_second: usize,
    verb: Verb,
    read: fn(Arguments) -> Result<Act, Refusal>,
}

/// Which methods an action takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Post,
    Either,
}

const SERVICES: [&[Api]; 2] = [ecs::APIS, billing::APIS];

/// A call whose parameters are read.
struct Act {
    /// What faults may aim at.
    instances: Vec<String>,
    perform: Box<Perform>,
}

/// Gives the `Result` of a successful answer.
type Perform = dyn FnOnce(&mut World, &Visit<'_>) -> Result<Value, Refusal> + Send;

/// Who calls, and when.
struct Visit<'a> {
    key_id: &'a str,
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
    api: &'static Api,
    key_id: String,
    region: String,
    act: Result<Act, Refusal>,
}

/// What can be said of a call without the memory of the cloud.
pub(crate) struct Read {
    api_name: &'static str,
    metadata: Metadata,
    ready: Result<Ready, Refusal>,
}

/// What every answer repeats of its call.
struct Metadata {
    action: String,
    version: String,
    service: String,
    region: String,
}

pub(crate) fn knows_api(name: &str) -> bool {
    apis().any(|api| api.name == name || api.action() == name)
}

pub(crate) fn api_names() -> Vec<&'static str> {
    apis().map(|api| api.name).collect()
}

/// Whether a call is for this provider: it signs this way, or names its action in the query and signs no other way.
pub(crate) fn is_meant(request: &Request<Bytes>) -> bool {
    match verify::header(request, AUTHORIZATION.as_str()) {
        Some(text) => text.split(' ').next() == Some(verify::ALGORITHM),
        None => {
            let has = |name| query_value(request, name).is_some();
            has("Action") && has("Version") && !has("SecretId")
        }
    }
}

/// Verifies a call and reads its parameters.
pub(crate) fn read(request: &Request<Bytes>, now: Timestamp) -> Read {
    let metadata = Metadata::of(request);
    let api = find_api(&metadata.service, &metadata.action);
    let ready = Ready::read(request, &metadata, now);
    Read { api_name: api.map_or(UNKNOWN_API, |api| api.name), metadata, ready }
}

impl Read {
    /// Holds the call against quota and faults and carries it out.
    pub(crate) fn answer(self, memory: &mut Memory, now: Timestamp, moment: Duration) -> Delivery {
        let Read { api_name, metadata, ready } = self;
        memory.counters.arrived(api_name, moment);
        let request_id = memory.request_ids.next();
        let envelope = Envelope { metadata: &metadata, request_id: &request_id };
        let (code, delivery) = match ready.and_then(|ready| ready.admit(memory, moment)) {
            Ok((ready, act)) => ready.play(act, memory, now, &envelope),
            Err(refusal) => (refusal.code.to_string(), Delivery::Whole(envelope.refusal(&refusal))),
        };
        memory.counters.ended(api_name, &code);
        delivery
    }
}

/// A call with its quota and parameters in order.
struct Admitted {
    api: &'static Api,
    key_id: String,
}

impl Ready {
    fn read(request: &Request<Bytes>, metadata: &Metadata, now: Timestamp) -> Result<Ready, Refusal> {
        let Metadata { action, version, .. } = metadata;
        if action.is_empty() || version.is_empty() {
            return Err(Refusal::new("MissingParameter", "`Action` or `Version` is missing in the query"));
        }
        let caller = verify::verify(request, now)?;
        if !apis().any(|api| api.service() == caller.service) {
            return Err(Refusal::new("ServiceNotFound", format!("there is no service `{}`", caller.service)));
        }
        let api = find_api(&caller.service, action).filter(|api| api.version == version);
        let api = api.ok_or_else(|| {
            let message = format!("{} has no action `{action}` in version `{version}`", caller.service);
            Refusal::new("InvalidActionOrVersion", message)
        })?;
        if !api.verb.takes(request.method()) {
            let message = format!("`{action}` cannot be called by {}", request.method());
            return Err(Refusal::new("MethodNotAllowed", message));
        }
        let act = Arguments::of_request(request).and_then(api.read);
        Ok(Ready { api, key_id: caller.key_id, region: caller.region, act })
    }

    fn admit(self, memory: &mut Memory, moment: Duration) -> Result<(Admitted, Act), Refusal> {
        let Ready { api, key_id, region, act } = self;
        let Api { name, per_second, .. } = *api;
        let key = QuotaKey { key_id: key_id.clone(), api: name, region };
        if !memory.pace.admit(key, per_second, moment) {
            let message = format!("more than {per_second} calls of {name} in a second");
            return Err(Refusal::new("AccountFlowLimitExceeded", message));
        }
        Ok((Admitted { api, key_id }, act?))
    }
}

impl Admitted {
    fn play(
        self,
        act: Act,
        memory: &mut Memory,
        now: Timestamp,
        envelope: &Envelope<'_>,
    ) -> (String, Delivery) {
        let refuse =
            |code: &str| envelope.refusal(&Refusal::new(code.to_owned(), "a fault that was asked for"));
        let call = Call { api: self.api.name, instances: &act.instances, refuse: &refuse };
        let Memory { world, faults, .. } = memory;
        let perform = act.perform;
        let played =
            faults.play(&call, |lag| match perform(world, &Visit { key_id: &self.key_id, now, lag }) {
                Ok(result) => Acted::Done(envelope.success(&result)),
                Err(refusal) => {
                    Acted::Refused { answer: envelope.refusal(&refusal), code: refusal.code.into_owned() }
                }
            });
        (played.code, played.delivery)
    }
}

struct Envelope<'a> {
    metadata: &'a Metadata,
    request_id: &'a str,
}

impl Envelope<'_> {
    fn success(&self, result: &Value) -> Answer {
        Answer::json(200, &json!({ "ResponseMetadata": self.to_json(), "Result": result }))
    }

    fn refusal(&self, refusal: &Refusal) -> Answer {
        let mut metadata = self.to_json();
        metadata["Error"] = json!({ "Code": refusal.code, "Message": refusal.message, "CodeN": 0 });
        Answer::json(refusal.http_status(), &json!({ "ResponseMetadata": metadata }))
    }

    fn to_json(&self) -> Value {
        let Metadata { action, version, service, region } = self.metadata;
        json!({
            "RequestId": self.request_id,
            "Action": action,
            "Version": version,
            "Service": service,
            "Region": region,
        })
    }
}

impl Metadata {
    fn of(request: &Request<Bytes>) -> Metadata {
        let (region, service) = verify::claimed_scope(request).unwrap_or_default();
        let text = |name| query_value(request, name).unwrap_or_default();
        Metadata { action: text("Action"), version: text("Version"), service, region }
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

impl Verb {
    fn takes(self, method: &Method) -> bool {
        let (get, post) = (method == Method::GET, method == Method::POST);
        match self {
            Verb::Get => get,
            Verb::Post => post,
            Verb::Either => get || post,
        }
    }
}

impl Visit<'_> {
    /// The moment whose state a read shows.
    fn read_at(&self) -> Timestamp {
        self.now.checked_sub(signed(self.lag)).unwrap_or(Timestamp::MIN)
    }

    /// The moment from which on readers see a purchase, and its token is no longer in process.
    fn seen_from(&self) -> Timestamp {
        self.now.checked_add(signed(self.lag)).unwrap_or(Timestamp::MAX)
    }
}

impl Refusal {
    fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Refusal {
        Refusal { code: code.into(), message: message.into() }
    }

    fn missing(name: &str) -> Refusal {
        Refusal::new(
            format!("MissingParameter.{name}"),
            format!("The required parameter {name} is not supplied."),
        )
    }

    fn invalid(name: &str, problem: &str) -> Refusal {
        Refusal::new("InvalidArgument", format!("`{name}` {problem}"))
    }

    /// As the pages of the codes say; 400 where they say nothing.
    fn http_status(&self) -> u16 {
        match &*self.code {
            "MissingAuthenticationToken"
            | "MissingSignature"
            | "InvalidAccessKey"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "InvalidSecretToken" => 401,
            "LackPolicy" | "LackProjectPolicy" | "AccessDenied" | "InvalidInstance.RequestForbidden" => 403,
            "ServiceNotFound" | "InvalidActionOrVersion" | "InvalidInstance.NotFound" => 404,
            "MethodNotAllowed" => 405,
            "IdempotentProcessing" | "OperationDenied.ResourceLocked" => 412,
            "FlowLimitExceeded" | "AccountFlowLimitExceeded" | "RequestLimitExceeded" => 429,
            "InternalError" | "UndefinedError" => 500,
            "InternalServiceError" | "FailToConnect" => 502,
            "ServiceUnavailableTemp" => 503,
            "InternalServiceTimeout" => 504,
            _ => 400,
        }
    }
}

fn apis() -> impl Iterator<Item = &'static Api> {
    SERVICES.into_iter().flatten()
}

fn find_api(service: &str, action: &str) -> Option<&'static Api> {
    apis().find(|api| api.service() == service && api.action() == action)
}

fn query_value(request: &Request<Bytes>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(request.uri().query()?.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
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
        prop::sample::select(vec![
            ("ecs:RenewInstance", json!({ "InstanceId": "i-sandbox-1", "Period": 1, "ClientToken": "t" })),
            ("ecs:DescribeInstances", json!({ "InstanceIds": ["i-sandbox-1"], "MaxResults": 100 })),
            ("billing:ListAvailableInstances", json!({ "InstanceIDs": ["i-sandbox-1"] })),
            (
                "billing:QueryPriceForRenew",
                json!({ "Product": "ECS", "InstanceIDList": ["i-sandbox-1"], "UseDuration": 1 }),
            ),
            ("billing:ListOrders", json!({ "OrderType": "Renew" })),
            ("billing:QueryBalanceAcct", json!({})),
        ])
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "ClientToken",
            "CreateTimeEnd",
            "CreateTimeStart",
            "InstanceIDList",
            "InstanceId",
            "InstanceIds",
            "MaxResults",
            "NextToken",
            "OrderType",
            "Period",
            "PeriodUnit",
            "RenewType",
            "UseDuration",
        ])
    }

    fn value() -> impl Strategy<Value = Value> {
        let texts =
            ["", "Month", "Renew", "-9999-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "18446744073709551615"];
        let scalar = prop_oneof![
            prop::sample::select(vec![i64::MIN, -1, 0, 1, 36, 100, i64::MAX]).prop_map(Value::from),
            prop::sample::select(texts.to_vec()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::Null),
        ];
        prop_oneof![scalar.clone(), prop::collection::vec(scalar, 0..4).prop_map(Value::from)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(3), ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn no_header_makes_the_reader_panic(
            authorization in "HMAC-SHA256 Credential=[A-Za-z0-9/é]{0,40}/request, SignedHeaders=[a-z;-]{0,9}x-date, Signature=.{0,9}|.{0,80}",
            date in "[0-9TZ]{0,20}|20270115T080000Z",
            query in "[!-~&&[^#<>\"]]{0,60}",
            body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let head = Request::builder().method("POST").uri(format!("/?Action=RenewInstance&Version=2020-04-01&{query}"));
            let head = head.header("x-date", date).header("authorization", authorization.into_bytes());
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
            let request = Request::builder().method("POST").body(Bytes::from(parameters.to_string())).unwrap();
            let visit = Visit { key_id: "AKLTsandbox", now: now(), lag: Duration::from_secs(lag_seconds) };
            let mut world = World::new(now());
            let api = apis().find(|known| known.name == api).unwrap();
            let act = Arguments::of_request(&request).and_then(api.read);
            let answer = act.and_then(|act| (act.perform)(&mut world, &visit));
            let is_sold = answer.is_ok_and(|answer| answer.get("OrderId").is_some());
            prop_assert_eq!(world.ledger().len(), usize::from(is_sold));
        }
    }
}
