//! Instances at risk whose turn it is to be spoken of.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::at_opt;
use super::people::pause_reaches;
use super::writer::Change;
use crate::domain::order::OrderRow;

const LAST_DAY_MS: i64 = 24 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;
const NEAR_MS: i64 = 3 * 24 * 3_600_000;
/// A newcomer is observed within its first minute; only then is never having been observed a finding.
const NEWCOMER_MS: i64 = 60_000;

/// An instance near its expiry with no order on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    pub policy: String,
    pub account: String,
    pub product: String,
    pub region: String,
    pub instance: String,
    pub is_visible: Option<bool>,
    pub expires_at: Option<jiff::Timestamp>,
    pub cause: Cause,
}

/// Why no order is on its way, the weightiest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Paused {
        scope: String,
        name: Option<String>,
        kind: String,
        set_by: String,
        note: Option<String>,
    },
    /// An order whose fate is not known.
    Unknown {
        row: OrderRow,
    },
    /// Placed long ago, and the expiry has not moved.
    Overdue {
        row: OrderRow,
    },
    Disabled,
    /// The run of its policy that has not ended, else the latest.
    Run {
        state: String,
        reason: Option<String>,
    },
    NotFired,
}

/// Ids of the few instances that can be at risk, out of all: what expires before `$near`, and what shows no expiry,
/// which is never seen, not visible or unclear. The index of expiries has both.
macro_rules! may_be_at_risk {
    ($near:literal) => {
        concat!(
            "(SELECT id FROM instances WHERE expires_at_ms < ",
            $near,
            " UNION ALL SELECT id FROM instances WHERE expires_at_ms IS NULL)"
        )
    };
}
pub(super) use may_be_at_risk;

/// Whether an order of instance `i` is on its way to being confirmed, as the view `instances_v` asks it.
macro_rules! is_on_its_way {
    () => {
        "EXISTS (SELECT 1 FROM orders o WHERE o.instance_id = i.id AND o.action = 'renew' AND o.state <> 'refused'
            AND (o.state = 'intended' OR (o.state = 'placed' AND o.person_asked_ms IS NULL)))"
    };
}
pub(super) use is_on_its_way;

pub(super) struct LogRisks {
    pub(super) now_ms: i64,
}

impl Change for LogRisks {
    type Reply = Vec<Risk>;

    async fn without_change(&self, conn: &mut SqliteConnection) -> sqlx::Result<Option<Vec<Risk>>> {
        Ok(to_log(self.now_ms, conn).await?.is_empty().then(Vec::new))
    }

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<Risk>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(log_risks(row.now_ms, conn).await?);
        }
        Ok(replies)
    }
}

/// The instances whose turn it is.
async fn to_log(now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<Vec<SqliteRow>> {
    sqlx::query(
        concat!("SELECT p.name, p.account, p.product, p.region, i.instance, i.visible, i.expires_at_ms, r.state, r.reason, i.id,
                z.scope, z.name, z.kind, z.set_by, z.note, u.id, u.state, p.enabled
         FROM ",
        may_be_at_risk!("?1 + ?2"),
        " c CROSS JOIN instances i ON i.id = c.id
         CROSS JOIN policy_instances pi ON pi.instance_id = i.id AND pi.removed_at_ms IS NULL
         CROSS JOIN policies p ON p.id = pi.policy_id AND p.retired_at_ms IS NULL AND p.action = 'renew'
         -- Whatever has a reason to tell; a run that only stood back for an earlier one was never judged and has none.
         LEFT JOIN runs r ON r.id = coalesce(
             (SELECT min(l.id) FROM runs l WHERE l.instance_id = i.id AND l.policy_id = p.id
                 AND l.finished_at_ms IS NULL AND l.reason IS NOT NULL),
             (SELECT max(l.id) FROM runs l WHERE l.instance_id = i.id AND l.policy_id = p.id
                 AND l.finished_at_ms IS NOT NULL AND NOT (l.state = 'skipped' AND l.verdict IS NULL)),
             (SELECT max(l.id) FROM runs l WHERE l.instance_id = i.id AND l.policy_id = p.id))
         LEFT JOIN pauses z ON z.id = (SELECT max(f.id) FROM pauses f WHERE f.lifted_at_ms IS NULL
             AND ",
        pause_reaches!("f", "p.account", "p.name"),
        "
             AND (f.kind <> 'person' OR coalesce(f.until_ms > ?1, 1)))
         LEFT JOIN orders u ON u.instance_id = i.id AND u.stands_aside = 0
             AND u.state IN ('intended', 'placed', 'unknown') AND u.state <> 'intended'
         WHERE (i.expires_at_ms < ?1 + ?2
                OR i.visible = 0
                OR (i.visible IS NULL AND i.known_since_ms <= ?1 - ?5)
                OR (i.expires_at_ms IS NULL AND i.charge_type = 'prepaid'))
           AND NOT ",
        is_on_its_way!(),
        "  AND coalesce(i.risk_logged_at_ms, -9e15)
               <= ?1 - iif(coalesce(i.expires_at_ms, ?1 + ?3 + 1) <= ?1 + ?3, ?4, ?3)
         GROUP BY i.id ORDER BY i.expires_at_ms"),
    )
    .bind(now_ms)
    .bind(NEAR_MS)
    .bind(LAST_DAY_MS)
    .bind(HOUR_MS)
    .bind(NEWCOMER_MS)
    .fetch_all(conn)
    .await
}

async fn log_risks(now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<Vec<Risk>> {
    let found = to_log(now_ms, conn).await?;
    let ids: Vec<i64> = found.iter().map(|row| row.get(9)).collect();
    sqlx::query("UPDATE instances SET risk_logged_at_ms = ?1 WHERE id IN (SELECT value FROM json_each(?2))")
        .bind(now_ms)
        .bind(super::json(&ids)?)
        .execute(conn)
        .await?;
    found
        .iter()
        .map(|row| {
            Ok(Risk {
                policy: row.get(0),
                account: row.get(1),
                product: row.get(2),
                region: row.get(3),
                instance: row.get(4),
                is_visible: row.get(5),
                expires_at: at_opt(row.get(6)).map_err(|error| sqlx::Error::Decode(error.into()))?,
                cause: cause(row),
            })
        })
        .collect()
}

fn cause(row: &SqliteRow) -> Cause {
    let order = row.get::<Option<i64>, _>(15).map(OrderRow);
    if let Some(scope) = row.get(10) {
        let (kind, set_by) = (row.get(12), row.get(13));
        return Cause::Paused { scope, name: row.get(11), kind, set_by, note: row.get(14) };
    }
    match (order, row.get::<Option<&str>, _>(16)) {
        (Some(row), Some("unknown")) => return Cause::Unknown { row },
        (Some(row), _) => return Cause::Overdue { row },
        (None, _) => {}
    }
    if !row.get::<bool, _>(17) {
        return Cause::Disabled;
    }
    row.get::<Option<String>, _>(7).map_or(Cause::NotFired, |state| Cause::Run { state, reason: row.get(8) })
}
