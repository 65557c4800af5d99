//! What is wrong with a configuration, and what to write instead.

/// A setting that is missing, malformed, or contradicts another. No value of a secret is ever part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting must be given and is not.
    #[error("{setting} is missing: {because}")]
    Missing {
        /// The setting.
        setting: &'static str,
        /// Why it is needed.
        because: &'static str,
    },

    /// A setting cannot have this value.
    #[error("{setting} cannot be {value:?}: {remedy}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        remedy: &'static str,
    },

    /// Two settings cannot be used together.
    #[error("{one} and {other} contradict each other: {remedy}")]
    Contradiction {
        /// One of them, with its value.
        one: String,
        /// The other, with its value.
        other: String,
        /// What to change.
        remedy: &'static str,
    },

    /// One setting has several names, and two of them were given different values.
    #[error("{one} and {other} both mean {setting} but differ: remove one of them")]
    Disagreement {
        /// The setting.
        setting: &'static str,
        /// One name.
        one: String,
        /// The other.
        other: String,
    },

    /// Text from the environment or a file that cannot be read as settings.
    #[error("cannot read the settings: {problem}")]
    Unreadable {
        /// What and where.
        problem: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(setting: &'static str, value: impl ToString, remedy: &'static str) -> Self {
        Self::Invalid { setting, value: value.to_string(), remedy }
    }

    pub(super) fn contradiction(one: impl ToString, other: impl ToString, remedy: &'static str) -> Self {
        Self::Contradiction { one: one.to_string(), other: other.to_string(), remedy }
    }
}
