//! What the demo prints: news as they come, the table at the end, the ledger against the database.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::super::lists::error_words;
use super::super::output::{colour_on_stdout, or_dash, table as new_table};
use crate::sandbox::world::Charge;
use crate::store::{OrderRecord, RunRecord};

/// Remembers what was already told.
#[derive(Default)]
pub(super) struct Progress {
    runs: HashMap<i64, String>,
    orders: HashMap<i64, String>,
}

#[derive(Clone, Copy)]
enum Mood {
    Good,
    Plain,
    Odd,
    Bad,
}

impl Progress {
    /// A line for each change since the last call.
    pub(super) fn news(&mut self, runs: &[RunRecord], orders: &[OrderRecord], now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for run in runs.iter().rev() {
            if self.runs.is_empty() && lines.is_empty() {
                lines.push(line(now, "fired", &run.due_at, "the policies fired", Mood::Plain));
            }
            if self.runs.insert(run.id, run.state.clone()).as_ref() != Some(&run.state) {
                lines.extend(run_news(run, now));
            }
        }
        for order in orders.iter().rev() {
            if self.orders.insert(order.id, order.state.clone()).as_ref() != Some(&order.state) {
                lines.push(order_news(order, now));
            }
        }
        lines
    }
}

fn run_news(run: &RunRecord, now: Timestamp) -> Option<String> {
    let reason = run.reason.as_deref().unwrap_or_default();
    match run.state.as_str() {
        "skipped" => Some(line(now, "skipped", &run.instance, reason, Mood::Plain)),
        "failed" => Some(line(now, "failed", &run.instance, reason, Mood::Bad)),
        "waiting" if run.error.is_some() => {
            let next = run.next_attempt_at.as_deref().and_then(|at| at.get(11..19)).unwrap_or("?");
            Some(line(now, "retry", &run.instance, &format!("again at {next}Z: {reason}"), Mood::Odd))
        }
        _ => None,
    }
}

fn order_news(order: &OrderRecord, now: Timestamp) -> String {
    let id = order.order_id.as_deref().unwrap_or("without a number");
    let error = error_words(order.error.as_deref());
    let say = |what, words: String, mood| line(now, what, &order.instance, &words, mood);
    match order.state.as_str() {
        "intended" => {
            let goods = match order.months {
                None => "an upgrade".to_owned(),
                Some(1) => "1 month".to_owned(),
                Some(months) => format!("{months} months"),
            };
            say("ordering", format!("{goods}, row {} is committed", order.id), Mood::Plain)
        }
        "placed" => say("placed", format!("order {id}"), Mood::Plain),
        "confirmed" => {
            let effect = match order.expiry_after.as_deref().and_then(|at| at.get(..10)) {
                Some(after) => format!("it now expires on {after}"),
                None => "it has its new size".to_owned(),
            };
            say("confirmed", format!("order {id}, {effect}"), Mood::Good)
        }
        "unknown" => say("unknown", format!("{error}: looking for what became of it"), Mood::Odd),
        _ => say("refused", format!("row {}: {error}", order.id), Mood::Odd),
    }
}

fn line(now: Timestamp, what: &str, about: &str, words: &str, mood: Mood) -> String {
    let (start, end) = match (colour_on_stdout(), mood) {
        (false, _) | (true, Mood::Plain) => ("", ""),
        (true, Mood::Good) => ("\x1b[32m", "\x1b[0m"),
        (true, Mood::Odd) => ("\x1b[33m", "\x1b[0m"),
        (true, Mood::Bad) => ("\x1b[31m", "\x1b[0m"),
    };
    format!("{}  {start}{what:<10}{end} {about:<16} {words}", now.strftime("%H:%M:%S%.3f"))
}

/// One line an instance: how its run ended and by which orders.
pub(super) fn table(runs: &[RunRecord], orders: &[OrderRecord]) -> String {
    let mut table = new_table(&["INSTANCE", "RUN", "ORDERS", "NUMBER", "STORY"]);
    let mut by_instance: BTreeMap<&str, &RunRecord> = BTreeMap::new();
    for run in runs {
        by_instance.insert(&run.instance, run);
    }
    for (instance, run) in by_instance {
        let mut rows: Vec<&OrderRecord> = orders.iter().filter(|order| order.run_id == run.id).collect();
        rows.sort_by_key(|order| order.id);
        let states: Vec<String> = rows.iter().map(|order| order_words(order)).collect();
        let numbers: Vec<&str> = rows.iter().filter_map(|order| order.order_id.as_deref()).collect();
        let numbers = if numbers.is_empty() { or_dash(None) } else { numbers.join("\n") };
        let states = if states.is_empty() { or_dash(None) } else { states.join(", then ") };
        table.add_row([instance, &run.state, &states, &numbers, run.reason.as_deref().unwrap_or_default()]);
    }
    format!("\n{}", table.trim_fmt())
}

fn order_words(order: &OrderRecord) -> String {
    match &order.error {
        Some(error) => format!("{} {}", order.state, error_words(Some(error))),
        None => order.state.clone(),
    }
}

pub(super) struct Agreement {
    pub(super) agrees: bool,
    pub(super) text: String,
}

/// Each charge must have exactly one confirmed order with its number, and the other way round.
pub(super) fn compare(ledger: &[Charge], orders: &[OrderRecord]) -> Agreement {
    let confirmed: Vec<&OrderRecord> = orders.iter().filter(|order| order.state == "confirmed").collect();
    let mut text = String::from("\n");
    let mut agrees = true;
    for charge in ledger {
        let rows =
            confirmed.iter().filter(|order| order.order_id.as_deref() == Some(&charge.order_id)).count();
        if rows != 1 {
            agrees = false;
            text += &format!(
                "order {} of {} was charged and has {rows} rows\n",
                charge.order_id, charge.instance
            );
        }
    }
    for order in &confirmed {
        let id = order.order_id.as_deref().unwrap_or_default();
        if !ledger.iter().any(|charge| charge.order_id == id) {
            agrees = false;
            text += &format!("row {} of {} is confirmed and was never charged\n", order.id, order.instance);
        }
    }
    // An upgrade of several sizes is several orders; a renewal is one.
    let renewals = ledger.iter().filter(|charge| charge.months.is_some());
    let mut renewed: Vec<&str> = renewals.map(|charge| charge.instance.as_str()).collect();
    renewed.sort_unstable();
    for pair in renewed.windows(2).filter(|pair| pair[0] == pair[1]) {
        agrees = false;
        text += &format!("{} was charged twice\n", pair[0]);
    }
    let charges = ledger.len();
    text += &format!(
        "ledger: {charges} charges; database: {} confirmed orders; {}",
        confirmed.len(),
        if agrees { "they agree, nobody was charged twice." } else { "THEY DO NOT AGREE." }
    );
    Agreement { agrees, text }
}
