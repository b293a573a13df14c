//! A call of the legacy v2 API: one signed POST of a form, with a nonce that makes each request its own.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use crate::cloud::account::{Account, Credentials};
use crate::cloud::call::{Api, Call, Reply, SignedPurchase};
use crate::cloud::tencentcloud::sign_v2::{self, Algorithm};
use crate::cloud::transport;
use crate::domain::failure::{Class, Failure};
use crate::domain::order::Purchase;
use crate::domain::product::Region;

/// Name and value, neither encoded.
pub type Parameters = Vec<(String, String)>;

const HOST_NAME: &str = "cvm.api.qcloud.com";
const PATH: &str = "/v2/index.php";
const CONTENT_TYPE_FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn sign_purchase(
    account: &Account,
    api: Api,
    purchase: &Purchase,
    parameters: Parameters,
) -> Result<SignedPurchase, Failure> {
    let signed_at = account.now();
    let request = signed(account, api, &purchase.region, parameters, signed_at)?;
    Ok(SignedPurchase { product: purchase.product, api, signed_at, request })
}

/// Signs a question, asks it and hands the answer to `read`.
pub(super) async fn ask<T>(
    account: &Account,
    api: Api,
    region: &Region,
    parameters: Parameters,
    read: impl FnOnce(u16, &[u8]) -> Reply<T>,
) -> Call<T> {
    account.ask(api, signed(account, api, region, parameters, account.now()), read).await
}

fn signed(
    account: &Account,
    api: Api,
    region: &Region,
    parameters: Parameters,
    at: Timestamp,
) -> Result<transport::Request, Failure> {
    let (url, host) = destination(account);
    let host_value = HeaderValue::from_str(&host).map_err(|_| {
        Failure::ours(Class::Rejected, "InvalidEndpoint", "no HTTP header can carry the endpoint's host")
    })?;
    let region = short_code(region)?;
    let form = form(&host, api, &region, parameters, at, nonce(), &*account.to_sign()?);
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host_value);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_FORM));
    Ok(transport::Request { method: Method::POST, url, headers, body: form.into() })
}

/// The whole body, signature included.
fn form(
    host: &str,
    api: Api,
    region: &Region,
    mut parameters: Parameters,
    at: Timestamp,
    nonce: u32,
    credentials: &Credentials,
) -> String {
    let common = [
        ("Action", api.action().to_owned()),
        ("Nonce", nonce.to_string()),
        ("Region", region.to_string()),
        ("SecretId", credentials.key_id.expose().to_owned()),
        ("SignatureMethod", "HmacSHA256".to_owned()),
        ("Timestamp", at.as_second().to_string()),
    ];
    let token = credentials.token.iter().map(|token| ("Token", token.expose().to_owned()));
    parameters.extend(common.into_iter().chain(token).map(|(name, value)| (name.to_owned(), value)));
    let request = sign_v2::Request { method: "POST", host, path: PATH, parameters: &parameters };
    let signature = sign_v2::sign(&request, Algorithm::HmacSha256, &credentials.secret_key).signature;
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&parameters)
        .append_pair("Signature", &signature)
        .finish()
}

fn destination(account: &Account) -> (Url, String) {
    let (mut url, host) = match &account.endpoint {
        Some(endpoint) => (endpoint.url().clone(), endpoint.host()),
        None => (provider_url().clone(), HOST_NAME.to_owned()),
    };
    url.set_path(PATH);
    (url, host)
}

fn provider_url() -> &'static Url {
    static URL: LazyLock<Url> = LazyLock::new(|| {
        Url::parse(&format!("https://{HOST_NAME}/"))
            .unwrap_or_else(|_| unreachable!("a constant that is a URL"))
    });
    &URL
}

fn short_code(region: &Region) -> Result<Region, Failure> {
    region.v2_code().ok_or_else(|| {
        let message =
            format!("the v2 API has no code for region `{region}`; use product `cvm`, or correct it");
        Failure::ours(Class::Rejected, "InvalidRegion", message)
    })
}

/// Positive, within 31 bits as the vendor's own clients keep it. Counted up from where the operating system's
/// randomness puts it at the start of the process: no two of the next two thousand million are equal, and a
/// restart within the same second begins elsewhere.
fn nonce() -> u32 {
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
        let random = RandomState::new().build_hasher().finish();
        AtomicU32::new(u32::try_from(random >> 32).unwrap_or_default())
    });
    (NEXT.fetch_add(1, Ordering::Relaxed) & (u32::MAX >> 1)).max(1)
}
