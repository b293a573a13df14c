//! Volcengine as its documents say: envelope, common codes, quotas, and one file a service.
//!
//! Source: the OpenAPI documents (docs/6369) on requests, answers and common error codes.

mod arguments;
mod billing;
mod ecs;
mod envelope;
mod verify;

use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use jiff::Timestamp;

use crate::domain::product::Provider;
use crate::domain::region;
use crate::sandbox::desk::{Act, ApiName, Read, Ready, Refusal};
use crate::sandbox::volcengine::arguments::Arguments;
use crate::sandbox::volcengine::envelope::Metadata;

/// One action of one service.
#[derive(Debug)]
struct Api {
    name: ApiName,
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

pub(crate) fn api_names() -> impl Iterator<Item = ApiName> {
    apis().map(|api| api.name)
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
    let ready = admissible(request, &metadata, now);
    Read { api: api.map(|api| api.name), envelope: Box::new(metadata), ready }
}

fn admissible(request: &Request<Bytes>, metadata: &Metadata, now: Timestamp) -> Result<Ready, Refusal> {
    let Metadata { action, version, .. } = metadata;
    if action.is_empty() || version.is_empty() {
        return Err(Refusal::new("MissingParameter", "`Action` or `Version` is missing in the query"));
    }
    let caller = verify::verify(request, now)?;
    if !apis().any(|api| api.name.service() == caller.service) {
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
    // Billing is one service for all regions: any is taken there.
    let is_global = billing::APIS.iter().any(|known| known.name == api.name);
    if !is_global && !region::is_known(Provider::Volcengine, &caller.region) {
        let message = format!("there is no region `{}`", caller.region);
        return Err(Refusal::new("UnsupportedRegion", message));
    }
    let act = Arguments::of_request(request).and_then(api.read);
    let (name, per_second) = (api.name, api.per_second);
    let token = verify::header(request, "x-security-token").map(str::to_owned);
    Ok(Ready { api: name, per_second, key_id: caller.key_id, token, region: caller.region, once: None, act })
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

fn missing(name: &str) -> Refusal {
    Refusal::new(
        format!("MissingParameter.{name}"),
        format!("The required parameter {name} is not supplied."),
    )
}

fn invalid(name: &str, problem: &str) -> Refusal {
    Refusal::new("InvalidArgument", format!("`{name}` {problem}"))
}

fn apis() -> impl Iterator<Item = &'static Api> {
    SERVICES.into_iter().flatten()
}

fn find_api(service: &str, action: &str) -> Option<&'static Api> {
    apis().find(|api| api.name.service() == service && api.name.action() == action)
}

fn query_value(request: &Request<Bytes>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(request.uri().query()?.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
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
            let visit = Visit { key_id: "AKLTsandbox", region: "cn-beijing", now: now(), request_id: "r", lag: Duration::from_secs(lag_seconds) };
            let mut world = World::new(now());
            let api = apis().find(|known| known.name.0 == api).unwrap();
            let act = Arguments::of_request(&request).and_then(api.read);
            let answer = act.and_then(|act| (act.perform)(&mut world, &visit));
            let is_sold = answer.is_ok_and(|answer| answer.get("OrderId").is_some());
            prop_assert_eq!(world.ledger().len(), usize::from(is_sold));
        }
    }
}
