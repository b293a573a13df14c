//! ECS, API version 2020-04-01: every action a GET with its parameters in the query.

use serde::Deserialize;

use crate::cloud::call::Api;
use crate::cloud::listing::{Listed, Look, unknown_value};
use crate::cloud::reading::{Scalar, unreadable};
use crate::cloud::volcengine::{Action, Parameters};
use crate::domain::failure::{Class, Failure};
use crate::domain::observation::{AutoRenew, ChargeType, Facts, InstanceState};
use crate::domain::order::{OrderId, Renewal};
use crate::domain::product::InstanceId;

/// No page publishes a limit.
pub const RENEW: Action = action("ecs:RenewInstance", 1);
/// No page publishes a limit; the vendor's own Terraform provider keeps to four.
pub const DESCRIBE: Action = action("ecs:DescribeInstances", 4);

/// Both the ids that one DescribeInstances takes and the instances that one page shows.
pub const DESCRIBE_MAX_IDS: usize = 100;

/// The other unit of the page, `Week`, is not supported yet.
const PERIOD_UNIT: &str = "Month";

const fn action(name: &'static str, own_per_second: u32) -> Action {
    Action { api: Api::paced(name, own_per_second), version: "2020-04-01" }
}

/// The parameters of a renewal. The cloud takes one without a token too; here it is not a purchase.
///
/// # Errors
/// The renewal has no client token.
pub fn renewal(instance: &InstanceId, renewal: &Renewal) -> Result<Parameters, Failure> {
    let token = renewal.client_token.as_ref().ok_or_else(|| {
        let message = "an ECS renewal without a client token would not be safe to repeat and is not sent";
        Failure::ours(Class::Rejected, "NoClientToken", message)
    })?;
    Ok(vec![
        ("ClientToken".to_owned(), token.0.clone()),
        ("InstanceId".to_owned(), instance.to_string()),
        ("Period".to_owned(), renewal.months.to_string()),
        ("PeriodUnit".to_owned(), PERIOD_UNIT.to_owned()),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Renewed {
    #[serde(default)]
    order_id: Scalar,
}

/// Without an order number nothing says that the renewal was accepted.
pub fn order_id(answer: Renewed) -> Result<Option<OrderId>, Failure> {
    let order_id = answer.order_id.order_id();
    order_id.map(Some).ok_or_else(|| unreadable("the answer has neither an error nor an `OrderId`"))
}

pub fn describe(ids: &[InstanceId]) -> Parameters {
    let ids = (1..).zip(ids).map(|(number, id)| (format!("InstanceIds.{number}"), id.to_string()));
    ids.chain([("MaxResults".to_owned(), DESCRIBE_MAX_IDS.to_string())]).collect()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Instance {
    instance_id: Scalar,
    status: Scalar,
    instance_charge_type: Scalar,
    expired_at: Scalar,
}

impl Listed for Instance {
    const LIST: &'static str = "Instances";

    fn names(&self) -> impl Iterator<Item = &str> {
        self.instance_id.text().into_iter()
    }

    /// Auto-renew is known to billing alone.
    fn facts(&self, look: &Look<'_>) -> Facts {
        // Always with an offset; one without it names no instant.
        let expires_at = self.expired_at.time();
        Facts {
            expires_at,
            state: self.state(expires_at.is_some_and(|expires_at| expires_at <= look.observed_at)),
            charge: self.charge(),
            auto_renew: AutoRenew::Unreadable,
            renew_flag: None,
            spec: None,
            latest_operation: None,
        }
    }
}

impl Instance {
    /// There is no status for "expired": up to 12 hours past its expiry an instance runs, then it is shut down
    /// and may be renewed for 15 days. One that its owner stopped before is renewed the same way.
    fn state(&self, is_expired: bool) -> InstanceState {
        match self.status.text() {
            Some("STOPPED") if is_expired => InstanceState::Isolated,
            Some("RUNNING" | "STOPPED") => InstanceState::Running,
            Some(
                "CREATING" | "STARTING" | "STOPPING" | "REBOOTING" | "REBUILDING" | "RESIZING"
                | "MODIFYING_VPC",
            ) => InstanceState::Busy,
            Some("DELETING") => InstanceState::Gone,
            _ => InstanceState::Other(unknown_value("Status", &self.status)),
        }
    }

    fn charge(&self) -> ChargeType {
        match self.instance_charge_type.text() {
            Some("PrePaid") => ChargeType::Prepaid,
            Some("PostPaid") => ChargeType::Postpaid,
            _ => ChargeType::Other(unknown_value("InstanceChargeType", &self.instance_charge_type)),
        }
    }
}
