//! Which versions of which API, and which features, Kafka's releases have had: what a cluster advertises that stands in for
//! an older Kafka ([`ClusterConfig::release`](crate::config::ClusterConfig::release)).
//!
//! The facts come from the message schemas of the last patch of every release (`validVersions`, `latestVersionUnstable`,
//! `listeners`) and from its `MetadataVersion` and `Feature`. Releases before 3.3 count as run with ZooKeeper, later ones
//! as KRaft, as each was ready for production.

use crate::wire::ApiKey;
use Release::*;
use std::fmt;
use std::str::FromStr;

/// A release of Apache Kafka, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Release {
    V2_8,
    V3_0,
    V3_1,
    V3_2,
    V3_3,
    V3_4,
    V3_5,
    V3_6,
    V3_7,
    V3_8,
    V3_9,
    V4_0,
    V4_1,
    V4_2,
    /// What everything here is modelled on.
    #[default]
    V4_3,
}

/// A feature as a release supports it (KIP-584).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supported {
    /// Its name, e.g. `transaction.version`.
    pub name: &'static str,
    /// The lowest level.
    pub min: i16,
    /// The highest level.
    pub max: i16,
    /// The level a new cluster gets; 0 leaves the feature off.
    pub level: i16,
}

/// Not a release this crate knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no release of Kafka known here; say one of {all}", all = Release::names())]
pub struct UnknownRelease(String);

impl Release {
    /// All of them, oldest first.
    pub const ALL: [Self; 15] =
        [V2_8, V3_0, V3_1, V3_2, V3_3, V3_4, V3_5, V3_6, V3_7, V3_8, V3_9, V4_0, V4_1, V4_2, V4_3];

    /// As people write it, e.g. `3.9`.
    pub const fn name(self) -> &'static str {
        match self {
            V2_8 => "2.8",
            V3_0 => "3.0",
            V3_1 => "3.1",
            V3_2 => "3.2",
            V3_3 => "3.3",
            V3_4 => "3.4",
            V3_5 => "3.5",
            V3_6 => "3.6",
            V3_7 => "3.7",
            V3_8 => "3.8",
            V3_9 => "3.9",
            V4_0 => "4.0",
            V4_1 => "4.1",
            V4_2 => "4.2",
            V4_3 => "4.3",
        }
    }

    /// The highest version of an API that this release calls stable; `None` where it does not have it.
    pub fn max_version(self, api: ApiKey) -> Option<i16> {
        let (_, steps) = HIGHEST.iter().find(|(named, _)| *named == api)?;
        steps.iter().rev().find(|(since, _)| *since <= self).map(|(_, max)| *max)
    }

    /// The features it supports, by name.
    pub fn features(self) -> impl Iterator<Item = Supported> {
        FEATURES.iter().filter_map(move |(name, steps)| {
            let (_, min, max, level) = *steps.iter().rev().find(|(since, ..)| *since <= self)?;
            Some(Supported { name, min, max, level })
        })
    }

    /// The level a new cluster of this release gives a feature; 0 where it does not have it.
    pub fn default_level(self, feature: &str) -> i16 {
        self.features().find(|supported| supported.name == feature).map_or(0, |supported| supported.level)
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(text: &str) -> Result<Self, UnknownRelease> {
        Self::ALL.into_iter().find(|release| release.name() == text).ok_or_else(|| UnknownRelease(text.to_owned()))
    }
}

/// Levels of a feature: lowest, highest, and what a new cluster gets, from a release on.
type Levels = &'static [(Release, i16, i16, i16)];

/// `Feature`, `MetadataVersion`: the levels ready for production.
const FEATURES: &[(&str, Levels)] = &[
    ("eligible.leader.replicas.version", &[(V4_0, 0, 1, 0), (V4_1, 0, 1, 1)]),
    ("group.version", &[(V4_0, 0, 1, 1)]),
    // A quorum of voters that are configured, not kept in the log, is at level 0 (KIP-853).
    ("kraft.version", &[(V3_9, 0, 1, 0)]),
    (
        "metadata.version",
        &[
            (V3_3, 1, 7, 7),
            (V3_4, 1, 8, 8),
            (V3_5, 1, 11, 11),
            (V3_6, 1, 14, 14),
            (V3_7, 1, 19, 19),
            (V3_8, 1, 20, 20),
            (V3_9, 1, 21, 21),
            (V4_0, 7, 25, 25),
            (V4_1, 7, 27, 27),
            (V4_2, 7, 29, 29),
            (V4_3, 7, 30, 30),
        ],
    ),
    ("transaction.version", &[(V4_0, 0, 2, 2)]),
];

