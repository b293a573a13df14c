//! What the client makes of each answer: status and body in, words of the domain out. Pure and public, so that tests can
//! hand it what no cloud would send.

use jiff::tz::TimeZone;

use crate::cloud::call::Reply;
use crate::cloud::listing::{Listed, Listing, Look};
use crate::cloud::tencentcloud::{answer, answer_v2, billing, cvm, cvm_v2, redis};
use crate::domain::money::Fen;
use crate::domain::observation::Observation;
use crate::domain::order::{ListedOrder, OrderId};
use crate::domain::product::{InstanceId, TencentProduct};

/// Of RenewInstance, UpgradeInstance and RenewInstances.
pub fn purchase(product: TencentProduct, http_status: u16, body: &[u8]) -> Reply<Option<OrderId>> {
    match product {
        TencentProduct::Redis | TencentProduct::Cvm => answer::purchase(http_status, body),
        TencentProduct::CvmV2 => answer_v2::purchase(http_status, body),
    }
}

/// Of DescribeInstances.
pub fn observations(
    product: TencentProduct,
    http_status: u16,
    body: &[u8],
    look: &Look<'_>,
) -> Reply<Vec<Observation>> {
    match product {
        TencentProduct::Redis => of_version_3::<redis::Instance>(http_status, body, look),
        TencentProduct::Cvm => of_version_3::<cvm::Instance>(http_status, body, look),
        TencentProduct::CvmV2 => answer_v2::read::<Listing<cvm_v2::Instance>>(http_status, body)
            .and_then(|listing| listing.observations(look)),
    }
}

fn of_version_3<T: Listed>(http_status: u16, body: &[u8], look: &Look<'_>) -> Reply<Vec<Observation>> {
    answer::read::<Listing<T>>(http_status, body).and_then(|listing| listing.observations(look))
}

/// Of the InquiryPrice actions and InquiryInstancePrice.
pub fn price(product: TencentProduct, http_status: u16, body: &[u8]) -> Reply<Fen> {
    match product {
        TencentProduct::Redis => answer::read(http_status, body).and_then(redis::price),
        TencentProduct::Cvm => answer::read(http_status, body).and_then(cvm::price),
        TencentProduct::CvmV2 => answer_v2::read(http_status, body).and_then(cvm_v2::price),
    }
}

/// Of DescribeDealsByCond. `zone` is that of times without one.
pub fn orders(
    http_status: u16,
    body: &[u8],
    instance: &InstanceId,
    zone: &TimeZone,
) -> Reply<Vec<ListedOrder>> {
    answer::read(http_status, body).and_then(|deals| billing::listed_orders(deals, instance, zone))
}

/// Of DescribeAccountBalance.
pub fn balance(http_status: u16, body: &[u8]) -> Reply<Fen> {
    answer::read(http_status, body).and_then(billing::balance)
}
