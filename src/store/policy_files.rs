//! The accepted policy files, and what the policies of those that are not parsed again share with the rest.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::policies::PolicyEntry;
use super::{Store, StoreError, json};

/// A parsed file, to be known from now on.
#[derive(Clone, Debug)]
pub struct FileEntry {
    pub path: String,
    pub digest: String,
    /// The names of all policies in it.
    pub policies: Vec<String>,
}

/// What is already in force of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub policies: usize,
    /// Where their schedules are.
    pub zones: Vec<String>,
    /// One of them has the name of a policy of the rest, or an instance of one under the same action.
    pub clashes: bool,
}

impl Store {
    /// The digests of accepted files, by path.
    pub async fn policy_files(&self) -> Result<HashMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT path, digest FROM policy_files")
            .fetch_all(&mut *self.readers.get().await?)
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The policies of these files, held against the policies of all others.
    pub async fn kept_beside(&self, files: &[String], others: &[PolicyEntry]) -> Result<Kept, StoreError> {
        let mut conn = self.readers.get().await?;
        let files = json(&files)?;
        let rows = sqlx::query(
            "SELECT s.zone, count(*) FROM json_each(?1) e
             CROSS JOIN policy_files f ON f.path = e.value
             CROSS JOIN policies p ON p.file_id = f.id
             CROSS JOIN schedules s ON s.id = p.schedule_id GROUP BY s.zone",
        )
        .bind(&files)
        .fetch_all(&mut *conn)
        .await?;
        let mut kept = Kept { policies: 0, zones: Vec::new(), clashes: false };
        for row in rows {
            kept.zones.push(row.get(0));
            kept.policies += usize::try_from(row.get::<i64, _>(1)).unwrap_or(0);
        }
        kept.clashes = has_name_of(&files, others, &mut conn).await?;
        let mut instances: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
        for PolicyEntry { policy, .. } in others {
            let key = (policy.provider().as_str(), policy.terms.action.kind().as_str());
            instances.entry(key).or_default().extend(policy.instances.iter().map(|id| id.as_str()));
        }
        for ((provider, action), ids) in instances {
            kept.clashes = kept.clashes || has_instance_of(&files, provider, action, &ids, &mut conn).await?;
        }
        Ok(kept)
    }
}

async fn has_name_of(files: &str, others: &[PolicyEntry], conn: &mut SqliteConnection) -> sqlx::Result<bool> {
    let names: Vec<&str> = others.iter().map(|other| other.policy.name.as_str()).collect();
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM json_each(?1) e
         CROSS JOIN policies p ON p.name = e.value CROSS JOIN policy_files f ON f.id = p.file_id
         WHERE f.path IN (SELECT value FROM json_each(?2)))",
    )
    .bind(json(&names)?)
    .bind(files)
    .fetch_one(conn)
    .await
}

/// In whatever region: a vendor gives an id once.
async fn has_instance_of(
    files: &str,
    provider: &str,
    action: &str,
    ids: &[&str],
    conn: &mut SqliteConnection,
) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM json_each(?1) e
         CROSS JOIN instances i ON i.instance = e.value AND i.provider = ?2
         CROSS JOIN policy_instances pi ON pi.instance_id = i.id AND pi.removed_at_ms IS NULL
         CROSS JOIN policies p ON p.id = pi.policy_id AND p.action = ?3
         CROSS JOIN policy_files f ON f.id = p.file_id
         WHERE f.path IN (SELECT value FROM json_each(?4)))",
    )
    .bind(json(&ids)?)
    .bind(provider)
    .bind(action)
    .bind(files)
    .fetch_one(conn)
    .await
}

/// Of all files but these. The policies of those left are the ones that stay as they are.
pub(super) async fn forget_but(unchanged: &[String], conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM policy_files WHERE path NOT IN (SELECT value FROM json_each(?1))")
        .bind(json(&unchanged)?)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn remember(parsed: &[FileEntry], conn: &mut SqliteConnection) -> sqlx::Result<()> {
    for file in parsed {
        let id: i64 =
            sqlx::query_scalar("INSERT INTO policy_files (path, digest) VALUES (?1, ?2) RETURNING id")
                .bind(&file.path)
                .bind(&file.digest)
                .fetch_one(&mut *conn)
                .await?;
        sqlx::query("UPDATE policies SET file_id = ?1 WHERE name IN (SELECT value FROM json_each(?2))")
            .bind(id)
            .bind(json(&file.policies)?)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
