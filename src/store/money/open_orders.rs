//! Open orders that are due for a look, with all that their verdict needs.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::numbers::give_number;
use super::{Store, StoreError, at, at_opt, ms};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::observation::Known;
use crate::domain::order::{ClientToken, Cycle, OrderId, OrderRow, OrderState};
use crate::domain::policy::{ActionKind, Terms};
use crate::domain::product::{AccountName, InstanceId, PolicyName, Product, Provider, Region};
use crate::domain::run::{Epoch, RunId};
use crate::store::observations::{known, known_columns, name, product};
use crate::store::runs::terms;
use crate::store::writer::Change;

/// The lists have whole seconds, and the clouds' clocks are not ours.
const LISTED_EARLY_MS: i64 = 60_000;
/// After a number that came too late: how long what the account's list does not show proves nothing.
const LATE_LIST_REMEMBERED_MS: i64 = 7 * 24 * 3_600_000;

#[derive(Clone, Debug)]
pub struct OpenOrder {
    pub row: OrderRow,
    pub run: RunId,
    pub policy: PolicyName,
    pub revision: i64,
    pub account: AccountName,
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
    pub state: OrderState,
    pub action: ActionKind,
    pub cycle: Option<Cycle>,
    pub request_id: Option<String>,
    pub client_token: Option<ClientToken>,
    pub order_id: Option<OrderId>,
    pub months: Option<u32>,
    pub expiry_before: Option<Timestamp>,
    pub intended_at: Timestamp,
    pub failure: Option<Failure>,
    pub person_asked: bool,
    pub amount: Option<Fen>,
    /// The policy's present terms: `unknown = "resend"` counts from the moment it is written.
    pub terms: Terms,
    pub known: Known,
    /// Evidence of this epoch, oldest first, with its monotonic time: looks of an older life do not count.
    pub looks: Vec<(u64, serde_json::Value)>,
    /// Of its run.
    pub due_at: Timestamp,
    /// An earlier order of this very cycle was called not to have happened.
    pub is_second: bool,
    /// The account's order list has lately named an order only after it had been called not to have happened.
    pub list_was_late: bool,
}

impl Store {
    /// Placed and unknown orders of an account whose next look is due, soonest expiry first.
    pub async fn orders_to_look_at(
        &self,
        account: &AccountName,
        provider: Provider,
        epoch: Epoch,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenOrder>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT o.id, o.run_id, p.name, o.policy_revision, o.product, o.region, i.instance, o.state, o.order_id,
                    o.months, o.expiry_before_ms, o.intended_at_ms, o.error, o.person_asked_ms IS NOT NULL, p.terms,
                    r.due_at_ms, o.amount_fen, o.action, o.cycle,
                    o.request_id, o.client_token,
                    EXISTS (SELECT 1 FROM orders z WHERE z.account = o.account AND z.intended_at_ms > ?2 - ?5
                            AND z.state = 'refused' AND z.order_id IS NOT NULL
                            AND z.error ->> 'code' IN ('NotOrdered', 'RenewedElsewhere')),
                    EXISTS (SELECT 1 FROM orders y WHERE y.instance_id = o.instance_id AND y.action = o.action
                            AND y.cycle = o.cycle AND y.id < o.id AND y.state = 'refused'
                            AND y.error ->> 'code' = 'NotOrdered'),
                    (SELECT json_group_array(json_array(l.monotonic_ms, json(l.evidence)) ORDER BY l.id) FROM looks l
                      WHERE l.order_row = o.id AND l.epoch = ?3),
                    ",
            known_columns!(),
            " FROM orders o JOIN policies p ON p.id = o.policy_id JOIN instances i ON i.id = o.instance_id
             JOIN runs r ON r.id = o.run_id
             WHERE o.account = ?1 AND o.state IN ('placed', 'unknown') AND o.next_look_at_ms <= ?2
             ORDER BY i.expires_at_ms LIMIT ?4"
        ))
        .bind(account.as_str())
        .bind(ms(now))
        .bind(epoch.0)
        .bind(limit)
        .bind(LATE_LIST_REMEMBERED_MS)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        rows.iter().map(|row| open_order(row, account, provider)).collect()
    }

    /// Whether an open order of the account is to be looked at by now, or the number of a settled one asked for.
    pub async fn has_orders_to_follow(
        &self,
        account: &AccountName,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let has_some = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM orders WHERE account = ?1 AND state IN ('placed', 'unknown')
                        AND next_look_at_ms <= ?2)
                 OR EXISTS (SELECT 1 FROM orders WHERE number_wanted_at_ms <= ?2 AND account = ?1)",
        )
        .bind(account.as_str())
        .bind(ms(now))
        .fetch_one(&mut *self.readers.get().await?)
        .await?;
        Ok(has_some)
    }

    /// Gives orders that the cloud lists to earlier rows of the same instance and action that were called not to have
    /// happened, and were sent by then. Answers which row took which number.
    pub async fn attribute_late(
        &self,
        order: &OpenOrder,
        listed: Vec<(OrderId, Timestamp)>,
    ) -> Result<Vec<(OrderRow, OrderId)>, StoreError> {
        let listed = listed.into_iter().map(|(id, at)| (id.0, ms(at))).collect();
        self.writer.submit(LateNumbers { row: order.row.0, listed }).await
    }

    /// When the next look at an open order of the account is due.
    pub async fn next_look(&self, account: &AccountName) -> Result<Option<Timestamp>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT min(next_look_at_ms) FROM orders WHERE account = ?1 AND state IN ('placed', 'unknown')",
        )
        .bind(account.as_str())
        .fetch_one(&mut *self.readers.get().await?)
        .await?;
        at_opt(next)
    }
}

