//! Tencent Cloud, API 3.0: one signed POST of JSON per call, one envelope for every answer.

pub mod answer;
pub mod billing;
pub mod codes;
pub mod redis;
pub mod sign;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cloud::account::{Account, Credentials};
use crate::cloud::call::{Api, Call, NotBuilt, SignedPurchase};
use crate::cloud::header::{name, secret_value, value};
use crate::cloud::transport;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::Observation;
use crate::domain::order::{Goods, ListedOrder, OrderId, Purchase};
use crate::domain::product::{InstanceId, Product, Region, TencentProduct};

const CONTENT_TYPE_JSON: &str = "application/json";
const LANGUAGE: &str = "en-US";

pub const ALL_APIS: &[Api] = &[
    redis::RENEW.api,
    redis::UPGRADE.api,
    redis::DESCRIBE.api,
    redis::PRICE_RENEW.api,
    redis::PRICE_UPGRADE.api,
    billing::LIST_DEALS.api,
];

/// One action of one version of one service's API.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub api: Api,
    pub version: &'static str,
    /// Billing answers for all regions and takes no region header.
    pub regional: bool,
}

impl Action {
    /// The first label of the host and the middle of the signature's scope.
    fn service(&self) -> &'static str {
        self.api.name.split_once(':').map_or(self.api.name, |(service, _)| service)
    }

    fn name(&self) -> &'static str {
        self.api.name.split_once(':').map_or(self.api.name, |(_, name)| name)
    }
}

pub(super) fn purchase_api(product: TencentProduct, goods: &Goods) -> Result<Api, NotBuilt> {
    match product {
        TencentProduct::Redis => Ok(redis::purchase_action(goods).api),
        TencentProduct::Cvm | TencentProduct::CvmV2 => Err(not_built(product)),
    }
}

pub(super) fn observe_api(product: TencentProduct) -> Result<Api, NotBuilt> {
    match product {
        TencentProduct::Redis => Ok(redis::DESCRIBE.api),
        TencentProduct::Cvm | TencentProduct::CvmV2 => Err(not_built(product)),
    }
}

pub(super) fn orders_api(product: TencentProduct) -> Result<Api, NotBuilt> {
    match product {
        TencentProduct::Redis => Ok(billing::LIST_DEALS.api),
        TencentProduct::Cvm | TencentProduct::CvmV2 => Err(not_built(product)),
    }
}

pub(super) fn price_api(product: TencentProduct, goods: &Goods) -> Result<Api, NotBuilt> {
    match product {
        TencentProduct::Redis => Ok(redis::price_action(goods).api),
        TencentProduct::Cvm | TencentProduct::CvmV2 => Err(not_built(product)),
    }
}

pub(super) fn observe_batch_max(product: TencentProduct) -> Result<usize, NotBuilt> {
    match product {
        TencentProduct::Redis => Ok(redis::DESCRIBE_MAX_IDS),
        TencentProduct::Cvm | TencentProduct::CvmV2 => Err(not_built(product)),
    }
}

pub(super) async fn observe(
    account: &Account,
    product: TencentProduct,
    region: &Region,
    ids: &[InstanceId],
) -> Call<Vec<Observation>> {
    match product {
        TencentProduct::Redis => {
            let observed_at = account.now();
            ask(account, &redis::DESCRIBE, region, &redis::describe(ids), |answer| {
                redis::observations(answer, ids, observed_at, &account.bare_time_zone)
            })
            .await
        }
        TencentProduct::Cvm | TencentProduct::CvmV2 => not_built(product).call(),
    }
}

pub(super) async fn list_orders(
    account: &Account,
    product: TencentProduct,
    region: &Region,
    instance: &InstanceId,
    from: Timestamp,
    through: Timestamp,
) -> Call<Vec<ListedOrder>> {
    match product {
        TencentProduct::Redis => {
            let zone = &account.bare_time_zone;
            let body = billing::list_deals(instance, from, through, zone);
            let read = |answer| billing::listed_orders(answer, instance, zone);
            ask(account, &billing::LIST_DEALS, region, &body, read).await
        }
        TencentProduct::Cvm | TencentProduct::CvmV2 => not_built(product).call(),
    }
}

