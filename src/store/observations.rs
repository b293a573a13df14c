//! What the clouds showed: the latest observation of each identity, its cycle, and looks that contradict it.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::writer::Change;
use super::{Store, StoreError, at, at_opt, json, ms};
use crate::domain::observation::{
    AutoRenew, ChargeType, Facts, InstanceState, Known, Lower, Observation, Operation, Presence, Spec,
};
use crate::domain::product::{AccountName, Identity, InstanceId, Product, Provider, Region};

/// An expiry this much later than the one that opened the cycle opens the next: shorter than any term on
/// sale, longer than any correction of hours.
pub(super) const CYCLE_ADVANCE_MS: i64 = 20 * 24 * 3_600_000;

/// An observation and the identity it is of.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub identity: Identity,
    pub observation: Observation,
}

/// An instance of a live policy that nobody has looked at for a while.
#[derive(Clone, Debug)]
pub struct Unseen {
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
}

impl Store {
    /// Records what was seen and answers what is known then, in the same order.
    pub async fn observe(&self, sightings: Vec<Sighting>) -> Result<Vec<Known>, StoreError> {
        if sightings.is_empty() {
            return Ok(Vec::new());
        }
        self.writer.submit(Observe(sightings)).await
    }

    /// Instances of live policies of an account not observed since `before`, soonest expiry first.
    pub async fn unseen(
        &self,
        account: &AccountName,
        provider: Provider,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<Unseen>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT p.product, p.region, i.instance
             FROM policies p JOIN policy_instances pi ON pi.policy_id = p.id JOIN instances i ON i.id = pi.instance_id
             -- Of disabled policies too: what nobody renews lapses all the same.
             WHERE p.account = ?1 AND p.retired_at_ms IS NULL AND pi.removed_at_ms IS NULL
               AND (i.observed_at_ms IS NULL OR i.observed_at_ms < ?2)
             ORDER BY i.expires_at_ms LIMIT ?3",
        )
        .bind(account.as_str())
        .bind(ms(before))
        .bind(limit)
        .fetch_all(&mut *self.readers.get().await?)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Unseen {
                    product: product(provider, row.get(0))?,
                    region: name(row.get(1), Region::parse)?,
                    instance: name(row.get(2), InstanceId::parse)?,
                })
            })
            .collect()
    }
}

pub(super) fn product(provider: Provider, text: &str) -> Result<Product, StoreError> {
    Product::parse(provider, text).ok_or_else(|| StoreError::Decode(format!("product {text} of {provider}")))
}

pub(super) fn name<T, E: std::fmt::Display>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(text).map_err(|error| StoreError::Decode(format!("name {text:?} {error}")))
}

/// The columns of [`known`], of `instances i`.
macro_rules! known_columns {
    () => {
        "i.observed_at_ms, i.visible, i.expires_at_ms, i.state, i.charge_type, i.auto_renew, i.mem_size_mb, i.shards,
         i.replicas, i.cycle, i.expiry_high_ms, i.lower_since_ms, i.lower_looks, i.invisible_looks, i.instance,
         i.renew_flag, i.latest_operation"
    };
}
pub(super) use known_columns;

/// Two nullable sides become one value; an inconsistent row is a decode error.
pub(super) fn known(row: &SqliteRow, first: usize) -> Result<Known, StoreError> {
    let observed_at: Option<i64> = row.get(first);
    let visible: Option<bool> = row.get(first + 1);
    let observation = match (observed_at, visible) {
        (None, None) => None,
        (Some(observed_at), Some(visible)) => Some(Observation {
            instance: name(row.get(first + 14), InstanceId::parse)?,
            observed_at: at(observed_at)?,
            presence: if visible { Presence::Visible(facts(row, first)?) } else { Presence::NotVisible },
        }),
        _ => return Err(StoreError::Decode("an observation without its time".to_owned())),
    };
    let lower_since = at_opt(row.get(first + 11))?;
    Ok(Known {
        observation,
        cycle: row.get(first + 9),
        expiry_high: at_opt(row.get(first + 10))?,
        lower: lower_since.map(|since| Lower { since, looks: row.get(first + 12) }),
        invisible_looks: row.get(first + 13),
    })
}

