//! The signatures over one flat list of parameters, in the query or in a form: that of the legacy v2 API, and
//! "signature v1" of API 3.0, which differs by its path, its codes and its common parameters.
//!
//! Made from the decoded parameters on its own and not with the signer's code: a mistake there must not verify itself.
//!
//! Source: "signature method" and "common error codes" of API v2; "signature method v1" and "common error codes" of
//! API 3.0.

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
const SHA_256: &str = "HmacSHA256";

/// Which of the two a request is signed by.
#[derive(Debug)]
pub(super) struct Scheme {
    /// What is not the action's own.
    common: &'static [&'static str],
    /// Whether a value of a POST that begins with `@` stands for a file, and is not signed.
    has_files: bool,
    codes: Codes,
}

#[derive(Debug)]
struct Codes {
    missing: &'static str,
    malformed: &'static str,
    method: &'static str,
    no_such_key: &'static str,
    wrong: &'static str,
    too_old: &'static str,
    seen: &'static str,
}

pub(super) const V1: Scheme = Scheme {
    common: &[
        "Action",
        "Language",
        "Nonce",
        "Region",
        "RequestClient",
        "SecretId",
        "Signature",
        "SignatureMethod",
        "Timestamp",
        "Token",
        "Version",
    ],
    has_files: false,
    codes: Codes {
        missing: "MissingParameter",
        malformed: "InvalidParameter",
        method: "UnsupportedProtocol",
        no_such_key: "AuthFailure.SecretIdNotFound",
        wrong: "AuthFailure.SignatureFailure",
        too_old: "AuthFailure.SignatureExpire",
        seen: "InvalidRequest.ReplayAttack",
    },
};

pub(super) const V2: Scheme = Scheme {
    common: &[
        "Action",
        "Nonce",
        "Region",
        "RequestClient",
        "SecretId",
        "Signature",
        "SignatureMethod",
        "Timestamp",
        "Token",
    ],
    has_files: true,
    codes: Codes {
        missing: "4000",
        malformed: "4000",
        method: "4000",
        no_such_key: "4104",
        wrong: "4100",
        too_old: "4500",
        seen: "4500",
    },
};

/// What came, decoded and in order.
#[derive(Debug)]
pub(super) struct Parameters {
    scheme: &'static Scheme,
    pairs: Vec<(String, String)>,
}

impl Parameters {
    pub(super) fn of_request(
        request: &Request<Bytes>,
        scheme: &'static Scheme,
    ) -> Result<Parameters, Refusal> {
        let text: &[u8] = match *request.method() {
            Method::GET => request.uri().query().unwrap_or_default().as_bytes(),
            Method::POST if is_form(request) => request.body(),
            Method::POST => {
                let message = format!("the body of a POST must be {FORM}");
                return Err(Refusal::new(scheme.codes.malformed, message));
            }
            _ => return Err(Refusal::new(scheme.codes.method, "only GET and POST are supported")),
        };
        Ok(Parameters { scheme, pairs: form_urlencoded::parse(text).into_owned().collect() })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn require(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Refusal::new(self.scheme.codes.missing, format!("`{name}` is missing")))
    }

    /// What the action itself takes.
    pub(super) fn into_business(self) -> impl Iterator<Item = (String, String)> {
        self.pairs.into_iter().filter(|(name, _)| !self.scheme.common.contains(&name.as_str()))
    }

    fn positive(&self, name: &str) -> Result<u64, Refusal> {
        let value = self.require(name)?.parse::<u64>().ok().filter(|number| *number > 0);
        value.ok_or_else(|| {
            Refusal::new(self.scheme.codes.malformed, format!("`{name}` is not a positive integer"))
        })
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
    let codes = &parameters.scheme.codes;
    let (nonce, timestamp) = (parameters.positive("Nonce")?, parameters.positive("Timestamp")?);
    let signed_at = i64::try_from(timestamp).unwrap_or(i64::MAX);
    let key_id = parameters.require("SecretId")?.to_owned();
    let signature = parameters.require("Signature")?;
    if !key_id.starts_with(TENCENT_KEY_PREFIX) {
        let message = format!("there is no such key id; here they begin with {TENCENT_KEY_PREFIX}");
        return Err(Refusal::new(codes.no_such_key, message));
    }
    let host = verify::header(request, "host").unwrap_or_default();
    if signature != expected(request.method(), host, request.uri().path(), parameters, SECRET_KEY) {
        return Err(Refusal::new(codes.wrong, "the signature is not that of this request with this key"));
    }
    if signed_at.abs_diff(now.as_second()) > MAX_SKEW_SECONDS {
        let message = format!("`Timestamp` is {timestamp}, here it is {}", now.as_second());
        return Err(Refusal::new(codes.too_old, message));
    }
    Ok(Once { key_id, nonce, signed_at, code: codes.seen })
}

fn expected(method: &Method, host: &str, path: &str, parameters: &Parameters, secret_key: &str) -> String {
    let is_file =
        |value: &str| parameters.scheme.has_files && method == Method::POST && value.starts_with('@');
    let signed = parameters.pairs.iter().filter(|(name, value)| name != "Signature" && !is_file(value));
    let mut pairs: Vec<_> = signed.map(|(name, value)| (name.replace('_', "."), value)).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let source = format!("{method}{host}{path}?{}", pairs.join("&"));
    match parameters.get("SignatureMethod") {
        Some(SHA_256) => BASE64.encode(&hmac_sha256(secret_key.as_bytes(), source.as_bytes())),
        _ => BASE64.encode(&hmac_sha1(secret_key.as_bytes(), source.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(scheme: &'static Scheme, text: &str) -> Parameters {
        Parameters { scheme, pairs: form_urlencoded::parse(text.as_bytes()).into_owned().collect() }
    }

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
            let parameters = of_text(&V2, &text);
            let (host, key) = ("cvm.api.qcloud.com", "FAKEexampleKEY0000000000000fake");
            assert_eq!(expected(&method, host, "/v2/index.php", &parameters, key), signature, "{more}");
        }
    }

    #[test]
    fn the_published_and_the_official_signatures_v1_of_api_3_are_those_we_expect() {
        let published = "Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&Limit=20&Nonce=11886&Offset=0\
                         &Region=ap-guangzhou&SecretId=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE\
                         &Timestamp=1465185768&Version=2017-03-12&Signature=other";
        let signature = expected(
            &Method::GET,
            "cvm.tencentcloudapi.com",
            "/",
            &of_text(&V1, published),
            "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
        );
        assert_eq!(signature, "EliP9YW3pW28FpsEdkXt/+WcGeI=");
        let renewal = "InstanceId=crs-fake0001&Period=1&Action=RenewInstance&RequestClient=SDK_PYTHON_3.1.177\
                       &Nonce=11886&Timestamp=1700000000&Version=2018-04-12&Region=ap-guangzhou\
                       &SecretId=AKIDEXAMPLEexampleEXAMPLE0000000fake&SignatureMethod=";
        for (algorithm, signature) in [
            ("HmacSHA1", "sU5lihV5AZeHgHQ28b0b2PwsLtY="),
            ("HmacSHA256", "fWHv9yOYWQpnFr5+I/NF5r3CM6xa++HYUhtCi/R96j4="),
        ] {
            let parameters = of_text(&V1, &format!("{renewal}{algorithm}"));
            let (host, key) = ("redis.tencentcloudapi.com", "FAKEexampleKEY0000000000000fake");
            assert_eq!(expected(&Method::POST, host, "/", &parameters, key), signature, "{algorithm}");
        }
    }
}
