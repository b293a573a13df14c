//! The order list of an instance: one call where the cloud lists by instance, else pages and then lines.

use jiff::Timestamp;

use super::calls::{About, CallError};
use super::{Account, Engine};
use crate::cloud::{Api, Cloud};
use crate::domain::failure::{Class, Failure};
use crate::domain::order::{ListedOrder, OrderId, OrderRow};
use crate::domain::product::{InstanceId, Product, Region};

/// Pages of a list without a filter by instance; past them it counts as unread, never as empty.
const PAGES_MAX: usize = 10;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub product: Product,
    pub region: &'a Region,
    pub instance: &'a InstanceId,
    pub row: OrderRow,
    /// The order's number, where it has one.
    pub order_id: Option<&'a OrderId>,
    pub from: Timestamp,
}

impl Engine {
    /// Orders of an instance created since `from`; of those that other rows already carry, perhaps none.
    pub(super) async fn list_orders(
        &self,
        account: &Account,
        wanted: Wanted<'_>,
    ) -> Result<Vec<ListedOrder>, CallError> {
        let api = Cloud::orders_api(wanted.product).map_err(Failure::from)?;
        if let Some(lines_api) = Cloud::order_lines_api(wanted.product) {
            return self.list_by_lines(account, api, lines_api, wanted).await;
        }
        let Wanted { product, region, instance, from, .. } = wanted;
        let permit = self.permit(account, api, region).await;
        let at = self.now();
        let call = self.read(api, account.cloud.list_orders(product, region, instance, from, at)).await;
        permit.written();
        self.finish_call(account, api, about(wanted), at, call).await
    }

    /// Every order of the window, and the lines of each that could be the wanted one.
    async fn list_by_lines(
        &self,
        account: &Account,
        api: Api,
        lines_api: Api,
        wanted: Wanted<'_>,
    ) -> Result<Vec<ListedOrder>, CallError> {
        let listed = self.all_pages(account, api, wanted).await?;
        if let Some(order_id) = wanted.order_id {
            return Ok(listed.into_iter().filter(|order| order.order_id == *order_id).collect());
        }
        let numbers: Vec<&OrderId> = listed.iter().map(|order| &order.order_id).collect();
        let taken = self.store.known_order_ids(&numbers, wanted.row).await?;
        let mut found = Vec::new();
        for order in listed.into_iter().filter(|order| !taken.contains(&order.order_id)) {
            let permit = self.permit(account, lines_api, wanted.region).await;
            let at = self.now();
            let call = self.read(lines_api, account.cloud.order_lines(wanted.product, &order.order_id)).await;
            permit.written();
            let lines = self.finish_call(account, lines_api, about(wanted), at, call).await?;
            if lines.contains(wanted.instance) {
                found.push(order);
            }
        }
        Ok(found)
    }

    async fn all_pages(
        &self,
        account: &Account,
        api: Api,
        wanted: Wanted<'_>,
    ) -> Result<Vec<ListedOrder>, CallError> {
        let through = match Cloud::orders_window_max(wanted.product) {
            Some(widest) => self.now().min(wanted.from.saturating_add(widest).unwrap_or(Timestamp::MAX)),
            None => self.now(),
        };
        let mut listed = Vec::new();
        let mut page = None;
        for _ in 0..PAGES_MAX {
            let permit = self.permit(account, api, wanted.region).await;
            let at = self.now();
            let call = self
                .read(api, account.cloud.orders_page(wanted.product, wanted.from, through, page.as_ref()))
                .await;
            permit.written();
            let answer = self.finish_call(account, api, about(wanted), at, call).await?;
            listed.extend(answer.orders);
            page = answer.next;
            if page.is_none() {
                return Ok(listed);
            }
        }
        let message =
            format!("the order list goes on after {PAGES_MAX} pages: too long to be read to its end");
        Err(CallError::Cloud(Failure::ours(Class::Unknown, "ListTooLong", message)))
    }
}

fn about<'a>(wanted: Wanted<'a>) -> About<'a> {
    About { region: wanted.region, order_row: Some(wanted.row), instances: 1 }
}
