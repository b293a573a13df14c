//! What would happen if a set of policies were loaded: one line an instance, and what it costs each account.
//!
//! ```text
//! looks, database ──► future: guard and schedule at each instant ──► prices ──► line ──► purse: budgets by the day
//! ```
//!
//! Invariant: the guard that the till asks decides here too. Invariant: nothing is ordered or written down; of the
//! store only what reads is used.

mod future;
mod line;
mod purse;
mod totals;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use future::Occasion;
pub use line::{Line, Mark};
pub use totals::{AccountPlan, Balance, Limited, Trouble};

use super::Engine;
use super::goods::Want;
use super::survey::{Looks, Progress, Spot};
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::order::Purchase;
use crate::domain::policy::Policy;
use crate::domain::product::{AccountName, Identity, InstanceId};
use crate::guard::Price;
use crate::schedule::{Missed, Schedule};
use crate::store::{Pause, PolicyEntry, Standing, Store, StoreError, Subject};
use future::{Outset, Turn};

/// What the clouds said of a set's instances and of the accounts.
#[derive(Debug, Default)]
pub struct Survey {
    pub looks: Looks,
    pub balances: BTreeMap<AccountName, Result<Option<Fen>, Failure>>,
}

/// What to look ahead at.
pub struct Outlook<'a> {
    pub set: &'a [PolicyEntry],
    /// What is known already; it is only read.
    pub store: &'a Store,
    /// None: only what the store knows counts, and no cloud is asked.
    pub survey: Option<Survey>,
    pub days: u32,
    pub progress: &'a Arc<Progress>,
}

#[derive(Debug)]
pub struct Plan {
    pub at: Timestamp,
    pub through: Timestamp,
    /// What needs a person first, then what will be ordered, then the rest; each in the order of time.
    pub lines: Vec<Line>,
    pub accounts: Vec<AccountPlan>,
}

/// Instances whose standing is in hand at once.
const CHUNK: usize = 1000;

/// One instance of one policy on its way to a line.
struct Draft<'a> {
    policy: &'a Policy,
    instance: &'a InstanceId,
    schedule: Arc<Schedule>,
    standing: Standing,
    missed: Option<Missed>,
    /// Why it could not be looked at now.
    unseen: Option<Failure>,
    /// None: its policy does not fire.
    turn: Option<Turn>,
    price: Option<Result<Fen, Failure>>,
}

/// What is the same for all drafts.
struct Circumstances {
    now: Timestamp,
    through: Timestamp,
    pauses: Vec<Pause>,
    /// Of accounts with which nothing could be ordered.
    refused_keys: HashMap<AccountName, Failure>,
}

impl Engine {
    /// Looks at every instance of a set and at what every account can pay with.
    ///
    /// # Errors
    /// The engine's own database failed.
    pub async fn survey(
        self: &Arc<Self>,
        set: &[PolicyEntry],
        progress: &Arc<Progress>,
    ) -> Result<Survey, StoreError> {
        let spots = set
            .iter()
            .flat_map(|entry| entry.policy.instances.iter().map(|instance| spot_of(&entry.policy, instance)));
        let looks = self.look_at_all(spots.collect(), progress).await?;
        Ok(Survey { looks, balances: self.ask_balances(progress).await? })
    }

    /// What would happen with the set from now on.
    ///
    /// # Errors
    /// A database could not be read.
    pub async fn plan(self: &Arc<Self>, outlook: Outlook<'_>) -> Result<Plan, StoreError> {
        let Outlook { set, store, survey, days, progress } = outlook;
        let now = self.now();
        let through = now + SignedDuration::from_hours(24 * i64::from(days));
        let is_online = survey.is_some();
        let survey = survey.unwrap_or_default();
        let circumstances = Circumstances {
            now,
            through,
            pauses: store.pauses(now).await?,
            refused_keys: self.refused_keys(&survey),
        };
        let (mut lines, mut drafts) = self.drafts(set, store, &survey.looks, &circumstances).await?;
        let spent = totals::spent(self, store, now).await?;
        // From here on the database is not asked any more: the prices may take minutes.
        if is_online {
            self.price_drafts(&mut drafts, &circumstances, progress).await?;
        }
        lines.extend(drafts.into_iter().filter_map(|draft| line::of(self, draft, &circumstances)));
        let balances = is_online.then_some(survey.balances);
        let accounts = totals::of(self, set, &mut lines, &spent, balances.as_ref(), &circumstances);
        lines.sort_by_cached_key(Line::rank);
        Ok(Plan { at: now, through, lines, accounts })
    }

    /// With a key that is refused, or that cannot be read, nothing would be ordered either.
    fn refused_keys(&self, survey: &Survey) -> HashMap<AccountName, Failure> {
        let looks =
            survey.looks.iter().filter_map(|(spot, look)| Some((&spot.account, look.as_ref().err()?)));
        let balances =
            survey.balances.iter().filter_map(|(name, balance)| Some((name, balance.as_ref().err()?)));
        let accounts = self.accounts();
        let refused = looks.chain(balances).filter(|(name, failure)| {
            accounts.get(*name).is_some_and(|account| super::calls::is_refused_key(account, failure))
        });
        refused.map(|(name, failure)| (name.clone(), failure.clone())).collect()
    }

