//! A client of the practice cloud that signs on its own, and a practice cloud on a clock that stands still.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use renewd::clock::{Clock, ManualClock};
use renewd::cloud::canonical::{hex, hmac_sha1, hmac_sha256, sha256_hex};
use renewd::sandbox::seed::Seed;
use renewd::sandbox::{Options, Running, SECRET_KEY, start};
use serde_json::{Value, json};

pub const START: &str = "2026-01-20T12:00:00Z";
pub const KEY: &str = "AKIDsandbox-test";

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The parameters with their signature, as a query or a form, by the rules of API v2 and of "signature v1".
pub fn sign_flat(target: &str, secret: &str, pairs: &[(&str, &str)]) -> String {
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    let text: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let source = format!("{target}?{}", text.join("&"));
    let (key, source) = (secret.as_bytes(), source.as_bytes());
    let signature = match pairs.iter().find(|(name, _)| *name == "SignatureMethod") {
        Some((_, "HmacSHA256")) => BASE64.encode(&hmac_sha256(key, source)),
        _ => BASE64.encode(&hmac_sha1(key, source)),
    };
    pairs.push(("Signature", &signature));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub struct Stage {
    pub cloud: Running,
    pub clock: Arc<ManualClock>,
    http: reqwest::Client,
}

/// A call before it is signed; every part can be made wrong.
#[derive(Clone)]
pub struct Call {
    pub service: &'static str,
    pub action: &'static str,
    pub version: &'static str,
    pub region: Option<&'static str>,
    pub method: &'static str,
    /// JSON of a POST, query of a GET.
    pub parameters: String,
    pub key_id: String,
    pub secret: String,
    pub skew_seconds: i64,
    pub signed_headers: &'static str,
    pub is_payload_signed: bool,
}

impl Call {
    pub fn redis(action: &'static str, parameters: &Value) -> Call {
        Call {
            service: "redis",
            action,
            version: "2018-04-12",
            region: Some("ap-guangzhou"),
            method: "POST",
            parameters: parameters.to_string(),
            key_id: KEY.to_owned(),
            secret: SECRET_KEY.to_owned(),
            skew_seconds: 0,
            signed_headers: "content-type;host",
            is_payload_signed: true,
        }
    }

    pub fn billing(action: &'static str, parameters: &Value) -> Call {
        Call { service: "billing", version: "2018-07-09", region: None, ..Call::redis(action, parameters) }
    }

    pub fn renew(instance: &str, months: u32) -> Call {
        Call::redis("RenewInstance", &json!({ "InstanceId": instance, "Period": months }))
    }

    pub fn describe(instance: &str) -> Call {
        Call::redis("DescribeInstances", &json!({ "InstanceId": instance }))
    }

    pub fn content_type(&self) -> &'static str {
        if self.method == "GET" { FORM } else { "application/json" }
    }

    pub fn query(&self) -> &str {
        if self.method == "GET" { &self.parameters } else { "" }
    }

    pub fn body(&self) -> &str {
        if self.method == "GET" { "" } else { &self.parameters }
    }

    /// All headers but `Host`, the signature among them.
    pub fn headers(&self, host: &str, now: Timestamp) -> Vec<(&'static str, String)> {
        let signed_at = now.as_second() + self.skew_seconds;
        let date = Timestamp::from_second(signed_at)
            .unwrap()
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d")
            .to_string();
        let mut headers = vec![
            ("content-type", self.content_type().to_owned()),
            ("x-tc-action", self.action.to_owned()),
            ("x-tc-version", self.version.to_owned()),
            ("x-tc-timestamp", signed_at.to_string()),
        ];
        headers.extend((!self.is_payload_signed).then(|| ("x-tc-content-sha256", UNSIGNED.to_owned())));
        headers.extend(self.region.map(|region| ("x-tc-region", region.to_owned())));
        let scope = format!("{date}/{}/tc3_request", self.service);
        let canonical = self.canonical(&headers, host);
        let to_sign = format!("TC3-HMAC-SHA256\n{signed_at}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let key = [date.as_str(), self.service, "tc3_request"]
            .iter()
            .fold(format!("TC3{}", self.secret).into_bytes(), |key, part| {
                hmac_sha256(&key, part.as_bytes()).to_vec()
            });
        let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
        let (key_id, signed) = (&self.key_id, self.signed_headers);
        headers.push((
            "authorization",
            format!(
                "TC3-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
            ),
        ));
        headers
    }

    fn canonical(&self, headers: &[(&'static str, String)], host: &str) -> String {
        let value = |name: &str| match name {
            "host" => host.to_owned(),
            _ => headers.iter().find(|(known, _)| *known == name).unwrap().1.to_lowercase(),
        };
        let block: String =
            self.signed_headers.split(';').map(|name| format!("{name}:{}\n", value(name))).collect();
        let (method, query, signed) = (self.method, self.query(), self.signed_headers);
        let payload = if self.is_payload_signed { self.body() } else { UNSIGNED };
        format!("{method}\n/\n{query}\n{block}\n{signed}\n{}", sha256_hex(payload.as_bytes()))
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
        Stage { cloud: start(options).await.unwrap(), clock, http: http.build().unwrap() }
    }

    pub fn host(&self) -> String {
        self.cloud.address().to_string()
    }

    /// The `Response` of a signed call.
    pub async fn call(&self, call: &Call) -> Value {
        let text = self.send(call).await.unwrap().text().await.unwrap();
        let mut envelope: Value = serde_json::from_str(&text).unwrap();
        assert!(envelope["Response"]["RequestId"].is_string(), "{envelope}");
        envelope["Response"].take()
    }

    /// The error code of a signed call, `ok` without one.
    pub async fn code(&self, call: &Call) -> String {
        self.call(call).await["Error"]["Code"].as_str().unwrap_or("ok").to_owned()
    }

    pub async fn send(&self, call: &Call) -> reqwest::Result<reqwest::Response> {
        let headers = call.headers(&self.host(), self.clock.now());
        self.send_with(call, &headers).await
    }

    pub async fn send_with(
        &self,
        call: &Call,
        headers: &[(&'static str, String)],
    ) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}/?{}", self.cloud.base_url(), call.query());
        let request = self.http.request(call.method.parse().unwrap(), url.trim_end_matches('?'));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        request.body(call.body().to_owned()).send().await
    }

    pub async fn post_form(&self, path: &str, form: String) -> Value {
        let request = self.http.post(format!("{}{path}", self.cloud.base_url()));
        let text =
            request.header("content-type", FORM).body(form).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// All bytes of the answer, down to the close of the connection.
    pub async fn raw(&self, call: &Call) -> Vec<u8> {
        let host = self.host();
        let mut text =
            format!("{} /{} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", call.method, call.query());
        for (name, value) in call.headers(&host, self.clock.now()) {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("content-length: {}\r\n\r\n{}", call.body().len(), call.body());
        self.raw_bytes(text.into_bytes()).await
    }

    pub async fn raw_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let address = self.cloud.address();
        let converse = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        };
        tokio::task::spawn_blocking(converse).await.unwrap()
    }

    /// Status and JSON of an admin call.
    pub async fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let url = format!("{}/_sandbox/{path}", self.cloud.base_url());
        let request = self.http.request(method.parse().unwrap(), url).body(body.to_owned());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    /// `POST /_sandbox/faults`, which must be accepted.
    pub async fn inject(&self, faults: &Value) {
        let (status, answer) = self.admin("POST", "faults", &faults.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The expiry as the service's readers see it.
    pub async fn deadline(&self, instance: &str) -> String {
        let answer = self.call(&Call::describe(instance)).await;
        answer["InstanceSet"][0]["DeadlineTime"].as_str().unwrap().to_owned()
    }
}
