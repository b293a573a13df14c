//! What people do through commands (pause, resume, trigger, retry, resolve), and the pauses the daemon sets itself.
//!
//! A command writes directly; what it wrote is in force when it returns, because every intent's INSERT asks.

mod by_hand;
mod resolve;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, SqliteExecutor};
use thiserror::Error;

use super::writer::Change;
use super::{Store, StoreError, at, at_opt, json, ms};
use crate::domain::order::{OrderId, OrderRow};
use crate::domain::product::{AccountName, PolicyName};
use crate::domain::written_time;
pub use by_hand::{RetryRefused, TRIGGER_LAPSES_AFTER, Trigger, TriggerRefused, Triggered};
use resolve::{Resolve, Verdict};

/// How far a pause reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PauseScope {
    All,
    Account(AccountName),
    Policy(PolicyName),
}

impl PauseScope {
    fn columns(&self) -> (&'static str, Option<&str>) {
        match self {
            PauseScope::All => ("all", None),
            PauseScope::Account(name) => ("account", Some(name.as_str())),
            PauseScope::Policy(name) => ("policy", Some(name.as_str())),
        }
    }

    /// In words, from the columns of a pause.
    pub fn describe(scope: &str, name: Option<&str>) -> String {
        match name {
            Some(name) => format!("{scope} {name}"),
            None => "everything".to_owned(),
        }
    }
}

impl PauseScope {
    /// The account and the policy that its words, as [`Display`](std::fmt::Display) has them, speak of.
    pub fn names_in(words: &str) -> (Option<&str>, Option<&str>) {
        (words.strip_prefix("account "), words.strip_prefix("policy "))
    }
}

impl std::fmt::Display for PauseScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PauseScope::All => f.write_str("all orders"),
            PauseScope::Account(name) => write!(f, "account {name}"),
            PauseScope::Policy(name) => write!(f, "policy {name}"),
        }
    }
}

/// Who says so, when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub person: String,
    pub note: Option<String>,
    pub at: Timestamp,
}

/// Whether a row of pauses reaches an account and a policy, as SQL over the expressions that name them.
macro_rules! pause_reaches {
    ($pause:literal, $account:literal, $policy:literal) => {
        concat!(
            "(",
            $pause,
            ".scope = 'all' OR (",
            $pause,
            ".scope = 'account' AND ",
            $pause,
            ".name = ",
            $account,
            ") OR (",
            $pause,
            ".scope = 'policy' AND ",
            $pause,
            ".name = ",
            $policy,
            "))"
        )
    };
}
pub(super) use pause_reaches;

/// A pause in force.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pause {
    pub scope: String,
    pub name: Option<String>,
    pub kind: String,
    #[serde(serialize_with = "written_time::serialize")]
    pub since: Timestamp,
    #[serde(serialize_with = "written_time::serialize_option")]
    pub until: Option<Timestamp>,
    pub note: Option<String>,
    pub set_by: String,
}

impl Pause {
    /// As [`pause_reaches`] has it.
    pub fn reaches(&self, account: &AccountName, policy: &PolicyName) -> bool {
        let name = self.name.as_deref();
        match self.scope.as_str() {
            "all" => true,
            "account" => name == Some(account.as_str()),
            "policy" => name == Some(policy.as_str()),
            _ => false,
        }
    }

    /// Whether it holds orders at a later moment too, as far as one can tell now. Those of ours end with what they
    /// are for, not at the time of their next test.
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.kind != "person" || self.until.is_none_or(|until| until > at)
    }

    /// What it is, for whoever is held by it.
    pub fn words(&self) -> String {
        paused_words(&self.kind, &self.set_by, self.note.as_deref())
    }
}

pub(super) fn paused_words(kind: &str, set_by: &str, note: Option<&str>) -> String {
    let note = note.map(|note| format!(": {note}")).unwrap_or_default();
    format!("{kind} pause set by {set_by}{note}")
}

/// What a person did, for the daemon to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub id: i64,
    pub person: String,
    pub event: String,
    pub subject: String,
    /// What came of it, in words; of a pause the time until which it holds.
    pub said: Option<String>,
    pub note: Option<String>,
}

