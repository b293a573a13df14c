//! CVM of the legacy v2 API. It takes no idempotency token and no flags: instance and months, nothing else.

use serde::Deserialize;

use crate::cloud::call::Api;
use crate::cloud::listing::{Listed, Look, unknown_value};
use crate::cloud::reading::{Rounding, Scalar, is_payable, unreadable};
use crate::cloud::tencentcloud::v2::Parameters;
use crate::domain::failure::Failure;
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState};
use crate::domain::order::Renewal;
use crate::domain::product::InstanceId;

/// No page states a pace; this is the slowest that the same actions of version 2017-03-12 state.
const PER_SECOND: u32 = 10;

pub const RENEW: Api = Api::new("cvm-v2:RenewInstance", PER_SECOND);
pub const DESCRIBE: Api = Api::new("cvm-v2:DescribeInstances", PER_SECOND);
pub const PRICE: Api = Api::new("cvm-v2:InquiryInstancePrice", PER_SECOND);

/// `limit` of DescribeInstances goes no further, and cuts lists of ids too.
pub const DESCRIBE_MAX_IDS: usize = 100;

/// `instanceType` of a server that is renewed, as opposed to bought.
const RENEWAL: &str = "1";

pub fn renew(instance: &InstanceId, renewal: &Renewal) -> Parameters {
    let term = [("instanceId", instance.to_string()), ("period", renewal.months.to_string())];
    term.map(|(name, value)| (name.to_owned(), value)).into()
}

pub fn price_question(instance: &InstanceId, renewal: &Renewal) -> Parameters {
    let mut parameters = renew(instance, renewal);
    parameters.push(("instanceType".to_owned(), RENEWAL.to_owned()));
    parameters
}

pub fn describe(ids: &[InstanceId]) -> Parameters {
    let named = ids.iter().enumerate().map(|(at, id)| (format!("instanceIds.{at}"), id.to_string()));
    let page = [("limit", DESCRIBE_MAX_IDS.to_string()), ("offset", "0".to_owned())];
    named.chain(page.map(|(name, value)| (name.to_owned(), value))).collect()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    un_instance_id: Scalar,
    /// The id of before `ins-`.
    instance_id: Scalar,
    status: Scalar,
    cvm_pay_mode: Scalar,
    deadline_time: Scalar,
    auto_renew: Scalar,
}

impl Listed for Instance {
    const LIST: &'static str = "instanceSet";

    fn names(&self) -> impl Iterator<Item = &str> {
        [&self.instance_id, &self.un_instance_id].into_iter().filter_map(Scalar::text)
    }

    fn facts(&self, look: &Look<'_>) -> Facts {
        Facts {
            expires_at: self.deadline_time.time_in(look.zone),
            state: self.state(),
            charge: self.charge(),
            auto_renew: self.auto_renew(),
            renew_flag: None,
            spec: None,
            latest_operation: None,
        }
    }
}

impl Instance {
    /// 3 and 7 to 20 are flows of the cloud's own, from creating to delivering a key. Failed (1) and whatever the
    /// page calls maintenance are none of these.
    fn state(&self) -> InstanceState {
        match self.status.integer() {
            Some(2 | 4) => InstanceState::Running,
            Some(5 | 6) => InstanceState::Gone,
            Some(3 | 7..=20) => InstanceState::Busy,
            _ => InstanceState::Other(unknown_value("status", &self.status)),
        }
    }

    fn charge(&self) -> ChargeType {
        match self.cvm_pay_mode.integer() {
            Some(1) => ChargeType::Prepaid,
            Some(0 | 2) => ChargeType::Postpaid,
            _ => ChargeType::Other(unknown_value("cvmPayMode", &self.cvm_pay_mode)),
        }
    }

    fn auto_renew(&self) -> AutoRenew {
        match self.auto_renew.integer() {
            Some(1) => AutoRenew::On,
            Some(0 | 2) => AutoRenew::Off,
            _ => AutoRenew::Unreadable,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Price {
    price: Scalar,
}

/// In fen, as the page says. `originalPrice` is before discounts and not looked at.
pub fn price(answer: Price) -> Result<Fen, Failure> {
    let fen = answer.price.fen(Rounding::Up).filter(is_payable);
    fen.ok_or_else(|| unreadable("the answer has no readable `price`"))
}
