//! Leave to send an open order's request once more, with its token.

use sqlx::{Row, SqliteConnection};

use super::{Budget, ms};
use crate::domain::money::Fen;
use crate::domain::order::OrderRow;
use crate::domain::run::Epoch;
use crate::store::people::pause_reaches;
use crate::store::writer::Change;

pub(super) struct RepeatRow {
    pub(super) row: OrderRow,
    pub(super) epoch: Epoch,
    pub(super) now_ms: i64,
    /// As it is now: it may be less than when the order was made.
    pub(super) budget: Budget,
}

impl Change for RepeatRow {
    type Reply = bool;

    /// What could make the money unwanted meanwhile is a condition here, as it is of an intent.
    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let repeated = sqlx::query(
                concat!("UPDATE orders SET repeats = repeats + 1, repeat_epoch = ?2
                 WHERE id = ?1 AND state = 'unknown' AND client_token IS NOT NULL AND person_asked_ms IS NULL
                   AND ?2 = (SELECT epoch FROM daemon)
                   AND EXISTS (SELECT 1 FROM policies p WHERE p.id = policy_id AND p.stopped_at_ms IS NULL
                         AND p.revision = policy_revision)
                   AND (SELECT count(*) <= coalesce(?4, count(*))
                               AND coalesce(sum(b.amount_fen), 0) <= coalesce(?6, sum(b.amount_fen), 0)
                        FROM orders b
                        WHERE b.account = orders.account AND b.state <> 'refused' AND b.intended_at_ms >= ?5)
                   AND (SELECT coalesce(sum(b.amount_fen), 0) <= coalesce(?8, sum(b.amount_fen), 0) FROM orders b
                        WHERE b.account = orders.account AND b.state <> 'refused' AND b.intended_at_ms >= ?7)
                   AND NOT EXISTS (SELECT 1 FROM pauses z WHERE z.lifted_at_ms IS NULL
                         AND ",
                    pause_reaches!("z", "orders.account", "(SELECT p.name FROM policies p WHERE p.id = policy_id)"),
                    "    AND (z.kind <> 'person' OR coalesce(z.until_ms > ?3, 1)))
                 RETURNING id"),
            )
            .bind(row.row.0)
            .bind(row.epoch.0)
            .bind(row.now_ms)
            .bind(row.budget.orders_per_day)
            .bind(ms(row.budget.day_start))
            .bind(row.budget.per_day.map(Fen::get))
            .bind(ms(row.budget.month_start))
            .bind(row.budget.per_month.map(Fen::get))
            .fetch_optional(&mut *conn)
            .await?;
            replies.push(repeated.is_some_and(|found| found.get::<i64, _>(0) == row.row.0));
        }
        Ok(replies)
    }
}
