//! An order's moves after its intent, and those of its run.

use serde::Serialize;
use sqlx::SqliteConnection;

use super::{AfterConfirmed, Look, NextForRun, OrderMove, OrderStep, json, ms};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::run::Hold;
use crate::store::writer::Change;

#[derive(Serialize, Default)]
pub(super) struct MoveRow {
    row: i64,
    run: i64,
    now_ms: i64,
    sent_at_ms: Option<i64>,
    state: Option<&'static str>,
    order_id: Option<String>,
    request_id: Option<String>,
    amount_fen: Option<i64>,
    expiry_after_ms: Option<i64>,
    error: Option<Failure>,
    settled_at_ms: Option<i64>,
    next_look_at_ms: Option<i64>,
    asked: bool,
    stands_aside: bool,
    run_state: Option<&'static str>,
    run_hold: Option<&'static str>,
    run_next_ms: Option<i64>,
    run_reason: String,
    run_counts: bool,
    run_ended: bool,
    look: Option<Look>,
}

impl From<OrderMove> for MoveRow {
    fn from(order_move: OrderMove) -> MoveRow {
        let row = MoveRow {
            row: order_move.row.0,
            run: order_move.run.0,
            now_ms: ms(order_move.at),
            sent_at_ms: order_move.sent_at.map(ms),
            amount_fen: order_move.amount.map(Fen::get),
            look: order_move.look,
            ..MoveRow::default()
        };
        let now_ms = row.now_ms;
        match order_move.step {
            OrderStep::Placed { order_id, request_id, next_look_at } => MoveRow {
                state: Some("placed"),
                order_id: order_id.map(|id| id.0),
                request_id,
                next_look_at_ms: Some(ms(next_look_at)),
                run_state: Some("waiting"),
                run_hold: Some(Hold::Confirmation.as_str()),
                run_reason: "its order is placed and waits to be confirmed by the instance's expiry"
                    .to_owned(),
                ..row
            },
            OrderStep::Confirmed { order_id, expiry_after, reason, next } => MoveRow {
                state: Some("confirmed"),
                order_id: order_id.map(|id| id.0),
                expiry_after_ms: expiry_after.map(ms),
                settled_at_ms: Some(now_ms),
                run_state: Some(if next == AfterConfirmed::RunSucceeds { "succeeded" } else { "queued" }),
                run_reason: reason,
                run_ended: next == AfterConfirmed::RunSucceeds,
                ..row
            },
            OrderStep::Refused { failure, next } => refused(row, failure, next),
            OrderStep::Unknown { failure, next_look_at } => MoveRow {
                state: Some("unknown"),
                request_id: failure.request_id.clone(),
                run_reason: format!("its order is unknown: {failure}"),
                error: Some(failure),
                next_look_at_ms: Some(ms(next_look_at)),
                run_state: Some("unknown"),
                ..row
            },
            OrderStep::Watch { next_look_at, asked, stands_aside } => {
                MoveRow { next_look_at_ms: Some(ms(next_look_at)), asked, stands_aside, ..row }
            }
        }
    }
}

fn refused(row: MoveRow, failure: Failure, next: NextForRun) -> MoveRow {
    let row = MoveRow {
        state: Some("refused"),
        request_id: failure.request_id.clone(),
        error: Some(failure),
        settled_at_ms: Some(row.now_ms),
        ..row
    };
    match next {
        NextForRun::Queue { reason } => MoveRow { run_state: Some("queued"), run_reason: reason, ..row },
        NextForRun::Wait { until, reason, hold, counts } => MoveRow {
            run_state: Some("waiting"),
            run_hold: Some(hold.as_str()),
            run_next_ms: Some(ms(until)),
            run_reason: reason,
            run_counts: counts,
            ..row
        },
        NextForRun::Fail { reason } => {
            MoveRow { run_state: Some("failed"), run_reason: reason, run_ended: true, ..row }
        }
    }
}

