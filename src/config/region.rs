//! Where the instances of a policy are.

use crate::config::reader::{Entry, Table, quoted, suggestion};
use crate::domain::product::{Product, Provider, Region, TencentProduct};
use crate::domain::region;

const CVM_V2: Product = Product::TencentCloud(TencentProduct::CvmV2);

pub(crate) fn read_region(table: &mut Table<'_>, product: Option<Product>) -> Option<Region> {
    let help = "write for example region = \"ap-guangzhou\"";
    let entry = table.require("region", help)?;
    let text = entry.text_or(help)?;
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
        entry.fail(message, suggestion(text, region::known(product.provider()).iter().copied()));
        return None;
    }
    warn_of_unknown_region(&entry, &region.long_form(product), product);
    Some(region)
}

/// The vendors' lists are open, so a region that is not known is only doubted.
fn warn_of_unknown_region(entry: &Entry<'_>, region: &Region, product: Product) {
    let known = region::known(product.provider());
    if !region::is_known(product.provider(), region.as_str()) {
        let message = format!("this build does not know the region {}", quoted(region.as_str()));
        entry.reader.warn(entry.span(), message, suggestion(region.as_str(), known.iter().copied()));
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
