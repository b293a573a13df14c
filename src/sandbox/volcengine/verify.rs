//! HMAC-SHA256 from the receiving side.
//!
//! Made from what came over the wire and from the headers that the client says it signed, on its own and not with
//! the signer's code: a mistake there must not verify itself. The official SDKs sign different sets of headers.
//!
//! Source: "signature method" (docs/6369/67269); the codes are those of the common error codes.

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cloud::canonical::{hex, hmac_sha256, sha256_hex};
use crate::sandbox::desk::Refusal;
use crate::sandbox::{SECRET_KEY, VOLCENGINE_KEY_PREFIX};

pub(super) const ALGORITHM: &str = "HMAC-SHA256";
const TERMINATOR: &str = "request";
/// `X-Expires`, when the query does not say it. The tolerated lead is not documented; here it is the same.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_secs(900);
const DATE_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// Who signed, and for which service.
#[derive(Debug)]
pub(super) struct Caller {
    pub key_id: String,
    pub region: String,
    pub service: String,
}

/// The parts of the `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    key_id: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// A header's text without surrounding blanks; none when it is not text.
pub(super) fn header<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok().map(str::trim)
}

/// Region and service of the credential scope, not yet verified.
pub(super) fn claimed_scope(request: &Request<Bytes>) -> Option<(String, String)> {
    let claim = Authorization::parse(header(request, AUTHORIZATION.as_str())?)?;
    Some((claim.region.to_owned(), claim.service.to_owned()))
}

pub(super) fn verify(request: &Request<Bytes>, now: Timestamp) -> Result<Caller, Refusal> {
    let text = header(request, AUTHORIZATION.as_str())
        .ok_or_else(|| Refusal::new("MissingAuthenticationToken", "the request has no `Authorization`"))?;
    let claim = Authorization::parse(text).ok_or_else(|| {
        let shape =
            "HMAC-SHA256 Credential=ID/DAY/REGION/SERVICE/request, SignedHeaders=host;x-date, Signature=HEX";
        Refusal::new("InvalidAuthorization", format!("`Authorization` is not {shape}"))
    })?;
    let date = header(request, "x-date")
        .ok_or_else(|| Refusal::new("MissingRequestInfo", "the request has no `X-Date`"))?;
    check_date(date, window(request), now)?;
    if !date.starts_with(claim.day) {
        let message = "the day of the credential scope is not that of X-Date";
        return Err(Refusal::new("InvalidCredential", message));
    }
    if !claim.key_id.starts_with(VOLCENGINE_KEY_PREFIX) {
        let message = format!("there is no such access key; here they begin with {VOLCENGINE_KEY_PREFIX}");
        return Err(Refusal::new("InvalidAccessKey", message));
    }
    let hashes_as_said = header(request, "x-content-sha256").is_none_or(|hash| hash == body_hash(request));
    if !hashes_as_said || claim.signature != expected_signature(request, &claim, date, SECRET_KEY) {
        let message = "the signature is not that of this request with this key";
        return Err(Refusal::new("SignatureDoesNotMatch", message));
    }
    Ok(Caller {
        key_id: claim.key_id.to_owned(),
        region: claim.region.to_owned(),
        service: claim.service.to_owned(),
    })
}

fn check_date(date: &str, window: SignedDuration, now: Timestamp) -> Result<(), Refusal> {
    let read = DateTime::strptime(DATE_FORMAT, date).and_then(|bare| bare.to_zoned(TimeZone::UTC));
    let signed_at =
        read.map_err(|_| Refusal::new("InvalidTimestamp", "`X-Date` is not YYYYMMDD'T'HHMMSS'Z'"))?;
    let age = now.duration_since(signed_at.timestamp());
    if age > window || age < -DEFAULT_WINDOW {
        let message =
            format!("the request with X-Date {date} is expired or from the future; here it is {now}");
        return Err(Refusal::new("InvalidTimestamp", message));
    }
    Ok(())
}

