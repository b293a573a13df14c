//! Accounts, instances and policies that the lists play with.

use jiff::SignedDuration;
use renewd::domain::money::Fen;
use renewd::domain::policy::{
    Action, OnAutoRenew, OnUnknown, Policy, Renew, RenewWhen, ScheduleText, Terms, Upgrade,
};
use renewd::domain::product::{
    AccountName, InstanceId, PolicyName, Product, Provider, Region, TencentProduct, VolcengineProduct,
};

pub const CVM: Product = Product::TencentCloud(TencentProduct::Cvm);
pub const CVM_V2: Product = Product::TencentCloud(TencentProduct::CvmV2);
pub const ECS: Product = Product::Volcengine(VolcengineProduct::Ecs);

/// Name, key id and provider of each.
pub const ACCOUNTS: [(&str, &str, Provider); 3] = [
    ("shop", "AKIDsandbox-shop", Provider::TencentCloud),
    ("lab", "AKIDsandbox-lab", Provider::TencentCloud),
    ("farm", "AKLTsandbox-farm", Provider::Volcengine),
];

pub const INSTANCES: [&str; 8] = ["crs-a", "crs-b", "crs-each", "ins-a", "ins-b", "ins-each", "i-a", "i-b"];

pub const SCHEDULES: [&str; 4] = ["0 4 * * *", "0 6 * * 3", "30 2 1 * *", "0 */12 * * *"];

pub fn key_id(account: &str) -> &'static str {
    ACCOUNTS.iter().find(|(name, ..)| *name == account).expect("an account of the fleet").1
}

pub fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

pub fn days(days: i64) -> SignedDuration {
    hours(24 * days)
}

/// One month, due within 15 days, asked for each day at four.
pub fn policy(name: &str, account: &str, product: Product, instances: &[&str]) -> Policy {
    let region = match product {
        CVM_V2 => "gz",
        ECS => "cn-beijing",
        _ => "ap-guangzhou",
    };
    Policy {
        name: PolicyName::parse(name).unwrap(),
        account: AccountName::parse(account).unwrap(),
        product,
        region: Region::parse(region).unwrap(),
        instances: instances.iter().map(|id| InstanceId::parse(id).unwrap()).collect(),
        schedule: schedule("0 4 * * *"),
        enabled: true,
        terms: Terms {
            action: renew(1, RenewWhen::WithinDays(15)),
            max_price: None,
            on_auto_renew: OnAutoRenew::Skip,
            unknown: OnUnknown::Person,
            renew_data_disks: false,
        },
    }
}

pub fn schedule(expression: &str) -> ScheduleText {
    ScheduleText { expression: expression.to_owned(), zone: "UTC".to_owned() }
}

pub fn renew(months: u32, when: RenewWhen) -> Action {
    Action::Renew(Renew { months, when })
}

pub fn upgrade(mem_size_mb: u32, replicas: Option<u32>) -> Action {
    Action::Upgrade(Upgrade { mem_size_mb, shards: None, replicas, allow_shrink: false })
}

pub fn with(policy: Policy, change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = policy;
    change(&mut policy);
    policy
}

pub fn every_fire(policy: Policy, expression: &str) -> Policy {
    with(policy, |policy| {
        policy.terms.action = renew(1, RenewWhen::EveryFire);
        policy.schedule = schedule(expression);
    })
}

/// All five products over three accounts; one policy may be upgraded and renewed at once.
pub fn policies() -> Vec<Policy> {
    let grow = policy("grow", "shop", Product::REDIS, &["crs-a"]);
    vec![
        policy("cache", "shop", Product::REDIS, &["crs-a", "crs-b"]),
        with(grow, |policy| {
            policy.terms.action = upgrade(2048, Some(2));
            policy.schedule = schedule("0 6 * * 3");
        }),
        every_fire(policy("each", "lab", Product::REDIS, &["crs-each"]), "0 5 * * *"),
        policy("web", "shop", CVM, &["ins-a"]),
        policy("old", "lab", CVM_V2, &["ins-b"]),
        every_fire(policy("tick", "lab", CVM, &["ins-each"]), "0 7 * * 1"),
        policy("farm", "farm", ECS, &["i-a", "i-b"]),
    ]
}

pub fn cny(cny: i64) -> Fen {
    Fen::new(cny * 100)
}
