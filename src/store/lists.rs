//! The lists of the commands, filtered and paged by SQL: one of any length takes the memory of a page.
//!
//! A page begins behind the last row of the one before, so what comes or goes meanwhile doubles and hides nothing, and
//! between two pages no transaction is open, however slow the reader is. The inner statements choose rows of one
//! table by its own indexes; only what was chosen is joined.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Row, Sqlite};

use super::reads::{InstanceRow, OrderRecord, PolicyRow, RunRecord, order_record, run_record};
use super::{Store, StoreError, ms};

/// Filters of the lists; an absent one lets everything through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub policy: Option<String>,
    pub account: Option<String>,
    pub instance: Option<String>,
    pub state: Option<String>,
    /// Orders and runs made, instances observed, policies accepted since then.
    pub since: Option<Timestamp>,
    pub limit: Option<u32>,
}

const PAGE_ROWS: u32 = 1_000;

/// What a list can hold, and the order that it stands in.
pub trait Listed: Serialize + Sized + Send {
    /// The place of a row in that order.
    type Key: Send + Sync;

    /// The first `rows` behind `after`, each with its place.
    fn page(
        store: &Store,
        filter: &Filter,
        after: Option<&Self::Key>,
        rows: u32,
    ) -> impl Future<Output = Result<Vec<(Self::Key, Self)>, StoreError>> + Send;
}

/// A list, page by page.
pub struct Pages<R: Listed> {
    store: Store,
    filter: Filter,
    after: Option<R::Key>,
    /// None: however many there are.
    left: Option<u32>,
    has_ended: bool,
}

impl Store {
    pub fn pages<R: Listed>(&self, filter: Filter) -> Pages<R> {
        Pages { store: self.clone(), left: filter.limit, filter, after: None, has_ended: false }
    }

    /// All pages at once, for lists that are known to be short.
    async fn list<R: Listed>(&self, filter: &Filter) -> Result<Vec<R>, StoreError> {
        let mut pages = self.pages(filter.clone());
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await? {
            rows.extend(page);
        }
        Ok(rows)
    }

    pub async fn orders(&self, filter: &Filter) -> Result<Vec<OrderRecord>, StoreError> {
        self.list(filter).await
    }

    pub async fn runs(&self, filter: &Filter) -> Result<Vec<RunRecord>, StoreError> {
        self.list(filter).await
    }

    pub async fn instances(&self, filter: &Filter) -> Result<Vec<InstanceRow>, StoreError> {
        self.list(filter).await
    }

    pub async fn policies(&self, filter: &Filter) -> Result<Vec<PolicyRow>, StoreError> {
        self.list(filter).await
    }
}

impl<R: Listed> Pages<R> {
    /// The next page, never an empty one; None behind the last.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn next(&mut self) -> Result<Option<Vec<R>>, StoreError> {
        let wanted = self.left.map_or(PAGE_ROWS, |left| left.min(PAGE_ROWS));
        if self.has_ended || wanted == 0 {
            return Ok(None);
        }
        if let Some(awake) = self.store.awake() {
            self.store = awake;
        }
        let found = R::page(&self.store, &self.filter, self.after.as_ref(), wanted).await?;
        let count = u32::try_from(found.len()).unwrap_or(PAGE_ROWS);
        self.has_ended = count < wanted;
        self.left = self.left.map(|left| left - count);
        let mut rows = Vec::with_capacity(found.len());
        for (key, row) in found {
            self.after = Some(key);
            rows.push(row);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }
}

type Query = QueryBuilder<Sqlite>;

/// Adds a condition where there is a value for it.
fn and<V>(query: &mut Query, condition: &'static str, value: Option<V>, end: &'static str)
where
    V: for<'q> sqlx::Encode<'q, Sqlite> + sqlx::Type<Sqlite>,
{
    if let Some(value) = value {
        query.push(condition).push_bind(value).push(end);
    }
}

async fn rows_of(query: &mut Query, store: &Store) -> Result<Vec<SqliteRow>, StoreError> {
    Ok(query.build().fetch_all(&mut *store.readers.get().await?).await?)
}

impl Listed for RunRecord {
    type Key = i64;