fn facts(row: &SqliteRow, first: usize) -> Result<Facts, StoreError> {
    let text = |column: usize| row.get::<Option<String>, _>(first + column).unwrap_or_default();
    let sizes: (Option<u32>, Option<u32>, Option<u32>) =
        (row.get(first + 6), row.get(first + 7), row.get(first + 8));
    let spec = match sizes {
        (Some(mem_size_mb), Some(shards), Some(replicas)) => Some(Spec { mem_size_mb, shards, replicas }),
        _ => None,
    };
    Ok(Facts {
        expires_at: at_opt(row.get(first + 2))?,
        state: InstanceState::from_text(&text(3)),
        charge: ChargeType::from_text(&text(4)),
        auto_renew: AutoRenew::from_text(&text(5)),
        renew_flag: row.get(first + 15),
        spec,
        latest_operation: latest_operation(row.get(first + 16))?,
    })
}

fn latest_operation(text: Option<&str>) -> Result<Option<Operation>, StoreError> {
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|error| StoreError::Decode(format!("latest operation: {error}")))
}

/// What an instance's row `$row` holds once the look `e.value` is taken in; `?2` is [`CYCLE_ADVANCE_MS`].
macro_rules! cycle_then {
    ($row:literal) => {
        concat!(
            $row,
            ".cycle + (coalesce(e.value ->> 'expires_at_ms', 0) >= coalesce(",
            $row,
            ".cycle_expiry_ms, 9e18) + ?2)"
        )
    };
}
pub(super) use cycle_then;

macro_rules! invisible_looks_then {
    ($row:literal) => {
        concat!("iif(e.value ->> 'visible', 0, ", $row, ".invisible_looks + 1)")
    };
}
pub(super) use invisible_looks_then;

macro_rules! lower_since_then {
    ($row:literal) => {
        concat!(
            "iif(coalesce(e.value ->> 'expires_at_ms' < ",
            $row,
            ".expiry_high_ms, 0), coalesce(",
            $row,
            ".lower_since_ms, e.value ->> 'observed_at_ms'), NULL)"
        )
    };
}
pub(super) use lower_since_then;

macro_rules! lower_looks_then {
    ($row:literal) => {
        concat!(
            "iif(coalesce(e.value ->> 'expires_at_ms' < ",
            $row,
            ".expiry_high_ms, 0), ",
            $row,
            ".lower_looks + 1, 0)"
        )
    };
}
pub(super) use lower_looks_then;

macro_rules! expiry_high_then {
    ($row:literal) => {
        concat!(
            "nullif(max(coalesce(",
            $row,
            ".expiry_high_ms, 0), coalesce(e.value ->> 'expires_at_ms', 0)), 0)"
        )
    };
}
pub(super) use expiry_high_then;

struct Observe(Vec<Sighting>);

#[derive(Serialize)]
struct SightingRow<'a> {
    #[serde(flatten)]
    identity: IdentityRow<'a>,
    #[serde(flatten)]
    look: LookRow<'a>,
}

#[derive(Serialize)]
pub(super) struct IdentityRow<'a> {
    provider: &'a str,
    region: &'a str,
    instance: &'a str,
}

/// What an observation says, in the words of the columns.
#[derive(Serialize)]
pub(super) struct LookRow<'a> {
    observed_at_ms: i64,
    visible: bool,
    expires_at_ms: Option<i64>,
    state: Option<&'a str>,
    charge_type: Option<&'a str>,
    auto_renew: Option<&'a str>,
    mem_size_mb: Option<u32>,
    shards: Option<u32>,
    replicas: Option<u32>,
    renew_flag: Option<&'a str>,
    latest_operation: Option<&'a Operation>,
}

impl<'a> From<&'a Sighting> for SightingRow<'a> {
    fn from(Sighting { identity, observation }: &'a Sighting) -> SightingRow<'a> {
        SightingRow { identity: identity.into(), look: observation.into() }
    }
}

