//! Where the instances of a policy are.

use crate::config::reader::{Entry, Table, quoted, suggestion};
use crate::domain::product::{Product, Provider, Region, TencentProduct, VolcengineProduct};

const CVM_V2: Product = Product::TencentCloud(TencentProduct::CvmV2);

/// Regions in use when this was written, for suggestions only: the vendors' lists are open.
/// Sources: the region tables of Tencent Cloud Redis and of Volcengine ECS.
const TENCENT_REGIONS: [&str; 21] = [
    "ap-guangzhou",
    "ap-shanghai",
    "ap-nanjing",
    "ap-beijing",
    "ap-chengdu",
    "ap-chongqing",
    "ap-hongkong",
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
    "ap-shanghai-fsi",
    "ap-shenzhen-fsi",
    "ap-beijing-fsi",
];
const VOLCENGINE_REGIONS: [&str; 10] = [
    "cn-beijing",
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

pub(crate) fn read_region(table: &mut Table<'_>, product: Option<Product>) -> Option<Region> {
    let entry = table.require("region", "write for example region = \"ap-guangzhou\"")?;
    let text = entry.text()?;
    let region = match Region::parse(text) {
        Ok(region) => region,
        Err(error) => {
            entry.fail(format!("the region {} {error}", quoted(text)), "write for example \"ap-guangzhou\"");
            return None;
        }
    };
    let Some(product) = product else { return Some(region) };
    let long_form = region.long_form(CVM_V2);
    if product != CVM_V2 && product.provider() == Provider::TencentCloud && long_form != region {
        let message = format!("`{product}` does not take the short region code `{region}`");
        entry.fail(message, format!("write \"{long_form}\""));
        return None;
    }
    if !has_shape_of_region(region.long_form(product).as_str()) {
        let message = format!("{} is not spelled like a region", quoted(text));
        entry.fail(message, suggestion(text, known_regions(product).iter().copied()));
        return None;
    }
    warn_of_unknown_region(&entry, &region.long_form(product), product);
    Some(region)
}

/// The vendors' lists are open, so a region that is not known is only doubted.
fn warn_of_unknown_region(entry: &Entry<'_>, region: &Region, product: Product) {
    let known = known_regions(product);
    // A historic zone that only CVM v2 has; its table, not ours, knows it.
    let is_historic = region.as_str().ends_with("-open");
    if !known.contains(&region.as_str()) && !is_historic {
        let message = format!("this build does not know the region {}", quoted(region.as_str()));
        entry.reader.warn(entry.span(), message, suggestion(region.as_str(), known.iter().copied()));
    }
}

fn known_regions(product: Product) -> &'static [&'static str] {
    match product {
        Product::TencentCloud(_) => &TENCENT_REGIONS,
        Product::Volcengine(VolcengineProduct::Ecs) => &VOLCENGINE_REGIONS,
    }
}

/// Lower-case words joined by `-`, the first a continent or country.
fn has_shape_of_region(text: &str) -> bool {
    let mut words = text.split('-');
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    words.next().is_some_and(|first| first.len() == 2 && is_word(first))
        && words.next().is_some_and(is_word)
        && words.all(is_word)
}
