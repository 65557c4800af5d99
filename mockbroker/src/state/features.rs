//! Features: what the cluster could do, and at which level each is in force (KIP-584, `FeatureControlManager`).

use crate::config::ClusterConfig;
use crate::error::{ErrorCode, Reject};
use crate::release::{Release, Supported};
use std::collections::BTreeMap;

/// How transactions end and who checks them (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// Whether replicas outside of the in-sync set may lead (KIP-966).
pub const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";
/// What the controllers may write into their log.
const METADATA_VERSION: &str = "metadata.version";
/// How the quorum keeps its voters.
const KRAFT_VERSION: &str = "kraft.version";

/// The features of a cluster.
#[derive(Debug, Clone)]
pub struct Features {
    release: Release,
    /// Those that are on.
    levels: BTreeMap<&'static str, i16>,
    epoch: i64,
}

/// Which way a level is to go (`FeatureUpdate.UpgradeType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Up.
    Upgrade,
    /// Down, if nothing is lost by it.
    SafeDowngrade,
    /// Down, whatever is lost.
    UnsafeDowngrade,
}

impl Features {
    /// The features of a new cluster.
    pub fn new(config: &ClusterConfig) -> Self {
        let mut levels: BTreeMap<_, _> =
            config.release.features().map(|feature| (feature.name, feature.level)).collect();
        if let Some(level) = levels.get_mut(TRANSACTION_VERSION) {
            *level = config.transaction_version.min(*level);
        }
        if let Some(level) = levels.get_mut(ELIGIBLE_LEADER_REPLICAS).filter(|_| !config.eligible_leader_replicas) {
            *level = 0;
        }
        levels.retain(|_, level| *level > 0);
        Self { release: config.release, levels, epoch: 1 }
    }

    /// The release whose features these are.
    pub fn release(&self) -> Release {
        self.release
    }

    /// What can be turned on, by name.
    pub fn supported(&self) -> impl Iterator<Item = Supported> {
        self.release.features()
    }

    /// What is on and at which level, by name.
    pub fn finalised(&self) -> impl Iterator<Item = (&'static str, i16)> {
        self.levels.iter().map(|(name, level)| (*name, *level))
    }

    /// The level of a feature; 0 is off.
    pub fn level(&self, name: &str) -> i16 {
        self.levels.get(name).copied().unwrap_or(0)
    }

    /// Raised whenever a level changes.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether a feature's level may become this one; the feature's name as it is kept.
    pub fn check(&self, name: &str, level: i16, direction: Direction) -> Result<&'static str, Reject> {
        let refuse =
            |why: String| Reject::new(ErrorCode::InvalidUpdateVersion, format!("{name} cannot be {level}: {why}"));
        let known = self.supported().find(|feature| feature.name == name);
        let feature = known.ok_or_else(|| refuse("there is no such feature".into()))?;
        let present = self.level(name);
        // 0 turns a feature off, whatever its lowest level.
        if level < 0 || level > feature.max || (level != 0 && level < feature.min) {
            return Err(refuse(format!("its levels are {} to {}", feature.min, feature.max)));
        }
        if level < present && direction == Direction::Upgrade {
            return Err(refuse(format!("it is {present}, and an upgrade does not lower it")));
        }
        if level > present && direction != Direction::Upgrade {
            return Err(refuse(format!("it is {present}, and a downgrade does not raise it")));
        }
        match name {
            METADATA_VERSION if level < feature.min => Err(refuse("clusters cannot do without it".into())),
            METADATA_VERSION if level < present && direction == Direction::UnsafeDowngrade => {
                Err(refuse("no unsafe downgrade is supported".into()))
            }
            METADATA_VERSION if level < present => Err(refuse("that may lose metadata".into())),
            KRAFT_VERSION if level != present => Err(refuse("the quorum's voters are configured".into())),
            _ => Ok(feature.name),
        }
    }

    /// Changes levels that were checked.
    pub(super) fn set(&mut self, levels: impl IntoIterator<Item = (&'static str, i16)>) {
        for (name, level) in levels {
            self.epoch += 1;
            if level > 0 {
                self.levels.insert(name, level)
            } else {
                self.levels.remove(name)
            };
        }
    }
}
