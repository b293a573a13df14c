//! One instance as its cloud shows it now, against what its policy wants of it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Finding, Key};
use crate::cloud::Cloud;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, Facts, InstanceState, Known, Observation, Presence};
use crate::domain::order::Purchase;
use crate::domain::policy::{Action, ActionKind, OnAutoRenew, Policy, Renew, RenewWhen, Terms};
use crate::domain::product::{AccountName, InstanceId, PolicyName, Product, Region};
use crate::engine::goods::Want;
use crate::engine::{Account, Engine, plan};
use crate::guard::{self, CLOCK_SKEWED, Decision, Price, Question};
use crate::schedule::Schedule;

#[derive(Debug)]
pub struct InstanceReport {
    pub policy: PolicyName,
    pub account: AccountName,
    pub product: Product,
    pub region: Region,
    pub instance: InstanceId,
    /// What the cloud shows; none where it shows nothing.
    pub facts: Option<Facts>,
    pub price: Option<Fen>,
    /// Why it could not be looked at.
    pub unseen: Option<Failure>,
    pub findings: Vec<Finding>,
}

impl InstanceReport {
    pub fn is_fine(&self) -> bool {
        self.findings.is_empty() && self.unseen.is_none()
    }
}

pub(super) struct Subject<'a> {
    pub engine: &'a Engine,
    pub account: &'a Account,
    pub policy: &'a Policy,
    pub instance: &'a InstanceId,
    pub now: Timestamp,
}

/// The order whose price tells whether the policy's term or size is sold, with the API that tells it.
pub(super) fn priced(
    policy: &Policy,
    instance: &InstanceId,
    look: Option<&Result<Observation, Failure>>,
    now: Timestamp,
) -> Option<(&'static str, Purchase)> {
    let known = known(look?.as_ref().ok()?);
    let facts = known.facts()?;
    if !facts.is_prepaid() || facts.state == InstanceState::Gone {
        return None;
    }
    let (product, region, terms) = (policy.product, &policy.region, &policy.terms);
    let want = Want { terms, product, region, instance, known: &known, due_at: now, refusals: 0 };
    let purchase = want.purchase()?;
    let api = Cloud::price_api(product, &purchase.goods).ok()?;
    Some((api.name, purchase))
}

fn known(observation: &Observation) -> Known {
    Known { observation: Some(observation.clone()), ..Known::NOTHING }
}

