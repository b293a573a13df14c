//! TC3-HMAC-SHA256 from the receiving side.
//!
//! Made from what came over the wire and from the headers that the client says it signed, on its own and not with
//! the signer's code: a mistake there must not verify itself.
//!
//! Source: "signature method v3"; the codes are those of "common error codes".

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cloud::canonical::{hex, hmac_sha256, sha256_hex};
use crate::sandbox::desk::Refusal;
use crate::sandbox::tencentcloud::{invalid, missing};
use crate::sandbox::{SECRET_KEY, TENCENT_KEY_PREFIX};

const ALGORITHM: &str = "TC3-HMAC-SHA256";
const TERMINATOR: &str = "tc3_request";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const MAX_SKEW_SECONDS: u64 = 300;

/// Who signed, and for which service.
#[derive(Debug)]
pub(super) struct Caller {
    pub key_id: String,
    pub service: String,
}

/// The parts of the `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    key_id: &'a str,
    date: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// A header's text without surrounding blanks; none when it is not text.
pub(super) fn header<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok().map(str::trim)
}

/// The service of the credential scope, not yet verified.
pub(super) fn claimed_service(request: &Request<Bytes>) -> Option<String> {
    Authorization::parse(header(request, AUTHORIZATION.as_str())?).map(|claim| claim.service.to_owned())
}

pub(super) fn verify(request: &Request<Bytes>, now: Timestamp) -> Result<Caller, Refusal> {
    let text = header(request, AUTHORIZATION.as_str()).ok_or_else(|| missing("Authorization"))?;
    let claim = Authorization::parse(text).ok_or_else(|| {
        let shape = "TC3-HMAC-SHA256 Credential=ID/DATE/SERVICE/tc3_request, SignedHeaders=content-type;host, Signature=HEX";
        Refusal::new("AuthFailure.InvalidAuthorization", format!("`Authorization` is not {shape}"))
    })?;
    let signed_at = signed_at(request, now)?;
    if claim.date != signed_at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string() {
        return Err(Refusal::new(
            "AuthFailure.SignatureFailure",
            "the date of the credential scope is not the UTC date of X-TC-Timestamp",
        ));
    }
    if !claim.key_id.starts_with(TENCENT_KEY_PREFIX) {
        let message = format!("there is no such key id; here they begin with {TENCENT_KEY_PREFIX}");
        return Err(Refusal::new("AuthFailure.SecretIdNotFound", message));
    }
    if claim.signature != expected_signature(request, &claim, signed_at, SECRET_KEY) {
        let message = "the signature is not that of this request with this key";
        return Err(Refusal::new("AuthFailure.SignatureFailure", message));
    }
    Ok(Caller { key_id: claim.key_id.to_owned(), service: claim.service.to_owned() })
}

fn signed_at(request: &Request<Bytes>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let text = header(request, "x-tc-timestamp").ok_or_else(|| missing("X-TC-Timestamp"))?;
    let seconds: Option<i64> = text.parse().ok();
    let signed_at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let signed_at = signed_at.ok_or_else(|| invalid("X-TC-Timestamp", "is not a number of unix seconds"))?;
    if signed_at.as_second().abs_diff(now.as_second()) > MAX_SKEW_SECONDS {
        let message = format!("X-TC-Timestamp is {text}, here it is {}", now.as_second());
        return Err(Refusal::new("AuthFailure.SignatureExpire", message));
    }
    Ok(signed_at)
}

fn expected_signature(
    request: &Request<Bytes>,
    claim: &Authorization<'_>,
    signed_at: Timestamp,
    secret_key: &str,
) -> String {
    let Authorization { date, service, .. } = claim;
    let string_to_sign = format!(
        "{ALGORITHM}\n{}\n{date}/{service}/{TERMINATOR}\n{}",
        signed_at.as_second(),
        sha256_hex(canonical_request(request, claim.signed_headers).as_bytes())
    );
    let date_key = hmac_sha256(format!("TC3{secret_key}").as_bytes(), date.as_bytes());
    let service_key = hmac_sha256(&date_key, service.as_bytes());
    let signing_key = hmac_sha256(&service_key, TERMINATOR.as_bytes());
    hex(&hmac_sha256(&signing_key, string_to_sign.as_bytes()))
}

