//! Tencent Cloud: one file a product, over two ways to call.
//!
//! ```text
//! redis, cvm, billing ──► api3 ── sign ─────► POST JSON, {"Response": …}      answer, codes
//! cvm_v2 ───────────────► v2 ──── sign_v2 ──► POST form, {code, codeDesc, …}  answer_v2, codes_v2
//! ```
//!
//! What came back is understood in [`read`], one function an API.

pub mod answer;
pub mod answer_v2;
pub mod api3;
pub mod billing;
pub mod codes;
pub mod codes_v2;
pub mod cvm;
pub mod cvm_v2;
pub mod metadata;
pub mod read;
pub mod redis;
pub mod sign;
pub mod sign_v2;
pub mod v2;

use jiff::Timestamp;

use crate::cloud::account::Account;
use crate::cloud::call::{Api, Call, Cause, NotBuilt, SignedPurchase};
use crate::cloud::listing::Look;
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::observation::Observation;
use crate::domain::order::{Goods, ListedOrder, Purchase};
use crate::domain::product::{InstanceId, Product, Region, TencentProduct};

pub const ALL_APIS: &[Api] = &[
    redis::RENEW.api,
    redis::UPGRADE.api,
    redis::DESCRIBE.api,
    redis::PRICE_RENEW.api,
    redis::PRICE_UPGRADE.api,
    cvm::RENEW.api,
    cvm::DESCRIBE.api,
    cvm::PRICE_RENEW.api,
    cvm_v2::RENEW,
    cvm_v2::DESCRIBE,
    cvm_v2::PRICE,
    billing::LIST_DEALS.api,
    billing::BALANCE.api,
];

/// One list serves all products.
pub(super) const ORDERS_API: Api = billing::LIST_DEALS.api;
pub(super) const BALANCE_API: Api = billing::BALANCE.api;

pub(super) fn purchase_api(product: TencentProduct, goods: &Goods) -> Result<Api, NotBuilt> {
    match (product, goods) {
        (TencentProduct::Redis, _) => Ok(redis::purchase_action(goods).api),
        (TencentProduct::Cvm, Goods::Renewal(_)) => Ok(cvm::RENEW.api),
        (TencentProduct::CvmV2, Goods::Renewal(_)) => Ok(cvm_v2::RENEW),
        (TencentProduct::Cvm | TencentProduct::CvmV2, Goods::Upgrade(_)) => Err(not_built(product)),
    }
}

pub(super) fn observe_api(product: TencentProduct) -> Api {
    match product {
        TencentProduct::Redis => redis::DESCRIBE.api,
        TencentProduct::Cvm => cvm::DESCRIBE.api,
        TencentProduct::CvmV2 => cvm_v2::DESCRIBE,
    }
}

pub(super) fn price_api(product: TencentProduct, goods: &Goods) -> Result<Api, NotBuilt> {
    match (product, goods) {
        (TencentProduct::Redis, _) => Ok(redis::price_action(goods).api),
        (TencentProduct::Cvm, Goods::Renewal(_)) => Ok(cvm::PRICE_RENEW.api),
        (TencentProduct::CvmV2, Goods::Renewal(_)) => Ok(cvm_v2::PRICE),
        (TencentProduct::Cvm | TencentProduct::CvmV2, Goods::Upgrade(_)) => Err(not_built(product)),
    }
}

pub(super) fn observe_batch_max(product: TencentProduct) -> usize {
    match product {
        TencentProduct::Redis => redis::DESCRIBE_MAX_IDS,
        TencentProduct::Cvm => cvm::DESCRIBE_MAX_IDS,
        TencentProduct::CvmV2 => cvm_v2::DESCRIBE_MAX_IDS,
    }
}

pub(super) async fn observe(
    account: &Account,
    product: TencentProduct,
    region: &Region,
    ids: &[InstanceId],
) -> Call<Vec<Observation>> {
    let look = Look { ids, observed_at: account.now(), zone: &account.bare_time_zone };
    let read = |http_status, body: &[u8]| read::observations(product, http_status, body, &look);
    match product {
        TencentProduct::Redis => {
            api3::ask(account, &redis::DESCRIBE, Some(region), &redis::describe(ids), read).await
        }
        TencentProduct::Cvm => {
            api3::ask(account, &cvm::DESCRIBE, Some(region), &cvm::describe(ids), read).await
        }
        TencentProduct::CvmV2 => {
            v2::ask(account, cvm_v2::DESCRIBE, region, cvm_v2::describe(ids), read).await
        }
    }
}

pub(super) async fn list_orders(
    account: &Account,
    region: &Region,
    instance: &InstanceId,
    from: Timestamp,
    through: Timestamp,
) -> Call<Vec<ListedOrder>> {
    let zone = &account.bare_time_zone;
    let body = billing::list_deals(instance, from, through, zone);
    let read = |http_status, body: &[u8]| read::orders(http_status, body, instance, zone);
    api3::ask(account, &billing::LIST_DEALS, Some(region), &body, read).await
}

pub(super) async fn price(account: &Account, product: TencentProduct, purchase: &Purchase) -> Call<Fen> {
    let region = Some(&purchase.region);
    let read = |http_status, body: &[u8]| read::price(product, http_status, body);
    match (product, &purchase.goods) {
        (TencentProduct::Redis, goods) => {
            let action = redis::price_action(goods);
            api3::ask(account, action, region, &redis::body(purchase), read).await
        }
        (TencentProduct::Cvm, Goods::Renewal(renewal)) => {
            let question = cvm::price_question(&purchase.instance, renewal);
            api3::ask(account, &cvm::PRICE_RENEW, region, &question, read).await
        }
        (TencentProduct::CvmV2, Goods::Renewal(renewal)) => {
            let question = cvm_v2::price_question(&purchase.instance, renewal);
            v2::ask(account, cvm_v2::PRICE, &purchase.region, question, read).await
        }
        (TencentProduct::Cvm | TencentProduct::CvmV2, Goods::Upgrade(_)) => not_built(product).call(),
    }
}

pub(super) async fn balance(account: &Account) -> Call<Fen> {
    api3::ask(account, &billing::BALANCE, None, &billing::AskBalance {}, read::balance).await
}

pub(super) fn sign_purchase(
    account: &Account,
    product: TencentProduct,
    purchase: &Purchase,
) -> Result<SignedPurchase, Failure> {
    match (product, &purchase.goods) {
        (TencentProduct::Redis, goods) => {
            api3::sign_purchase(account, redis::purchase_action(goods), purchase, &redis::body(purchase))
        }
        (TencentProduct::Cvm, Goods::Renewal(renewal)) => {
            let body = cvm::renew(&purchase.instance, renewal)?;
            api3::sign_purchase(account, &cvm::RENEW, purchase, &body)
        }
        (TencentProduct::CvmV2, Goods::Renewal(renewal)) => {
            let parameters = cvm_v2::renew(&purchase.instance, renewal);
            v2::sign_purchase(account, cvm_v2::RENEW, purchase, parameters)
        }
        (TencentProduct::Cvm | TencentProduct::CvmV2, Goods::Upgrade(_)) => Err(not_built(product).into()),
    }
}

/// The two ways to call share no code, so that one table after the other can be asked.
pub(super) fn cause(code: &str) -> Option<Cause> {
    codes::judge(code).cause.or_else(|| codes_v2::find(code).and_then(|judged| judged.cause))
}

fn not_built(product: TencentProduct) -> NotBuilt {
    NotBuilt::new(Product::TencentCloud(product))
}
