//! The intent's own INSERT, whose conditions are what must be atomic with it.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Intent, ORDERS_PER_DAY_LEAST, Withheld, json, ms};
use crate::domain::money::Fen;
use crate::domain::order::OrderRow;
use crate::store::people::{pause_reaches, paused_words};
use crate::store::runs::{Claim, foreign_order};
use crate::store::writer::Change;

#[derive(Serialize)]
pub(super) struct IntentRow {
    run: i64,
    epoch: i64,
    revision: i64,
    cycle: Option<String>,
    months: Option<u32>,
    amount_fen: Option<i64>,
    client_token: Option<String>,
    expiry_before_ms: Option<i64>,
    verdict: Option<String>,
    observed_at_ms: i64,
    foreign_order_at_ms: Option<i64>,
    orders_per_day: Option<u32>,
    fen_per_day: Option<i64>,
    fen_per_month: Option<i64>,
    day_start_ms: i64,
    month_start_ms: i64,
    now_ms: i64,
}

impl IntentRow {
    pub(super) fn new(claim: &Claim, intent: &Intent) -> IntentRow {
        IntentRow {
            run: claim.job.run.0,
            epoch: claim.epoch().0,
            revision: claim.job.revision,
            cycle: intent.cycle.as_ref().map(ToString::to_string),
            months: intent.months,
            amount_fen: intent.amount.map(Fen::get),
            client_token: intent.client_token.clone(),
            expiry_before_ms: intent.expiry_before.map(ms),
            verdict: intent.verdict.as_ref().map(ToString::to_string),
            observed_at_ms: ms(intent.observed_at),
            foreign_order_at_ms: claim.job.foreign_order_at.map(ms),
            orders_per_day: intent.budget.orders_per_day,
            fen_per_day: intent.budget.per_day.map(Fen::get),
            fen_per_month: intent.budget.per_month.map(Fen::get),
            day_start_ms: ms(intent.budget.day_start),
            month_start_ms: ms(intent.budget.month_start),
            now_ms: ms(intent.at),
        }
    }
}

