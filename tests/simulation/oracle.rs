//! The promises of the design, held against the cloud's ledger and the database.
//!
//! Where an answer is needed of which charge was too many, it comes from the ledger's own expiries and from what each
//! order row says it saw, never from the cycle counter that is under test.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use renewd::clock::Clock;
use renewd::domain::policy::{
    Action, ActionKind, EVERY_FIRE_CATCH_UP, Policy, RenewWhen, ScheduleText, Terms,
};
use renewd::sandbox::Running;
use renewd::sandbox::instance::State;
use renewd::sandbox::world::Charge;
use renewd::schedule::Schedule;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::clocks::Clocks;
use crate::fleet::days;
use crate::journal::Journal;
use crate::life::{Broken, Budgets, SETTLE};
use crate::totals;

/// What orders may lag behind their signature, and clocks behind each other, unnoticed.
const SLACK: SignedDuration = SignedDuration::from_secs(150);
/// Less is a correction, more is a term.
const TERM_AT_LEAST: SignedDuration = SignedDuration::from_hours(18 * 24);
/// The longest interval of the lists' schedules, at its shortest.
const SHORTEST_MONTH: SignedDuration = SignedDuration::from_hours(28 * 24);
const TOO_FAST: [&str; 3] = ["RequestLimitExceeded", "4400", "AccountFlowLimitExceeded"];

/// What was already looked at.
#[derive(Default)]
pub struct Oracle {
    last_row: i64,
    epoch: i64,
    ended: BTreeMap<(&'static str, i64), String>,
}

/// An order row, with the policy revision that made it.
#[derive(Clone, Debug)]
pub struct OrderLine {
    pub row: i64,
    pub instance: String,
    pub account: String,
    policy: String,
    pub action: String,
    pub state: String,
    pub order_id: Option<String>,
    client_token: Option<String>,
    pub code: Option<String>,
    settled_by: Option<String>,
    epoch: i64,
    intended_at: Timestamp,
    expiry_before: Option<Timestamp>,
    due_at: Timestamp,
    cycle: String,
    schedule: ScheduleText,
    terms: Terms,
    revision: i64,
    by_hand: bool,
    /// A person wants it although the instance was just ordered.
    again: bool,
}

impl Oracle {
    /// After each round: what may never be seen, not even for a moment.
    pub async fn check_what_is_new(
        &mut self,
        database: &mut SqliteConnection,
        journal: &Journal,
        budgets: &Budgets,
        cloud: &Running,
        clocks: &Clocks,
    ) -> Result<(), Broken> {
        let epoch: i64 = one(database, "SELECT epoch FROM daemon").await?;
        let new: Vec<OrderLine> = lines_after(database, self.last_row).await?;
        for line in &new {
            let OrderLine { row, account, policy, .. } = line;
            if line.epoch < self.epoch {
                return Err(format!(
                    "order row {row} is of epoch {}, and {} was in force",
                    line.epoch, self.epoch
                ));
            }
            if journal.is_paused(account, policy, line.intended_at) {
                return Err(format!("order row {row} was intended while {policy} of {account} was paused"));
            }
            if !journal.was_clock_set && line.intended_at > clocks.now() {
                return Err(format!("order row {row} was intended in the future"));
            }
            check_budget(line, budgets, database).await?;
            self.last_row = *row;
        }
        self.epoch = epoch;
        if journal.had_two_daemons {
            return Ok(());
        }
        for (api, count) in cloud.requests() {
            if let Some(code) = TOO_FAST.iter().find(|code| count.by_code.contains_key(**code)) {
                return Err(format!("the cloud refused {api} as too fast: {code}"));
            }
        }
        Ok(())
    }

