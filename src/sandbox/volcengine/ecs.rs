//! ECS, version 2020-04-01.
//!
//! Source: the ECS pages RenewInstance and DescribeInstances.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::product::{Product, VolcengineProduct};
use crate::sandbox::desk::{Act, ApiName, Refusal, Visit};
use crate::sandbox::instance::{ChargeType, Family, Instance, Look, State};
use crate::sandbox::tokens::NoSecondSale;
use crate::sandbox::volcengine::arguments::{Arguments, Page};
use crate::sandbox::volcengine::{Api, Verb, missing};
use crate::sandbox::world::{CLOUD_ZONE, NoSale, Renewal, Term, World};

const VERSION: &str = "2020-04-01";
const PRODUCT: Product = Product::Volcengine(VolcengineProduct::Ecs);
const MAX_IDS: usize = 100;
const DEFAULT_RESULTS: usize = 10;
const MAX_RESULTS: usize = 100;
const TOKEN_MAX_CHARS: usize = 64;

/// Neither page publishes a quota; these are looser than what clients should keep to.
pub(super) const APIS: &[Api] = &[
    Api {
        name: ApiName("ecs:RenewInstance"),
        version: VERSION,
        per_second: 10,
        verb: Verb::Get,
        read: renew_instance,
    },
    Api {
        name: ApiName("ecs:DescribeInstances"),
        version: VERSION,
        per_second: 20,
        verb: Verb::Get,
        read: describe_instances,
    },
];

fn renew_instance(mut arguments: Arguments) -> Result<Act, Refusal> {
    let instance = arguments.text("InstanceId")?.ok_or_else(|| {
        Refusal::new("MissingParameter.InstanceId", "The required parameter InstanceId is not supplied.")
    })?;
    let token = client_token(&mut arguments)?;
    if arguments.text("PeriodUnit")?.is_some_and(|unit| unit != "Month") {
        return Err(Refusal::new("InvalidPeriodUnit", "`PeriodUnit` can only be Month"));
    }
    let months = period(&mut arguments)?;
    arguments.finish()?;
    Ok(Act {
        instances: vec![instance.clone()],
        perform: Box::new(move |world, visit| {
            let renewal = Renewal {
                key_id: visit.key_id,
                product: PRODUCT,
                instance: &instance,
                term: Term { months, with_data_disks: false },
                renew_flag: None,
                operation: None,
                seen_from: visit.seen_from(),
            };
            let sold = match &token {
                Some(token) => world.renew_once(&renewal, token, visit.now),
                None => world.renew(&renewal, visit.now).map_err(NoSecondSale::from),
            };
            let order_id = sold.map_err(|reason| refuse_sale(&instance, reason))?;
            Ok(json!({ "OrderId": order_id }))
        }),
    })
}

fn client_token(arguments: &mut Arguments) -> Result<Option<String>, Refusal> {
    let token = arguments.text("ClientToken")?;
    if token.as_ref().is_some_and(|token| !token.is_ascii() || token.len() > TOKEN_MAX_CHARS) {
        let message = format!("`ClientToken` is not ASCII, or longer than {TOKEN_MAX_CHARS} characters");
        return Err(Refusal::new("InvalidClientToken.Malformed", message));
    }
    Ok(token)
}

fn period(arguments: &mut Arguments) -> Result<u32, Refusal> {
    let period = arguments.integer("Period")?.ok_or_else(|| missing("Period"))?;
    let on_sale = |months: &u32| PRODUCT.sells_months(*months);
    u32::try_from(period).ok().filter(on_sale).ok_or_else(|| {
        let message = format!("`Period` is {} months, not {period}", PRODUCT.months_on_sale());
        Refusal::new("InvalidPeriod", message)
    })
}

