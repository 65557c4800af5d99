//! Configs the broker acts upon, resolved and typed. Kafka's other configs are kept and described, no more.

use super::keys::Value;
use super::{Effective, GroupView, TopicView};
use crate::wire::batch::TimestampType;

/// How a topic behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch, compressed.
    pub max_message_bytes: i32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's time may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far it may lie in the future.
    pub timestamp_after_max_ms: i64,
    /// Whether `cleanup.policy` holds `compact`.
    pub cleanup_compact: bool,
    /// Whether `cleanup.policy` holds `delete`.
    pub cleanup_delete: bool,
    /// `retention.ms`; -1 keeps records for ever.
    pub retention_ms: i64,
    /// `retention.bytes` of a partition; -1 is no limit.
    pub retention_bytes: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `compression.type` with its level.
    pub compression: Compression,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.bytes`, or Kafka's internal override of it.
    pub segment_bytes: i32,
    /// `delete.retention.ms`: how long a tombstone outlives compaction.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
    /// `flush.messages`: so many unflushed records force a flush.
    pub flush_messages: i64,
    /// `flush.ms`: what is older is flushed, when the broker next looks (`log.flush.scheduler.interval.ms`).
    pub flush_ms: i64,
}

/// What batches are compressed with when they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they came.
    Producer,
    /// Not at all.
    Uncompressed,
    /// gzip, 1 to 9, or -1 for the library's default.
    Gzip(i32),
    /// snappy.
    Snappy,
    /// lz4, 1 to 17.
    Lz4(i32),
    /// zstd, -131072 to 22.
    Zstd(i32),
}

impl Default for TopicSettings {
    /// Kafka's defaults, on brokers that were given nothing.
    fn default() -> Self {
        let nothing = Effective::of([]);
        Self::from(&TopicView { broker: nothing, own: None })
    }
}

impl TopicSettings {
    pub(super) fn from(topic: &TopicView<'_>) -> Self {
        let policies = topic.named("cleanup.policy");
        let policy = |name: &str| policies.as_ref().is_some_and(|list| list.items().iter().any(|item| item == name));
        let internal_segment_bytes = topic.named("internal.segment.bytes").and_then(|value| value.number());
        Self {
            max_message_bytes: int(topic.number("max.message.bytes")),
            timestamp_type: match topic.named("message.timestamp.type") {
                Some(Value::Text(text)) if text == "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: topic.number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: topic.number("message.timestamp.after.max.ms"),
            cleanup_compact: policy("compact"),
            cleanup_delete: policy("delete"),
            retention_ms: topic.number("retention.ms"),
            retention_bytes: topic.number("retention.bytes"),
            min_insync_replicas: int(topic.number("min.insync.replicas")),
            compression: Compression::of(topic),
            segment_ms: topic.number("segment.ms"),
            segment_jitter_ms: topic.number("segment.jitter.ms"),
            segment_bytes: int(internal_segment_bytes.unwrap_or_else(|| topic.number("segment.bytes"))),
            delete_retention_ms: topic.number("delete.retention.ms"),
            min_compaction_lag_ms: topic.number("min.compaction.lag.ms"),
            max_compaction_lag_ms: topic.number("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: match topic.named("min.cleanable.dirty.ratio") {
                Some(Value::Double(ratio)) => ratio,
                _ => 0.5,
            },
            unclean_leader_election: topic.flag("unclean.leader.election.enable"),
            flush_messages: topic.number("flush.messages"),
            flush_ms: topic.number("flush.ms"),
        }
    }
}

impl Compression {
    fn of(topic: &TopicView<'_>) -> Self {
        let level = |codec: &str| int(topic.number(&format!("compression.{codec}.level")));
        match topic.named("compression.type") {
            Some(Value::Text(codec)) => match codec.as_str() {
                "uncompressed" => Self::Uncompressed,
                "gzip" => Self::Gzip(level("gzip")),
                "snappy" => Self::Snappy,
                "lz4" => Self::Lz4(level("lz4")),
                "zstd" => Self::Zstd(level("zstd")),
                _ => Self::Producer,
            },
            _ => Self::Producer,
        }
    }
}

/// Fields of a settings type that are one number or flag of the broker each, with the config's name.
macro_rules! broker_settings {
    ($($(#[$doc:meta])* $field:ident: $kind:tt = $name:literal,)*) => {
        /// How a broker behaves.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct BrokerSettings {
            $(#[doc = concat!("`", $name, "`")] $(#[$doc])* pub $field: $kind,)*
            /// Whether `group.coordinator.rebalance.protocols` holds `consumer` (KIP-848).
            pub consumer_groups: bool,
            /// Whether it holds `share` (KIP-932) or share groups are on by the feature `share.version`.
            pub share_groups: bool,
            /// Whether it holds `streams` (KIP-1071).
            pub streams_groups: bool,
        }

        impl BrokerSettings {
            pub(super) fn from(broker: &Effective<'_>) -> Self {
                let protocols = broker.value("group.coordinator.rebalance.protocols");
                let holds = |name: &str| protocols.as_ref().is_some_and(|list| list.items().iter().any(|p| p == name));
                Self {
                    $($field: broker_settings!(@read broker, $kind, $name),)*
                    consumer_groups: holds("consumer"),
                    // Formatting a 4.3 cluster turns `share.version` on, which suffices.
                    share_groups: true,
                    streams_groups: holds("streams"),
                }
            }
        }
    };
    (@read $broker:ident, bool, $name:literal) => { $broker.flag($name) };
    (@read $broker:ident, i64, $name:literal) => { $broker.number($name) };
    (@read $broker:ident, i32, $name:literal) => { int($broker.number($name)) };
    (@read $broker:ident, i16, $name:literal) => { short($broker.number($name)) };
}

broker_settings! {
    auto_create_topics: bool = "auto.create.topics.enable",
    delete_topics: bool = "delete.topic.enable",
    num_partitions: i32 = "num.partitions",
    default_replication_factor: i16 = "default.replication.factor",
    min_insync_replicas: i32 = "min.insync.replicas",
    auto_leader_rebalance: bool = "auto.leader.rebalance.enable",
    /// : the default of `max.message.bytes`.
    message_max_bytes: i32 = "message.max.bytes",
    fetch_max_bytes: i32 = "fetch.max.bytes",
    socket_request_max_bytes: i32 = "socket.request.max.bytes",
    connections_max_reauth_ms: i64 = "connections.max.reauth.ms",
    connections_max_idle_ms: i64 = "connections.max.idle.ms",
    max_connections: i32 = "max.connections",
    max_connections_per_ip: i32 = "max.connections.per.ip",
    max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots",
    max_request_partition_size_limit: i32 = "max.request.partition.size.limit",
    group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms",
    group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms",
    group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms",
    group_max_size: i32 = "group.max.size",
    consumer_group_regex_refresh_interval_ms: i32 = "group.consumer.regex.refresh.interval.ms",
    consumer_group_max_size: i32 = "group.consumer.max.size",
    share_group_max_size: i32 = "group.share.max.size",
    share_sessions_max: i32 = "group.share.max.share.sessions",
    streams_group_max_size: i32 = "group.streams.max.size",
    offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes",
    offsets_retention_minutes: i32 = "offsets.retention.minutes",
    offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms",
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions",
    offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor",
    transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms",
    transaction_abort_timed_out_interval_ms: i32 = "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    transaction_remove_expired_interval_ms: i32 = "transaction.remove.expired.transaction.cleanup.interval.ms",
    transaction_partition_verification: bool = "transaction.partition.verification.enable",
    transaction_two_phase_commit: bool = "transaction.two.phase.commit.enable",
    transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions",
    transaction_state_log_replication_factor: i16 = "transaction.state.log.replication.factor",
    transactional_id_expiration_ms: i32 = "transactional.id.expiration.ms",
    producer_id_expiration_ms: i32 = "producer.id.expiration.ms",
    producer_id_expiration_check_interval_ms: i32 = "producer.id.expiration.check.interval.ms",
    replica_lag_time_max_ms: i64 = "replica.lag.time.max.ms",
    replica_high_watermark_checkpoint_interval_ms: i64 = "replica.high.watermark.checkpoint.interval.ms",
    log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms",
    unclean_leader_election_interval_ms: i64 = "unclean.leader.election.interval.ms",
    log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms",
    log_cleaner: bool = "log.cleaner.enable",
    log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms",
    share_state_topic_num_partitions: i32 = "share.coordinator.state.topic.num.partitions",
    share_state_topic_replication_factor: i16 = "share.coordinator.state.topic.replication.factor",
}

/// How a group behaves: its own configs, kept within its brokers' bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`.
    pub consumer_assignment_interval_ms: i32,
    /// `share.session.timeout.ms`.
    pub share_session_timeout_ms: i32,
    /// `share.heartbeat.interval.ms`.
    pub share_heartbeat_interval_ms: i32,
    /// `share.assignment.interval.ms`.
    pub share_assignment_interval_ms: i32,
    /// `share.record.lock.duration.ms`.
    pub share_record_lock_duration_ms: i32,
    /// `share.delivery.count.limit`.
    pub share_delivery_count_limit: i32,
    /// `share.partition.max.record.locks`.
    pub share_partition_max_record_locks: i32,
    /// `share.auto.offset.reset`: `earliest`, `latest` or `by_duration:…`.
    pub share_auto_offset_reset: String,
    /// Whether `share.isolation.level` is `read_committed`.
    pub share_read_committed: bool,
    /// `share.renew.acknowledge.enable`.
    pub share_renew_acknowledge: bool,
    /// `streams.session.timeout.ms`.
    pub streams_session_timeout_ms: i32,
    /// `streams.heartbeat.interval.ms`.
    pub streams_heartbeat_interval_ms: i32,
    /// `streams.assignment.interval.ms`.
    pub streams_assignment_interval_ms: i32,
    /// `streams.num.standby.replicas`.
    pub streams_num_standby_replicas: i32,
    /// `streams.initial.rebalance.delay.ms`.
    pub streams_initial_rebalance_delay_ms: i32,
}