    async fn page(
        store: &Store,
        filter: &Filter,
        after: Option<&i64>,
        rows: u32,
    ) -> Result<Vec<(i64, RunRecord)>, StoreError> {
        let mut query = Query::new("SELECT * FROM runs_v WHERE id IN (SELECT r.id FROM runs r WHERE true");
        and(&mut query, " AND r.id < ", after.copied(), "");
        and(
            &mut query,
            " AND r.policy_id = (SELECT id FROM policies WHERE name = ",
            filter.policy.as_deref(),
            ")",
        );
        and(&mut query, " AND r.account = ", filter.account.as_deref(), "");
        and(&mut query, IN_INSTANCE_OF_RUN, filter.instance.as_deref(), ")");
        and(&mut query, " AND r.state = ", filter.state.as_deref(), "");
        and(&mut query, " AND r.created_at_ms >= ", filter.since.map(ms), "");
        query.push(" ORDER BY r.id DESC LIMIT ").push_bind(rows).push(") ORDER BY id DESC");
        let keyed = |row: &SqliteRow| run_record(row).map(|record| (record.id, record));
        rows_of(&mut query, store).await?.iter().map(keyed).collect()
    }
}

const IN_INSTANCE_OF_RUN: &str = " AND r.instance_id IN (SELECT id FROM instances WHERE instance = ";

impl Listed for OrderRecord {
    type Key = i64;

    async fn page(
        store: &Store,
        filter: &Filter,
        after: Option<&i64>,
        rows: u32,
    ) -> Result<Vec<(i64, OrderRecord)>, StoreError> {
        let mut query =
            Query::new("SELECT * FROM orders_v WHERE id IN (SELECT o.id FROM orders o WHERE true");
        and(&mut query, " AND o.id < ", after.copied(), "");
        and(
            &mut query,
            " AND o.policy_id = (SELECT id FROM policies WHERE name = ",
            filter.policy.as_deref(),
            ")",
        );
        and(&mut query, " AND o.account = ", filter.account.as_deref(), "");
        let instance = " AND o.instance_id IN (SELECT id FROM instances WHERE instance = ";
        and(&mut query, instance, filter.instance.as_deref(), ")");
        and(&mut query, " AND o.state = ", filter.state.as_deref(), "");
        and(&mut query, " AND o.intended_at_ms >= ", filter.since.map(ms), "");
        query.push(" ORDER BY o.id DESC LIMIT ").push_bind(rows).push(") ORDER BY id DESC");
        let keyed = |row: &SqliteRow| order_record(row).map(|record| (record.id, record));
        rows_of(&mut query, store).await?.iter().map(keyed).collect()
    }
}

/// Newest first: by when they were accepted, together by their names.
impl Listed for PolicyRow {
    type Key = (i64, String);

    async fn page(
        store: &Store,
        filter: &Filter,
        after: Option<&(i64, String)>,
        rows: u32,
    ) -> Result<Vec<((i64, String), PolicyRow)>, StoreError> {
        let Some((accepted_at_ms, name)) = after else {
            return policies(Query::new(POLICIES), store, filter, rows).await;
        };
        // Apart, as an index finds them: a set is accepted all at once.
        let mut together = Query::new(POLICIES);
        and(&mut together, " AND p.accepted_at_ms = ", Some(*accepted_at_ms), "");
        and(&mut together, " AND p.name > ", Some(name.as_str()), "");
        let mut found = policies(together, store, filter, rows).await?;
        let left = rows.saturating_sub(u32::try_from(found.len()).unwrap_or(rows));
        if left > 0 {
            let mut older = Query::new(POLICIES);
            and(&mut older, " AND p.accepted_at_ms < ", Some(*accepted_at_ms), "");
            found.extend(policies(older, store, filter, left).await?);
        }
        Ok(found)
    }
}

async fn policies(
    mut query: Query,
    store: &Store,
    filter: &Filter,
    rows: u32,
) -> Result<Vec<((i64, String), PolicyRow)>, StoreError> {
    and(&mut query, " AND p.name = ", filter.policy.as_deref(), "");
    and(&mut query, " AND p.account = ", filter.account.as_deref(), "");
    and(&mut query, POLICY_HAS_INSTANCE, filter.instance.as_deref(), ")");
    and(&mut query, POLICY_IS, filter.state.as_deref(), "");
    and(&mut query, " AND p.accepted_at_ms >= ", filter.since.map(ms), "");
    query.push(" ORDER BY p.accepted_at_ms DESC, p.name LIMIT ").push_bind(rows);
    query.push(") ORDER BY p.accepted_at_ms DESC, p.name");
    let keyed = |row: &SqliteRow| {
        let policy = PolicyRow::from_row(row)?;
        Ok(((row.get("accepted_at_ms"), policy.policy.clone()), policy))
    };
    rows_of(&mut query, store).await?.iter().map(keyed).collect()
}