impl Change for MoveRow {
    type Reply = bool;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        let text = json(&rows)?;
        // A late answer still counts after rescue has called its order unknown; a settled order stays settled.
        let moved: Vec<i64> = sqlx::query_scalar(
            "UPDATE orders SET
                state = coalesce(e.value ->> 'state', state), order_id = coalesce(e.value ->> 'order_id', order_id),
                request_id = coalesce(e.value ->> 'request_id', request_id),
                amount_fen = coalesce(e.value ->> 'amount_fen', amount_fen),
                expiry_after_ms = coalesce(e.value ->> 'expiry_after_ms', expiry_after_ms),
                -- Of a life that was killed before it could say: what the cloud has was sent, and right after its intent.
                sent_at_ms = coalesce(sent_at_ms, e.value ->> 'sent_at_ms',
                    iif(e.value ->> 'state' IN ('placed', 'confirmed'), intended_at_ms, NULL)),
                error = CASE WHEN e.value ->> 'state' IN ('placed', 'confirmed') THEN NULL
                             ELSE coalesce(nullif(e.value -> 'error', 'null'), error) END,
                settled_at_ms = e.value ->> 'settled_at_ms',
                settled_by = iif(e.value ->> 'settled_at_ms' IS NULL, NULL, 'renewd'),
                next_look_at_ms = e.value ->> 'next_look_at_ms', repeat_epoch = NULL,
                stands_aside = max(stands_aside, e.value ->> 'stands_aside'),
                person_asked_ms = coalesce(person_asked_ms, iif(e.value ->> 'asked', e.value ->> 'now_ms', NULL))
             FROM json_each(?1) e
             WHERE orders.id = e.value ->> 'row' AND settled_at_ms IS NULL
               AND NOT (coalesce(e.value ->> 'state', 'as it is') = 'unknown' AND state = 'placed')
               AND NOT (e.value ->> 'state' IS NULL AND state = 'intended')
             RETURNING id",
        )
        .bind(&text)
        .fetch_all(&mut *conn)
        .await?;
        let moved_text = json(&moved)?;
        keep_late_numbers(&text, conn).await?;
        move_runs(&text, &moved_text, conn).await?;
        reopen_cycles(&moved_text, conn).await?;
        sqlx::query(
            "INSERT INTO looks (order_row, epoch, at_ms, monotonic_ms, evidence, finding)
             SELECT e.value ->> 'row', e.value ->> '$.look.epoch', e.value ->> '$.look.at_ms',
                    e.value ->> '$.look.monotonic_ms', e.value -> '$.look.evidence', e.value ->> '$.look.finding'
             FROM json_each(?1) e WHERE e.value ->> '$.look.at_ms' IS NOT NULL
               AND e.value ->> 'row' IN (SELECT value FROM json_each(?2))",
        )
        .bind(&text)
        .bind(&moved_text)
        .execute(conn)
        .await?;
        Ok(rows.iter().map(|row| moved.contains(&row.row)).collect())
    }
}

/// A settled order stays settled; a number that comes late is kept all the same.
async fn keep_late_numbers(text: &str, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE orders SET order_id = coalesce(order_id, e.value ->> 'order_id'),
                number_wanted_at_ms = iif(e.value ->> 'order_id' IS NULL, number_wanted_at_ms, NULL),
                request_id = coalesce(request_id, e.value ->> 'request_id'),
                sent_at_ms = coalesce(sent_at_ms, e.value ->> 'sent_at_ms')
         FROM json_each(?1) e
         WHERE orders.id = e.value ->> 'row' AND settled_at_ms IS NOT NULL AND e.value ->> 'state' = 'placed'",
    )
    .bind(text)
    .execute(conn)
    .await?;
    Ok(())
}

/// A renewal confirmed below the highest expiry ever seen (a refund before it, or a wrong read): what it paid for is
/// a term of its own, whether its observation advanced the cycle or not, and the marks start from there.
/// `rows` are the orders just moved, as JSON.
pub(in crate::store) async fn reopen_cycles(rows: &str, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE instances SET cycle = instances.cycle + (o.cycle = 'cycle:' || instances.cycle), cycle_expiry_ms = o.expiry_after_ms,
                expiry_high_ms = o.expiry_after_ms, lower_since_ms = NULL, lower_looks = 0
         FROM json_each(?1) e JOIN orders o ON o.id = e.value
         WHERE instances.id = o.instance_id AND o.state = 'confirmed' AND o.action = 'renew'
           AND o.cycle LIKE 'cycle:%' AND o.expiry_after_ms < instances.expiry_high_ms",
    )
    .bind(rows)
    .execute(conn)
    .await?;
    Ok(())
}

async fn move_runs(text: &str, moved: &str, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE runs SET state = e.value ->> 'run_state', epoch = NULL, hold = e.value ->> 'run_hold',
                next_attempt_at_ms = e.value ->> 'run_next_ms', reason = e.value ->> 'run_reason',
                attempts = attempts + (e.value ->> 'run_counts'),
                error = iif(e.value ->> 'state' = 'confirmed' OR e.value ->> 'run_hold' = 'confirmation', NULL,
                            coalesce(nullif(e.value -> 'error', 'null'), error)),
                finished_at_ms = iif(e.value ->> 'run_ended', e.value ->> 'now_ms', NULL)
         FROM json_each(?1) e
         WHERE runs.id = e.value ->> 'run' AND finished_at_ms IS NULL AND e.value ->> 'run_state' IS NOT NULL
           AND e.value ->> 'row' IN (SELECT value FROM json_each(?2))",
    )
    .bind(text)
    .bind(moved)
    .execute(&mut *conn)
    .await?;
    // What waited for this order to end need not wait any longer.
    sqlx::query(
        "UPDATE runs SET next_attempt_at_ms = e.value ->> 'now_ms'
         FROM json_each(?1) e JOIN orders o ON o.id = e.value ->> 'row'
         WHERE runs.state = 'waiting' AND runs.hold = 'open_order' AND runs.instance_id = o.instance_id
           AND (e.value ->> 'settled_at_ms' IS NOT NULL OR e.value ->> 'stands_aside')",
    )
    .bind(text)
    .execute(conn)
    .await?;
    Ok(())
}
