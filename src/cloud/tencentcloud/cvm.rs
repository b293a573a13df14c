//! CVM, API version 2017-03-12.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::cloud::call::Api;
use crate::cloud::listing::{Listed, Look, unknown_value};
use crate::cloud::reading::{Object, Rounding, Scalar, is_payable, unreadable};
use crate::cloud::tencentcloud::api3::Action;
use crate::domain::failure::{Class, Failure};
use crate::domain::money::Fen;
use crate::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState, Operation};
use crate::domain::order::Renewal;
use crate::domain::product::InstanceId;

/// Paces from the actions' pages.
pub const RENEW: Action = action("cvm:RenewInstances", 10);
pub const DESCRIBE: Action = action("cvm:DescribeInstances", 40);
pub const PRICE_RENEW: Action = action("cvm:InquiryPriceRenewInstances", 10);

/// `InstanceIds` and `Limit` of DescribeInstances go no further.
pub const DESCRIBE_MAX_IDS: usize = 100;

const fn action(name: &'static str, documented_per_second: u32) -> Action {
    Action { api: Api::new(name, documented_per_second), version: "2017-03-12", regional: true }
}

/// One instance a call, so that an answer that does not come leaves one in doubt and not a hundred. The disks are
/// named always: left out, they would be renewed and paid for too.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Renew<'a> {
    instance_charge_prepaid: ChargePrepaid<'a>,
    instance_ids: [&'a str; 1],
    renew_portable_data_disk: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChargePrepaid<'a> {
    period: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_flag: Option<&'a str>,
}

/// # Errors
/// The observed auto-renew flag is not known: left out, the cloud would set its default and switch automatic
/// renewal off.
pub fn renew<'a>(instance: &'a InstanceId, renewal: &'a Renewal) -> Result<Renew<'a>, Failure> {
    if renewal.renew_flag.is_none() {
        let message = "the cloud did not say how the instance's auto-renew flag stands, and a renewal sets it; \
                       not sent, so that it is not switched off";
        return Err(Failure::ours(Class::Unavailable, "RenewFlagNotKnown", message));
    }
    Ok(price_question(instance, renewal))
}

/// The question for the price says what the renewal would; it changes nothing, and can do without the flag.
pub fn price_question<'a>(instance: &'a InstanceId, renewal: &'a Renewal) -> Renew<'a> {
    Renew {
        instance_charge_prepaid: ChargePrepaid {
            period: renewal.months,
            renew_flag: renewal.renew_flag.as_deref(),
        },
        instance_ids: [instance.as_str()],
        renew_portable_data_disk: renewal.renew_data_disks,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Describe<'a> {
    instance_ids: Vec<&'a str>,
    limit: usize,
    offset: usize,
}

pub fn describe(ids: &[InstanceId]) -> Describe<'_> {
    let instance_ids = ids.iter().map(InstanceId::as_str).collect();
    Describe { instance_ids, limit: DESCRIBE_MAX_IDS, offset: 0 }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Instance {
    instance_id: Scalar,
    instance_state: Scalar,
    restrict_state: Scalar,
    isolated_source: Scalar,
    instance_charge_type: Scalar,
    expired_time: Scalar,
    renew_flag: Scalar,
    latest_operation: Scalar,
    latest_operation_request_id: Scalar,
    latest_operation_state: Scalar,
}

impl Listed for Instance {
    const LIST: &'static str = "InstanceSet";

    fn names(&self) -> impl Iterator<Item = &str> {
        self.instance_id.text().into_iter()
    }

    fn facts(&self, _: &Look<'_>) -> Facts {
        Facts {
            // Always in UTC, and says so.
            expires_at: self.expired_time.time_in(&TimeZone::UTC),
            state: self.state(),
            charge: self.charge(),
            auto_renew: self.auto_renew(),
            renew_flag: owned(&self.renew_flag),
            spec: None,
            latest_operation: self.latest_operation(),
        }
    }
}

impl Instance {
    /// The recycle bin holds what lapsed, which a renewal brings back, and what its owner returned, which is not
    /// to be paid for again; both are shown as isolated or shut down, and only their source tells them apart.
    fn state(&self) -> InstanceState {
        let state = self.instance_state.text().unwrap_or("absent");
        let is_restricted = matches!(self.restrict_state.text(), Some("PROTECTIVELY_ISOLATED" | "EXPIRED"));
        match state {
            "TERMINATING" => InstanceState::Gone,
            _ if is_restricted || state == "SHUTDOWN" => match self.isolated_source.text() {
                Some("MANMADE") => InstanceState::Gone,
                _ => InstanceState::Isolated,
            },
            "RUNNING" | "STOPPED" => InstanceState::Running,
            "PENDING" | "STARTING" | "STOPPING" | "REBOOTING" => InstanceState::Busy,
            _ => InstanceState::Other(unknown_value("InstanceState", &self.instance_state)),
        }
    }

    fn charge(&self) -> ChargeType {
        match self.instance_charge_type.text() {
            Some("PREPAID") => ChargeType::Prepaid,
            Some("POSTPAID_BY_HOUR") => ChargeType::Postpaid,
            _ => ChargeType::Other(unknown_value("InstanceChargeType", &self.instance_charge_type)),
        }
    }

    fn auto_renew(&self) -> AutoRenew {
        match self.renew_flag.text() {
            Some("NOTIFY_AND_AUTO_RENEW") => AutoRenew::On,
            Some("NOTIFY_AND_MANUAL_RENEW" | "DISABLE_NOTIFY_AND_MANUAL_RENEW") => AutoRenew::Off,
            _ => AutoRenew::Unreadable,
        }
    }

    fn latest_operation(&self) -> Option<Operation> {
        Some(Operation {
            name: owned(&self.latest_operation)?,
            request_id: owned(&self.latest_operation_request_id),
            state: owned(&self.latest_operation_state),
        })
    }
}

fn owned(value: &Scalar) -> Option<String> {
    value.text().map(str::to_owned)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Price {
    price: Option<Object<Parts>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parts {
    instance_price: Option<Object<Item>>,
    bandwidth_price: Option<Object<Item>>,
}

/// In yuan. Of what is paid for later by use, only unit prices are given.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Item {
    discount_price: Scalar,
    original_price: Scalar,
}

/// The instance with the disks that were asked for, and its bandwidth where that is prepaid too.
pub fn price(answer: Price) -> Result<Fen, Failure> {
    let no_price = || unreadable("the answer has no readable `Price.InstancePrice`");
    let Object(Parts { instance_price, bandwidth_price }) = answer.price.ok_or_else(no_price)?;
    let instance =
        instance_price.and_then(|Object(item)| item.amount().transpose()).ok_or_else(no_price)??;
    let bandwidth = bandwidth_price.map_or(Ok(None), |Object(item)| item.amount())?.unwrap_or_default();
    instance.get().checked_add(bandwidth.get()).map(Fen::new).ok_or_else(no_price)
}

impl Item {
    /// What would be paid, else the price before discounts; none where neither is given.
    fn amount(&self) -> Result<Option<Fen>, Failure> {
        let given =
            [&self.discount_price, &self.original_price].into_iter().find(|price| price.text().is_some());
        let read = |price: &Scalar| {
            let amount = price.yuan(Rounding::Up).filter(is_payable);
            amount.ok_or_else(|| unreadable("a price is no amount of yuan"))
        };
        given.map(read).transpose()
    }
}
