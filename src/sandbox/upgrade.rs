//! What an upgrade leads to and costs.
//!
//! Source: the Redis page UpgradeInstance: an absolute target, one dimension a call, and shrinking only down to
//! 1.3 times of what is used. The price is ours: the difference of one month's.

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::domain::money::Fen;
use crate::domain::observation::Spec;
use crate::domain::order::Target;

const MEM_STEP_MB: u32 = 1_024;
const MEM_MB: RangeInclusive<u32> = 1_024..=65_536;
const SHARDS: RangeInclusive<u32> = 1..=128;
const REPLICAS: RangeInclusive<u32> = 0..=5;
/// Every instance is half full, and shrinks to no less than 1.3 times of that.
const SHRINKS_TO_PERCENT: u64 = 65;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgraded {
    pub spec: Spec,
    pub price_per_month: Fen,
    /// Nothing is paid back for a smaller one.
    pub price: Fen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoUpgrade {
    #[error("the memory of a shard is a multiple of {MEM_STEP_MB} MB up to 64 GB")]
    MemSize,
    #[error("there is no such number of shards or replicas")]
    NoSuchSpec,
    #[error("the instance is that size already")]
    Same,
    #[error("one of memory, shards and replicas can change in a call, the others are repeated as they are")]
    SeveralChanges,
    #[error("the new size is less than 1.3 times of what is used")]
    Shrinks,
    #[error("the price is out of range")]
    OutOfRange,
}

pub fn upgrade(now: Spec, target: &Target, price_per_month: Fen) -> Result<Upgraded, NoUpgrade> {
    let spec = Spec {
        mem_size_mb: target.mem_size_mb,
        shards: target.shards.unwrap_or(now.shards),
        replicas: target.replicas.unwrap_or(now.replicas),
    };
    let changes =
        [spec.mem_size_mb != now.mem_size_mb, spec.shards != now.shards, spec.replicas != now.replicas];
    match changes.into_iter().filter(|changes| *changes).count() {
        0 => return Err(NoUpgrade::Same),
        1 => check(now, spec)?,
        _ => return Err(NoUpgrade::SeveralChanges),
    }
    let new_price = scaled(price_per_month, memory(now), memory(spec)).ok_or(NoUpgrade::OutOfRange)?;
    let price = Fen::new((new_price.get() - price_per_month.get()).max(0));
    Ok(Upgraded { spec, price_per_month: new_price, price })
}

fn check(now: Spec, spec: Spec) -> Result<(), NoUpgrade> {
    let is_new_size = spec.mem_size_mb != now.mem_size_mb;
    if is_new_size && !(MEM_MB.contains(&spec.mem_size_mb) && spec.mem_size_mb.is_multiple_of(MEM_STEP_MB)) {
        return Err(NoUpgrade::MemSize);
    }
    if !SHARDS.contains(&spec.shards) || !REPLICAS.contains(&spec.replicas) {
        return Err(NoUpgrade::NoSuchSpec);
    }
    let data = |spec: Spec| u64::from(spec.mem_size_mb) * u64::from(spec.shards);
    if data(spec) * 100 < data(now) * SHRINKS_TO_PERCENT { Err(NoUpgrade::Shrinks) } else { Ok(()) }
}

/// Copies included.
fn memory(spec: Spec) -> i128 {
    i128::from(spec.mem_size_mb) * i128::from(spec.shards) * (1 + i128::from(spec.replicas))
}

fn scaled(price: Fen, from: i128, to: i128) -> Option<Fen> {
    let from = from.max(1);
    let fen = (i128::from(price.get()) * to + from - 1) / from;
    i64::try_from(fen).ok().map(Fen::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Spec = Spec { mem_size_mb: 4_096, shards: 3, replicas: 1 };

    fn to(mem_size_mb: u32, shards: u32, replicas: u32) -> Result<Upgraded, NoUpgrade> {
        let target = Target { mem_size_mb, shards: Some(shards), replicas: Some(replicas) };
        upgrade(NOW, &target, Fen::new(10_001))
    }

    #[test]
    fn one_dimension_changes_and_costs_its_share_of_a_month() {
        let upgraded = to(8_192, 3, 1).unwrap();
        assert_eq!(upgraded.spec, Spec { mem_size_mb: 8_192, ..NOW });
        assert_eq!((upgraded.price_per_month, upgraded.price), (Fen::new(20_002), Fen::new(10_001)));
        assert_eq!(to(4_096, 4, 1).unwrap().price, Fen::new(3_334));
        assert_eq!(to(4_096, 3, 0).unwrap().price, Fen::new(0));
        let silent = Target { mem_size_mb: 8_192, shards: None, replicas: None };
        assert_eq!(upgrade(NOW, &silent, Fen::new(10_001)), Ok(upgraded));
    }

    #[test]
    fn what_the_page_rules_out_is_refused() {
        assert_eq!(to(4_096, 3, 1), Err(NoUpgrade::Same));
        assert_eq!(to(8_192, 4, 1), Err(NoUpgrade::SeveralChanges));
        assert_eq!(to(2_048, 3, 1), Err(NoUpgrade::Shrinks));
        assert!(to(3_072, 3, 1).is_ok());
        assert_eq!(to(5_000, 3, 1), Err(NoUpgrade::MemSize));
        assert_eq!(to(1_048_576, 3, 1), Err(NoUpgrade::MemSize));
        assert_eq!(to(4_096, 129, 1), Err(NoUpgrade::NoSuchSpec));
        assert_eq!(to(4_096, 3, u32::MAX), Err(NoUpgrade::NoSuchSpec));
    }
}
