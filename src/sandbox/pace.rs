//! Quotas and counters over sliding windows of one second.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const WINDOW: Duration = Duration::from_secs(1);
/// Regions are free text of the callers: quotas at rest are forgotten once there are this many.
const QUOTAS_KEPT: usize = 4_096;

/// The providers' quotas: of each (key, API, region), so many calls in any second.
#[derive(Default)]
pub struct Pace {
    quotas: HashMap<QuotaKey, Window>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuotaKey {
    pub key_id: String,
    pub api: &'static str,
    pub region: String,
}

impl Pace {
    /// Whether a call at that moment is within its quota. Only calls let through use it up.
    pub fn admit(&mut self, key: QuotaKey, per_second: usize, moment: Duration) -> bool {
        if self.quotas.len() >= QUOTAS_KEPT {
            self.quotas.retain(|_, window| window.count(moment) > 0);
        }
        let window = self.quotas.entry(key).or_default();
        let fits = window.count(moment) < per_second;
        if fits {
            window.add(moment);
        }
        fits
    }
}

/// The counters of `GET /_sandbox/requests`.
#[derive(Default)]
pub struct Counters {
    by_api: BTreeMap<String, Counter>,
}

#[derive(Default)]
struct Counter {
    count: ApiCount,
    window: Window,
}

/// Calls of one API, whoever made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiCount {
    pub total: u64,
    /// The most arrivals in any one second, refused ones included.
    pub max_in_one_second: usize,
    /// `ok`, the code of the refusal, or the kind of the fault that spoilt the answer.
    pub by_code: BTreeMap<String, u64>,
}

impl Counters {
    pub fn arrived(&mut self, api: &str, moment: Duration) {
        let Counter { count, window } = self.counter(api);
        window.add(moment);
        count.total += 1;
        count.max_in_one_second = count.max_in_one_second.max(window.count(moment));
    }

    pub fn ended(&mut self, api: &str, code: &str) {
        *self.counter(api).count.by_code.entry(code.to_owned()).or_default() += 1;
    }

    pub fn snapshot(&self) -> BTreeMap<String, ApiCount> {
        self.by_api.iter().map(|(api, counter)| (api.clone(), counter.count.clone())).collect()
    }

    fn counter(&mut self, api: &str) -> &mut Counter {
        self.by_api.entry(api.to_owned()).or_default()
    }
}

/// Moments of the last second.
#[derive(Default)]
struct Window(VecDeque<Duration>);

impl Window {
    fn add(&mut self, moment: Duration) {
        self.0.push_back(moment);
    }

    /// A moment exactly one second ago has left the window.
    fn count(&mut self, now: Duration) -> usize {
        while self.0.front().is_some_and(|moment| now.saturating_sub(*moment) >= WINDOW) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key_id: &str) -> QuotaKey {
        QuotaKey { key_id: key_id.into(), api: "redis:RenewInstance", region: "ap-guangzhou".into() }
    }

    #[test]
    fn no_second_holds_more_than_the_quota_wherever_it_begins() {
        let mut pace = Pace::default();
        let accepted: Vec<u64> =
            (0..5_000).step_by(7).filter(|ms| pace.admit(key("a"), 20, Duration::from_millis(*ms))).collect();
        assert!(accepted.len() >= 5 * 20 - 1, "{}", accepted.len());
        for from in &accepted {
            let in_second = accepted.iter().filter(|ms| (*from..from + 1_000).contains(*ms)).count();
            assert!(in_second <= 20, "{in_second} from {from} ms on");
        }
    }

    #[test]
    fn keys_do_not_share_a_quota_and_refused_calls_use_none_up() {
        let mut pace = Pace::default();
        assert!(pace.admit(key("a"), 1, Duration::ZERO));
        assert!(!pace.admit(key("a"), 1, Duration::from_millis(999)));
        assert!(pace.admit(key("b"), 1, Duration::from_millis(999)));
        assert!(pace.admit(key("a"), 1, Duration::from_millis(1_000)));
    }

    #[test]
    fn counters_remember_the_busiest_second() {
        let mut counters = Counters::default();
        for ms in [0, 400, 999, 1_000, 5_000] {
            counters.arrived("redis:RenewInstance", Duration::from_millis(ms));
            counters.ended("redis:RenewInstance", "ok");
        }
        let count = &counters.snapshot()["redis:RenewInstance"];
        assert_eq!((count.total, count.max_in_one_second, count.by_code["ok"]), (5, 3, 5));
    }
}