impl GroupSettings {
    pub(super) fn from(group: &GroupView<'_>) -> Self {
        let number = |name: &str| {
            let value = group.number(name);
            // Bounds may have moved since the value was set.
            int(GROUP_BOUNDS
                .iter()
                .find(|bounds| bounds.config == name)
                .map_or(value, |bounds| bounds.clamp(value, group)))
        };
        Self {
            consumer_session_timeout_ms: number("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: number("consumer.assignment.interval.ms"),
            share_session_timeout_ms: number("share.session.timeout.ms"),
            share_heartbeat_interval_ms: number("share.heartbeat.interval.ms"),
            share_assignment_interval_ms: number("share.assignment.interval.ms"),
            share_record_lock_duration_ms: number("share.record.lock.duration.ms"),
            share_delivery_count_limit: number("share.delivery.count.limit"),
            share_partition_max_record_locks: number("share.partition.max.record.locks"),
            share_auto_offset_reset: group.text("share.auto.offset.reset"),
            share_read_committed: group.text("share.isolation.level") == "read_committed",
            share_renew_acknowledge: group.text("share.renew.acknowledge.enable") == "true",
            streams_session_timeout_ms: number("streams.session.timeout.ms"),
            streams_heartbeat_interval_ms: number("streams.heartbeat.interval.ms"),
            streams_assignment_interval_ms: number("streams.assignment.interval.ms"),
            streams_num_standby_replicas: number("streams.num.standby.replicas"),
            streams_initial_rebalance_delay_ms: number("streams.initial.rebalance.delay.ms"),
        }
    }
}

/// The broker configs between which a group's config must lie.
pub(super) struct Bounds {
    pub(super) config: &'static str,
    pub(super) min: Option<&'static str>,
    pub(super) max: &'static str,
}

impl Bounds {
    pub(super) fn range(&self, broker: &Effective<'_>) -> (i64, i64) {
        (self.min.map_or(0, |min| broker.number(min)), broker.number(self.max))
    }

