//! Metrics in Prometheus' text format: what the process counted in its life, and what the database knows for ever.
//!
//! Runs, orders, money and firings come from totals in the database, so that a restart takes nothing back and what
//! commands did beside the service is in them; calls, waits and commits are counted by the process and begin with it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::http::{Answer, Shared};
use super::readiness::Ready;
use crate::clock::Stopwatch;
use crate::engine::Engine;
use crate::store::{Expiry, Figures, Pause};

pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// A database that does not answer by then is left out of a scrape.
const READ_MAX: Duration = Duration::from_secs(5);
/// Figures that took long to read are read seldom: never more than this share of the time goes into them.
const SHARE_OF_TIME: u32 = 50;
const GOOD_FOR_LEAST: Duration = Duration::from_secs(1);
const GOOD_FOR_MOST: Duration = Duration::from_secs(60);

pub(super) struct Scrape {
    engine: Arc<Engine>,
    ready: Shared<Ready>,
    registry: Registry,
    moment: Arc<Moment>,
}

/// What is read for each scrape, from where the registry's collector takes it.
#[derive(Default)]
struct Moment(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    is_ready: bool,
    accounts: Vec<String>,
    /// None when the database could not be read: no figure is better than an old one.
    figures: Option<Figures>,
}

impl Scrape {
    pub(super) fn new(engine: Arc<Engine>, ready: Shared<Ready>) -> Scrape {
        let moment = Arc::new(Moment::default());
        let registry = registry(&engine, Arc::clone(&moment));
        Scrape { engine, ready, registry, moment }
    }
}

impl Answer for Scrape {
    type Value = Bytes;

    async fn work_out(&mut self) -> (Bytes, Duration) {
        let now = self.engine.clock.now();
        let watch = Stopwatch::start();
        let read = tokio::time::timeout(READ_MAX, self.engine.store.figures(now));
        let (ready, figures) = tokio::join!(self.ready.ask(), async { (read.await, watch.elapsed()) });
        let (figures, took) = figures;
        let seen = Seen {
            is_ready: ready.is_some_and(|ready| ready.is_ok()),
            accounts: self.engine.accounts().keys().map(ToString::to_string).collect(),
            figures: figures.ok().and_then(Result::ok),
        };
        *self.moment.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        (Bytes::from(text), (took * SHARE_OF_TIME).clamp(GOOD_FOR_LEAST, GOOD_FOR_MOST))
    }
}

/// Counters are registered without their `_total`, which the format adds, and information without its `_info`.
fn registry(engine: &Engine, moment: Arc<Moment>) -> Registry {
    let mut registry = Registry::default();
    let measures = &engine.measures;
    registry.register(
        "renewd_build",
        "The renewd that answers",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register(
        "renewd_api_requests",
        "Calls to the clouds since the start, by how they ended; a call that never left is unsent",
        measures.requests.clone(),
    );
    registry.register(
        "renewd_api_request_seconds",
        "How long calls to the clouds took",
        measures.request_seconds.clone(),
    );
    registry.register(
        "renewd_rate_wait_seconds",
        "How long calls waited for the account's pace before they were made",
        measures.rate_wait_seconds.clone(),
    );
    registry.register(
        "renewd_schedule_lag_seconds",
        "From a due instant until its runs were on disk; of firings in their time, not of those caught up",
        measures.schedule_lag_seconds.clone(),
    );
    registry.register(
        "renewd_db_commit_seconds",
        "How long transactions of the writer took, from their begin until they were on disk",
        engine.store.commit_seconds().clone(),
    );
    registry.register_collector(Box::new(moment));
    registry
}

/// Writes families as the registry writes its own.
struct Page<'a>(DescriptorEncoder<'a>);

/// A sample's labels.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Moment {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page(encoder);
        let is_ready = u64::from(seen.is_ready);
        page.gauge("renewd_ready", "1 while /readyz says so", [(vec![], is_ready)])?;
        match &seen.figures {
            Some(figures) => page.figures(figures, &seen),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment(…)")
    }
}

