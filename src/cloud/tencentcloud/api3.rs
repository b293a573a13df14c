//! A call of API 3.0: one signed POST of JSON, one envelope for every answer.

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;

use crate::cloud::account::{Account, Credentials};
use crate::cloud::call::{Api, Call, Reply, SignedPurchase};
use crate::cloud::header::{name, secret_value, value};
use crate::cloud::tencentcloud::sign;
use crate::cloud::transport;
use crate::domain::failure::{Class, Failure};
use crate::domain::order::Purchase;
use crate::domain::product::Region;

const CONTENT_TYPE_JSON: &str = "application/json";
const LANGUAGE: &str = "en-US";

/// One action of one version of one service's API.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub api: Api,
    pub version: &'static str,
    /// Billing answers for all regions and takes no region header.
    pub regional: bool,
}

pub(super) fn sign_purchase(
    account: &Account,
    action: &Action,
    purchase: &Purchase,
    body: &impl Serialize,
) -> Result<SignedPurchase, Failure> {
    let signed_at = account.now();
    let request = signed(account, action, Some(&purchase.region), body, signed_at)?;
    Ok(SignedPurchase { product: purchase.product, api: action.api, signed_at, request })
}

/// Signs a question, asks it and hands the answer to `read`.
pub(super) async fn ask<T>(
    account: &Account,
    action: &Action,
    region: Option<&Region>,
    body: &impl Serialize,
    read: impl FnOnce(u16, &[u8]) -> Reply<T>,
) -> Call<T> {
    account.ask(action.api, signed(account, action, region, body, account.now()), read).await
}

fn signed(
    account: &Account,
    action: &Action,
    region: Option<&Region>,
    body: &impl Serialize,
    at: Timestamp,
) -> Result<transport::Request, Failure> {
    let payload = serde_json::to_vec(body)
        .map_err(|error| Failure::ours(Class::Rejected, "NotWritable", error.to_string()))?;
    let (url, host) = destination(account, action, region)?;
    let credentials = account.to_sign()?;
    let stages = sign::sign(
        &sign::Request {
            method: "POST",
            host: &host,
            query: "",
            content_type: CONTENT_TYPE_JSON,
            payload: &payload,
            service: action.api.service(),
            at,
        },
        &credentials.secret_key,
    );
    let authorization = stages.authorization(credentials.key_id.expose());
    let headers = headers(action, region, &host, at, &authorization, &credentials)?;
    Ok(transport::Request { method: Method::POST, url, headers, body: payload.into() })
}

/// Source: the `Region` note of the API pages: finance zones are isolated and have hosts of their own. That
/// billing follows them there is an assumption; no page seen says otherwise.
fn destination(
    account: &Account,
    action: &Action,
    region: Option<&Region>,
) -> Result<(Url, String), Failure> {
    if let Some(endpoint) = &account.endpoint {
        return Ok((endpoint.url().clone(), endpoint.host()));
    }
    let service = action.api.service();
    let host = match region.filter(|region| region.is_finance_zone()) {
        Some(region) => format!("{service}.{region}.tencentcloudapi.com").to_lowercase(),
        None => format!("{service}.tencentcloudapi.com"),
    };
    let url = Url::parse(&format!("https://{host}/")).map_err(|_| {
        let message = format!("the region makes no host name of `{host}`; correct the policy");
        Failure::ours(Class::Rejected, "InvalidRegion", message)
    })?;
    Ok((url, host))
}

fn headers(
    action: &Action,
    region: Option<&Region>,
    host: &str,
    at: Timestamp,
    authorization: &str,
    credentials: &Credentials,
) -> Result<HeaderMap, Failure> {
    let timestamp = at.as_second().to_string();
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value(host)?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_JSON));
    headers.insert(AUTHORIZATION, secret_value(authorization)?);
    headers.insert(name("x-tc-action"), HeaderValue::from_static(action.api.action()));
    headers.insert(name("x-tc-version"), HeaderValue::from_static(action.version));
    headers.insert(name("x-tc-timestamp"), value(&timestamp)?);
    headers.insert(name("x-tc-language"), HeaderValue::from_static(LANGUAGE));
    if let Some(region) = region.filter(|_| action.regional) {
        headers.insert(name("x-tc-region"), value(region.as_str())?);
    }
    if let Some(token) = &credentials.token {
        headers.insert(name("x-tc-token"), secret_value(token.expose())?);
    }
    Ok(headers)
}
