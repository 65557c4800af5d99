//! The broker under test.

use anyhow::{Context, Result};

/// Names a broker to test instead of our own: `host:port`.
pub const BOOTSTRAP_VARIABLE: &str = "REHEARSAL_BOOTSTRAP";

/// A broker to test, kept alive while this is held.
#[derive(Debug)]
pub struct Target {
    bootstrap: String,
}

impl Target {
    /// The broker `REHEARSAL_BOOTSTRAP` names.
    ///
    /// # Errors
    /// When the variable is not set.
    pub fn ours() -> Result<Self> {
        let bootstrap =
            std::env::var(BOOTSTRAP_VARIABLE).with_context(|| format!("{BOOTSTRAP_VARIABLE} is not set"))?;
        Ok(Self { bootstrap })
    }

    /// Where clients connect.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}
