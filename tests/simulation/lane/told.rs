//! What the log was told, on the thread of one test.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<Line>>>);

type Line = BTreeMap<&'static str, String>;

/// Of the events themselves, beside their fields.
const LEVEL: &str = "level";
const EVENT: &str = "event";

impl Told {
    pub fn listen() -> (Told, DefaultGuard) {
        let told = Told::default();
        let guard = tracing::subscriber::set_default(Registry::default().with(told.clone()));
        (told, guard)
    }

    /// Each event of that name, oldest first, as its level and these fields; `-` stands for one that it has not.
    pub fn of(&self, event: &str, fields: &[&str]) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let named = lines.iter().filter(|line| line.get(EVENT).is_some_and(|name| name == event));
        let words = |line: &Line| {
            let all = std::iter::once(&LEVEL).chain(fields);
            all.map(|field| line.get(field).map_or("-", String::as_str)).collect::<Vec<_>>().join(" ")
        };
        named.map(words).collect()
    }

    pub fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("renewd::engine") {
            return;
        }
        let level = event.metadata().level().as_str().to_lowercase();
        let mut fields = Fields(BTreeMap::from([(LEVEL, level)]));
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

struct Fields(Line);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