fn canonical_request(request: &Request<Bytes>, signed_headers: &str) -> String {
    let headers: String = signed_headers
        .split(';')
        .map(|name| {
            let value = request.headers().get(name).map_or(&b""[..], |value| value.as_bytes());
            format!("{name}:{}\n", String::from_utf8_lossy(value).trim().to_lowercase())
        })
        .collect();
    let payload: &[u8] = match header(request, "x-tc-content-sha256") {
        Some(UNSIGNED_PAYLOAD) => UNSIGNED_PAYLOAD.as_bytes(),
        _ if request.method() == hyper::Method::GET => b"",
        _ => request.body(),
    };
    let method = request.method();
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{}", sha256_hex(payload))
}

impl Authorization<'_> {
    fn parse(text: &str) -> Option<Authorization<'_>> {
        let mut fields = text.strip_prefix(ALGORITHM)?.strip_prefix(' ')?.split(',').map(str::trim);
        let credential = fields.next()?.strip_prefix("Credential=")?;
        let signed_headers = fields.next()?.strip_prefix("SignedHeaders=")?;
        let signature = fields.next()?.strip_prefix("Signature=")?;
        let mut scope = credential.split('/');
        let (key_id, date, service) = (scope.next()?, scope.next()?, scope.next()?);
        let is_whole = scope.next() == Some(TERMINATOR) && scope.next().is_none() && fields.next().is_none();
        let signs = |wanted: &str| signed_headers.split(';').any(|name| name == wanted);
        let is_sound = is_whole && !key_id.is_empty() && signs("content-type") && signs("host");
        is_sound.then_some(Authorization { key_id, date, service, signed_headers, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(request: &Request<Bytes>, scope: &str, signed_headers: &str, at: i64, key: &str) -> String {
        let text = format!(
            "TC3-HMAC-SHA256 Credential=AKID/{scope}/tc3_request, SignedHeaders={signed_headers}, Signature=00"
        );
        let claim = Authorization::parse(&text).unwrap();
        expected_signature(request, &claim, Timestamp::from_second(at).unwrap(), key)
    }

    fn request(
        method: &str,
        uri: &str,
        host: &str,
        content_type: &str,
        body: &'static str,
    ) -> Request<Bytes> {
        let head = Request::builder().method(method).uri(uri).header("host", host);
        head.header("content-type", content_type).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn the_signatures_of_the_official_sdk_are_those_we_expect() {
        const KEY: &str = "FAKEexampleKEY0000000000000fake";
        let post = request(
            "POST",
            "/",
            "redis.tencentcloudapi.com",
            "application/json",
            "{\"Period\": 1, \"InstanceId\": \"crs-fake0001\"}",
        );
        assert_eq!(
            signature(&post, "2023-11-14/redis", "content-type;host", 1_700_000_000, KEY),
            "0c383ba727485cf150ccb91883d77d2a91093b52584caaec564a109a95842494"
        );
        let get = request(
            "GET",
            "/?Limit=100&Offset=0&InstanceIds.0=crs-fake0001&InstanceIds.1=crs-fake0002",
            "redis.tencentcloudapi.com",
            "application/x-www-form-urlencoded",
            "",
        );
        assert_eq!(
            signature(&get, "2023-11-14/redis", "content-type;host", 1_700_000_000, KEY),
            "26448635bdd3115f9761bbfef3cc8c1b509192a5de34c4dae7d24ab551e6cd41"
        );
    }

    #[test]
    fn the_published_signature_over_three_headers_is_the_one_we_expect() {
        let mut post = request(
            "POST",
            "/",
            "cvm.tencentcloudapi.com",
            "application/json; charset=utf-8",
            "{\"Limit\": 1, \"Filters\": [{\"Values\": [\"\\u672a\\u547d\\u540d\"], \"Name\": \"instance-name\"}]}",
        );
        post.headers_mut().insert("x-tc-action", "DescribeInstances".parse().unwrap());
        assert_eq!(
            signature(
                &post,
                "2019-02-25/cvm",
                "content-type;host;x-tc-action",
                1_551_113_065,
                &"*".repeat(32)
            ),
            "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f"
        );
    }

    #[test]
    fn an_authorization_that_leaves_the_host_unsigned_is_none() {
        let good = "TC3-HMAC-SHA256 Credential=A/2026-01-01/redis/tc3_request, SignedHeaders=content-type;host, Signature=0";
        assert!(Authorization::parse(good).is_some());
        for (part, instead) in [
            (";host", ""),
            ("TC3-HMAC-SHA256 ", ""),
            ("/tc3_request", ""),
            ("Signature", "Sig"),
            (", Sig", " Sig"),
            ("Credential=A", "Credential="),
        ] {
            assert_eq!(Authorization::parse(&good.replace(part, instead)), None, "{part}");
        }
    }
}
