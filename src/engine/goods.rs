//! What the terms of a policy buy for an instance as it was last seen.

use jiff::Timestamp;

use crate::cloud::canonical::sha256_hex;
use crate::domain::observation::Known;
use crate::domain::order::{ClientToken, Cycle, Goods, Purchase, Renewal};
use crate::domain::policy::{Action, RenewWhen, Terms, Upgrade};
use crate::domain::product::{Identity, InstanceId, Product, Provider, Region};
use crate::domain::upgrade::Resize;
use crate::store::Claim;

/// With its prefix the token fills the 36 characters of the shortest limit.
const TOKEN_DIGITS: usize = 32;

/// One firing of a policy for one of its instances.
#[derive(Clone, Copy)]
pub(super) struct Want<'a> {
    pub terms: &'a Terms,
    pub product: Product,
    pub region: &'a Region,
    pub instance: &'a InstanceId,
    pub known: &'a Known,
    pub due_at: Timestamp,
    /// Orders of the present cycle that were definitely refused.
    pub refusals: i64,
}

impl<'a> From<&'a Claim> for Want<'a> {
    fn from(claim: &'a Claim) -> Want<'a> {
        let job = &claim.job;
        Want {
            terms: &job.terms,
            product: job.product,
            region: &job.region,
            instance: &job.instance,
            known: &claim.known,
            due_at: job.due_at,
            refusals: job.refusals,
        }
    }
}

impl Want<'_> {
    /// None: the counter that the instance's row holds.
    pub fn cycle(&self) -> Option<Cycle> {
        let due = self.due_at;
        match &self.terms.action {
            Action::Renew(renew) => (renew.when == RenewWhen::EveryFire).then_some(Cycle::Due(due)),
            Action::Upgrade(wanted) => {
                let resize = self.next_resize(wanted)?;
                Some(Cycle::Target { due, dimension: resize.dimension, target: resize.after })
            }
        }
    }

    fn next_resize(&self, wanted: &Upgrade) -> Option<Resize> {
        wanted.next_resize(self.known.facts()?.spec?)
    }

    /// None when it needs a look to say what to buy, or nothing is left to buy.
    pub fn purchase(&self) -> Option<Purchase> {
        let goods = match &self.terms.action {
            Action::Renew(renew) => Goods::Renewal(Renewal {
                months: renew.months,
                renew_flag: self.known.facts().and_then(|facts| facts.renew_flag.clone()),
                renew_data_disks: self.terms.renew_data_disks,
                client_token: self.client_token(),
            }),
            Action::Upgrade(wanted) => Goods::Upgrade(self.next_resize(wanted)?.target),
        };
        let (region, instance) = (self.region.clone(), self.instance.clone());
        Some(Purchase { product: self.product, region, instance, goods })
    }

    /// Of clouds that take one: the same for every order of a cycle, over crashes and after "not ordered"; only a
    /// definite refusal makes a new one.
    fn client_token(&self) -> Option<ClientToken> {
        if self.product.provider() != Provider::Volcengine {
            return None;
        }
        let identity = Identity::new(self.product, self.region, self.instance);
        let cycle = self.cycle().unwrap_or(Cycle::Counter(self.known.cycle));
        let expiry = self.known.expires_at().map_or(0, |at| at.as_second());
        let text = format!("{}/{}/{expiry}/{cycle}/{}", identity.region, identity.instance, self.refusals);
        let digest = sha256_hex(text.as_bytes());
        Some(ClientToken(format!("rnw-{}", &digest[..TOKEN_DIGITS])))
    }

    pub fn words(&self) -> String {
        match &self.terms.action {
            Action::Renew(renew) if renew.months == 1 => "1 month".to_owned(),
            Action::Renew(renew) => format!("{} months", renew.months),
            Action::Upgrade(wanted) => {
                self.next_resize(wanted).map_or_else(|| "an upgrade".to_owned(), |resize| resize.to_string())
            }
        }
    }
}

pub(super) fn token_of(purchase: &Purchase) -> Option<String> {
    match &purchase.goods {
        Goods::Renewal(renewal) => renewal.client_token.as_ref().map(|token| token.0.clone()),
        Goods::Upgrade(_) => None,
    }
}
