//! The signature of the legacy v2 API, as a pure function of its input.
//!
//! Source: "signature method" of API v2: method, host, path and the sorted parameters in one line, values as
//! they are before they are percent-encoded.

use data_encoding::BASE64;

use crate::cloud::canonical::{hmac_sha1, hmac_sha256};
use crate::domain::secret::Secret;

/// What is signed. The parameters are all that will be sent, save the signature itself; no value may begin with
/// `@`, which in a POST stands for a file and is left unsigned.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub parameters: &'a [(String, String)],
}

/// SHA-1 is what the vendor takes unless `SignatureMethod` says otherwise; we never send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
}

/// Each stage of the signature, so that tests can pin each.
pub struct Stages {
    pub source: String,
    pub signature: String,
}

pub fn sign(request: &Request<'_>, algorithm: Algorithm, secret_key: &Secret) -> Stages {
    let source = source(request);
    let key = secret_key.expose().as_bytes();
    let signature = match algorithm {
        Algorithm::HmacSha1 => BASE64.encode(&hmac_sha1(key, source.as_bytes())),
        Algorithm::HmacSha256 => BASE64.encode(&hmac_sha256(key, source.as_bytes())),
    };
    Stages { source, signature }
}

/// Sorted by byte: names in upper case come before those in lower case.
fn source(request: &Request<'_>) -> String {
    let Request { method, host, path, parameters } = request;
    let mut sorted: Vec<_> = parameters.iter().collect();
    sorted.sort_unstable();
    let pairs: Vec<_> = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{method}{host}{path}?{}", pairs.join("&"))
}