/// Every test that an intent must pass, as columns over the waiting intents `e`; used by the INSERT and,
/// for those that it left out, to say why.
macro_rules! intent_tests {
    () => {
        concat!("SELECT e.key AS key, e.value AS j, r.id AS run_id, r.policy_id, r.instance_id, r.account, r.action, r.epoch,
            p.revision, p.product, p.region,
            coalesce(e.value ->> 'cycle', 'cycle:' || i.cycle) AS cycle,
            r.state = 'running' AND r.epoch IS e.value ->> 'epoch'
                AND r.epoch = (SELECT epoch FROM daemon) AS is_current,
            p.revision = e.value ->> 'revision' AND p.stopped_at_ms IS NULL
                AND i.observed_at_ms IS e.value ->> 'observed_at_ms'
                -- What was settled or allowed again since the look may have been done by hand before.
                AND NOT EXISTS (SELECT 1 FROM orders s WHERE s.instance_id = r.instance_id
                    AND s.settled_at_ms BETWEEN e.value ->> 'observed_at_ms' AND e.value ->> 'now_ms')
                AND NOT EXISTS (SELECT 1 FROM pauses w
                    WHERE ",
        pause_reaches!("w", "r.account", "p.name"),
        "             AND coalesce(w.lifted_at_ms, iif(w.kind = 'person', w.until_ms, NULL))
                          BETWEEN e.value ->> 'observed_at_ms' AND e.value ->> 'now_ms')
                AND ",
        foreign_order!("r.instance_id", "r.action", "r.policy_id", "p.revision", "r.by_hand"),
        " IS e.value ->> 'foreign_order_at_ms' AS is_as_judged,
            (SELECT max(z.id) FROM pauses z
              WHERE z.lifted_at_ms IS NULL
                AND ",
        pause_reaches!("z", "r.account", "p.name"),
        "       AND (coalesce(z.until_ms > e.value ->> 'now_ms', 1)
                     -- A pause of ours that has run out lets one order through at a time, as its test.
                     OR (z.kind <> 'person' AND EXISTS (SELECT 1 FROM orders t
                                         WHERE t.settled_at_ms IS NULL AND t.account = r.account AND t.state = 'intended')))) AS pause_id,
            (SELECT o.id FROM orders o WHERE o.instance_id = r.instance_id
              AND o.state IN ('intended', 'placed', 'unknown')
              AND (o.stands_aside = 0 OR o.action = r.action)) AS open_id,
            (SELECT o.id FROM orders o WHERE o.instance_id = r.instance_id AND o.action = r.action
              AND o.cycle = coalesce(e.value ->> 'cycle', 'cycle:' || i.cycle) AND o.state <> 'refused') AS cycle_id,
            coalesce(e.value ->> 'orders_per_day', (SELECT max(?2, 2 * count(DISTINCT pi.instance_id))
                FROM policies q JOIN policy_instances pi ON pi.policy_id = q.id
                WHERE q.account = r.account AND q.stopped_at_ms IS NULL AND pi.removed_at_ms IS NULL)) AS orders_limit,
            (SELECT count(*) FROM orders b WHERE b.account = r.account AND b.state <> 'refused'
                AND b.intended_at_ms >= e.value ->> 'day_start_ms') AS orders_today,
            e.value ->> 'fen_per_day' AS day_limit,
            (SELECT coalesce(sum(b.amount_fen), 0) FROM orders b WHERE b.account = r.account AND b.state <> 'refused'
                AND b.intended_at_ms >= e.value ->> 'day_start_ms') + (e.value ->> 'amount_fen') AS day_sum,
            e.value ->> 'fen_per_month' AS month_limit,
            (SELECT coalesce(sum(b.amount_fen), 0) FROM orders b WHERE b.account = r.account AND b.state <> 'refused'
                AND b.intended_at_ms >= e.value ->> 'month_start_ms') + (e.value ->> 'amount_fen') AS month_sum
         FROM json_each(?1) e JOIN runs r ON r.id = e.value ->> 'run' JOIN policies p ON p.id = r.policy_id
         JOIN instances i ON i.id = r.instance_id")
    };
}

impl Change for IntentRow {
    type Reply = Result<OrderRow, Withheld>;

    /// A lane has one intent waiting at a time, so the sums of one account never miss a sibling of the batch.
    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self::Reply>> {
        let text = json(&rows)?;
        let written = sqlx::query(concat!(
            "WITH tests AS (",
            intent_tests!(),
            ")
             INSERT INTO orders (run_id, policy_id, policy_revision, instance_id, account, product, region, action,
                 cycle, state, epoch, client_token, months, amount_fen, expiry_before_ms, intended_at_ms)
             SELECT run_id, policy_id, revision, instance_id, account, product, region, action, cycle, 'intended',
                 epoch, j ->> 'client_token', j ->> 'months', j ->> 'amount_fen', j ->> 'expiry_before_ms',
                 j ->> 'now_ms'
             FROM tests
             WHERE is_current AND is_as_judged AND pause_id IS NULL AND open_id IS NULL AND cycle_id IS NULL
               AND orders_today < orders_limit
               AND (day_limit IS NULL OR coalesce(day_sum <= day_limit, 0))
               AND (month_limit IS NULL OR coalesce(month_sum <= month_limit, 0))
             ON CONFLICT DO NOTHING RETURNING id, run_id"
        ))
        .bind(&text)
        .bind(ORDERS_PER_DAY_LEAST)
        .fetch_all(&mut *conn)
        .await?;
        sqlx::query(
            "UPDATE runs SET verdict = e.value ->> 'verdict' FROM json_each(?1) e
             WHERE runs.id = e.value ->> 'run' AND e.value ->> 'verdict' IS NOT NULL
               AND EXISTS (SELECT 1 FROM orders o WHERE o.run_id = runs.id AND o.state = 'intended')",
        )
        .bind(&text)
        .execute(&mut *conn)
        .await?;
        mark_lower_openings(&written, conn).await?;
        let id_of = |run: i64| written.iter().find(|row| row.get::<i64, _>(1) == run).map(|row| row.get(0));
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(match id_of(row.run) {
                Some(id) => Ok(OrderRow(id)),
                None => Err(why_withheld(row, conn).await?),
            });
        }
        Ok(replies)
    }
}