#[derive(Debug, Error)]
pub enum ResolveRefused {
    #[error("there is no order row {0}: `renewd orders` lists them")]
    NoSuchRow(OrderRow),
    #[error("order row {row} is {state}: only placed and unknown orders are resolved by a person")]
    NotOpen { row: OrderRow, state: String },
    #[error(
        "the request of order row {row} was sent again with its token just now, and its answer is on its way: look \
         again in a minute, nothing may be left to resolve"
    )]
    OnItsWay { row: OrderRow },
    #[error(
        "the expiry of {instance} has moved from {before} to {now} since order row {row}: it looks paid. \
         Say `--paid`, or `--not-paid --force` if you know better"
    )]
    ExpiryMoved { row: OrderRow, instance: String, before: Timestamp, now: Timestamp },
    #[error(
        "{instance} has reached {size}, which order row {row} was for: it looks paid. Say `--paid`, or \
         `--not-paid --force` if you know better"
    )]
    SizeReached { row: OrderRow, instance: String, size: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    pub async fn pause(
        &self,
        scope: &PauseScope,
        until: Option<Timestamp>,
        word: &Word,
    ) -> Result<(), StoreError> {
        let change = SetPause { scope: scope.clone(), until_ms: until.map(ms), word: word.clone() };
        self.writer.submit(change).await
    }

    /// Lifts people's pauses of exactly this scope (`All`: every one, the daemon's own included) and wakes
    /// what they held. Answers how many.
    pub async fn resume(&self, scope: &PauseScope, word: &Word) -> Result<u64, StoreError> {
        self.writer.submit(LiftPauses { scope: scope.clone(), word: word.clone() }).await
    }

    /// Holds an account's orders until a test at `until`; repeated, it moves the test.
    pub async fn hold_account(
        &self,
        account: &AccountName,
        kind: &'static str,
        until: Timestamp,
        note: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let change = HoldAccount {
            account: account.clone(),
            kind,
            until_ms: ms(until),
            note: note.to_owned(),
            now_ms: ms(now),
        };
        self.writer.submit(change).await
    }

    /// Ends the daemon's own pauses of an account, after an order went through. Answers how many there were.
    pub async fn release_account(
        &self,
        account: &AccountName,
        kind: Option<&'static str>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.writer.submit(ReleaseAccount { account: account.clone(), kind, now_ms: ms(now) }).await
    }

    pub async fn pauses(&self, now: Timestamp) -> Result<Vec<Pause>, StoreError> {
        pauses(now, &mut *self.readers.get().await?).await
    }

    /// A person says that the order was paid, and perhaps its number.
    pub async fn resolve_paid(
        &self,
        row: OrderRow,
        order_id: Option<OrderId>,
        word: &Word,
    ) -> Result<(), ResolveRefused> {
        self.writer.submit(Resolve { row, verdict: Verdict::Paid(order_id), word: word.clone() }).await?
    }

    /// A person says that the order was not paid; its run goes back to the queue. Refused when the expiry has
    /// moved, unless forced.
    pub async fn resolve_not_paid(
        &self,
        row: OrderRow,
        force: bool,
        word: &Word,
    ) -> Result<(), ResolveRefused> {
        self.writer.submit(Resolve { row, verdict: Verdict::NotPaid { force }, word: word.clone() }).await?
    }

    /// Takes the acts that no daemon has logged yet and marks them logged.
    pub async fn take_acts(&self, now: Timestamp) -> Result<Vec<Act>, StoreError> {
        self.writer.submit(TakeActs { now_ms: ms(now) }).await
    }
}

pub(super) async fn pauses(
    now: Timestamp,
    readers: impl SqliteExecutor<'_>,
) -> Result<Vec<Pause>, StoreError> {
    let rows = sqlx::query(
        "SELECT scope, name, kind, since_ms, until_ms, note, set_by FROM pauses
         WHERE lifted_at_ms IS NULL AND (kind <> 'person' OR until_ms IS NULL OR until_ms > ?1) ORDER BY id",
    )
    .bind(ms(now))
    .fetch_all(readers)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Pause {
                scope: row.get(0),
                name: row.get(1),
                kind: row.get(2),
                since: at(row.get(3))?,
                until: at_opt(row.get(4))?,
                note: row.get(5),
                set_by: row.get(6),
            })
        })
        .collect()
}

struct SetPause {
    scope: PauseScope,
    until_ms: Option<i64>,
    word: Word,
}

impl Change for SetPause {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        for row in rows {
            let (scope, name) = row.scope.columns();
            sqlx::query(
                "INSERT INTO pauses (scope, name, kind, since_ms, until_ms, note, set_by)
                 VALUES (?1, ?2, 'person', ?3, ?4, ?5, ?6)",
            )
            .bind(scope)
            .bind(name)
            .bind(ms(row.word.at))
            .bind(row.until_ms)
            .bind(&row.word.note)
            .bind(&row.word.person)
            .execute(&mut *conn)
            .await?;
            let until = row.until_ms.and_then(|until| at(until).ok()).map(written_time::in_millis);
            write_act("account.paused", &row.scope.to_string(), until.as_deref(), &row.word, conn).await?;
        }
        Ok(vec![(); rows.len()])
    }
}

