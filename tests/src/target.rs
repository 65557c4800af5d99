//! The broker under test.

use anyhow::{Context, Result};
use rehearsal_mockbroker::config::{SaslMechanism, SecurityProtocol, UserConfig};
use rehearsal_mockbroker::testing::MockCluster;

use crate::kafka;

/// Names a broker to test instead of our own: `host:port`.
pub const BOOTSTRAP_VARIABLE: &str = "REHEARSAL_BOOTSTRAP";

/// A broker to test, kept alive while this is held.
#[derive(Debug)]
pub struct Target {
    bootstrap: String,
    guarded: String,
    // Held so that it goes on running.
    _cluster: Option<MockCluster>,
}

impl Target {
    /// The broker `REHEARSAL_BOOTSTRAP` names; one of our own with `brokers` nodes when it names none. One node alone has the
    /// settings of the reference.
    ///
    /// # Errors
    /// When our broker does not start.
    pub fn ours(brokers: i32) -> Result<Self> {
        Self::ours_with(brokers, &[])
    }

    /// As [`Target::ours`], with more or other settings.
    ///
    /// # Errors
    /// As [`Target::ours`].
    pub fn ours_with(brokers: i32, settings: &[(&str, &str)]) -> Result<Self> {
        if let Ok(bootstrap) = std::env::var(BOOTSTRAP_VARIABLE) {
            return Ok(Self { bootstrap, guarded: String::new(), _cluster: None });
        }
        let builder = MockCluster::builder().brokers(brokers).no_racks();
        let cluster = kafka::SETTINGS
            .iter()
            .filter(|_| brokers == 1)
            .chain(settings)
            .fold(builder, |builder, (key, value)| builder.config(*key, *value))
            .start()
            .context("starting our broker")?;
        Ok(Self { bootstrap: cluster.bootstrap_servers(), guarded: String::new(), _cluster: Some(cluster) })
    }

    /// A broker of our own with the settings of the reference that asks who clients are; see
    /// [`ApacheKafka::shared_guarded`](kafka::ApacheKafka::shared_guarded).
    ///
    /// # Errors
    /// When it does not start.
    pub fn guarded() -> Result<Self> {
        let builder = MockCluster::builder()
            .no_racks()
            .listeners([SecurityProtocol::Plaintext, SecurityProtocol::SaslPlaintext])
            .authorizer(kafka::SUPER_USERS);
        let builder = kafka::USERS.iter().fold(builder, |builder, (name, password)| {
            builder.user_with(UserConfig::new(*name, *password).with_mechanism(SaslMechanism::Plain))
        });
        let settings = kafka::SETTINGS.iter().chain(&kafka::GUARDED_SETTINGS);
        let builder = settings.fold(builder, |builder, (key, value)| builder.config(*key, *value));
        let cluster = builder.start().context("starting our broker")?;
        let guarded = cluster.bootstrap_servers_of("SASL_PLAINTEXT").context("the listener that asks")?;
        Ok(Self { bootstrap: cluster.bootstrap_servers(), guarded, _cluster: Some(cluster) })
    }

    /// Where clients connect that say who they are; empty where nobody does.
    #[must_use]
    pub fn guarded_address(&self) -> &str {
        &self.guarded
    }

    /// Where clients connect: `host:port`, of every node with commas between.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where a client that knows one address connects.
    #[must_use]
    pub fn first_node(&self) -> &str {
        self.bootstrap.split(',').next().unwrap_or_default()
    }
}
