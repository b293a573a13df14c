//! The record of calls.

use sqlx::SqliteConnection;

use super::{Attempt, json};
use crate::store::writer::Change;

pub(super) struct RecordAttempts(pub(super) Vec<Attempt>);

impl Change for RecordAttempts {
    type Reply = ();

    async fn apply(rows: &[Self], conn: &mut SqliteConnection) -> sqlx::Result<Vec<()>> {
        let all: Vec<&Attempt> = rows.iter().flat_map(|row| &row.0).collect();
        sqlx::query(
            "INSERT INTO attempts (account, api, region, order_row, run_id, instances, at_ms, duration_ms, class, code,
                 http_status, request_id)
             SELECT value ->> 'account', value ->> 'api', value ->> 'region', value ->> 'order_row',
                    value ->> 'run_id', value ->> 'instances', value ->> 'at_ms', value ->> 'duration_ms',
                    value ->> 'class', value ->> 'code', value ->> 'http_status', value ->> 'request_id'
             FROM json_each(?1)",
        )
        .bind(json(&all)?)
        .execute(conn)
        .await?;
        Ok(vec![(); rows.len()])
    }
}
