//! What the work counts while it goes on, in this life of the process: calls, waits for a permit, firings.
//!
//! The values are the metrics library's own, shared with whoever serves them: to count one costs less than a
//! microsecond, no part of the work waits for a reader, and nothing is decided by them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::cloud::{Api, Report};
use crate::domain::failure::Failure;
use crate::domain::product::AccountName;

/// Labels are few: accounts are configured, APIs and classes are ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    pub account: String,
    pub api: &'static str,
    pub class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabels {
    pub account: String,
    pub api: &'static str,
}

pub type ByApi = Family<ApiLabels, Histogram, fn() -> Histogram>;

pub struct Measures {
    pub requests: Family<CallLabels, Counter>,
    pub request_seconds: ByApi,
    pub rate_wait_seconds: ByApi,
    pub schedule_lag_seconds: Histogram,
}

/// The class of a call that went well, as calls are recorded.
pub(super) const OK: &str = "ok";

/// From a cloud that is near to a purchase's timeout.
const REQUEST_SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// A slot of 20 a second is 0.05 s; of a fleet that is due at once only the next one asks.
const RATE_WAIT_SECONDS: [f64; 10] = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0];
/// What is later than a minute is no longer on time, and is caught up.
const SCHEDULE_LAG_SECONDS: [f64; 12] =
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0];

impl Measures {
    pub(super) fn new() -> Measures {
        Measures {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            rate_wait_seconds: Family::new_with_constructor(|| Histogram::new(RATE_WAIT_SECONDS)),
            schedule_lag_seconds: Histogram::new(SCHEDULE_LAG_SECONDS),
        }
    }

    pub(super) fn call_ended(&self, account: &AccountName, report: &Report, failure: Option<&Failure>) {
        let class = failure.map_or(OK, |failure| failure.class.as_str());
        self.requests
            .get_or_create(&CallLabels { account: account.to_string(), api: report.api, class })
            .inc();
        // One that was never made took no time.
        if !report.duration.is_zero() {
            observe(&self.request_seconds, account, report.api, report.duration);
        }
    }

    pub(super) fn waited(&self, account: &AccountName, api: Api, wait: Duration) {
        observe(&self.rate_wait_seconds, account, api.name, wait);
    }
}

fn observe(histograms: &ByApi, account: &AccountName, api: &'static str, took: Duration) {
    let labels = ApiLabels { account: account.to_string(), api };
    histograms.get_or_create(&labels).observe(took.as_secs_f64());
}
