//! Configuration.

mod error;

pub use error::ConfigError;
