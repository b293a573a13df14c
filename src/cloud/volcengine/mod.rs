//! Volcengine: a signed GET with a query, or a signed POST of JSON, and one envelope for every answer. What came back is
//! understood in [`read`], one function an API.

pub mod answer;
pub mod billing;
pub mod codes;
pub mod ecs;
pub mod metadata;
pub mod read;
pub mod sign;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use reqwest::{Method, Url};
use serde::Serialize;

use crate::cloud::account::{Account, Credentials};
use crate::cloud::call::{Api, Call, NotBuilt, OrdersPage, PageToken, Reply, SignedPurchase};
use crate::cloud::header::{name, secret_value, value};
use crate::cloud::listing::Look;
use crate::cloud::transport;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, Observation};
use crate::domain::order::{Goods, OrderId, Purchase};
use crate::domain::product::{InstanceId, Product, Region, VolcengineProduct};

const CONTENT_TYPE_JSON: &str = "application/json; charset=utf-8";
/// Serves every service of the ordinary regions.
const CENTRAL_HOST: &str = "open.volcengineapi.com";
/// Regions that the central host does not serve. Source: the SDKs' table of endpoints.
const REGIONS_WITH_OWN_HOST: [&str; 5] = [
    "ap-southeast-2",
    "ap-southeast-3",
    "cn-beijing-autodriving",
    "cn-beijing-selfdrive",
    "cn-shanghai-autodriving",
];
/// A global service takes any region in its scope; this is the documents' choice.
const GLOBAL_REGION: &str = "cn-beijing";

pub const ALL_APIS: &[Api] = &[
    ecs::RENEW.api,
    ecs::DESCRIBE.api,
    billing::LIST_AVAILABLE.api,
    billing::LIST_ORDERS.api,
    billing::ORDER_LINES.api,
    billing::PRICE_RENEW.api,
    billing::BALANCE.api,
];

/// One action of one version of one service's API.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub api: Api,
    pub version: &'static str,
}

/// Names and values of a query, beside `Action` and `Version`.
pub type Parameters = Vec<(String, String)>;

/// What a call says, and where it goes: regional services ask by query, the billing centre by JSON.
enum Question<'a> {
    Get { region: &'a Region, parameters: Parameters },
    Post { payload: Vec<u8> },
}

impl Question<'_> {
    fn json(body: &impl Serialize) -> Result<Self, Failure> {
        let payload = serde_json::to_vec(body);
        payload
            .map(|payload| Question::Post { payload })
            .map_err(|error| Failure::ours(Class::Rejected, "NotWritable", error.to_string()))
    }

    fn region(&self) -> &str {
        match self {
            Question::Get { region, .. } => region.as_str(),
            Question::Post { .. } => GLOBAL_REGION,
        }
    }
}

pub(super) fn purchase_api(product: VolcengineProduct, goods: &Goods) -> Result<Api, NotBuilt> {
    match (product, goods) {
        (VolcengineProduct::Ecs, Goods::Renewal(_)) => Ok(ecs::RENEW.api),
        (VolcengineProduct::Ecs, Goods::Upgrade(_)) => Err(not_built(product)),
    }
}

pub(super) fn observe_api(product: VolcengineProduct) -> Api {
    match product {
        VolcengineProduct::Ecs => ecs::DESCRIBE.api,
    }
}

pub(super) fn price_api(product: VolcengineProduct, goods: &Goods) -> Result<Api, NotBuilt> {
    match (product, goods) {
        (VolcengineProduct::Ecs, Goods::Renewal(_)) => Ok(billing::PRICE_RENEW.api),
        (VolcengineProduct::Ecs, Goods::Upgrade(_)) => Err(not_built(product)),
    }
}

pub(super) fn observe_batch_max(product: VolcengineProduct) -> usize {
    match product {
        VolcengineProduct::Ecs => ecs::DESCRIBE_MAX_IDS,
    }
}

pub(super) async fn observe(
    account: &Account,
    product: VolcengineProduct,
    region: &Region,
    ids: &[InstanceId],
) -> Call<Vec<Observation>> {
    match product {
        VolcengineProduct::Ecs => {
            let look = Look { ids, observed_at: account.now(), zone: &account.bare_time_zone };
            let question = Question::Get { region, parameters: ecs::describe(ids) };
            let read = |http_status, body: &[u8]| read::observations(product, http_status, body, &look);
            ask(account, &ecs::DESCRIBE, Ok(question), read).await
        }
    }
}

pub(super) async fn auto_renew(account: &Account, ids: &[InstanceId]) -> Call<Vec<(InstanceId, AutoRenew)>> {
    let question = Question::json(&billing::list_available(ids));
    let read = |http_status, body: &[u8]| read::auto_renew(http_status, body, ids);
    ask(account, &billing::LIST_AVAILABLE, question, read).await
}