impl Subject<'_> {
    pub fn report(
        &self,
        look: Option<&Result<Observation, Failure>>,
        price: Option<Result<Fen, Failure>>,
        key: Option<&Key>,
    ) -> InstanceReport {
        let Subject { policy, instance, .. } = self;
        let mut report = InstanceReport {
            policy: policy.name.clone(),
            account: policy.account.clone(),
            product: policy.product,
            region: policy.region.clone(),
            instance: (*instance).clone(),
            facts: None,
            price: price.as_ref().and_then(|price| price.as_ref().ok().copied()),
            unseen: None,
            findings: Vec::new(),
        };
        match look {
            None => {}
            Some(Err(failure)) => {
                report.unseen = Some(failure.clone());
                // What an account's key or rights are to blame for is told with the account.
                if failure.class == Class::Rejected && key == Some(&Key::Accepted) {
                    let message = format!("the cloud refuses to tell of it: {failure}");
                    let help = "correct its id, product or region in the policy";
                    report.findings.push(Finding::error(&failure.code, message, help));
                }
            }
            Some(Ok(observation)) => {
                if let Presence::Visible(facts) = &observation.presence {
                    report.facts = Some(facts.clone());
                }
                report.findings.extend(self.verdict(observation));
                report.findings.extend(report.facts.iter().flat_map(|facts| self.doubts(facts)));
                // What is refused already has no price either.
                let is_asked = report.findings.iter().all(|finding| finding.code == EXPIRES_FIRST);
                report.findings.extend(price.filter(|_| is_asked).and_then(|price| self.price(price)));
            }
        }
        report
    }

    /// What the guard would say if it were due.
    fn verdict(&self, observation: &Observation) -> Option<Finding> {
        let known = Known {
            observation: Some(Observation { observed_at: self.now, ..observation.clone() }),
            ..Known::NOTHING
        };
        let settings = self.engine.settings();
        let verdict = guard::judge(&Question {
            account: &self.account.name,
            provider: self.account.provider,
            region: &self.policy.region,
            instance: self.instance,
            terms: &as_if_due(&self.policy.terms),
            known: &known,
            now: self.now,
            due_at: self.now,
            look_after: self.now,
            next_firing: None,
            firing_after_next: None,
            refused_yet_moved: None,
            foreign_order_at: None,
            again: false,
            price: Price::NotNeeded,
            skew: self.account.skew(),
            settle: plan::span(settings.settle),
            look_again: plan::span(settings.pace.first_delay),
        });
        let is_visible = known.facts().is_some();
        match verdict.decision {
            Decision::Order | Decision::AskPrice | Decision::Observe => None,
            // An upgrade that is done is no matter.
            Decision::Skip { .. } if self.policy.terms.action.kind() == ActionKind::Upgrade => None,
            Decision::Skip { reason } => Some(Finding::error("AutoRenewOn", reason, AUTO_RENEW_HELP)),
            Decision::Wait { failure: Some(failure), .. } if failure.code == CLOCK_SKEWED => None,
            Decision::Wait { reason, .. } if !is_visible => {
                let help = "correct the instance, region or account of the policy, or let the key see it";
                Some(Finding::error("NotVisible", reason, help))
            }
            Decision::Wait { reason, failure: None, .. } => Some(at_work(reason)),
            Decision::Wait { reason, failure: Some(failure), .. } if failure.class == Class::Busy => {
                Some(at_work(reason))
            }
            Decision::Wait { reason, failure: Some(failure), .. } | Decision::Fail { reason, failure } => {
                Some(Finding::error(&failure.code, reason, help(&failure.code)))
            }
        }
    }

    /// What the guard lets pass and a person should know.
    fn doubts(&self, facts: &Facts) -> Vec<Finding> {
        let mut doubts = Vec::new();
        if self.policy.terms.action.kind() != ActionKind::Renew || !facts.is_prepaid() {
            return doubts;
        }
        let is_wanted = self.policy.terms.on_auto_renew == OnAutoRenew::Renew;
        match facts.auto_renew {
            AutoRenew::On if is_wanted => doubts.push(Finding::warning(
                "AutoRenewOn",
                "the console's auto-renew is on too, and may pay for the same term",
                "turn it off in the console, unless both are meant",
            )),
            AutoRenew::Unreadable => doubts.push(Finding::warning(
                "AutoRenewUnreadable",
                "the console's auto-renew cannot be read: close to the expiry nothing is ordered",
                "look at it in the console, and see the account's rights",
            )),
            AutoRenew::On | AutoRenew::Off => {}
        }
        let schedule = &self.policy.schedule;
        let schedule = Schedule::parse(&schedule.expression, &schedule.zone).ok();
        let next =
            schedule.and_then(|schedule| schedule.next_after(self.now)).filter(|_| self.policy.enabled);
        if let (Some(expires_at), Some(next)) = (facts.expires_at, next)
            && expires_at < next
            && facts.auto_renew != AutoRenew::On
        {
            let word = if expires_at > self.now { "expires" } else { "expired" };
            let zone = TimeZone::get(&self.policy.schedule.zone).unwrap_or(TimeZone::UTC);
            let local = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %:z");
            let (expiry, firing) = (local(expires_at), local(next));
            doubts.push(Finding::warning(
                EXPIRES_FIRST,
                format!("it {word} at {expiry}, and its policy fires at {firing} only"),
                format!(
                    "let it fire earlier, or `renewd trigger {} --instance {}`",
                    self.policy.name, self.instance
                ),
            ));
        }
        doubts
    }

    fn price(&self, price: Result<Fen, Failure>) -> Option<Finding> {
        let terms = &self.policy.terms;
        match (price, terms.max_price) {
            (Ok(price), Some(cap)) if price > cap => Some(Finding::error(
                "PriceAboveCap",
                format!("it would cost {price} CNY, above max_price_cny = {cap}: it is not ordered"),
                "raise max_price_cny, or look for the price in the console",
            )),
            (Ok(_), _) => None,
            (Err(failure), _) if failure.class == Class::Rejected => {
                let goods = match &terms.action {
                    Action::Renew(renew) if renew.months == 1 => "a term of 1 month".to_owned(),
                    Action::Renew(renew) => format!("a term of {} months", renew.months),
                    Action::Upgrade(_) => "this size".to_owned(),
                };
                let message = format!("{goods} is not sold for it: {failure}");
                Some(Finding::error(
                    &failure.code,
                    message,
                    "write one into the policy that the console offers",
                ))
            }
            (Err(failure), _) if matches!(failure.class, Class::Busy | Class::Unavailable) => {
                let message = format!("its price is not to be had now: {failure}");
                Some(Finding::warning(&failure.code, message, "ask again in some minutes"))
            }
            // A right or a connection: told with the account.
            (Err(_), _) => None,
        }
    }
}

const EXPIRES_FIRST: &str = "ExpiresFirst";
const AUTO_RENEW_HELP: &str = "turn auto-renew off in the console, or take the instance out of the policy";

/// Everything but whether it is due yet, which would hide the rest.
fn as_if_due(terms: &Terms) -> Terms {
    let mut terms = terms.clone();
    if let Action::Renew(renew) = terms.action {
        terms.action = Action::Renew(Renew { when: RenewWhen::EveryFire, ..renew });
    }
    terms
}

fn help(code: &str) -> &'static str {
    match code {
        "NotPrepaid" => "take it out of the policy, or make it prepaid in the console",
        "Gone" | "Returned" => "take it out of the policy",
        "AutoRenewNear" => AUTO_RENEW_HELP,
        "ShrinkNotAllowed" => "correct the size in the policy",
        _ => "look at it in the console",
    }
}

fn at_work(reason: String) -> Finding {
    Finding::warning("Busy", reason, "look again in some minutes")
}