fn window(request: &Request<Bytes>) -> SignedDuration {
    let query = request.uri().query().unwrap_or_default();
    let expires = pairs(query).find(|(name, _)| name == b"X-Expires");
    let seconds = expires.and_then(|(_, value)| std::str::from_utf8(&value).ok()?.parse::<u32>().ok());
    seconds.map_or(DEFAULT_WINDOW, |seconds| SignedDuration::from_secs(i64::from(seconds)))
}

fn expected_signature(
    request: &Request<Bytes>,
    claim: &Authorization<'_>,
    date: &str,
    secret_key: &str,
) -> String {
    let Authorization { day, region, service, .. } = claim;
    let scope = [day, region, service, TERMINATOR];
    let canonical = sha256_hex(canonical_request(request, claim.signed_headers).as_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{date}\n{}\n{canonical}", scope.join("/"));
    let key = scope
        .iter()
        .fold(secret_key.as_bytes().to_vec(), |key, part| hmac_sha256(&key, part.as_bytes()).to_vec());
    hex(&hmac_sha256(&key, string_to_sign.as_bytes()))
}

fn canonical_request(request: &Request<Bytes>, signed_headers: &str) -> String {
    let headers: String =
        signed_headers.split(';').map(|name| format!("{name}:{}\n", signed_value(request, name))).collect();
    let method = request.method();
    let path = request.uri().path();
    let query = canonical_query(request.uri().query().unwrap_or_default());
    format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{}", body_hash(request))
}

/// The ports of the schemes are not signed, whether or not the client writes them.
fn signed_value(request: &Request<Bytes>, name: &str) -> String {
    let value = request.headers().get(name).map_or(&b""[..], |value| value.as_bytes());
    let value = String::from_utf8_lossy(value).trim().to_owned();
    let without_port = [":80", ":443"].iter().find_map(|port| value.strip_suffix(port));
    without_port.filter(|_| name == "host").map_or_else(|| value.clone(), str::to_owned)
}

fn body_hash(request: &Request<Bytes>) -> String {
    sha256_hex(request.body())
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<_> = pairs(query).collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    let texts: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    texts.join("&")
}

/// Decoded names and values. A `+` is a plus here: the signature knows no other blank than `%20`.
fn pairs(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

fn encoded(bytes: &[u8]) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let encode = |&byte: &u8| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(encode).collect()
}

impl Authorization<'_> {
    fn parse(text: &str) -> Option<Authorization<'_>> {
        let mut fields = text.strip_prefix(ALGORITHM)?.strip_prefix(' ')?.split(',').map(str::trim);
        let credential = fields.next()?.strip_prefix("Credential=")?;
        let signed_headers = fields.next()?.strip_prefix("SignedHeaders=")?;
        let signature = fields.next()?.strip_prefix("Signature=")?;
        let mut scope = credential.split('/');
        let (key_id, day, region, service) = (scope.next()?, scope.next()?, scope.next()?, scope.next()?);
        let is_whole = scope.next() == Some(TERMINATOR) && scope.next().is_none() && fields.next().is_none();
        let signs_date = signed_headers.split(';').any(|name| name == "x-date");
        let is_sound = is_whole && signs_date && !key_id.is_empty() && day.len() == 8;
        is_sound.then_some(Authorization { key_id, day, region, service, signed_headers, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "FakeSecretKeyForTestsOnly0001==";
    const DATE: &str = "20240102T030405Z";
    const RENEW: &str = "/?Action=RenewInstance&Version=2020-04-01&InstanceId=i-fake0000000000000001&Period=1\
                         &PeriodUnit=Month&ClientToken=renewd-0123456789abcdef";

    fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &'static str) -> Request<Bytes> {
        let head = Request::builder().method(method).uri(uri).header("host", "open.volcengineapi.com");
        let head = head.header("x-date", DATE);
        let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
        head.body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn signature(request: &Request<Bytes>, service: &str, signed_headers: &str) -> String {
        let text = format!(
            "HMAC-SHA256 Credential=AKLTFAKEFAKEFAKE0001/20240102/cn-beijing/{service}/request, \
             SignedHeaders={signed_headers}, Signature=00"
        );
        expected_signature(request, &Authorization::parse(&text).unwrap(), DATE, KEY)
    }

    #[test]
    fn the_signatures_of_every_official_sdk_are_those_we_expect() {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hash = ("x-content-sha256", EMPTY);
        let plain = request("GET", RENEW, &[hash], "");
        let sdk_headers = [
            hash,
            ("content-type", "text/plain"),
            ("x-sdk-invocation-id", "00000000-0000-4000-8000-000000000001"),
            ("x-sdk-request", "attempt=1; max=4"),
        ];
        let new_python = request("GET", RENEW, &sdk_headers, "");
        let token = request("GET", RENEW, &[hash, ("x-security-token", "FAKESESSIONTOKEN0001==")], "");
        let cases = [
            (
                &plain,
                "host;x-content-sha256;x-date",
                "a548fe89717e9273994ec5b084af9f71bd0946fffbdc1c090ceb955fcb95e981",
            ),
            (
                &token,
                "host;x-content-sha256;x-date;x-security-token",
                "8e342d0e129e998cc3b2c5f9ec0ea6f3db9e3d51bce9447c0f1f23f0f0df5b4c",
            ),
            (
                &new_python,
                "content-type;host;x-content-sha256;x-date;x-sdk-invocation-id;x-sdk-request",
                "8d26ae954a7224ce5e0808b70cfec33331c5e837f8122b01398536666fa0300b",
            ),
            (&plain, "x-date", "2aa7b3fa26dac899c2fcd6023541930423031947862f322957904806eaae74ce"),
            (&plain, "host;x-date", "4e4ce56677c45097c9d6b7e629af4acf5dfb71748a2ac68e54494416713e3bb7"),
        ];
        for (request, signed_headers, expected) in cases {
            assert_eq!(signature(request, "ecs", signed_headers), expected, "{signed_headers}");
        }
    }

    #[test]
    fn a_query_is_expected_encoded_and_sorted_whatever_its_order_on_the_wire() {
        let uri = "/?InstanceChargeType=PrePaid&InstanceIds.1=i-fake0000000000000001\
                   &InstanceIds.2=i-fake0000000000000002&InstanceIds.10=i-fake0000000000000010\
                   &InstanceName=a%20b%2bc%2Fd~e%3D*%C3%A9&MaxResults=100&NextToken=abc%2B%2F==\
                   &Action=DescribeInstances&Version=2020-04-01";
        let hash = [("x-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")];
        assert_eq!(
            signature(&request("GET", uri, &hash, ""), "ecs", "host;x-content-sha256;x-date"),
            "028b16e41f1d0ba1a31696c92e366684e6a1dbffd62d86ee551b9ca5ae6368d7"
        );
    }

    #[test]
    fn the_body_of_a_post_is_part_of_what_is_expected() {
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("x-content-sha256", "c930d38b800e234c8f77b2867ce7a4aca2f99635709ad466613712ec46452d1b"),
        ];
        let body = "{\"OrderID\": \"Order0000000000000000\"}";
        let post = request("POST", "/?Action=GetOrder&Version=2022-01-01", &headers, body);
        assert_eq!(
            signature(&post, "billing", "content-type;host;x-content-sha256;x-date"),
            "26e024db20aa6006f3ff33bb148453494fe1db97b3b0d1b347f256cb18f78287"
        );
    }

    #[test]
    fn an_authorization_that_leaves_the_date_unsigned_is_none() {
        let good = "HMAC-SHA256 Credential=A/20240102/r/s/request, SignedHeaders=host;x-date, Signature=0";
        assert!(Authorization::parse(good).is_some());
        for (part, instead) in
            [(";x-date", ""), ("HMAC-SHA256 ", ""), ("/request", ""), ("20240102", "2024"), (", Sig", " Sig")]
        {
            assert_eq!(Authorization::parse(&good.replace(part, instead)), None, "{part}");
        }
    }
}