pub(super) async fn orders_page(
    account: &Account,
    from: Timestamp,
    through: Timestamp,
    page: Option<&PageToken>,
) -> Call<OrdersPage> {
    let question = billing::list_orders(from, through, page).and_then(|body| Question::json(&body));
    ask(account, &billing::LIST_ORDERS, question, read::orders_page).await
}

pub(super) async fn order_lines(account: &Account, order_id: &OrderId) -> Call<Vec<InstanceId>> {
    let question = Question::json(&billing::order_lines(order_id));
    ask(account, &billing::ORDER_LINES, question, read::order_lines).await
}

pub(super) async fn price(account: &Account, product: VolcengineProduct, purchase: &Purchase) -> Call<Fen> {
    match (product, &purchase.goods) {
        (VolcengineProduct::Ecs, Goods::Renewal(renewal)) => {
            let body = billing::price_for_renew(&purchase.instance, renewal.months);
            ask(account, &billing::PRICE_RENEW, Question::json(&body), read::price).await
        }
        (VolcengineProduct::Ecs, Goods::Upgrade(_)) => not_built(product).call(),
    }
}

pub(super) async fn balance(account: &Account) -> Call<Fen> {
    ask(account, &billing::BALANCE, Question::json(&billing::NoParameters {}), read::balance).await
}

pub(super) fn sign_purchase(
    account: &Account,
    product: VolcengineProduct,
    purchase: &Purchase,
) -> Result<SignedPurchase, Failure> {
    match (product, &purchase.goods) {
        (VolcengineProduct::Ecs, Goods::Renewal(renewal)) => {
            let parameters = ecs::renewal(&purchase.instance, renewal)?;
            let signed_at = account.now();
            let question = Question::Get { region: &purchase.region, parameters };
            let request = signed(account, &ecs::RENEW, question, signed_at)?;
            Ok(SignedPurchase { product: purchase.product, api: ecs::RENEW.api, signed_at, request })
        }
        (VolcengineProduct::Ecs, Goods::Upgrade(_)) => Err(not_built(product).into()),
    }
}

/// Signs a question, asks it and hands the answer to `read`.
async fn ask<T>(
    account: &Account,
    action: &Action,
    question: Result<Question<'_>, Failure>,
    read: impl FnOnce(u16, &[u8]) -> Reply<T>,
) -> Call<T> {
    let request = question.and_then(|question| signed(account, action, question, account.now()));
    account.ask(action.api, request, read).await
}

fn signed(
    account: &Account,
    action: &Action,
    question: Question<'_>,
    at: Timestamp,
) -> Result<transport::Request, Failure> {
    let (mut url, host) = destination(account, action, question.region())?;
    let region = question.region().to_owned();
    let (method, content_type, parameters, payload) = match question {
        Question::Get { parameters, .. } => (Method::GET, None, parameters, Vec::new()),
        Question::Post { payload } => (Method::POST, Some(CONTENT_TYPE_JSON), Vec::new(), payload),
    };
    let mut pairs = vec![("Action", action.api.action()), ("Version", action.version)];
    pairs.extend(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let query = sign::query(&pairs);
    let credentials = account.to_sign()?;
    let request = sign::Request {
        method: method.as_str(),
        host: &host,
        query: &query,
        content_type,
        token: credentials.token.as_ref(),
        payload: &payload,
        region: &region,
        service: action.api.service(),
        at,
    };
    let stages = sign::sign(&request, &credentials.secret_key);
    let headers = headers(&request, &stages, &credentials)?;
    url.set_query(Some(&query));
    Ok(transport::Request { method, url, headers, body: payload.into() })
}

fn destination(account: &Account, action: &Action, region: &str) -> Result<(Url, String), Failure> {
    if let Some(endpoint) = &account.endpoint {
        return Ok((endpoint.url().clone(), endpoint.host()));
    }
    let host = if REGIONS_WITH_OWN_HOST.contains(&region) {
        format!("{}.{region}.volcengineapi.com", action.api.service())
    } else {
        CENTRAL_HOST.to_owned()
    };
    let url = Url::parse(&format!("https://{host}/"))
        .map_err(|error| Failure::ours(Class::Rejected, "InvalidHost", format!("{host}: {error}")))?;
    Ok((url, host))
}

fn headers(
    request: &sign::Request<'_>,
    stages: &sign::Stages,
    credentials: &Credentials,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value(request.host)?);
    headers.insert(name("x-date"), value(&stages.date)?);
    headers.insert(name("x-content-sha256"), value(&stages.payload_hash)?);
    headers.insert(AUTHORIZATION, secret_value(&stages.authorization(credentials.key_id.expose()))?);
    if let Some(content_type) = request.content_type {
        headers.insert(CONTENT_TYPE, value(content_type)?);
    }
    if let Some(token) = request.token {
        headers.insert(name("x-security-token"), secret_value(token.expose())?);
    }
    Ok(headers)
}

fn not_built(product: VolcengineProduct) -> NotBuilt {
    NotBuilt::new(Product::Volcengine(product))
}

#[cfg(test)]
mod tests;
