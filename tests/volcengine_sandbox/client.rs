//! A client of the practice cloud on a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use renewd::clock::{Clock, ManualClock};
use renewd::cloud::volcengine::sign;
use renewd::cloud::{Cloud, Credentials, Endpoint};
use renewd::domain::product::{InstanceId, Product, Provider, Region, VolcengineProduct};
use renewd::domain::secret::Secret;
use renewd::sandbox::faults::Fault;
use renewd::sandbox::seed::Seed;
use renewd::sandbox::{Options, Running, SECRET_KEY, start};
use serde_json::Value;

pub const START: &str = "2026-01-20T12:00:00Z";
pub const KEY: &str = "AKLTsandbox-test";
pub const ECS: Product = Product::Volcengine(VolcengineProduct::Ecs);

pub struct Stage {
    pub sandbox: Running,
    pub clock: Arc<ManualClock>,
    http: reqwest::Client,
}

/// A call before it is signed; every part can be made wrong.
#[derive(Clone)]
pub struct Call {
    pub method: &'static str,
    pub service: &'static str,
    pub parameters: Vec<(&'static str, String)>,
    pub body: String,
    pub key_id: String,
    pub secret: String,
    pub skew_seconds: i64,
}

impl Call {
    pub fn ecs(action: &'static str, parameters: &[(&'static str, &str)]) -> Call {
        let own = parameters.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let routing = [("Action", action.to_owned()), ("Version", "2020-04-01".to_owned())];
        Call {
            method: "GET",
            service: "ecs",
            parameters: routing.into_iter().chain(own).collect(),
            body: String::new(),
            key_id: KEY.to_owned(),
            secret: SECRET_KEY.to_owned(),
            skew_seconds: 0,
        }
    }

    pub fn billing(action: &'static str, body: &Value) -> Call {
        let routing = [("Action", action.to_owned()), ("Version", "2022-01-01".to_owned())];
        Call {
            method: "POST",
            service: "billing",
            parameters: routing.into_iter().collect(),
            body: body.to_string(),
            ..Call::ecs(action, &[])
        }
    }

    pub fn renew(instance: &str, months: u32, token: &str) -> Call {
        let period = months.to_string();
        let parameters =
            [("InstanceId", instance), ("Period", &period), ("PeriodUnit", "Month"), ("ClientToken", token)];
        Call::ecs("RenewInstance", &parameters)
    }
}

impl Stage {
    pub async fn open() -> Stage {
        Stage::open_with("").await
    }

    pub async fn open_with(seed: &str) -> Stage {
        let clock = Arc::new(ManualClock::new(START.parse().unwrap()));
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            seed: Some(Seed::parse(seed).unwrap()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(5));
        Stage { sandbox: start(options).await.unwrap(), clock, http: http.build().unwrap() }
    }

    /// The real client of this product, against this cloud.
    pub fn cloud(&self) -> Cloud {
        let credentials =
            Credentials { key_id: Secret::new(KEY), secret_key: Secret::new(SECRET_KEY), token: None };
        let endpoint = Endpoint::parse(&self.sandbox.base_url()).unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Cloud::new(Provider::Volcengine, credentials, Some(endpoint), TimeZone::UTC, clock).unwrap()
    }

    /// HTTP status and the whole answer of a signed call; each in a second of its own.
    pub async fn call(&self, call: &Call) -> (u16, Value) {
        self.clock.advance(Duration::from_secs(1));
        let response = self.send(call).await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(answer["ResponseMetadata"]["RequestId"].is_string(), "{answer}");
        (status, answer)
    }

    /// The `Result` of a call that must succeed.
    pub async fn result(&self, call: &Call) -> Value {
        let (status, mut answer) = self.call(call).await;
        assert_eq!((status, answer["ResponseMetadata"].get("Error")), (200, None), "{answer}");
        answer["Result"].take()
    }

    /// HTTP status and error code, `ok` without one.
    pub async fn code(&self, call: &Call) -> (u16, String) {
        let (status, answer) = self.call(call).await;
        let code = answer["ResponseMetadata"]["Error"]["Code"].as_str().unwrap_or("ok");
        (status, code.to_owned())
    }

    pub async fn send(&self, call: &Call) -> reqwest::Result<reqwest::Response> {
        let parameters: Vec<_> =
            call.parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let query = sign::query(&parameters);
        let is_post = call.method == "POST";
        let content_type = is_post.then_some("application/json");
        let stages = sign::sign(
            &sign::Request {
                method: call.method,
                host: &self.sandbox.address().to_string(),
                query: &query,
                content_type,
                token: None,
                payload: call.body.as_bytes(),
                region: "cn-beijing",
                service: call.service,
                at: self.clock.now() + SignedDuration::from_secs(call.skew_seconds),
            },
            &Secret::new(&call.secret),
        );
        let url = format!("{}/?{query}", self.sandbox.base_url());
        let request = self.http.request(call.method.parse().unwrap(), url);
        let request = request
            .header("x-date", &stages.date)
            .header("x-content-sha256", &stages.payload_hash)
            .header("authorization", stages.authorization(&call.key_id));
        let request =
            content_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        request.body(call.body.clone()).send().await
    }

    pub fn inject(&self, fault: Fault) {
        self.sandbox.inject(vec![fault]);
    }
}

pub fn region() -> Region {
    Region::parse("cn-beijing").unwrap()
}

pub fn instance(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}