fn open_order(row: &SqliteRow, account: &AccountName, provider: Provider) -> Result<OpenOrder, StoreError> {
    let (state, action): (&str, &str) = (row.get(7), row.get(17));
    let decode = |error: serde_json::Error| StoreError::Decode(error.to_string());
    let failure: Option<&str> = row.get(12);
    Ok(OpenOrder {
        row: OrderRow(row.get(0)),
        run: RunId(row.get(1)),
        policy: name(row.get(2), PolicyName::parse)?,
        revision: row.get(3),
        account: account.clone(),
        product: product(provider, row.get(4))?,
        region: name(row.get(5), Region::parse)?,
        instance: name(row.get(6), InstanceId::parse)?,
        state: OrderState::parse(state).ok_or_else(|| StoreError::Decode(format!("order state {state}")))?,
        order_id: row.get::<Option<String>, _>(8).map(OrderId),
        months: row.get(9),
        expiry_before: at_opt(row.get(10))?,
        intended_at: at(row.get(11))?,
        failure: failure.map(serde_json::from_str).transpose().map_err(decode)?,
        person_asked: row.get(13),
        terms: terms(row.get(14))?,
        due_at: at(row.get(15))?,
        amount: row.get::<Option<i64>, _>(16).map(Fen::new),
        action: ActionKind::parse(action).ok_or_else(|| StoreError::Decode(format!("action {action}")))?,
        cycle: Cycle::parse(row.get(18)),
        request_id: row.get(19),
        client_token: row.get::<Option<String>, _>(20).map(ClientToken),
        list_was_late: row.get(21),
        is_second: row.get(22),
        looks: serde_json::from_str(row.get(23)).map_err(decode)?,
        known: known(row, 24)?,
    })
}

struct LateNumbers {
    row: i64,
    listed: Vec<(String, i64)>,
}

impl Change for LateNumbers {
    type Reply = Vec<(OrderRow, OrderId)>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let mut taken = Vec::new();
            for (id, at_ms) in &row.listed {
                let found: Option<i64> = sqlx::query_scalar(
                    "SELECT max(e.id) FROM orders e JOIN orders o ON o.id = ?1
                     WHERE e.instance_id = o.instance_id AND e.action = o.action AND e.id < o.id
                       AND e.state = 'refused' AND e.order_id IS NULL AND e.intended_at_ms <= ?2
                       AND e.error ->> 'code' IN ('NotOrdered', 'ResolvedNotPaid')",
                )
                .bind(row.row)
                .bind(at_ms + LISTED_EARLY_MS)
                .fetch_one(&mut *conn)
                .await?;
                let Some(found) = found else { continue };
                give_number(found, Some(id), None, None, conn).await?;
                taken.push((OrderRow(found), OrderId(id.clone())));
            }
            replies.push(taken);
        }
        Ok(replies)
    }
}
