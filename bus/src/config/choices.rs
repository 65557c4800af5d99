//! The settings with a fixed set of values, spelled as Kafka spells them.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

/// Defines an enum whose values have one spelling each, for reading and printing.
macro_rules! choices {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub enum $name {
            $($(#[$note])* #[serde(rename = $text)] $variant),*
        }

        impl $name {
            /// As Kafka spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

choices! {
    /// How many brokers must have an event before it counts as published.
    Acks {
        /// None: fire and forget.
        Zero = "0",
        /// The partition's leader. Lost if the leader is lost before the others have it.
        Leader = "1",
        /// All that are in sync.
        All = "all",
    }
}

choices! {
    /// How batches are compressed.
    Compression {
        /// Not at all.
        None = "none",
        /// gzip.
        Gzip = "gzip",
        /// Snappy.
        Snappy = "snappy",
        /// LZ4.
        Lz4 = "lz4",
        /// Zstandard.
        Zstd = "zstd",
    }
}

choices! {
    /// Where a group starts that has committed nothing yet.
    AutoOffsetReset {
        /// With the oldest event there is.
        Earliest = "earliest",
        /// With what is published from now on.
        Latest = "latest",
    }
}

choices! {
    /// How to speak to the brokers.
    SecurityProtocol {
        /// In the clear, as anybody. Not for production.
        Plaintext = "PLAINTEXT",
        /// Encrypted.
        Ssl = "SSL",
        /// In the clear, with credentials.
        SaslPlaintext = "SASL_PLAINTEXT",
        /// Encrypted, with credentials. Recommended.
        SaslSsl = "SASL_SSL",
    }
}

impl SecurityProtocol {
    /// Whether credentials are sent.
    pub fn uses_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    /// Whether the connection is encrypted.
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

choices! {
    /// How credentials are sent.
    SaslMechanism {
        /// As they are; only over TLS.
        Plain = "PLAIN",
        /// As a proof, with SHA-256.
        ScramSha256 = "SCRAM-SHA-256",
        /// As a proof, with SHA-512. Recommended.
        ScramSha512 = "SCRAM-SHA-512",
    }
}

choices! {
    /// What a dead letter means for later events of the same key.
    DlqScope {
        /// Nothing: they are handled.
        Event = "event",
        /// They follow it to the dead letters, so that nothing is handled out of order, until it is replayed or evicted
        /// ([`replay_dlq_key`], [`evict_dlq_message`]). Which keys are dead is read from the dead letters whenever a
        /// partition is taken over, so it survives restarts; their topic must have as many partitions as the main one. An eviction is of the
        /// event: when a crash has its copy delivered once more and that fails too, its letter holds back nobody until the
        /// partition is taken over again; evict that one as well.
        ///
        /// [`replay_dlq_key`]: crate#backends
        /// [`evict_dlq_message`]: crate#backends
        Sequence = "sequence",
    }
}

choices! {
    /// What to do with an event of a type this program does not know.
    UnknownType {
        /// Pass over it, and count it: on a shared topic it is another service's.
        Skip = "skip",
        /// Put it into the dead letters.
        DeadLetter = "dead-letter",
        /// Stop consuming.
        Fail = "fail",
    }
}

choices! {
    /// Producer settings that belong together. Explicit settings outrank them.
    Preset {
        /// Batches of 1 MiB, 100 ms, lz4, acknowledged by the leader.
        MaxThroughput = "max-throughput",
        /// Batches of 16 KiB, no waiting, no compression, acknowledged by the leader.
        MinLatency = "min-latency",
        /// Batches of 32 KiB, 10 ms, gzip, acknowledged by all. Recommended.
        Balanced = "balanced",
    }
}

/// How the main topic is named after the prefix.
#[derive(Clone, Default)]
pub enum TopicNaming {
    /// `{prefix}.stream`.
    #[default]
    Stream,
    /// `{prefix}.events`, the prefix being the domain: `user.events`.
    Domain,
    /// `integration-events.{prefix}`.
    Integration,
    /// As this function says.
    Custom(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

impl TopicNaming {
    /// Names the topic with this function.
    pub fn custom(name: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(name))
    }

    /// The main topic for `prefix`.
    pub fn main_topic(&self, prefix: &str) -> String {
        match self {
            Self::Stream => format!("{prefix}.stream"),
            Self::Domain => format!("{prefix}.events"),
            Self::Integration => format!("integration-events.{prefix}"),
            Self::Custom(name) => name(prefix),
        }
    }
}

impl fmt::Debug for TopicNaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "Stream",
            Self::Domain => "Domain",
            Self::Integration => "Integration",
            Self::Custom(_) => "Custom",
        })
    }
}

impl<'de> Deserialize<'de> for TopicNaming {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase", rename = "TopicNaming")]
        enum ByName {
            Stream,
            Domain,
            Integration,
        }
        Ok(match ByName::deserialize(from)? {
            ByName::Stream => Self::Stream,
            ByName::Domain => Self::Domain,
            ByName::Integration => Self::Integration,
        })
    }
}
