//! Figures for metrics, read at one moment: totals that the schema's triggers keep, and a bounded look at instances.
//!
//! Invariant: no statement here walks all runs, orders or instances; what it reads grows with what is open, at risk or
//! shown.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::{Acquire, FromRow, Row, SqliteConnection};

use super::people::{Pause, pauses};
use super::risk::{is_on_its_way, may_be_at_risk};
use super::{SetInForce, Store, StoreError, at, at_opt, daemon, ms};
use crate::domain::money::Fen;
use crate::domain::policy::ActionKind;

/// What the database knows of the service's past and present.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Runs in each state now.
    pub runs: Vec<(String, u64)>,
    pub run_ends: Vec<RunEnds>,
    pub order_entries: Vec<OrderEntries>,
    /// By account, of confirmed orders whose price is known.
    pub spending: Vec<(String, Fen)>,
    pub orders_unknown: u64,
    /// Open orders that a person was asked to look after.
    pub orders_for_person: u64,
    pub instances_at_risk: u64,
    /// Firings of policies by their schedules, catch-ups too.
    pub fired: u64,
    /// Instants that a catch-up run stands for.
    pub caught_up: u64,
    /// Instants that nothing makes up for.
    pub too_old: u64,
    pub pauses: Vec<Pause>,
    pub set: SetInForce,
    /// The instances that expire soonest, [`EXPIRIES_MAX`] at most.
    pub expiries: Vec<Expiry>,
}

/// The few of them that tell whether all is well.
#[derive(Clone, Debug)]
pub struct Glance {
    /// Runs in each state now.
    pub runs: Vec<(String, u64)>,
    pub orders_unknown: u64,
    pub instances_at_risk: u64,
    pub pauses: usize,
    /// Whether an older set of policies runs than the one on disk.
    pub is_refused: bool,
}

/// Runs that ever came to an end, and stayed there.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct RunEnds {
    pub account: String,
    pub product: String,
    pub state: String,
    #[sqlx(try_from = "i64")]
    pub runs: u64,
}

/// Orders that ever came into a state; one order passes through several.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct OrderEntries {
    pub account: String,
    pub product: String,
    pub action: String,
    pub state: String,
    #[sqlx(try_from = "i64")]
    pub orders: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub account: String,
    pub product: String,
    pub instance: String,
    pub expires_at: Timestamp,
    /// Of the policy that renews it; None while there is none, or it is disabled.
    pub next_firing: Option<Timestamp>,
}

/// More would make a scrape of a large fleet larger than anybody wants, and the ones left out expire later.
pub const EXPIRIES_MAX: usize = 1000;
/// Of a fleet that nobody has looked at yet everything is at risk; further than this it is not counted.
const AT_RISK_MAX: i64 = 100_000;
/// As the view `instances_v` has it.
const RISK_NEAR: SignedDuration = SignedDuration::from_hours(3 * 24);

const RUN_COUNTS: &str = "SELECT state, runs FROM run_counts";

impl Store {
    /// All figures of one moment.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError> {
        let mut reader = self.readers.get().await?;
        let mut moment = reader.begin().await?;
        let conn = &mut *moment;
        let (orders_unknown, orders_for_person) = open_orders(conn).await?;
        let firings = counts(conn, "SELECT kind, firings FROM firing_counts").await?;
        let firings = |kind| firings.iter().find(|(of, _)| of == kind).map_or(0, |(_, count)| *count);
        Ok(Figures {
            runs: counts(conn, RUN_COUNTS).await?,
            run_ends: sqlx::query_as("SELECT * FROM run_ends").fetch_all(&mut *conn).await?,
            order_entries: sqlx::query_as("SELECT * FROM order_entries").fetch_all(&mut *conn).await?,
            spending: spending(conn).await?,
            orders_unknown,
            orders_for_person,
            instances_at_risk: instances_at_risk(now, conn).await?,
            fired: firings("fired"),
            caught_up: firings("caught_up"),
            too_old: firings("too_old"),
            pauses: pauses(now, &mut *conn).await?,
            set: daemon::set_in_force(&mut *conn).await?,
            expiries: expiries(conn).await?,
        })
    }

    /// # Errors
    /// The database could not be read.
    pub async fn glance(&self, now: Timestamp) -> Result<Glance, StoreError> {
        let mut reader = self.readers.get().await?;
        let mut moment = reader.begin().await?;
        let conn = &mut *moment;
        Ok(Glance {
            runs: counts(conn, RUN_COUNTS).await?,
            orders_unknown: open_orders(conn).await?.0,
            instances_at_risk: instances_at_risk(now, conn).await?,
            pauses: pauses(now, &mut *conn).await?.len(),
            is_refused: daemon::set_in_force(&mut *conn).await?.refused_at.is_some(),
        })
    }
}

