//! The regions of the clouds, as far as this build knows them.

use crate::domain::product::Provider;

/// Regions in use when this was written, and what finance and edge zones end in: the vendors' lists are open.
/// Sources: the region tables of Tencent Cloud Redis and of Volcengine ECS.
const TENCENT_REGIONS: [&str; 23] = [
    "ap-guangzhou",
    "ap-shanghai",
    "ap-nanjing",
    "ap-beijing",
    "ap-chengdu",
    "ap-chongqing",
    "ap-hongkong",
    "ap-taipei",
    "ap-singapore",
    "ap-bangkok",
    "ap-jakarta",
    "ap-mumbai",
    "ap-seoul",
    "ap-tokyo",
    "na-siliconvalley",
    "na-ashburn",
    "na-toronto",
    "eu-frankfurt",
    "sa-saopaulo",
    "me-saudi-arabia",
    "ap-shanghai-fsi",
    "ap-shenzhen-fsi",
    "ap-beijing-fsi",
];
const VOLCENGINE_REGIONS: [&str; 11] = [
    "cn-beijing",
    "cn-beijing2",
    "cn-shanghai",
    "cn-guangzhou",
    "cn-hongkong",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "cn-beijing-autodriving",
    "cn-shanghai-autodriving",
    "cn-beijing-selfdrive",
];

/// The endings of Tencent's zones beside its regions: historic, finance, edge.
const TENCENT_ZONES: [&str; 3] = ["-open", "-fsi", "-ec"];

/// In the long form.
pub fn known(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::TencentCloud => &TENCENT_REGIONS,
        Provider::Volcengine => &VOLCENGINE_REGIONS,
    }
}

/// Whether it is a region of the provider, in the long form.
pub fn is_known(provider: Provider, region: &str) -> bool {
    let is_zone = || TENCENT_ZONES.iter().any(|ending| region.ends_with(ending));
    known(provider).contains(&region) || (provider == Provider::TencentCloud && is_zone())
}
