//! A person settles an order.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{ResolveRefused, Word, json, ms, write_act};
use crate::domain::failure::{Class, Failure};
use crate::domain::observation::Spec;
use crate::domain::order::{Cycle, OrderId, OrderRow, RESOLVED_NOT_PAID};
use crate::domain::policy::{Action, Terms};
use crate::domain::upgrade::Dimension;
use crate::store::money::reopen_cycles;
use crate::store::writer::Change;

pub(super) struct Resolve {
    pub(super) row: OrderRow,
    pub(super) verdict: Verdict,
    pub(super) word: Word,
}

pub(super) enum Verdict {
    Paid(Option<OrderId>),
    NotPaid { force: bool },
}

/// Moves at least this late are a term, not a correction of hours: the shortest term sold is a month.
const EXPIRY_MOVED_MS: i64 = 20 * 24 * 3_600_000;

impl Change for Resolve {
    type Reply = Result<(), ResolveRefused>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(resolve(row, conn).await?);
        }
        Ok(replies)
    }
}

async fn resolve(resolve: &Resolve, conn: &mut SqliteConnection) -> sqlx::Result<Result<(), ResolveRefused>> {
    let found = sqlx::query(
        "SELECT o.state, o.run_id, o.expiry_before_ms, i.expires_at_ms, i.instance, o.cycle, i.mem_size_mb, i.shards,
                i.replicas, p.terms, o.repeat_epoch = (SELECT epoch FROM daemon)
         FROM orders o JOIN instances i ON i.id = o.instance_id JOIN policies p ON p.id = o.policy_id WHERE o.id = ?1",
    )
    .bind(resolve.row.0)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(found) = found else { return Ok(Err(ResolveRefused::NoSuchRow(resolve.row))) };
    let state: String = found.get(0);
    if state != "placed" && state != "unknown" {
        return Ok(Err(ResolveRefused::NotOpen { row: resolve.row, state }));
    }
    if found.get::<Option<bool>, _>(10) == Some(true) {
        return Ok(Err(ResolveRefused::OnItsWay { row: resolve.row }));
    }
    let (before, seen): (Option<i64>, Option<i64>) = (found.get(2), found.get(3));
    let run: i64 = found.get(1);
    let reached = reached_size(&found);
    let is_renewal = !matches!(Cycle::parse(found.get(5)), Some(Cycle::Target { .. }));
    match &resolve.verdict {
        Verdict::Paid(order_id) => {
            let after = seen.filter(|seen| is_renewal && before.is_none_or(|before| *seen > before));
            settle_paid(resolve, order_id.as_ref(), after, conn).await?;
            // Without the whole term in sight the instance stays due, and the next cycle would be paid at once.
            if has_moved_a_term(before, after) {
                reopen_cycles(&json(&[resolve.row])?, conn).await?;
            }
            end_paid_run(resolve, run, wants_more(&found), conn).await?;
        }
        Verdict::NotPaid { force } => {
            if let (Some(before), Some(seen), false) = (before, seen, *force)
                && is_renewal
                && has_moved_a_term(Some(before), Some(seen))
            {
                let moved = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
                return Ok(Err(ResolveRefused::ExpiryMoved {
                    row: resolve.row,
                    instance: found.get(4),
                    before: moved(before),
                    now: moved(seen),
                }));
            }
            if let (Some(size), false) = (reached, *force) {
                let instance = found.get(4);
                return Ok(Err(ResolveRefused::SizeReached { row: resolve.row, instance, size }));
            }
            settle_not_paid(resolve, run, conn).await?;
        }
    }
    let said = match &resolve.verdict {
        Verdict::Paid(Some(order_id)) => format!("paid, order {order_id}"),
        Verdict::Paid(None) => "paid".to_owned(),
        Verdict::NotPaid { force: true } => "not paid (forced)".to_owned(),
        Verdict::NotPaid { force: false } => "not paid".to_owned(),
    };
    let subject = resolve.row.to_string();
    wake_what_waited(resolve, conn).await?;
    write_act("order.resolved", &subject, Some(&said), &resolve.word, conn).await?;
    Ok(Ok(()))
}