    fn clamp(&self, value: i64, group: &GroupView<'_>) -> i64 {
        let (min, max) = self.range(&group.broker);
        value.min(max).max(min)
    }
}

const fn within(config: &'static str, min: &'static str, max: &'static str) -> Bounds {
    Bounds { config, min: Some(min), max }
}

#[rustfmt::skip]
pub(super) const GROUP_BOUNDS: &[Bounds] = &[
    within("consumer.heartbeat.interval.ms",  "group.consumer.min.heartbeat.interval.ms",  "group.consumer.max.heartbeat.interval.ms"),
    within("consumer.session.timeout.ms",     "group.consumer.min.session.timeout.ms",     "group.consumer.max.session.timeout.ms"),
    within("consumer.assignment.interval.ms", "group.consumer.min.assignment.interval.ms", "group.consumer.max.assignment.interval.ms"),
    within("share.heartbeat.interval.ms",     "group.share.min.heartbeat.interval.ms",     "group.share.max.heartbeat.interval.ms"),
    within("share.session.timeout.ms",        "group.share.min.session.timeout.ms",        "group.share.max.session.timeout.ms"),
    within("share.record.lock.duration.ms",   "group.share.min.record.lock.duration.ms",   "group.share.max.record.lock.duration.ms"),
    within("share.delivery.count.limit",      "group.share.min.delivery.count.limit",      "group.share.max.delivery.count.limit"),
    within("share.partition.max.record.locks","group.share.min.partition.max.record.locks","group.share.max.partition.max.record.locks"),
    within("share.assignment.interval.ms",    "group.share.min.assignment.interval.ms",    "group.share.max.assignment.interval.ms"),
    within("streams.heartbeat.interval.ms",   "group.streams.min.heartbeat.interval.ms",   "group.streams.max.heartbeat.interval.ms"),
    within("streams.session.timeout.ms",      "group.streams.min.session.timeout.ms",      "group.streams.max.session.timeout.ms"),
    within("streams.assignment.interval.ms",  "group.streams.min.assignment.interval.ms",  "group.streams.max.assignment.interval.ms"),
    Bounds { config: "streams.num.standby.replicas", min: None, max: "group.streams.max.standby.replicas" },
];

/// Values are checked against their type when they are set, so nothing is cut off here.
fn int(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

fn short(value: i64) -> i16 {
    i16::try_from(value).unwrap_or(if value < 0 { i16::MIN } else { i16::MAX })
}
