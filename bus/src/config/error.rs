//! What is wrong with a configuration, and what to write instead.

/// A setting that is missing, malformed, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// One setting is wrong by itself or beside another.
    #[error("{setting}: {problem}; {remedy}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}
