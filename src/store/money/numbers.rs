//! Numbers that the cloud's order list names after their orders were settled without one.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Store, StoreError, at, ms};
use crate::domain::money::Fen;
use crate::domain::order::{OrderId, OrderRow, OrderState};
use crate::domain::policy::ActionKind;
use crate::domain::product::{AccountName, InstanceId, PolicyName, Product, Provider, Region};
use crate::domain::run::RunId;
use crate::store::observations::{name, product};
use crate::store::writer::Change;

/// A settled order without a number: confirmed by what the instance shows, or called not to have happened.
#[derive(Clone, Debug)]
pub struct Unnumbered {
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
    pub months: Option<u32>,
    pub intended_at: Timestamp,
    pub settled_at: Timestamp,
}

impl Store {
    /// Settled orders of an account whose number is to be asked for by now.
    pub async fn orders_without_number(
        &self,
        account: &AccountName,
        provider: Provider,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Unnumbered>, StoreError> {
        let rows = sqlx::query(
            "SELECT o.id, o.run_id, p.name, o.policy_revision, o.product, o.region, i.instance, o.state, o.action,
                    o.months, o.intended_at_ms, o.settled_at_ms
             FROM orders o JOIN policies p ON p.id = o.policy_id JOIN instances i ON i.id = o.instance_id
             WHERE o.number_wanted_at_ms <= ?2 AND o.account = ?1 ORDER BY o.id LIMIT ?3",
        )
        .bind(account.as_str())
        .bind(ms(now))
        .bind(limit)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        rows.iter().map(|row| unnumbered(row, account, provider)).collect()
    }

    /// Writes down what the list said of a settled order: its number, or when it is asked for again. A number in
    /// the row of an order that was called not to have happened stands in its error too.
    pub async fn note_number(
        &self,
        row: OrderRow,
        number: Option<(OrderId, Option<Fen>)>,
        next: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (order_id, amount) = number.unzip();
        self.writer
            .submit(NoteNumber {
                row: row.0,
                order_id: order_id.map(|id| id.0),
                amount_fen: amount.flatten().map(Fen::get),
                next_ms: next.map(ms),
            })
            .await
    }
}

fn unnumbered(row: &SqliteRow, account: &AccountName, provider: Provider) -> Result<Unnumbered, StoreError> {
    let (state, action): (&str, &str) = (row.get(7), row.get(8));
    Ok(Unnumbered {
        row: OrderRow(row.get(0)),
        run: RunId(row.get(1)),
        policy: name(row.get(2), PolicyName::parse)?,
        revision: row.get(3),
        account: account.clone(),
        product: product(provider, row.get(4))?,
        region: name(row.get(5), Region::parse)?,
        instance: name(row.get(6), InstanceId::parse)?,
        state: OrderState::parse(state).ok_or_else(|| StoreError::Decode(format!("order state {state}")))?,
        action: ActionKind::parse(action).ok_or_else(|| StoreError::Decode(format!("action {action}")))?,
        months: row.get(9),
        intended_at: at(row.get(10))?,
        settled_at: at(row.get(11))?,
    })
}

struct NoteNumber {
    row: i64,
    order_id: Option<String>,
    amount_fen: Option<i64>,
    next_ms: Option<i64>,
}

impl Change for NoteNumber {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            give_number(row.row, row.order_id.as_deref(), row.amount_fen, row.next_ms, conn).await?;
        }
        Ok(vec![(); rows.len()])
    }
}

/// An order that is called not to have happened and has a number is a contradiction that its error spells out.
pub(super) async fn give_number(
    row: i64,
    order_id: Option<&str>,
    amount_fen: Option<i64>,
    next_ms: Option<i64>,
    conn: &mut SqliteConnection,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE orders SET order_id = ?2, amount_fen = coalesce(amount_fen, ?3),
                number_wanted_at_ms = iif(?2 IS NULL, ?4, NULL),
                error = iif(?2 IS NOT NULL AND state = 'refused',
                    json_set(error, '$.message', (error ->> 'message') || '; later the cloud listed order ' || ?2 ||
                        ' for it, so it was ordered after all'), error)
         WHERE id = ?1 AND settled_at_ms IS NOT NULL AND order_id IS NULL",
    )
    .bind(row)
    .bind(order_id)
    .bind(amount_fen)
    .bind(next_ms)
    .execute(conn)
    .await?;
    Ok(())
}