/// The highest stable version of each API, and since when it is that.
#[rustfmt::skip]
const HIGHEST: &[(ApiKey, &[(Release, i16)])] = &[
    (ApiKey::Produce, &[(V2_8, 9), (V3_7, 10), (V3_8, 11), (V4_0, 12), (V4_1, 13)]),
    (ApiKey::Fetch, &[(V2_8, 12), (V3_1, 13), (V3_5, 15), (V3_7, 16), (V3_9, 17), (V4_1, 18)]),
    (ApiKey::ListOffsets, &[(V2_8, 6), (V3_0, 7), (V3_5, 8), (V3_9, 9), (V4_0, 10), (V4_2, 11)]),
    (ApiKey::Metadata, &[(V2_8, 11), (V3_1, 12), (V4_0, 13)]),
    (ApiKey::OffsetCommit, &[(V2_8, 8), (V3_7, 9), (V4_2, 10)]),
    (ApiKey::OffsetFetch, &[(V2_8, 7), (V3_0, 8), (V3_7, 9), (V4_2, 10)]),
    (ApiKey::FindCoordinator, &[(V2_8, 3), (V3_0, 4), (V3_8, 5), (V3_9, 6)]),
    (ApiKey::JoinGroup, &[(V2_8, 7), (V3_2, 9)]),
    (ApiKey::Heartbeat, &[(V2_8, 4)]),
    (ApiKey::LeaveGroup, &[(V2_8, 4), (V3_2, 5)]),
    (ApiKey::SyncGroup, &[(V2_8, 5)]),
    (ApiKey::DescribeGroups, &[(V2_8, 5), (V4_0, 6)]),
    (ApiKey::ListGroups, &[(V2_8, 4), (V3_8, 5)]),
    (ApiKey::SaslHandshake, &[(V2_8, 1)]),
    (ApiKey::ApiVersions, &[(V2_8, 3), (V3_9, 4)]),
    (ApiKey::CreateTopics, &[(V2_8, 7)]),
    (ApiKey::DeleteTopics, &[(V2_8, 6)]),
    (ApiKey::DeleteRecords, &[(V2_8, 2)]),
    (ApiKey::InitProducerId, &[(V2_8, 4), (V3_8, 5)]),
    (ApiKey::OffsetForLeaderEpoch, &[(V2_8, 4)]),
    (ApiKey::AddPartitionsToTxn, &[(V2_8, 3), (V3_6, 4), (V3_8, 5)]),
    (ApiKey::AddOffsetsToTxn, &[(V2_8, 3), (V3_8, 4)]),
    (ApiKey::EndTxn, &[(V2_8, 3), (V3_8, 4), (V4_0, 5)]),
    (ApiKey::WriteTxnMarkers, &[(V2_8, 1), (V4_2, 2)]),
    (ApiKey::TxnOffsetCommit, &[(V2_8, 3), (V3_8, 4), (V4_0, 5)]),
    (ApiKey::DescribeAcls, &[(V2_8, 2), (V3_3, 3)]),
    (ApiKey::CreateAcls, &[(V2_8, 2), (V3_3, 3)]),
    (ApiKey::DeleteAcls, &[(V2_8, 2), (V3_3, 3)]),
    (ApiKey::DescribeConfigs, &[(V2_8, 4)]),
    (ApiKey::AlterConfigs, &[(V2_8, 2)]),
    (ApiKey::AlterReplicaLogDirs, &[(V2_8, 2)]),
    (ApiKey::DescribeLogDirs, &[(V2_8, 2), (V3_2, 3), (V3_3, 4), (V4_3, 5)]),
    (ApiKey::SaslAuthenticate, &[(V2_8, 2)]),
    (ApiKey::CreatePartitions, &[(V2_8, 3)]),
    (ApiKey::CreateDelegationToken, &[(V2_8, 2), (V3_6, 3)]),
    (ApiKey::RenewDelegationToken, &[(V2_8, 2)]),
    (ApiKey::ExpireDelegationToken, &[(V2_8, 2)]),
    (ApiKey::DescribeDelegationToken, &[(V2_8, 2), (V3_6, 3)]),
    (ApiKey::DeleteGroups, &[(V2_8, 2)]),
    (ApiKey::ElectLeaders, &[(V2_8, 2)]),
    (ApiKey::IncrementalAlterConfigs, &[(V2_8, 1)]),
    (ApiKey::AlterPartitionReassignments, &[(V2_8, 0), (V4_1, 1)]),
    (ApiKey::ListPartitionReassignments, &[(V2_8, 0)]),
    (ApiKey::OffsetDelete, &[(V2_8, 0)]),
    (ApiKey::DescribeClientQuotas, &[(V2_8, 1)]),
    (ApiKey::AlterClientQuotas, &[(V2_8, 1)]),
    (ApiKey::DescribeUserScramCredentials, &[(V2_8, 0)]),
    (ApiKey::AlterUserScramCredentials, &[(V2_8, 0)]),
    (ApiKey::DescribeQuorum, &[(V3_3, 1), (V3_9, 2)]),
    (ApiKey::UpdateFeatures, &[(V2_8, 0), (V3_3, 1), (V4_0, 2)]),
    (ApiKey::DescribeCluster, &[(V2_8, 0), (V3_7, 1), (V4_0, 2)]),
    (ApiKey::DescribeProducers, &[(V2_8, 0)]),
    (ApiKey::UnregisterBroker, &[(V3_3, 0)]),
    (ApiKey::DescribeTransactions, &[(V3_0, 0)]),
    (ApiKey::ListTransactions, &[(V3_0, 0), (V3_8, 1), (V4_1, 2)]),
    (ApiKey::ConsumerGroupHeartbeat, &[(V3_7, 0), (V4_0, 1)]),
    (ApiKey::ConsumerGroupDescribe, &[(V3_8, 0), (V4_0, 1)]),
    (ApiKey::GetTelemetrySubscriptions, &[(V3_7, 0)]),
    (ApiKey::PushTelemetry, &[(V3_7, 0)]),
    (ApiKey::ListConfigResources, &[(V3_7, 0), (V4_1, 1)]),
    (ApiKey::DescribeTopicPartitions, &[(V3_8, 0)]),
    (ApiKey::ShareGroupHeartbeat, &[(V4_1, 1)]),
    (ApiKey::ShareGroupDescribe, &[(V4_1, 1)]),
    (ApiKey::ShareFetch, &[(V4_1, 1), (V4_2, 2)]),
    (ApiKey::ShareAcknowledge, &[(V4_1, 1), (V4_2, 2)]),
    (ApiKey::AddRaftVoter, &[(V3_9, 0), (V4_2, 1)]),
    (ApiKey::RemoveRaftVoter, &[(V3_9, 0)]),
    (ApiKey::InitializeShareGroupState, &[(V4_1, 0)]),
    (ApiKey::ReadShareGroupState, &[(V4_1, 0)]),
    (ApiKey::WriteShareGroupState, &[(V4_1, 0), (V4_2, 1)]),
    (ApiKey::DeleteShareGroupState, &[(V4_1, 0)]),
    (ApiKey::ReadShareGroupStateSummary, &[(V4_1, 0), (V4_2, 1)]),
    (ApiKey::StreamsGroupHeartbeat, &[(V4_2, 0)]),
    (ApiKey::StreamsGroupDescribe, &[(V4_2, 0)]),
    (ApiKey::DescribeShareGroupOffsets, &[(V4_1, 0), (V4_2, 1)]),
    (ApiKey::AlterShareGroupOffsets, &[(V4_1, 0)]),
    (ApiKey::DeleteShareGroupOffsets, &[(V4_1, 0)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_release_has_what_the_schemas_have() {
        for (api, _) in HIGHEST {
            assert_eq!(V4_3.max_version(*api), Some(*api.stable_versions().end()), "{api}");
        }
    }

    #[test]
    fn versions_and_names_only_rise() {
        for (api, steps) in HIGHEST {
            assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{api}");
        }
        for release in Release::ALL {
            assert_eq!(release.name().parse(), Ok(release));
        }
    }
}