async fn counts(conn: &mut SqliteConnection, query: &'static str) -> Result<Vec<(String, u64)>, StoreError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(of, count)| (of, count.unsigned_abs())).collect())
}

async fn open_orders(conn: &mut SqliteConnection) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE state = 'unknown'), count(person_asked_ms)
         FROM orders WHERE state IN ('placed', 'unknown')",
    )
    .fetch_one(conn)
    .await?;
    Ok((row.get::<i64, _>(0).unsigned_abs(), row.get::<i64, _>(1).unsigned_abs()))
}

async fn spending(conn: &mut SqliteConnection) -> Result<Vec<(String, Fen)>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT account, fen FROM spending").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(account, fen)| (account, Fen::new(fen))).collect())
}

/// As many as `instances_v` calls so, up to [`AT_RISK_MAX`].
async fn instances_at_risk(now: Timestamp, conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(concat!(
        "SELECT count(*) FROM (SELECT 1 FROM ",
        may_be_at_risk!("?1"),
        " c CROSS JOIN instances i ON i.id = c.id
         CROSS JOIN policy_instances pi ON pi.instance_id = i.id AND pi.removed_at_ms IS NULL
         CROSS JOIN policies p ON p.id = pi.policy_id AND p.retired_at_ms IS NULL AND p.action = 'renew'
         WHERE (i.expires_at_ms IS NOT NULL OR i.observed_at_ms IS NULL OR i.visible = 0 OR i.charge_type = 'prepaid')
           AND NOT ",
        is_on_its_way!(),
        " LIMIT ?2)"
    ))
    .bind(ms(now + RISK_NEAR))
    .bind(AT_RISK_MAX)
    .fetch_one(conn)
    .await?;
    Ok(count.unsigned_abs())
}

/// An instance that is renewed by one policy and upgraded by another is one, and so is one that the practice cloud
/// shows in two regions.
async fn expiries(conn: &mut SqliteConnection) -> Result<Vec<Expiry>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.account, p.product, i.instance, i.expires_at_ms, p.action,
                iif(p.stopped_at_ms IS NULL, s.next_due_ms, NULL)
         FROM instances i INDEXED BY instances_expiry
         CROSS JOIN policy_instances pi ON pi.instance_id = i.id AND pi.removed_at_ms IS NULL
         CROSS JOIN policies p ON p.id = pi.policy_id AND p.retired_at_ms IS NULL
         CROSS JOIN schedules s ON s.id = p.schedule_id
         WHERE i.expires_at_ms IS NOT NULL ORDER BY i.expires_at_ms LIMIT ?1",
    )
    .bind(i64::try_from(EXPIRIES_MAX).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    let mut expiries = BTreeMap::new();
    for row in &rows {
        let (account, product, instance): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let renews = row.get::<&str, _>(4) == ActionKind::Renew.as_str();
        let next_firing = at_opt(row.get(5))?.filter(|_| renews);
        let expires_at = at(row.get(3))?;
        let key = (account.clone(), product.clone(), instance.clone());
        let new = Expiry { account, product, instance, expires_at, next_firing: None };
        let expiry = expiries.entry(key).or_insert(new);
        expiry.next_firing = expiry.next_firing.or(next_firing);
    }
    Ok(expiries.into_values().collect())
}
