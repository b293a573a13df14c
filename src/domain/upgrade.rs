//! Sizes: what an upgrade changes, one dimension an order.
//!
//! Source: the Redis page UpgradeInstance: targets are absolute, one of the three changes in a call and the present
//! values of the others are sent along.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::observation::Spec;
use crate::domain::order::Target;
use crate::domain::policy::Upgrade;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Of a shard.
    MemSizeMb,
    Shards,
    Replicas,
}

/// One order's worth of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    pub dimension: Dimension,
    pub before: u32,
    pub after: u32,
    /// All dimensions, as the request names them.
    pub target: Target,
}

impl Dimension {
    pub const ALL: [Dimension; 3] = [Dimension::MemSizeMb, Dimension::Shards, Dimension::Replicas];

    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::MemSizeMb => "mem_size_mb",
            Dimension::Shards => "shards",
            Dimension::Replicas => "replicas",
        }
    }

    pub fn parse(text: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == text)
    }

    pub fn of(self, spec: Spec) -> u32 {
        match self {
            Dimension::MemSizeMb => spec.mem_size_mb,
            Dimension::Shards => spec.shards,
            Dimension::Replicas => spec.replicas,
        }
    }

    /// What the policy wants of it; None leaves it as it is.
    fn wanted(self, upgrade: &Upgrade) -> Option<u32> {
        match self {
            Dimension::MemSizeMb => Some(upgrade.mem_size_mb),
            Dimension::Shards => upgrade.shards,
            Dimension::Replicas => upgrade.replicas,
        }
    }

    fn set(self, spec: &mut Spec, value: u32) {
        match self {
            Dimension::MemSizeMb => spec.mem_size_mb = value,
            Dimension::Shards => spec.shards = value,
            Dimension::Replicas => spec.replicas = value,
        }
    }
}

impl Resize {
    fn new(spec: Spec, dimension: Dimension, after: u32) -> Resize {
        let mut changed = spec;
        dimension.set(&mut changed, after);
        // Editions that take no such parameter show none of it.
        let sent = |dimension: Dimension| Some(dimension.of(changed)).filter(|count| *count > 0);
        let target = Target {
            mem_size_mb: changed.mem_size_mb,
            shards: sent(Dimension::Shards),
            replicas: sent(Dimension::Replicas),
        };
        Resize { dimension, before: dimension.of(spec), after, target }
    }

    pub fn shrinks(&self) -> bool {
        self.after < self.before
    }
}

impl Upgrade {
    /// What is still to be changed, in the order in which it is: what grows comes first, so that what shrinks
    /// never does before there is room.
    pub fn resizes(&self, spec: Spec) -> Vec<Resize> {
        let change = |dimension: Dimension| {
            let after = dimension.wanted(self)?;
            (dimension.of(spec) != after).then(|| Resize::new(spec, dimension, after))
        };
        let mut resizes: Vec<Resize> = Dimension::ALL.into_iter().filter_map(change).collect();
        resizes.sort_by_key(Resize::shrinks);
        resizes
    }

    /// The next order's; None when the instance has the wanted size.
    pub fn next_resize(&self, spec: Spec) -> Option<Resize> {
        self.resizes(spec).into_iter().next()
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.dimension, self.before, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Spec = Spec { mem_size_mb: 4096, shards: 3, replicas: 1 };

    fn wanted(mem_size_mb: u32, shards: Option<u32>, replicas: Option<u32>) -> Upgrade {
        Upgrade { mem_size_mb, shards, replicas, allow_shrink: false }
    }

    #[test]
    fn one_dimension_changes_at_a_time_and_the_others_are_sent_as_they_are() {
        let upgrade = wanted(8192, Some(5), None);
        let first = upgrade.next_resize(NOW).unwrap();
        assert_eq!((first.dimension, first.before, first.after), (Dimension::MemSizeMb, 4096, 8192));
        assert_eq!(first.target, Target { mem_size_mb: 8192, shards: Some(3), replicas: Some(1) });
        let then = Spec { mem_size_mb: 8192, ..NOW };
        let second = upgrade.next_resize(then).unwrap();
        assert_eq!(second.target, Target { mem_size_mb: 8192, shards: Some(5), replicas: Some(1) });
        assert_eq!(upgrade.next_resize(Spec { shards: 5, ..then }), None);
    }

    #[test]
    fn what_grows_comes_before_what_shrinks() {
        let order: Vec<_> =
            wanted(2048, Some(9), Some(0)).resizes(NOW).iter().map(|it| it.dimension).collect();
        assert_eq!(order, [Dimension::Shards, Dimension::MemSizeMb, Dimension::Replicas]);
    }

    #[test]
    fn an_edition_without_shards_is_asked_for_none() {
        let bare = Spec { mem_size_mb: 1024, shards: 0, replicas: 0 };
        let resize = wanted(2048, None, None).next_resize(bare).unwrap();
        assert_eq!(resize.target, Target { mem_size_mb: 2048, shards: None, replicas: None });
    }
}
