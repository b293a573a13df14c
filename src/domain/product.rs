//! Which instance of which product at which provider: the identity that money is spent on.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A cloud that sells instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    TencentCloud,
    Volcengine,
}

/// Products, nested by provider so that an impossible pair cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    TencentCloud(TencentProduct),
    Volcengine(VolcengineProduct),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TencentProduct {
    Redis,
    Cvm,
    CvmV2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolcengineProduct {
    Ecs,
}

impl Provider {
    pub const ALL: [Provider; 2] = [Provider::TencentCloud, Provider::Volcengine];

    pub fn as_str(self) -> &'static str {
        match self {
            Provider::TencentCloud => "tencentcloud",
            Provider::Volcengine => "volcengine",
        }
    }

    pub fn parse(text: &str) -> Option<Provider> {
        Provider::ALL.into_iter().find(|provider| provider.as_str() == text)
    }

    pub fn products(self) -> &'static [Product] {
        match self {
            Provider::TencentCloud => &[
                Product::TencentCloud(TencentProduct::Redis),
                Product::TencentCloud(TencentProduct::Cvm),
                Product::TencentCloud(TencentProduct::CvmV2),
            ],
            Provider::Volcengine => &[Product::Volcengine(VolcengineProduct::Ecs)],
        }
    }
}

impl Product {
    pub const REDIS: Product = Product::TencentCloud(TencentProduct::Redis);

    pub fn provider(self) -> Provider {
        match self {
            Product::TencentCloud(_) => Provider::TencentCloud,
            Product::Volcengine(_) => Provider::Volcengine,
        }
    }

    /// The spelling of policy files, JSON and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Product::TencentCloud(TencentProduct::Redis) => "redis",
            Product::TencentCloud(TencentProduct::Cvm) => "cvm",
            Product::TencentCloud(TencentProduct::CvmV2) => "cvm-v2",
            Product::Volcengine(VolcengineProduct::Ecs) => "ecs",
        }
    }

    pub fn parse(provider: Provider, text: &str) -> Option<Product> {
        provider.products().iter().copied().find(|product| product.as_str() == text)
    }

    /// Terms on sale, in months: the vendors' `Period` tables
    /// (Tencent Redis 2018-04-12, CVM 2017-03-12, CVM v2, Volcengine ECS 2020-04-01).
    pub fn sells_months(self, months: u32) -> bool {
        match self {
            Product::TencentCloud(TencentProduct::Redis) => matches!(months, 1..=12 | 24 | 36),
            Product::TencentCloud(TencentProduct::Cvm) => matches!(months, 1..=12 | 24 | 36 | 48 | 60),
            Product::TencentCloud(TencentProduct::CvmV2) => matches!(months, 1..=36),
            Product::Volcengine(VolcengineProduct::Ecs) => matches!(months, 1..=9 | 12 | 24 | 36),
        }
    }

    /// The same table in words, for messages.
    pub fn months_on_sale(self) -> &'static str {
        match self {
            Product::TencentCloud(TencentProduct::Redis) => "1 to 12, 24 or 36",
            Product::TencentCloud(TencentProduct::Cvm) => "1 to 12, 24, 36, 48 or 60",
            Product::TencentCloud(TencentProduct::CvmV2) => "1 to 36",
            Product::Volcengine(VolcengineProduct::Ecs) => "1 to 9, 12, 24 or 36",
        }
    }

    /// What an instance id of this product begins with.
    pub fn id_prefixes(self) -> &'static [&'static str] {
        match self {
            Product::TencentCloud(TencentProduct::Redis) => &["crs-"],
            Product::TencentCloud(TencentProduct::Cvm) => &["ins-"],
            Product::TencentCloud(TencentProduct::CvmV2) => &["ins-", "qcvm"],
            Product::Volcengine(VolcengineProduct::Ecs) => &["i-"],
        }
    }

    /// Only what this build can really renew; the rest is refused when a policy names it.
    pub fn is_built(self) -> bool {
        matches!(self, Product::TencentCloud(_) | Product::Volcengine(_))
    }

    pub fn can_upgrade(self) -> bool {
        matches!(self, Product::TencentCloud(TencentProduct::Redis))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {0} characters")]
    TooLong(usize),
    #[error("has a character other than letters, digits, `-`, `_` and `.`")]
    BadCharacter,
}

