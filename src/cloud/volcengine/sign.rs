//! HMAC-SHA256, the signature of every Volcengine API, as a pure function of its input.
//!
//! Source: "signature method" of the OpenAPI documents (docs/6369/67269), and the official SDKs, which agree.
//! It is AWS's fourth version with another algorithm name, no prefix before the secret and `request` at the end.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cloud::canonical::{hex, hmac_sha256, sha256_hex};
use crate::domain::secret::Secret;

const ALGORITHM: &str = "HMAC-SHA256";
const TERMINATOR: &str = "request";
/// All that stays as it is; a blank becomes `%20`, never `+`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What is signed, byte for byte as it will be sent.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As the `Host` header has it: without the scheme's own port.
    pub host: &'a str,
    /// As [`query`] makes it.
    pub query: &'a str,
    /// Sent and signed with a body only.
    pub content_type: Option<&'a str>,
    /// Of temporary credentials.
    pub token: Option<&'a Secret>,
    pub payload: &'a [u8],
    pub region: &'a str,
    pub service: &'a str,
    /// Whole seconds count.
    pub at: Timestamp,
}

/// Each stage of the signature, so that tests can pin each.
pub struct Stages {
    /// The `X-Date` header.
    pub date: String,
    /// The `X-Content-Sha256` header.
    pub payload_hash: String,
    pub signed_headers: String,
    pub canonical_request: String,
    pub scope: String,
    pub string_to_sign: String,
    pub date_key: [u8; 32],
    pub region_key: [u8; 32],
    pub service_key: [u8; 32],
    pub signing_key: [u8; 32],
    pub signature: String,
}

impl Stages {
    /// The value of the `Authorization` header.
    pub fn authorization(&self, key_id: &str) -> String {
        let Stages { scope, signed_headers, signature, .. } = self;
        format!(
            "{ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}"
        )
    }
}

/// The query as it is signed and as it is sent: encoded, sorted by name in byte order, repeated names in theirs.
pub fn query(parameters: &[(&str, &str)]) -> String {
    let mut sorted = parameters.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    let encode = |text| utf8_percent_encode(text, ENCODED);
    let pairs: Vec<_> =
        sorted.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

pub fn sign(request: &Request<'_>, secret_key: &Secret) -> Stages {
    let Request { method, query, region, service, at, .. } = request;
    let date = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let payload_hash = sha256_hex(request.payload);
    let (canonical_headers, signed_headers) = headers(request, &date, &payload_hash);
    let canonical_request =
        format!("{method}\n/\n{query}\n{canonical_headers}\n{signed_headers}\n{payload_hash}");
    let day = date.split_once('T').map_or(date.as_str(), |(day, _)| day);
    let scope = format!("{day}/{region}/{service}/{TERMINATOR}");
    let canonical_hash = sha256_hex(canonical_request.as_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{canonical_hash}");
    let date_key = hmac_sha256(secret_key.expose().as_bytes(), day.as_bytes());
    let region_key = hmac_sha256(&date_key, region.as_bytes());
    let service_key = hmac_sha256(&region_key, service.as_bytes());
    let signing_key = hmac_sha256(&service_key, TERMINATOR.as_bytes());
    let signature = hex(&hmac_sha256(&signing_key, string_to_sign.as_bytes()));
    Stages {
        date,
        payload_hash,
        signed_headers,
        canonical_request,
        scope,
        string_to_sign,
        date_key,
        region_key,
        service_key,
        signing_key,
        signature,
    }
}

/// The canonical header block, which ends in a newline, and the list of its names; both sorted by name.
fn headers(request: &Request<'_>, date: &str, payload_hash: &str) -> (String, String) {
    let optional = [
        request.content_type.map(|content_type| ("content-type", content_type)),
        request.token.map(|token| ("x-security-token", token.expose())),
    ];
    let mut headers = vec![("host", request.host), ("x-content-sha256", payload_hash), ("x-date", date)];
    headers.extend(optional.into_iter().flatten());
    headers.sort_unstable();
    let block = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    (block, names.join(";"))
}
