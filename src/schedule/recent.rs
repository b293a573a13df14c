//! The patterns that were parsed last. Most installations have a few, each is parsed whenever it is due, and that costs
//! many times what is then asked of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use croner::Cron;

/// Patterns of about 5 KB. Where there are more, they take turns.
const REMEMBERED_MAX: usize = 64;

static PATTERNS: Mutex<Option<HashMap<String, Arc<Cron>>>> = Mutex::new(None);

/// The pattern of an expression, parsed unless it is remembered.
pub(super) fn pattern<E>(expression: &str, parse: impl FnOnce() -> Result<Cron, E>) -> Result<Arc<Cron>, E> {
    if let Some(known) = with(|patterns| patterns.get(expression).cloned()) {
        return Ok(known);
    }
    let cron = Arc::new(parse()?);
    with(|patterns| {
        if patterns.len() >= REMEMBERED_MAX {
            patterns.clear();
        }
        patterns.insert(expression.to_owned(), Arc::clone(&cron));
    });
    Ok(cron)
}

fn with<T>(work: impl FnOnce(&mut HashMap<String, Arc<Cron>>) -> T) -> T {
    work(PATTERNS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}