fn refuse_sale(instance: &str, reason: NoSecondSale) -> Refusal {
    let code = match reason {
        NoSecondSale::OtherContent => "IdempotentParameterMismatch",
        NoSecondSale::StillRunning => "IdempotentProcessing",
        NoSecondSale::Forgotten => "InvalidIdempotency",
        NoSecondSale::NoSale(NoSale::NoInstance | NoSale::Gone) => "InvalidInstance.NotFound",
        NoSecondSale::NoSale(NoSale::Busy) => "OperationDenied.ResourceLocked",
        NoSecondSale::NoSale(NoSale::NotPrepaid | NoSale::Isolated | NoSale::NoUpgrade(_)) => {
            "InvalidChargeType"
        }
        NoSecondSale::NoSale(NoSale::Balance { .. }) => "Insufficient.Balance",
        NoSecondSale::NoSale(NoSale::OutOfRange) => "InvalidPeriod",
    };
    Refusal::new(code, format!("{instance}: {reason}"))
}

/// What to list; a filter that is absent lets everything through.
struct InstanceQuery {
    ids: Option<Vec<String>>,
    charge_type: Option<&'static str>,
    status: Option<String>,
    page: Page,
}

fn describe_instances(mut arguments: Arguments) -> Result<Act, Refusal> {
    let query = InstanceQuery {
        ids: arguments.texts("InstanceIds", MAX_IDS)?,
        charge_type: arguments.word("InstanceChargeType", &["PrePaid", "PostPaid"])?,
        status: arguments.text("Status")?,
        page: Page::read(&mut arguments, DEFAULT_RESULTS, MAX_RESULTS)?,
    };
    arguments.finish()?;
    Ok(Act {
        instances: query.ids.clone().unwrap_or_default(),
        perform: Box::new(move |world, visit| Ok(query.answer(world, visit))),
    })
}

impl InstanceQuery {
    fn answer(&self, world: &World, visit: &Visit<'_>) -> Value {
        let read_at = visit.read_at();
        let listed = world.instances(Family::Ecs).filter(|instance| self.wants(instance, read_at));
        let listed: Vec<Value> = listed.map(|instance| to_json(instance, read_at)).collect();
        let total = listed.len();
        let (page, next) = self.page.cut(listed);
        json!({ "Instances": page, "NextToken": next, "TotalCount": total })
    }

    fn wants(&self, instance: &Instance, read_at: Timestamp) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&instance.id))
            && self.charge_type.is_none_or(|wanted| wanted == charge_type(instance))
            && self.status.as_ref().is_none_or(|wanted| wanted == status(instance.look_at(read_at).state))
    }
}

/// There is no status for an expired instance; one that is shut down is stopped.
fn status(state: State) -> &'static str {
    match state {
        State::Running => "RUNNING",
        State::Busy => "REBUILDING",
        State::Isolated => "STOPPED",
        State::Gone => "DELETING",
    }
}

fn charge_type(instance: &Instance) -> &'static str {
    match instance.charge_type {
        ChargeType::Prepaid => "PrePaid",
        ChargeType::Postpaid => "PostPaid",
    }
}

fn to_json(instance: &Instance, read_at: Timestamp) -> Value {
    let Look { expires_at, state, .. } = instance.look_at(read_at);
    let is_prepaid = instance.charge_type == ChargeType::Prepaid;
    json!({
        "InstanceId": instance.id,
        "InstanceName": instance.id,
        "Status": status(state),
        "InstanceChargeType": charge_type(instance),
        "ExpiredAt": if is_prepaid { stamp(expires_at) } else { String::new() },
        "CreatedAt": stamp(instance.created_at),
        "UpdatedAt": stamp(instance.created_at),
        "ProjectName": "default",
        "ZoneId": "cn-beijing-a",
        "VpcId": "",
        "InstanceTypeId": "ecs.g3i.large",
        "SpotStrategy": "NoSpot",
        "StoppedMode": "KeepCharging",
        "Tags": [],
        "Volumes": [],
    })
}

/// With the offset of the region.
fn stamp(at: Timestamp) -> String {
    at.to_zoned(CLOUD_ZONE).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