/// Whether the upgrade of this order's policy changes another size as well.
fn wants_more(row: &SqliteRow) -> bool {
    let Some(Cycle::Target { dimension, .. }) = Cycle::parse(row.get(5)) else { return false };
    let (Some(mem_size_mb), Some(shards), Some(replicas)) = (row.get(6), row.get(7), row.get(8)) else {
        return false;
    };
    let spec = Spec { mem_size_mb, shards, replicas };
    match serde_json::from_str::<Terms>(row.get(9)).map(|terms| terms.action) {
        Ok(Action::Upgrade(wanted)) => {
            wanted.resizes(spec).iter().any(|resize| resize.dimension != dimension)
        }
        _ => false,
    }
}

/// What waited for this order to end need not wait any longer.
async fn wake_what_waited(resolve: &Resolve, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE runs SET next_attempt_at_ms = ?2 WHERE state = 'waiting' AND hold = 'open_order'
           AND instance_id = (SELECT instance_id FROM orders WHERE id = ?1)",
    )
    .bind(resolve.row.0)
    .bind(ms(resolve.word.at))
    .execute(conn)
    .await?;
    Ok(())
}

fn has_moved_a_term(before: Option<i64>, after: Option<i64>) -> bool {
    before.zip(after).is_some_and(|(before, after)| after >= before + EXPIRY_MOVED_MS)
}

/// The size that an upgrade's order was for, in words, when the instance shows it.
fn reached_size(row: &SqliteRow) -> Option<String> {
    let Some(Cycle::Target { dimension, target, .. }) = Cycle::parse(row.get(5)) else { return None };
    let column = Dimension::ALL.into_iter().position(|other| other == dimension)?;
    let size: Option<u32> = row.get(6 + column);
    (size == Some(target)).then(|| format!("{dimension} = {target}"))
}

async fn settle_paid(
    resolve: &Resolve,
    order_id: Option<&OrderId>,
    expiry_after_ms: Option<i64>,
    conn: &mut SqliteConnection,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE orders SET state = 'confirmed', order_id = coalesce(?2, order_id), settled_at_ms = ?3, settled_by = ?4,
                expiry_after_ms = ?5, error = NULL, next_look_at_ms = NULL WHERE id = ?1",
    )
    .bind(resolve.row.0)
    .bind(order_id.map(|id| &id.0))
    .bind(ms(resolve.word.at))
    .bind(&resolve.word.person)
    .bind(expiry_after_ms)
    .execute(conn)
    .await?;
    Ok(())
}

/// A run that wants more than this order brought goes on, as after a confirmation by what was seen.
async fn end_paid_run(
    resolve: &Resolve,
    run: i64,
    wants_more: bool,
    conn: &mut SqliteConnection,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE runs SET state = iif(?4, 'queued', 'succeeded'), epoch = NULL, hold = NULL, next_attempt_at_ms = NULL,
                error = NULL, finished_at_ms = iif(?4, NULL, ?2), reason = ?3 WHERE id = ?1 AND finished_at_ms IS NULL",
    )
    .bind(run)
    .bind(ms(resolve.word.at))
    .bind(format!("{} said that its order was paid", resolve.word.person))
    .bind(wants_more)
    .execute(conn)
    .await?;
    Ok(())
}

async fn settle_not_paid(resolve: &Resolve, run: i64, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let message = format!("{} said that it was not paid", resolve.word.person);
    let failure = Failure::ours(Class::Rejected, RESOLVED_NOT_PAID, &message);
    sqlx::query(
        "UPDATE orders SET state = 'refused', error = ?2, settled_at_ms = ?3, settled_by = ?4, next_look_at_ms = NULL
         WHERE id = ?1",
    )
    .bind(resolve.row.0)
    .bind(json(&failure)?)
    .bind(ms(resolve.word.at))
    .bind(&resolve.word.person)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE runs SET state = 'queued', epoch = NULL, hold = NULL, next_attempt_at_ms = NULL, reason = ?2
         WHERE id = ?1 AND finished_at_ms IS NULL",
    )
    .bind(run)
    .bind(message)
    .execute(conn)
    .await?;
    Ok(())
}
