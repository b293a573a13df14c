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

use crate::sandbox::State;
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

/// What can be said of a call without the state of the cloud.
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
    pub(crate) fn answer(self, state: &mut State, now: Timestamp, moment: Duration) -> Delivery {
        state.counters.arrived(self.api_name, moment);
        let request_id = state.request_ids.next();
        let admitted = self.ready.and_then(|ready| ready.admit(state, moment));
        let (code, delivery) = match admitted {
            Ok((route, act)) => route.play(act, state, now, &request_id),
            Err(refusal) => (refusal.code.to_string(), Delivery::Whole(refusal.answer(&request_id))),
        };
        state.counters.ended(self.api_name, &code);
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

    fn admit(self, state: &mut State, moment: Duration) -> Result<(Route, Act), Refusal> {
        let Ready { route, act } = self;
        let Api { name, per_second, .. } = *route.api;
        let key = QuotaKey { key_id: route.key_id.clone(), api: name, region: route.region.clone() };
        if !state.pace.admit(key, per_second, moment) {
            let message = format!("more than {per_second} calls of {name} in a second");
            return Err(Refusal::new("RequestLimitExceeded", message));
        }
        Ok((route, act?))
    }
}

impl Route {
    fn play(self, act: Act, state: &mut State, now: Timestamp, request_id: &str) -> (String, Delivery) {
        let refuse =
            |code: &str| Refusal::new(code.to_owned(), "a fault that was asked for").answer(request_id);
        let call = Call { api: self.api.name, instances: &act.instances, refuse: &refuse };
        let State { world, faults, .. } = state;
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