impl<'a> From<&'a Identity> for IdentityRow<'a> {
    fn from(identity: &'a Identity) -> IdentityRow<'a> {
        IdentityRow {
            provider: identity.provider.as_str(),
            region: identity.region.as_str(),
            instance: identity.instance.as_str(),
        }
    }
}

impl<'a> From<&'a Observation> for LookRow<'a> {
    fn from(observation: &'a Observation) -> LookRow<'a> {
        let facts = match &observation.presence {
            Presence::Visible(facts) => Some(facts),
            Presence::NotVisible => None,
        };
        let spec = facts.and_then(|facts| facts.spec);
        LookRow {
            observed_at_ms: ms(observation.observed_at),
            visible: facts.is_some(),
            expires_at_ms: facts.and_then(|facts| facts.expires_at).map(ms),
            state: facts.map(|facts| facts.state.as_str()),
            charge_type: facts.map(|facts| facts.charge.as_str()),
            auto_renew: facts.map(|facts| facts.auto_renew.as_str()),
            mem_size_mb: spec.map(|spec| spec.mem_size_mb),
            shards: spec.map(|spec| spec.shards),
            replicas: spec.map(|spec| spec.replicas),
            renew_flag: facts.and_then(|facts| facts.renew_flag.as_deref()),
            latest_operation: facts.and_then(|facts| facts.latest_operation.as_ref()),
        }
    }
}

impl Change for Observe {
    type Reply = Vec<Known>;

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<Vec<Known>>> {
        let sightings: Vec<SightingRow<'_>> =
            rows.iter().flat_map(|row| &row.0).map(SightingRow::from).collect();
        let text = json(&sightings)?;
        // A late answer never replaces a later look. An invisible instance keeps its last known facts' high mark.
        sqlx::query(concat!(
            "UPDATE instances SET
                observed_at_ms = e.value ->> 'observed_at_ms', visible = e.value ->> 'visible',
                expires_at_ms = e.value ->> 'expires_at_ms', state = e.value ->> 'state',
                charge_type = e.value ->> 'charge_type', auto_renew = e.value ->> 'auto_renew',
                mem_size_mb = e.value ->> 'mem_size_mb', shards = e.value ->> 'shards',
                replicas = e.value ->> 'replicas', renew_flag = e.value ->> 'renew_flag',
                latest_operation = nullif(e.value -> 'latest_operation', 'null'),
                invisible_looks = ",
            invisible_looks_then!("instances"),
            ", cycle = ",
            cycle_then!("instances"),
            ",
                cycle_expiry_ms = iif(cycle_expiry_ms IS NULL
                        OR coalesce(e.value ->> 'expires_at_ms', 0) >= cycle_expiry_ms + ?2,
                    e.value ->> 'expires_at_ms', cycle_expiry_ms),
                lower_since_ms = ",
            lower_since_then!("instances"),
            ", lower_looks = ",
            lower_looks_then!("instances"),
            ", expiry_high_ms = ",
            expiry_high_then!("instances"),
            "
             FROM json_each(?1) e
             WHERE provider = e.value ->> 'provider' AND region = e.value ->> 'region'
               AND instance = e.value ->> 'instance'
               AND coalesce(observed_at_ms, 0) <= e.value ->> 'observed_at_ms'"
        ))
        .bind(&text)
        .bind(CYCLE_ADVANCE_MS)
        .execute(&mut *conn)
        .await?;
        let found = sqlx::query(concat!(
            "SELECT ",
            known_columns!(),
            " FROM json_each(?1) e
             JOIN instances i ON i.provider = e.value ->> 'provider' AND i.region = e.value ->> 'region'
                             AND i.instance = e.value ->> 'instance'
             ORDER BY e.key"
        ))
        .bind(&text)
        .fetch_all(conn)
        .await?;
        let mut all =
            found.iter().map(|row| known(row, 0).map_err(|error| sqlx::Error::Decode(error.into())));
        rows.iter().map(|row| all.by_ref().take(row.0.len()).collect()).collect()
    }
}
