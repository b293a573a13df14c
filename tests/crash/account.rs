//! The practice cloud's ledger against the database: who was charged, and which rows know of it.

use std::collections::BTreeMap;

use renewd::sandbox::world::Charge;
use sqlx::{Row, SqliteConnection};

pub struct Books {
    ledger: Vec<Charge>,
    orders: Vec<OrderLine>,
    runs: Vec<RunLine>,
    instants: Vec<InstantLine>,
}

struct OrderLine {
    row: i64,
    instance: String,
    state: String,
    order_id: Option<String>,
}

struct RunLine {
    run: i64,
    state: String,
    due_at_ms: i64,
    has_ended: bool,
}

/// Of one policy and instance: how many instants its runs stand for, and how many there were.
struct InstantLine {
    instance: String,
    runs_of_an_instant: i64,
    stood_for: i64,
    active_since_ms: i64,
    watermark_ms: i64,
}

/// The distance of the fleet's due instants.
const INTERVAL_MS: i64 = 2000;

impl Books {
    pub async fn read(database: &mut SqliteConnection, ledger: Vec<Charge>) -> Books {
        let orders = sqlx::query("SELECT id, instance, state, order_id FROM orders_v")
            .map(|row: sqlx::sqlite::SqliteRow| OrderLine {
                row: row.get(0),
                instance: row.get(1),
                state: row.get(2),
                order_id: row.get(3),
            })
            .fetch_all(&mut *database)
            .await
            .unwrap();
        let runs = sqlx::query("SELECT id, state, due_at_ms, finished_at_ms IS NOT NULL FROM runs")
            .map(|row: sqlx::sqlite::SqliteRow| RunLine {
                run: row.get(0),
                state: row.get(1),
                due_at_ms: row.get(2),
                has_ended: row.get(3),
            })
            .fetch_all(&mut *database)
            .await
            .unwrap();
        let instants = sqlx::query(
            "SELECT i.instance, count(*) - count(DISTINCT r.due_at_ms),
                    sum(iif(r.origin = 'schedule', 1, r.missed_count)), p.active_since_ms, s.watermark_ms
             FROM policy_instances pi JOIN policies p ON p.id = pi.policy_id JOIN schedules s ON s.id = p.schedule_id
             JOIN instances i ON i.id = pi.instance_id
             LEFT JOIN runs r ON r.policy_id = pi.policy_id AND r.instance_id = pi.instance_id
             GROUP BY pi.id",
        )
        .map(|row: sqlx::sqlite::SqliteRow| InstantLine {
            instance: row.get(0),
            runs_of_an_instant: row.get(1),
            stood_for: row.get(2),
            active_since_ms: row.get(3),
            watermark_ms: row.get(4),
        })
        .fetch_all(database)
        .await
        .unwrap();
        Books { ledger, orders, runs, instants }
    }

    pub fn charges(&self) -> usize {
        self.ledger.len()
    }

    /// A month moves an instance out of the window, so a second charge is always one too many.
    pub fn double_charges(&self) -> Vec<&str> {
        let mut charges: BTreeMap<&str, u32> = BTreeMap::new();
        for charge in &self.ledger {
            *charges.entry(&charge.instance).or_default() += 1;
        }
        charges.into_iter().filter(|(_, count)| *count > 1).map(|(instance, _)| instance).collect()
    }

    /// Charges that not exactly one row of the same instance knows as confirmed.
    pub fn lost_charges(&self) -> Vec<&Charge> {
        let knows = |order: &&OrderLine, charge: &Charge| {
            order.order_id.as_ref() == Some(&charge.order_id) && order.instance == charge.instance
        };
        let is_lost = |charge: &&Charge| {
            let rows: Vec<&OrderLine> = self.orders.iter().filter(|order| knows(order, charge)).collect();
            !matches!(rows[..], [order] if order.state == "confirmed")
        };
        self.ledger.iter().filter(is_lost).collect()
    }

    pub fn assert_balanced(&self) {
        assert_eq!(self.double_charges(), Vec::<&str>::new(), "charged twice");
        assert_eq!(self.lost_charges(), Vec::<&Charge>::new(), "charged and not known to exactly one order");
        for order in self.orders.iter().filter(|order| order.state == "confirmed") {
            let is_charged =
                self.ledger.iter().any(|charge| order.order_id.as_ref() == Some(&charge.order_id));
            assert!(is_charged, "order row {} is confirmed and was never charged", order.row);
        }
    }

    pub fn assert_every_instance_charged_once(&self, fleet: u32) {
        assert_eq!(self.charges(), usize::try_from(fleet).unwrap());
    }

    /// Runs due until that moment; a later firing may have been stopped half way.
    pub fn assert_runs_ended(&self, quiet_at_ms: i64) {
        for run in self.runs.iter().filter(|run| run.due_at_ms <= quiet_at_ms) {
            assert!(run.has_ended, "run {} is {}", run.run, run.state);
        }
        let open = self.orders.iter().find(|order| !["confirmed", "refused"].contains(&order.state.as_str()));
        assert!(open.is_none(), "order row {:?} is open", open.map(|order| order.row));
    }

    /// Promise 4: each due instant has a run of its own or is counted in one catch-up run, never both.
    pub fn assert_instants_accounted_for(&self) {
        for line in &self.instants {
            assert_eq!(line.runs_of_an_instant, 0, "{}: two runs of one instant", line.instance);
            let due = line.watermark_ms / INTERVAL_MS - line.active_since_ms / INTERVAL_MS;
            assert_eq!(line.stood_for, due, "{}: instants that runs stand for, and that were", line.instance);
        }
    }
}