pub(super) async fn price(account: &Account, product: TencentProduct, purchase: &Purchase) -> Call<Fen> {
    match product {
        TencentProduct::Redis => {
            let action = redis::price_action(&purchase.goods);
            ask(account, action, &purchase.region, &redis::body(purchase), redis::price).await
        }
        TencentProduct::Cvm | TencentProduct::CvmV2 => not_built(product).call(),
    }
}

pub(super) fn sign_purchase(
    account: &Account,
    product: TencentProduct,
    purchase: &Purchase,
) -> Result<SignedPurchase, Failure> {
    match product {
        TencentProduct::Redis => {
            let action = redis::purchase_action(&purchase.goods);
            let signed_at = account.now();
            let request = signed(account, action, &purchase.region, &redis::body(purchase), signed_at)?;
            Ok(SignedPurchase { product: purchase.product, api: action.api, signed_at, request })
        }
        TencentProduct::Cvm | TencentProduct::CvmV2 => Err(not_built(product).into()),
    }
}

pub(super) async fn send(
    account: &Account,
    signed: SignedPurchase,
    on_written: impl FnOnce() + Send + 'static,
) -> Call<Option<OrderId>> {
    let watch = account.stopwatch();
    let exchange = account.transport.purchase(signed.request, on_written).await;
    watch.stop(signed.api, exchange, answer::purchase)
}

/// A read: signed, sent and, when the cloud reports no error, handed to `read`.
async fn ask<T: DeserializeOwned, U>(
    account: &Account,
    action: &Action,
    region: &Region,
    body: &impl Serialize,
    read: impl FnOnce(T) -> Result<U, Failure>,
) -> Call<U> {
    let request = match signed(account, action, region, body, account.now()) {
        Ok(request) => request,
        Err(failure) => return Call::unsent(action.api.name, failure),
    };
    let watch = account.stopwatch();
    let exchange = account.transport.read(request).await;
    watch.stop(action.api, exchange, |http_status, body| answer::read(http_status, body).and_then(read))
}

fn signed(
    account: &Account,
    action: &Action,
    region: &Region,
    body: &impl Serialize,
    at: Timestamp,
) -> Result<transport::Request, Failure> {
    let payload = serde_json::to_vec(body)
        .map_err(|error| Failure::ours(Class::Rejected, "NotWritable", error.to_string()))?;
    let (url, host) = destination(account, action, region)?;
    let credentials = account.credentials();
    let stages = sign::sign(
        &sign::Request {
            method: "POST",
            host: &host,
            query: "",
            content_type: CONTENT_TYPE_JSON,
            payload: &payload,
            service: action.service(),
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
fn destination(account: &Account, action: &Action, region: &Region) -> Result<(Url, String), Failure> {
    if let Some(endpoint) = &account.endpoint {
        return Ok((endpoint.url().clone(), endpoint.host()));
    }
    let service = action.service();
    let host = if region.is_finance_zone() {
        format!("{service}.{region}.tencentcloudapi.com").to_lowercase()
    } else {
        format!("{service}.tencentcloudapi.com")
    };
    let url = Url::parse(&format!("https://{host}/")).map_err(|_| {
        let message = format!("region `{region}` cannot be part of a host name; correct the policy");
        Failure::ours(Class::Rejected, "InvalidRegion", message)
    })?;
    Ok((url, host))
}

fn headers(
    action: &Action,
    region: &Region,
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
    headers.insert(name("x-tc-action"), HeaderValue::from_static(action.name()));
    headers.insert(name("x-tc-version"), HeaderValue::from_static(action.version));
    headers.insert(name("x-tc-timestamp"), value(&timestamp)?);
    headers.insert(name("x-tc-language"), HeaderValue::from_static(LANGUAGE));
    if action.regional {
        headers.insert(name("x-tc-region"), value(region.as_str())?);
    }
    if let Some(token) = &credentials.token {
        headers.insert(name("x-tc-token"), secret_value(token.expose())?);
    }
    Ok(headers)
}

fn not_built(product: TencentProduct) -> NotBuilt {
    NotBuilt::new(Product::TencentCloud(product))
}
