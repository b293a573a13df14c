//! What the client makes of each answer: status and body in, words of the domain out. Pure and public, so that tests can
//! hand it what no cloud would send.

use crate::cloud::call::{OrdersPage, Reply};
use crate::cloud::listing::{Listing, Look};
use crate::cloud::volcengine::{answer, billing, ecs};
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, Observation};
use crate::domain::order::OrderId;
use crate::domain::product::{InstanceId, VolcengineProduct};

/// Of RenewInstance.
pub fn purchase(product: VolcengineProduct, http_status: u16, body: &[u8]) -> Reply<Option<OrderId>> {
    match product {
        VolcengineProduct::Ecs => answer::read(http_status, body).and_then(ecs::order_id),
    }
}

/// Of DescribeInstances.
pub fn observations(
    product: VolcengineProduct,
    http_status: u16,
    body: &[u8],
    look: &Look<'_>,
) -> Reply<Vec<Observation>> {
    match product {
        VolcengineProduct::Ecs => answer::read::<Listing<ecs::Instance>>(http_status, body)
            .and_then(|listing| listing.observations(look)),
    }
}

/// Of ListAvailableInstances.
pub fn auto_renew(http_status: u16, body: &[u8], ids: &[InstanceId]) -> Reply<Vec<(InstanceId, AutoRenew)>> {
    answer::read(http_status, body).and_then(|available| billing::auto_renew(available, ids))
}

/// Of ListOrders.
pub fn orders_page(http_status: u16, body: &[u8]) -> Reply<OrdersPage> {
    answer::read(http_status, body).and_then(billing::orders_page)
}

/// Of ListOrderProductDetails.
pub fn order_lines(http_status: u16, body: &[u8]) -> Reply<Vec<InstanceId>> {
    answer::read(http_status, body).and_then(billing::instances)
}

/// Of QueryPriceForRenew.
pub fn price(http_status: u16, body: &[u8]) -> Reply<Fen> {
    answer::read(http_status, body).and_then(billing::price)
}

/// Of QueryBalanceAcct.
pub fn balance(http_status: u16, body: &[u8]) -> Reply<Fen> {
    answer::read(http_status, body).and_then(billing::balance)
}