fn checked_name(text: &str, max_len: usize) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max_len {
        return Err(NameError::TooLong(max_len));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.chars().all(fits) {
        return Err(NameError::BadCharacter);
    }
    Ok(text.to_owned())
}

macro_rules! checked_name_type {
    ($(#[$doc:meta])* $name:ident, $max_len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NameError> {
                checked_name(text, $max_len).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name_type!(
    /// `[account.NAME]`: whose credentials, whose money, whose quota.
    AccountName,
    64
);
checked_name_type!(
    /// `[policy.NAME]`: the identity of a policy over all edits of its files.
    PolicyName,
    128
);
checked_name_type!(
    /// The vendor's own id of an instance, such as `crs-5a4py64p`.
    InstanceId,
    64
);
checked_name_type!(
    /// A region as the policy spells it; [`Region::long_form`] is what identity compares.
    Region,
    64
);

impl Region {
    /// CVM v2 has short codes of its own; the long form is one spelling for all products.
    /// Source: the region table of the v2 request parameters.
    pub fn long_form(&self, product: Product) -> Region {
        if product != Product::TencentCloud(TencentProduct::CvmV2) {
            return self.clone();
        }
        let found = V2_REGIONS.iter().find(|(short, _)| *short == self.0);
        found.map_or_else(|| self.clone(), |(_, long)| Region((*long).to_owned()))
    }

    /// The same region in the short code of CVM v2; none where that has no code for it.
    pub fn v2_code(&self) -> Option<Region> {
        let found = V2_REGIONS.iter().find(|(short, long)| *short == self.0 || *long == self.0);
        found.map(|(short, _)| Region((*short).to_owned()))
    }

    /// Finance zones are isolated from the rest and have hosts of their own.
    pub fn is_finance_zone(&self) -> bool {
        self.0.ends_with("-fsi")
    }
}

const V2_REGIONS: [(&str, &str); 18] = [
    ("gz", "ap-guangzhou"),
    ("sh", "ap-shanghai"),
    ("bj", "ap-beijing"),
    ("cd", "ap-chengdu"),
    ("cq", "ap-chongqing"),
    ("hk", "ap-hongkong"),
    ("sg", "ap-singapore"),
    ("ca", "na-toronto"),
    ("usw", "na-siliconvalley"),
    ("use", "na-ashburn"),
    ("de", "eu-frankfurt"),
    ("kr", "ap-seoul"),
    ("jp", "ap-tokyo"),
    ("th", "ap-bangkok"),
    ("in", "ap-mumbai"),
    ("shjr", "ap-shanghai-fsi"),
    ("szjr", "ap-shenzhen-fsi"),
    ("gzopen", "ap-guangzhou-open"),
];

/// What promise 2 calls an instance: account names, product and region spellings do not make it another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub provider: Provider,
    pub region: Region,
    pub instance: InstanceId,
}

impl Identity {
    pub fn new(product: Product, region: &Region, instance: &InstanceId) -> Identity {
        Identity {
            provider: product.provider(),
            region: region.long_form(product),
            instance: instance.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_product_and_region_are_one_identity() {
        let id = InstanceId::parse("ins-1").unwrap();
        let short =
            Identity::new(Product::TencentCloud(TencentProduct::CvmV2), &Region::parse("gz").unwrap(), &id);
        let long = Identity::new(
            Product::TencentCloud(TencentProduct::Cvm),
            &Region::parse("ap-guangzhou").unwrap(),
            &id,
        );
        assert_eq!(short, long);
    }

    #[test]
    fn names_reject_what_cannot_stand_in_a_log_line_or_a_request() {
        assert_eq!(InstanceId::parse(""), Err(NameError::Empty));
        assert_eq!(InstanceId::parse("crs 1"), Err(NameError::BadCharacter));
        assert_eq!(InstanceId::parse(&"a".repeat(65)), Err(NameError::TooLong(64)));
    }
}
