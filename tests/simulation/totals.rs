//! The totals that metrics show, held against the rows that they are the totals of.

use sqlx::SqliteConnection;

use crate::life::Broken;

/// What each total is, and what it has to be.
const TOTALS: [(&str, &str, &str); 5] = [
    (
        "runs in each state",
        "SELECT state, runs FROM run_counts WHERE runs <> 0 ORDER BY state",
        "SELECT state, count(*) FROM runs GROUP BY state ORDER BY state",
    ),
    (
        "runs that ended",
        "SELECT account || state, sum(runs) FROM run_ends WHERE runs > 0 GROUP BY account, state ORDER BY 1",
        "SELECT account || state, count(*) FROM runs WHERE finished_at_ms IS NOT NULL GROUP BY account, state ORDER BY 1",
    ),
    (
        "orders that were intended",
        "SELECT account || action, sum(orders) FROM order_entries WHERE state = 'intended' AND orders > 0
         GROUP BY account, action ORDER BY 1",
        "SELECT account || action, count(*) FROM orders GROUP BY account, action ORDER BY 1",
    ),
    (
        "orders that were settled",
        "SELECT account || state, sum(orders) FROM order_entries WHERE state IN ('confirmed', 'refused') AND orders > 0
         GROUP BY account, state ORDER BY 1",
        "SELECT account || state, count(*) FROM orders WHERE state IN ('confirmed', 'refused')
         GROUP BY account, state ORDER BY 1",
    ),
    (
        "money spent",
        "SELECT account, fen FROM spending WHERE fen <> 0 ORDER BY 1",
        "SELECT account, sum(amount_fen) FROM orders WHERE state = 'confirmed' AND amount_fen <> 0 GROUP BY 1 ORDER BY 1",
    ),
];

pub async fn check(database: &mut SqliteConnection) -> Result<(), Broken> {
    for (what, total, rows) in TOTALS {
        let mut counted = Vec::new();
        for query in [total, rows] {
            let lines: Vec<(String, i64)> =
                sqlx::query_as(query).fetch_all(&mut *database).await.map_err(|error| error.to_string())?;
            counted.push(lines);
        }
        if counted[0] != counted[1] {
            return Err(format!("{what}: the totals say {:?}, the rows {:?}", counted[0], counted[1]));
        }
    }
    Ok(())
}