/// The term that opened the cycle was taken back: what this order pays for begins where the instance is now, and the
/// next cycle a term after that, not a term after what was taken back.
async fn mark_lower_openings(written: &[SqliteRow], conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let rows: Vec<i64> = written.iter().map(|row| row.get(0)).collect();
    sqlx::query(
        "UPDATE instances SET cycle_expiry_ms = o.expiry_before_ms
         FROM json_each(?1) e JOIN orders o ON o.id = e.value
         WHERE instances.id = o.instance_id AND o.cycle = 'cycle:' || instances.cycle
           AND o.expiry_before_ms < instances.cycle_expiry_ms",
    )
    .bind(json(&rows)?)
    .execute(conn)
    .await?;
    Ok(())
}

async fn why_withheld(row: &IntentRow, conn: &mut SqliteConnection) -> sqlx::Result<Withheld> {
    let tests = sqlx::query(concat!(
        "WITH tests AS (",
        intent_tests!(),
        ") SELECT is_current, is_as_judged, pause_id, open_id, cycle_id, orders_today, orders_limit,
               day_limit, day_sum, month_limit, month_sum, z.until_ms, z.note, z.kind, z.set_by, o.cycle = tests.cycle
           FROM tests LEFT JOIN pauses z ON z.id = pause_id LEFT JOIN orders o ON o.id = open_id"
    ))
    .bind(json(&[row])?)
    .bind(ORDERS_PER_DAY_LEAST)
    .fetch_optional(conn)
    .await?;
    let Some(tests) = tests else { return Ok(Withheld::Stale) };
    let number = |column: usize| tests.get::<Option<i64>, _>(column);
    let over = |limit: usize, sum: usize| {
        number(limit).is_some_and(|limit| number(sum).is_some_and(|sum| sum > limit))
    };
    if !tests.get::<Option<bool>, _>(0).unwrap_or(false) {
        Ok(Withheld::Stale)
    } else if let Some(open) = number(3) {
        let same_cycle = tests.get::<Option<bool>, _>(15).unwrap_or(false);
        Ok(Withheld::OpenOrder { row: OrderRow(open), same_cycle })
    } else if let Some(paid) = number(4) {
        Ok(Withheld::CyclePaid { row: OrderRow(paid) })
    } else if number(2).is_some() {
        let until = number(11).map(Timestamp::from_millisecond).and_then(Result::ok);
        let (kind, by): (String, String) = (tests.get(13), tests.get(14));
        let note = tests.get::<Option<String>, _>(12);
        let now = Timestamp::from_millisecond(row.now_ms).unwrap_or(Timestamp::MIN);
        if kind != "person" && until.is_some_and(|until| until <= now) {
            return Ok(Withheld::TestUnderWay);
        }
        Ok(Withheld::Paused { until, note: paused_words(&kind, &by, note.as_deref()) })
    } else if number(5) >= number(6) {
        Ok(Withheld::OrdersPerDay { limit: u32::try_from(number(6).unwrap_or(0)).unwrap_or(u32::MAX) })
    } else if over(7, 8) {
        Ok(Withheld::MoneyPerDay)
    } else if over(9, 10) {
        Ok(Withheld::MoneyPerMonth)
    } else if (number(7).is_some() || number(9).is_some()) && row.amount_fen.is_none() {
        Ok(Withheld::PriceUnknown)
    } else {
        Ok(Withheld::Superseded)
    }
}