const POLICIES: &str = "SELECT p.name AS policy, p.revision, p.account, p.product, p.region, p.action,
            s.expression AS schedule, s.zone AS timezone, p.enabled, p.retired_at_ms IS NOT NULL AS retired,
            (SELECT count(*) FROM policy_instances pi
              WHERE pi.policy_id = p.id AND pi.removed_at_ms IS NULL) AS instances,
            iif(p.stopped_at_ms IS NULL,
                strftime('%Y-%m-%dT%H:%M:%fZ', s.next_due_ms / 1000.0, 'unixepoch'), NULL) AS next_due_at,
            p.source, p.accepted_at_ms
     FROM policies p JOIN schedules s ON s.id = p.schedule_id WHERE p.id IN (SELECT p.id FROM policies p WHERE true";
const POLICY_HAS_INSTANCE: &str = " AND EXISTS (SELECT 1 FROM policy_instances pi
     JOIN instances i ON i.id = pi.instance_id
     WHERE pi.policy_id = p.id AND pi.removed_at_ms IS NULL AND i.instance = ";
const POLICY_IS: &str =
    " AND iif(p.retired_at_ms IS NOT NULL, 'retired', iif(p.enabled, 'enabled', 'disabled')) = ";

/// Those never observed first, then what expires soonest.
impl Listed for InstanceRow {
    type Key = InstanceKey;

    async fn page(
        store: &Store,
        filter: &Filter,
        after: Option<&InstanceKey>,
        rows: u32,
    ) -> Result<Vec<(InstanceKey, InstanceRow)>, StoreError> {
        let mut found = Vec::new();
        if after.is_none_or(|after| after.expires_at_ms.is_none()) {
            let mut query = Query::new(INSTANCES);
            query.push(" AND i.expires_at_ms IS NULL");
            if let Some(after) = after {
                query.push(" AND i.id >= ").push_bind(after.instance_id);
                query.push(" AND (i.id, pi.id) > (").push_bind(after.instance_id);
                query.push(", ").push_bind(after.id).push(")");
            }
            found = instances(query, store, filter, rows).await?;
        }
        let left = rows.saturating_sub(u32::try_from(found.len()).unwrap_or(rows));
        if left > 0 {
            let mut query = Query::new(INSTANCES);
            query.push(" AND i.expires_at_ms IS NOT NULL");
            if let Some((after, expires_at_ms)) = after.and_then(|after| Some((after, after.expires_at_ms?)))
            {
                query.push(" AND i.expires_at_ms >= ").push_bind(expires_at_ms);
                query.push(" AND (i.expires_at_ms, i.id, pi.id) > (").push_bind(expires_at_ms);
                query.push(", ").push_bind(after.instance_id).push(", ").push_bind(after.id).push(")");
            }
            found.extend(instances(query, store, filter, left).await?);
        }
        Ok(found)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct InstanceKey {
    expires_at_ms: Option<i64>,
    instance_id: i64,
    /// Of its place in a policy.
    id: i64,
}

/// The CROSS JOINs keep the instances outside, in the order of their index on the expiry: nothing is sorted.
const INSTANCES: &str = "SELECT * FROM instance_rows WHERE id IN (
     SELECT pi.id FROM instances i CROSS JOIN policy_instances pi ON pi.instance_id = i.id
     CROSS JOIN policies p ON p.id = pi.policy_id WHERE pi.removed_at_ms IS NULL AND p.retired_at_ms IS NULL";

async fn instances(
    mut query: Query,
    store: &Store,
    filter: &Filter,
    rows: u32,
) -> Result<Vec<(InstanceKey, InstanceRow)>, StoreError> {
    and(&mut query, " AND p.name = ", filter.policy.as_deref(), "");
    and(&mut query, " AND p.account = ", filter.account.as_deref(), "");
    and(&mut query, " AND i.instance = ", filter.instance.as_deref(), "");
    and(&mut query, " AND iif(i.visible = 0, 'not_visible', i.state) = ", filter.state.as_deref(), "");
    and(&mut query, " AND i.observed_at_ms >= ", filter.since.map(ms), "");
    query.push(" ORDER BY i.expires_at_ms, i.id, pi.id LIMIT ").push_bind(rows);
    query.push(") ORDER BY expires_at_ms, instance_id, id");
    let keyed = |row: &SqliteRow| {
        let key = InstanceKey {
            expires_at_ms: row.get("expires_at_ms"),
            instance_id: row.get("instance_id"),
            id: row.get("id"),
        };
        Ok((key, InstanceRow::from_row(row)?))
    };
    rows_of(&mut query, store).await?.iter().map(keyed).collect()
}
