//! TC3-HMAC-SHA256, as a pure function of its input.
//!
//! Source: Tencent Cloud API 3.0, "signature method v3". Only `content-type` and `host` are signed, as the
//! official SDKs do.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cloud::canonical::{hex, hmac_sha256, sha256_hex};
use crate::domain::secret::Secret;

const ALGORITHM: &str = "TC3-HMAC-SHA256";
const TERMINATOR: &str = "tc3_request";
pub const SIGNED_HEADERS: &str = "content-type;host";

/// What is signed, byte for byte as it will be sent.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub query: &'a str,
    pub content_type: &'a str,
    pub payload: &'a [u8],
    /// First label of the product's documented host, such as `redis`.
    pub service: &'a str,
    /// Whole seconds count; the scope's date is its date in UTC.
    pub at: Timestamp,
}

/// Each stage of the signature, so that tests can pin each.
pub struct Stages {
    pub payload_hash: String,
    pub canonical_request: String,
    pub scope: String,
    pub string_to_sign: String,
    pub date_key: [u8; 32],
    pub service_key: [u8; 32],
    pub signing_key: [u8; 32],
    pub signature: String,
}

impl Stages {
    /// The value of the `Authorization` header.
    pub fn authorization(&self, secret_id: &str) -> String {
        let Stages { scope, signature, .. } = self;
        format!(
            "{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={SIGNED_HEADERS}, Signature={signature}"
        )
    }
}

pub fn sign(request: &Request<'_>, secret_key: &Secret) -> Stages {
    let payload_hash = sha256_hex(request.payload);
    let canonical_request = canonical_request(request, &payload_hash);
    let date = request.at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string();
    let scope = format!("{date}/{}/{TERMINATOR}", request.service);
    let string_to_sign = format!(
        "{ALGORITHM}\n{}\n{scope}\n{}",
        request.at.as_second(),
        sha256_hex(canonical_request.as_bytes())
    );
    let date_key = hmac_sha256(format!("TC3{}", secret_key.expose()).as_bytes(), date.as_bytes());
    let service_key = hmac_sha256(&date_key, request.service.as_bytes());
    let signing_key = hmac_sha256(&service_key, TERMINATOR.as_bytes());
    let signature = hex(&hmac_sha256(&signing_key, string_to_sign.as_bytes()));
    Stages {
        payload_hash,
        canonical_request,
        scope,
        string_to_sign,
        date_key,
        service_key,
        signing_key,
        signature,
    }
}

fn canonical_request(request: &Request<'_>, payload_hash: &str) -> String {
    let Request { method, query, .. } = request;
    let content_type = request.content_type.trim().to_lowercase();
    let host = request.host.trim().to_lowercase();
    format!(
        "{method}\n/\n{query}\ncontent-type:{content_type}\nhost:{host}\n\n{SIGNED_HEADERS}\n{payload_hash}"
    )
}
