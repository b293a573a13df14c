//! TC3-HMAC-SHA256, as a pure function of its input.
//!
//! Source: Tencent Cloud API 3.0, "signature method v3". We sign `content-type` and `host`, as the official
//! SDKs do; the page's present example signs `x-tc-action` too.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cloud::canonical::{hex, hmac_sha256, sha256_hex};
use crate::domain::secret::Secret;

const ALGORITHM: &str = "TC3-HMAC-SHA256";
const TERMINATOR: &str = "tc3_request";

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
    pub signed_headers: String,
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
        let Stages { scope, signed_headers, signature, .. } = self;
        format!(
            "{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}"
        )
    }
}

pub fn sign(request: &Request<'_>, secret_key: &Secret) -> Stages {
    sign_also(request, &[], secret_key)
}

/// Signs further headers beside `content-type` and `host`, given as (lower-case name, value).
pub fn sign_also(request: &Request<'_>, also: &[(&str, &str)], secret_key: &Secret) -> Stages {
    let payload_hash = sha256_hex(request.payload);
    let (canonical_headers, signed_headers) = headers(request, also);
    let Request { method, query, service, at, .. } = request;
    let canonical_request =
        format!("{method}\n/\n{query}\n{canonical_headers}\n{signed_headers}\n{payload_hash}");
    let date = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string();
    let scope = format!("{date}/{service}/{TERMINATOR}");
    let canonical_hash = sha256_hex(canonical_request.as_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{canonical_hash}", at.as_second());
    let date_key = hmac_sha256(format!("TC3{}", secret_key.expose()).as_bytes(), date.as_bytes());
    let service_key = hmac_sha256(&date_key, service.as_bytes());
    let signing_key = hmac_sha256(&service_key, TERMINATOR.as_bytes());
    let signature = hex(&hmac_sha256(&signing_key, string_to_sign.as_bytes()));
    Stages {
        payload_hash,
        signed_headers,
        canonical_request,
        scope,
        string_to_sign,
        date_key,
        service_key,
        signing_key,
        signature,
    }
}

/// The canonical header block, which ends in a newline, and the list of its names; both sorted by name.
fn headers(request: &Request<'_>, also: &[(&str, &str)]) -> (String, String) {
    let mut headers = vec![("content-type", request.content_type), ("host", request.host)];
    headers.extend_from_slice(also);
    headers.sort_unstable();
    let block =
        headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim().to_lowercase())).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    (block, names.join(";"))
}
