//! The v2 signature from the receiving side, made from the decoded parameters on its own and not with the
//! signer's code: a mistake there must not verify itself.
//!
//! Source: "signature method" and "common error codes" of API v2.

use data_encoding::BASE64;
use hyper::body::Bytes;
use hyper::{Method, Request};
use jiff::Timestamp;

use crate::cloud::canonical::{hmac_sha1, hmac_sha256};
use crate::sandbox::desk::Refusal;
use crate::sandbox::replays::{MAX_SKEW_SECONDS, Once};
use crate::sandbox::tencentcloud::verify;
use crate::sandbox::{SECRET_KEY, TENCENT_KEY_PREFIX};

const FORM: &str = "application/x-www-form-urlencoded";
const COMMON: [&str; 9] = [
    "Action",
    "Nonce",
    "Region",
    "RequestClient",
    "SecretId",
    "Signature",
    "SignatureMethod",
    "Timestamp",
    "Token",
];
/// What came, decoded and in order.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of_request(request: &Request<Bytes>) -> Result<Parameters, Refusal> {
        let text: &[u8] = match *request.method() {
            Method::GET => request.uri().query().unwrap_or_default().as_bytes(),
            Method::POST if is_form(request) => request.body(),
            Method::POST => return Err(Refusal::new("4000", format!("the body of a POST must be {FORM}"))),
            _ => return Err(Refusal::new("4000", "only GET and POST are supported")),
        };
        Ok(Parameters(form_urlencoded::parse(text).into_owned().collect()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the action itself takes.
    pub(super) fn into_business(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter().filter(|(name, _)| !COMMON.contains(&name.as_str()))
    }

    fn require(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Refusal::new("4000", format!("`{name}` is missing")))
    }
}

fn is_form(request: &Request<Bytes>) -> bool {
    verify::header(request, "content-type").is_some_and(|content_type| content_type.starts_with(FORM))
}

pub(super) fn verify(
    request: &Request<Bytes>,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Once, Refusal> {
    let number = |name: &str| {
        let value = parameters.require(name)?.parse::<u64>().ok().filter(|number| *number > 0);
        value.ok_or_else(|| Refusal::new("4000", format!("`{name}` is not a positive integer")))
    };
    let (nonce, timestamp) = (number("Nonce")?, number("Timestamp")?);
    let signed_at = i64::try_from(timestamp).unwrap_or(i64::MAX);
    let key_id = parameters.require("SecretId")?.to_owned();
    let signature = parameters.require("Signature")?;
    if !key_id.starts_with(TENCENT_KEY_PREFIX) {
        let message = format!("there is no such key id; here they begin with {TENCENT_KEY_PREFIX}");
        return Err(Refusal::new("4104", message));
    }
    let host = verify::header(request, "host").unwrap_or_default();
    if signature != expected(request.method(), host, request.uri().path(), parameters, SECRET_KEY) {
        return Err(Refusal::new("4100", "the signature is not that of this request with this key"));
    }
    if signed_at.abs_diff(now.as_second()) > MAX_SKEW_SECONDS {
        let message = format!("`Timestamp` is {timestamp}, here it is {}", now.as_second());
        return Err(Refusal::new("4500", message));
    }
    Ok(Once { key_id, nonce, signed_at, code: "4500" })
}

fn expected(method: &Method, host: &str, path: &str, parameters: &Parameters, secret_key: &str) -> String {
    let is_signed = |(name, value): &(String, String)| {
        name != "Signature" && !(method == Method::POST && value.starts_with('@'))
    };
    let signed = parameters.0.iter().filter(|pair| is_signed(pair));
    let mut pairs: Vec<_> = signed.map(|(name, value)| (name.replace('_', "."), value)).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let source = format!("{method}{host}{path}?{}", pairs.join("&"));
    match parameters.get("SignatureMethod") {
        Some("HmacSHA256") => BASE64.encode(&hmac_sha256(secret_key.as_bytes(), source.as_bytes())),
        _ => BASE64.encode(&hmac_sha1(secret_key.as_bytes(), source.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signatures_of_the_official_legacy_client_are_those_we_expect() {
        let term = "instanceId=ins-fake0001&period=1&Nonce=11886&Timestamp=1700000000&Region=gz&Action=RenewInstance\
                    &SecretId=AKIDEXAMPLEexampleEXAMPLE0000000fake";
        for (method, more, signature) in [
            (Method::GET, "&SignatureMethod=HmacSHA1", "wa0ONRkcAVIh5ie/7ykHz93WRFc="),
            (Method::GET, "&SignatureMethod=HmacSHA256", "uURrMYnO48xvrrPdrMJq9OKmw2NPdoZmic11u6VbqA0="),
            (
                Method::POST,
                "&SignatureMethod=HmacSHA256&Token=FAKE-SESSION-TOKEN&file=@photo&Signature=other",
                "m21V6V+N8hsf80ntucnBemuVrrhX8OvqSr4ouFpgEqs=",
            ),
        ] {
            let text = format!("{term}{more}");
            let parameters = Parameters(form_urlencoded::parse(text.as_bytes()).into_owned().collect());
            let (host, key) = ("cvm.api.qcloud.com", "FAKEexampleKEY0000000000000fake");
            assert_eq!(expected(&method, host, "/v2/index.php", &parameters, key), signature, "{more}");
        }
    }
}