    /// After each operation: what had ended before it stands as it was.
    pub async fn check_ended(&mut self, database: &mut SqliteConnection) -> Result<(), Broken> {
        let ended = [
            ("run", "SELECT id, state || ' ' || finished_at_ms FROM runs WHERE finished_at_ms IS NOT NULL"),
            ("order", "SELECT id, state || ' ' || settled_at_ms FROM orders WHERE settled_at_ms IS NOT NULL"),
        ];
        for (what, query) in ended {
            let now: BTreeMap<(&'static str, i64), String> = sqlx::query(query)
                .map(|row: SqliteRow| ((what, row.get(0)), row.get(1)))
                .fetch_all(&mut *database)
                .await
                .map_err(|error| error.to_string())?
                .into_iter()
                .collect();
            let was = self.ended.iter().filter(|((kind, _), _)| *kind == what);
            for (key, end) in was {
                if now.get(key) != Some(end) {
                    return Err(format!("{what} {} ended as {end} and is now {:?}", key.1, now.get(key)));
                }
            }
            self.ended.extend(now);
        }
        Ok(())
    }

    /// At the end of a list: every charge has its row, none was one too many, no due instant is lost.
    pub async fn check_books(
        &self,
        database: &mut SqliteConnection,
        journal: &Journal,
        ledger: &[Charge],
    ) -> Result<(), Broken> {
        let lines = lines_after(database, 0).await?;
        let rows = matched(&lines, ledger);
        let mut of_instance: BTreeMap<(&str, ActionKind), Vec<(&Charge, &OrderLine)>> = BTreeMap::new();
        for (charge, row) in ledger.iter().zip(rows) {
            let Some(row) = row else { return Err(format!("no order row knows of {charge:?}\n{lines:#?}")) };
            let line = &lines[row];
            check_charge(charge, line, journal)?;
            of_instance.entry((&charge.instance, charge.action)).or_default().push((charge, line));
        }
        for line in lines.iter().filter(|line| line.state == "confirmed" || line.state == "placed") {
            let is_charged = line.order_id.is_none()
                || ledger.iter().any(|charge| Some(&charge.order_id) == line.order_id.as_ref());
            if !is_charged {
                return Err(format!("nothing was charged for {line:#?}"));
            }
        }
        for charges in of_instance.values() {
            for pair in charges.windows(2) {
                check_pair(pair[0], pair[1], journal)?;
            }
        }
        check_instants(database, journal).await?;
        totals::check(database).await
    }

    pub async fn check_nobody_lapsed(
        &self,
        database: &mut SqliteConnection,
        journal: &Journal,
        cloud: &Running,
        now: Timestamp,
        policies: &BTreeMap<String, Policy>,
    ) -> Result<(), Broken> {
        for policy in policies.values() {
            let Action::Renew(renew) = policy.terms.action else { continue };
            for id in policy.instances.iter().map(|id| id.as_str()) {
                let instance = cloud.instance(id).ok_or_else(|| format!("{id} is not in the cloud"))?;
                let is_wanted = instance.state != State::Gone && renew.when != RenewWhen::EveryFire;
                if is_wanted && !journal.was_told_wrong(id) && instance.expires_at <= now + days(1) {
                    let story = story(database, id).await?;
                    return Err(format!("{id} expires at {} and it is {now}\n{story}", instance.expires_at));
                }
            }
        }
        // One of the last moment has not been looked at yet.
        let settled_by = now - SignedDuration::try_from(SETTLE).unwrap();
        let open: Vec<String> = sqlx::query_scalar(
            "SELECT i.instance FROM orders o JOIN instances i ON i.id = o.instance_id
             WHERE o.state IN ('intended', 'unknown', 'placed') AND o.intended_at_ms < ?1",
        )
        .bind(settled_by.as_millisecond())
        .fetch_all(&mut *database)
        .await
        .map_err(|error| error.to_string())?;
        if let Some(id) = open.first() {
            let story = story(database, id).await?;
            return Err(format!(
                "{} orders are still open although a person settled all, one of {id} at {now}\n{story}",
                open.len()
            ));
        }
        let idle: i64 =
            one(database, "SELECT count(*) FROM runs WHERE state IN ('queued', 'running')").await?;
        if idle > 0 {
            return Err(format!("{idle} runs are in the queue or in hand although the daemon rests"));
        }
        Ok(())
    }
}

/// Which order row each charge belongs to: by number, else by what a row says of itself.
pub fn matched(lines: &[OrderLine], ledger: &[Charge]) -> Vec<Option<usize>> {
    let by_number = |charge: &Charge| {
        let has = |line: &OrderLine| {
            line.order_id.as_ref() == Some(&charge.order_id) && line.instance == charge.instance
        };
        let mut found = (0..lines.len()).filter(|at| has(&lines[*at]));
        // A number in two rows is in none.
        found.next().filter(|_| found.next().is_none())
    };
    let mut rows: Vec<Option<usize>> = ledger.iter().map(by_number).collect();
    let mut taken: BTreeSet<usize> = rows.iter().flatten().copied().collect();
    for (charge, row) in ledger.iter().zip(&mut rows).filter(|(_, row)| row.is_none()) {
        let is_candidate = |at: &usize| {
            let line = &lines[*at];
            !taken.contains(at)
                && line.order_id.is_none()
                && line.instance == charge.instance
                && line.action == charge.action.as_str()
                && line.client_token == charge.client_token
                && line.may_have_paid()
        };
        let distance = |at: &usize| lines[*at].intended_at.duration_since(charge.at).abs();
        *row = (0..lines.len()).filter(is_candidate).min_by_key(distance);
        taken.extend(*row);
    }
    rows
}

impl OrderLine {
    /// A refusal ends an order that did not happen, unless a person or a refund says why it is refused all the same.
    fn may_have_paid(&self) -> bool {
        self.state != "refused"
            || self.settled_by.as_deref().is_some_and(|by| by != "renewd")
            || self.code.as_deref() == Some("Refunded")
    }
}

fn check_charge(charge: &Charge, line: &OrderLine, journal: &Journal) -> Result<(), Broken> {
    if !line.may_have_paid() {
        return Err(format!("{charge:?} was paid and its row is refused: {line:#?}"));
    }
    if let Some(cap) = line.terms.max_price
        && charge.amount > cap
    {
        return Err(format!("{charge:?} is above the price cap of {cap}"));
    }
    let Action::Renew(renew) = line.terms.action else { return Ok(()) };
    match renew.when {
        RenewWhen::EveryFire => {
            let late = line.intended_at.duration_since(line.due_at);
            if late > EVERY_FIRE_CATCH_UP + SLACK {
                return Err(format!("{charge:?} is for a firing of {} ago", late));
            }
        }
        RenewWhen::WithinDays(within) => {
            let schedule = Schedule::parse(&line.schedule.expression, &line.schedule.zone).unwrap();
            let next = schedule.next_after(charge.at).unwrap();
            let window = days(i64::from(within)).max(next.duration_since(charge.at) + days(3));
            let is_due = charge.expiry_before <= charge.at + window + SLACK;
            if !is_due && !journal.was_told_wrong(&charge.instance) {
                return Err(format!("{charge:?} was not due: it had more than {window:#}\n{line:#?}"));
            }
        }
    }
    Ok(())
}

/// Two charges in a row for one identity and action.
fn check_pair(
    (first, before): (&Charge, &OrderLine),
    (second, after): (&Charge, &OrderLine),
    journal: &Journal,
) -> Result<(), Broken> {
    let twice = || Err(format!("paid twice:\n{first:?}\n{second:?}\n{before:#?}\n{after:#?}"));
    let is_excused = journal.was_told_wrong(&first.instance)
        || journal.was_set_back(&first.instance, (first.at, second.at));
    // One cycle twice only where a person said of one that it does not stand; the other may have taken its number.
    let is_one_refused = [before, after].iter().any(|line| line.state == "refused");
    if before.row == after.row || (before.cycle == after.cycle && !(is_excused && is_one_refused)) {
        return twice();
    }
    if !is_excused && !journal.was_clock_set && comes_too_soon(before, after) {
        return Err(format!(
            "by hand or edited, and too soon:\n{first:?}\n{second:?}\n{before:#?}\n{after:#?}"
        ));
    }
    if first.action == ActionKind::Upgrade
        || before.terms.action.is_every_fire()
        || after.terms.action.is_every_fire()
    {
        return Ok(());
    }
    let (Some(saw_first), Some(saw_second)) = (before.expiry_before, after.expiry_before) else {
        return twice();
    };
    let is_new_term = saw_second >= saw_first + TERM_AT_LEAST;
    if is_new_term || is_excused { Ok(()) } else { twice() }
}

/// `every_fire` after an order that no firing of its own revision made: not within half its interval.
fn comes_too_soon(before: &OrderLine, after: &OrderLine) -> bool {
    let is_foreign =
        before.policy != after.policy || before.revision != after.revision || before.by_hand || after.by_hand;
    if !after.terms.action.is_every_fire() || after.again || !is_foreign {
        return false;
    }
    let schedule = Schedule::parse(&after.schedule.expression, &after.schedule.zone).unwrap();
    let next = schedule.next_after(after.due_at).unwrap();
    let interval = schedule.next_after(next).unwrap().duration_since(next).min(SHORTEST_MONTH);
    after.due_at.duration_since(before.intended_at) < interval / 2
}

async fn check_budget(
    line: &OrderLine,
    budgets: &Budgets,
    database: &mut SqliteConnection,
) -> Result<(), Broken> {
    let Some(limits) = budgets.iter().find(|(name, _)| **name == line.account).map(|(_, limits)| limits)
    else {
        return Ok(());
    };
    let day = line.intended_at.as_millisecond().div_euclid(24 * 3_600_000) * 24 * 3_600_000;
    let (orders, fen): (i64, Option<i64>) = sqlx::query_as(
        "SELECT count(*), sum(amount_fen) FROM orders WHERE account = ?1 AND state <> 'refused' AND id <= ?4
           AND intended_at_ms >= ?2 AND intended_at_ms < ?3",
    )
    .bind(&line.account)
    .bind(day)
    .bind(day + 24 * 3_600_000)
    .bind(line.row)
    .fetch_one(database)
    .await
    .map_err(|error| error.to_string())?;
    if limits.orders_per_day.is_some_and(|most| orders > i64::from(most)) {
        return Err(format!("order row {} is the {orders}. of its day, and {limits:?}", line.row));
    }
    if limits.per_day.is_some_and(|most| fen.unwrap_or(0) > most.get()) {
        return Err(format!("order row {} makes {fen:?} fen a day, and {limits:?}", line.row));
    }
    Ok(())
}

/// Promise 4, against the journal's own count of what each policy owes.
async fn check_instants(database: &mut SqliteConnection, journal: &Journal) -> Result<(), Broken> {
    // A clock that went back shows instants twice; then only the schema's uniqueness is left to say.
    if journal.was_clock_set {
        return Ok(());
    }
    let watermarks: BTreeMap<ScheduleText, i64> =
        sqlx::query("SELECT expression, zone, watermark_ms FROM schedules")
            .map(|row: SqliteRow| (ScheduleText { expression: row.get(0), zone: row.get(1) }, row.get(2)))
            .fetch_all(&mut *database)
            .await
            .map_err(|error| error.to_string())?
            .into_iter()
            .collect();
    let watermark = |text: &ScheduleText| {
        watermarks.get(text).map_or(Timestamp::MIN, |ms| Timestamp::from_millisecond(*ms).unwrap())
    };
    let queued: i64 = one(database, "SELECT count(*) FROM firings").await?;
    if queued > 0 {
        return Err(format!("{queued} firings are not queued whole although the daemon rests"));
    }
    for (name, debt) in journal.debts() {
        let owed = i64::try_from(debt.owed(watermark)).unwrap();
        for instance in &debt.instances {
            let (stood_for, twice): (Option<i64>, i64) = sqlx::query_as(
                "SELECT sum(iif(r.origin = 'schedule', 1, r.missed_count)), count(*) - count(DISTINCT r.due_at_ms)
                 FROM runs r JOIN policies p ON p.id = r.policy_id JOIN instances i ON i.id = r.instance_id
                 WHERE p.name = ?1 AND i.instance = ?2 AND r.origin IN ('schedule', 'catch_up')",
            )
            .bind(name)
            .bind(instance)
            .fetch_one(&mut *database)
            .await
            .map_err(|error| error.to_string())?;
            let stood_for = stood_for.unwrap_or(0);
            // What every_fire missed by more than a day is in the log and in no run.
            let is_right = stood_for == owed || (debt.is_every_fire && stood_for < owed);
            if twice > 0 || !is_right {
                return Err(format!(
                    "{name} owed {instance} {owed} instants, runs stand for {stood_for}, {twice} have two runs"
                ));
            }
        }
    }
    Ok(())
}

pub async fn lines_after(database: &mut SqliteConnection, row: i64) -> Result<Vec<OrderLine>, Broken> {
    sqlx::query(
        "SELECT o.id, i.instance, o.account, p.name, o.action, o.state, o.order_id, o.client_token, o.error ->> 'code',
                o.settled_by, o.epoch, o.intended_at_ms, o.expiry_before_ms, r.due_at_ms, o.cycle,
                v.body ->> 'schedule', v.body ->> 'timezone', v.body -> 'terms', o.policy_revision, r.by_hand, r.again
         FROM orders o JOIN instances i ON i.id = o.instance_id JOIN policies p ON p.id = o.policy_id
         JOIN runs r ON r.id = o.run_id
         JOIN policy_revisions v ON v.policy_id = o.policy_id AND v.revision = o.policy_revision
         WHERE o.id > ?1 ORDER BY o.id",
    )
    .bind(row)
    .map(|row: SqliteRow| {
        let at = |column: usize| row.get::<Option<i64>, _>(column).map(|ms| Timestamp::from_millisecond(ms).unwrap());
        OrderLine {
            row: row.get(0),
            instance: row.get(1),
            account: row.get(2),
            policy: row.get(3),
            action: row.get(4),
            state: row.get(5),
            order_id: row.get(6),
            client_token: row.get(7),
            code: row.get(8),
            settled_by: row.get(9),
            epoch: row.get(10),
            intended_at: at(11).unwrap(),
            expiry_before: at(12),
            due_at: at(13).unwrap(),
            cycle: row.get(14),
            schedule: ScheduleText { expression: row.get(15), zone: row.get(16) },
            terms: serde_json::from_str(row.get(17)).unwrap(),
            revision: row.get(18),
            by_hand: row.get(19),
            again: row.get(20),
        }
    })
    .fetch_all(database)
    .await
    .map_err(|error| error.to_string())
}

/// The last runs and orders of an instance, for the complaint.
pub async fn story(database: &mut SqliteConnection, instance: &str) -> Result<String, Broken> {
    let lines: Vec<String> = sqlx::query_scalar(
        "SELECT * FROM (SELECT 'run ' || r.id || ' ' || p.name || ' ' || r.origin || ' due ' ||
                    datetime(r.due_at_ms / 1000, 'unixepoch') || ': ' || r.state || ' ' || coalesce(r.hold, '') || ' ' ||
                    coalesce(r.reason, '') AS line FROM runs r
             JOIN policies p ON p.id = r.policy_id JOIN instances i ON i.id = r.instance_id
             WHERE i.instance = ?1 ORDER BY r.id DESC LIMIT 12)
         UNION ALL SELECT 'order ' || o.id || ' ' || o.cycle || ' ' || o.state || ' before ' ||
                    coalesce(datetime(o.expiry_before_ms / 1000, 'unixepoch'), '') || ' ' || coalesce(o.error, '')
             FROM orders o JOIN instances i ON i.id = o.instance_id WHERE i.instance = ?1
         UNION ALL SELECT 'seen ' || coalesce(datetime(expires_at_ms / 1000, 'unixepoch'), '') || ' ' ||
                    coalesce(state, '') || ' cycle ' || cycle FROM instances WHERE instance = ?1",
    )
    .bind(instance)
    .fetch_all(database)
    .await
    .map_err(|error| error.to_string())?;
    Ok(lines.join("\n"))
}

async fn one(database: &mut SqliteConnection, query: &'static str) -> Result<i64, Broken> {
    sqlx::query_scalar(query).fetch_one(database).await.map_err(|error| error.to_string())
}
