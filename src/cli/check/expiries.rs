//! Instances that their policy comes too late for, by what the service last saw of them.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::config::{self, Config, Diagnostic, PolicySet, TooLate};
use crate::domain::policy::{ActionKind, ScheduleText};
use crate::domain::product::Identity;
use crate::schedule::Schedule;
use crate::store::Store;

/// Nothing where there is no database to read: `check` does without one.
pub(super) async fn warnings(config: &Config, set: &PolicySet, now: Timestamp) -> Vec<Diagnostic> {
    let firings = first_firings(set, now);
    let Some(latest) = firings.values().max() else { return Vec::new() };
    let Ok(store) = Store::open_for_reading(&config.database).await else { return Vec::new() };
    let Ok(expiries) = store.expiries_before(*latest).await else { return Vec::new() };
    if expiries.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let renewals = set.policies.iter().filter(|policy| policy.terms.action.kind() == ActionKind::Renew);
    for policy in renewals.filter(|policy| policy.enabled) {
        let Some(fires_at) = firings.get(&policy.schedule).copied() else { continue };
        for instance in &policy.instances {
            let identity = Identity::new(policy.product, &policy.region, instance);
            let expires_at = expiries.get(&identity).copied().filter(|expires_at| *expires_at < fires_at);
            found.extend(expires_at.map(|expires_at| TooLate { policy, instance, expires_at, fires_at }));
        }
    }
    config::warn_of_expiries(set, &found)
}

/// Each distinct schedule is asked once.
fn first_firings(set: &PolicySet, now: Timestamp) -> HashMap<ScheduleText, Timestamp> {
    let mut firings = HashMap::new();
    for policy in &set.policies {
        if !firings.contains_key(&policy.schedule) {
            let schedule = Schedule::parse(&policy.schedule.expression, &policy.schedule.zone).ok();
            let next = schedule.and_then(|schedule| schedule.next_after(now));
            firings.extend(next.map(|next| (policy.schedule.clone(), next)));
        }
    }
    firings
}