    /// What is not to be ordered is a line at once; what remains is little enough to be asked about.
    async fn drafts<'a>(
        &self,
        set: &'a [PolicyEntry],
        store: &Store,
        looks: &Looks,
        circumstances: &Circumstances,
    ) -> Result<(Vec<Line>, Vec<Draft<'a>>), StoreError> {
        let pasts = store.pasts().await?;
        let (mut lines, mut drafts) = (Vec::new(), Vec::new());
        for entry in set {
            let policy = &entry.policy;
            // Both were read when the policy was validated.
            let Ok(schedule) = Schedule::parse(&policy.schedule.expression, &policy.schedule.zone) else {
                continue;
            };
            let schedule = Arc::new(schedule);
            let past = pasts.get(policy.name.as_str());
            let missed = past.and_then(|past| future::missed(past, policy, circumstances.now));
            for chunk in policy.instances.chunks(CHUNK) {
                let subjects: Vec<Subject> =
                    chunk.iter().map(|instance| subject(entry, instance, looks)).collect();
                let standings = store.standings(&subjects).await?;
                for (instance, standing) in chunk.iter().zip(standings) {
                    let look = looks.get(&spot_of(policy, instance));
                    let unseen = look.and_then(|look| look.as_ref().err().cloned());
                    let schedule = Arc::clone(&schedule);
                    let mut draft = Draft {
                        policy,
                        instance,
                        schedule,
                        standing,
                        missed,
                        unseen,
                        turn: None,
                        price: None,
                    };
                    draft.turn = draft.outset(self, circumstances).and_then(|outset| outset.first_turn());
                    if draft.turn.as_ref().is_some_and(Turn::would_order) {
                        drafts.push(draft);
                    } else {
                        lines.extend(line::of(self, draft, circumstances));
                    }
                }
            }
        }
        Ok((lines, drafts))
    }

    /// Asks what each order that would come about costs.
    async fn price_drafts(
        self: &Arc<Self>,
        drafts: &mut [Draft<'_>],
        circumstances: &Circumstances,
        progress: &Arc<Progress>,
    ) -> Result<(), StoreError> {
        let wanted = |draft: &Draft<'_>| {
            let turn = draft.turn.as_ref().filter(|turn| turn.would_order())?;
            // What is on order already is not bought again.
            let is_ordered = draft.standing.open.is_some();
            (!is_ordered).then(|| draft.want(turn).purchase()).flatten()
        };
        let (places, purchases): (Vec<usize>, Vec<(AccountName, Purchase)>) = drafts
            .iter()
            .enumerate()
            .filter_map(|(place, draft)| Some((place, (draft.policy.account.clone(), wanted(draft)?))))
            .unzip();
        let prices = self.ask_prices(purchases, progress).await?;
        for (place, price) in places.into_iter().zip(prices) {
            let judged = match &price {
                Ok(fen) => Price::Known(*fen),
                Err(failure) => Price::Unreadable(failure.clone()),
            };
            let draft = &mut drafts[place];
            let turn = draft.turn.take().zip(draft.outset(self, circumstances));
            let turn = turn.map(|(turn, outset)| outset.priced(turn, &judged));
            (draft.turn, draft.price) = (turn, Some(price));
        }
        Ok(())
    }
}

impl Draft<'_> {
    /// None: its policy does not fire.
    fn outset<'a>(&'a self, engine: &Engine, circumstances: &Circumstances) -> Option<Outset<'a>> {
        let account = engine.accounts().get(&self.policy.account).map(Arc::clone)?;
        self.policy.enabled.then_some(Outset {
            policy: self.policy,
            account,
            settings: engine.settings(),
            instance: self.instance,
            standing: &self.standing,
            schedule: &self.schedule,
            missed: self.missed,
            now: circumstances.now,
            through: circumstances.through,
        })
    }

    fn want<'a>(&'a self, turn: &Turn) -> Want<'a> {
        Want {
            terms: &self.policy.terms,
            product: self.policy.product,
            region: &self.policy.region,
            instance: self.instance,
            known: &self.standing.known,
            due_at: turn.due_at,
            refusals: 0,
        }
    }
}

fn subject(entry: &PolicyEntry, instance: &InstanceId, looks: &Looks) -> Subject {
    let policy = &entry.policy;
    Subject {
        identity: Identity::new(policy.product, &policy.region, instance),
        policy: policy.name.clone(),
        digest: entry.digest.clone(),
        action: policy.terms.action.kind(),
        seen: looks.get(&spot_of(policy, instance)).and_then(|look| look.as_ref().ok().cloned()),
    }
}

pub(super) fn spot_of(policy: &Policy, instance: &InstanceId) -> Spot {
    Spot {
        account: policy.account.clone(),
        product: policy.product,
        region: policy.region.clone(),
        instance: instance.clone(),
    }
}

pub(super) fn span(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