struct LiftPauses {
    scope: PauseScope,
    word: Word,
}

impl Change for LiftPauses {
    type Reply = u64;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<u64>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let (scope, name) = row.scope.columns();
            let lifted = sqlx::query(
                "UPDATE pauses SET lifted_at_ms = ?1, lifted_by = ?2
                 WHERE lifted_at_ms IS NULL AND (kind <> 'person' OR until_ms IS NULL OR until_ms > ?1)
                   AND (?3 = 'all' OR (scope = ?3 AND name IS ?4))",
            )
            .bind(ms(row.word.at))
            .bind(&row.word.person)
            .bind(scope)
            .bind(name)
            .execute(&mut *conn)
            .await?
            .rows_affected();
            wake_paused(ms(row.word.at), conn).await?;
            if lifted > 0 {
                write_act("account.resumed", &row.scope.to_string(), None, &row.word, conn).await?;
            }
            replies.push(lifted);
        }
        Ok(replies)
    }
}

async fn wake_paused(now_ms: i64, conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("UPDATE runs SET next_attempt_at_ms = ?1 WHERE state = 'waiting' AND hold = 'pause'")
        .bind(now_ms)
        .execute(conn)
        .await?;
    Ok(())
}

async fn write_act(
    event: &str,
    subject: &str,
    said: Option<&str>,
    word: &Word,
    conn: &mut SqliteConnection,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO acts (at_ms, person, event, subject, said, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(ms(word.at))
    .bind(&word.person)
    .bind(event)
    .bind(subject)
    .bind(said)
    .bind(&word.note)
    .execute(conn)
    .await?;
    Ok(())
}

struct HoldAccount {
    account: AccountName,
    kind: &'static str,
    until_ms: i64,
    note: String,
    now_ms: i64,
}

impl Change for HoldAccount {
    /// Whether the account was free before.
    type Reply = bool;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<bool>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let since: i64 = sqlx::query_scalar(
                "INSERT INTO pauses (scope, name, kind, since_ms, until_ms, note, set_by)
                 VALUES ('account', ?1, ?2, ?3, ?4, ?5, 'renewd')
                 ON CONFLICT (name, kind) WHERE lifted_at_ms IS NULL AND kind <> 'person'
                 DO UPDATE SET until_ms = excluded.until_ms, note = excluded.note
                 RETURNING since_ms",
            )
            .bind(row.account.as_str())
            .bind(row.kind)
            .bind(row.now_ms)
            .bind(row.until_ms)
            .bind(&row.note)
            .fetch_one(&mut *conn)
            .await?;
            replies.push(since == row.now_ms);
        }
        Ok(replies)
    }
}

struct ReleaseAccount {
    account: AccountName,
    /// None: of any kind.
    kind: Option<&'static str>,
    now_ms: i64,
}

impl Change for ReleaseAccount {
    type Reply = u64;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<u64>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let lifted = sqlx::query(
                "UPDATE pauses SET lifted_at_ms = ?2, lifted_by = 'renewd'
                 WHERE lifted_at_ms IS NULL AND kind <> 'person' AND name = ?1 AND (?3 IS NULL OR kind = ?3)",
            )
            .bind(row.account.as_str())
            .bind(row.now_ms)
            .bind(row.kind)
            .execute(&mut *conn)
            .await?
            .rows_affected();
            if lifted > 0 {
                wake_paused(row.now_ms, conn).await?;
            }
            replies.push(lifted);
        }
        Ok(replies)
    }
}

struct TakeActs {
    now_ms: i64,
}

impl Change for TakeActs {
    type Reply = Vec<Act>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<Act>>> {
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            let acts = sqlx::query(
                "UPDATE acts SET logged_at_ms = ?1 WHERE logged_at_ms IS NULL
                 RETURNING id, person, event, subject, said, note",
            )
            .bind(row.now_ms)
            .fetch_all(&mut *conn)
            .await?;
            let acts = acts.iter().map(|act| Act {
                id: act.get(0),
                person: act.get(1),
                event: act.get(2),
                subject: act.get(3),
                said: act.get(4),
                note: act.get(5),
            });
            replies.push(acts.collect());
        }
        Ok(replies)
    }
}