impl Page<'_> {
    fn gauge<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let mut family = self.0.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result
    where
        ConstCounter<V>: EncodeMetric,
    {
        let mut family = self.0.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn figures(&mut self, figures: &Figures, seen: &Seen) -> fmt::Result {
        self.runs(figures)?;
        self.orders(figures)?;
        self.instances(figures)?;
        self.schedules(figures)?;
        self.accounts(&figures.pauses, seen)?;
        self.configuration(figures)
    }

    fn runs(&mut self, figures: &Figures) -> fmt::Result {
        let runs = figures.runs.iter().map(|(state, runs)| (vec![("state", &**state)], *runs));
        self.gauge("renewd_runs", "Runs on record, by the state that they are in", runs)?;
        let ends = figures.run_ends.iter().map(|ends| {
            let (account, product, state) = (&*ends.account, &*ends.product, &*ends.state);
            (vec![("account", account), ("product", product), ("state", state)], ends.runs)
        });
        self.counter("renewd_runs_finished", "Runs that have ended, by their end", ends)
    }

    fn orders(&mut self, figures: &Figures) -> fmt::Result {
        let entries = figures.order_entries.iter().map(|entries| {
            let (account, product) = (&*entries.account, &*entries.product);
            let (action, state) = (&*entries.action, &*entries.state);
            let labels =
                vec![("account", account), ("product", product), ("action", action), ("state", state)];
            (labels, entries.orders)
        });
        self.counter(
            "renewd_orders",
            "Orders that came into a state: all were intended once, and each ends confirmed or refused",
            entries,
        )?;
        let unknown = [(vec![], figures.orders_unknown)];
        self.gauge(
            "renewd_orders_unknown",
            "Orders of which nobody can say whether they were charged",
            unknown,
        )?;
        let for_person = [(vec![], figures.orders_for_person)];
        self.gauge(
            "renewd_orders_for_person",
            "Open orders that no evidence settles: look in the console, then `renewd resolve`",
            for_person,
        )?;
        let spending = figures.spending.iter();
        let spending = spending.map(|(account, fen)| (vec![("account", &**account)], fen.as_yuan_number()));
        self.counter(
            "renewd_spend_cny",
            "Yuan spent on confirmed orders, as far as their price is known",
            spending,
        )
    }

    fn instances(&mut self, figures: &Figures) -> fmt::Result {
        let at_risk = [(vec![], figures.instances_at_risk)];
        self.gauge(
            "renewd_instances_at_risk",
            "Instances that expire within 3 days, have expired or were never seen, with no order on its way; more than \
             100000 are not counted",
            at_risk,
        )?;
        let expiries =
            figures.expiries.iter().map(|expiry| (expiry_labels(expiry), seconds(expiry.expires_at)));
        self.gauge(
            "renewd_instance_expiry_timestamp_seconds",
            "When instances expire; of the 1000 that expire soonest",
            expiries,
        )?;
        let firings = figures.expiries.iter();
        let firings =
            firings.filter_map(|expiry| Some((expiry_labels(expiry), seconds(expiry.next_firing?))));
        self.gauge(
            "renewd_instance_next_firing_timestamp_seconds",
            "When the policy that renews an instance fires next; absent while none does",
            firings,
        )
    }

    fn schedules(&mut self, figures: &Figures) -> fmt::Result {
        let fired = [(vec![], figures.fired)];
        self.counter(
            "renewd_schedule_fired",
            "Firings of policies by their schedules, catch-ups too",
            fired,
        )?;
        let missed = [("caught_up", figures.caught_up), ("too_old", figures.too_old)];
        self.counter(
            "renewd_schedule_missed",
            "Due instants of policies that passed without a firing: one run makes up for those caught up, nothing for \
             those that were too old for an every_fire policy",
            missed.map(|(reason, count)| (vec![("reason", reason)], count)),
        )
    }

    fn accounts(&mut self, pauses: &[Pause], seen: &Seen) -> fmt::Result {
        let is_paused = |account: &str| {
            let reaches = |pause: &Pause| match pause.scope.as_str() {
                "all" => true,
                "account" => pause.name.as_deref() == Some(account),
                _ => false,
            };
            u64::from(pauses.iter().any(reaches))
        };
        let paused = seen.accounts.iter().map(|account| (vec![("account", &**account)], is_paused(account)));
        self.gauge("renewd_account_paused", "1 while a pause holds the orders of an account", paused)
    }

    fn configuration(&mut self, figures: &Figures) -> fmt::Result {
        let set = &figures.set;
        let is_accepted = u64::from(set.refused_at.is_none());
        self.gauge(
            "renewd_config_last_reload_successful",
            "0 while an older set of policies runs than the one on disk, which was refused",
            [(vec![], is_accepted)],
        )?;
        let read_at = set.refused_at.or(set.accepted_at).map(|at| (vec![], seconds(at)));
        self.gauge(
            "renewd_config_last_reload_timestamp_seconds",
            "When the files were last read, at a start or by a reload, accepted or not",
            read_at,
        )
    }
}

fn expiry_labels(expiry: &Expiry) -> Labels<'_> {
    vec![("account", &*expiry.account), ("product", &*expiry.product), ("instance", &*expiry.instance)]
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
