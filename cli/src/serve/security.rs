//! The flags of `rehearsal serve` that say who may connect, by which listener, and what they may do.

use anyhow::{Context, bail};
use rehearsal_mockbroker::config::{ListenerConfig, SaslMechanism, SecurityProtocol, UserConfig};
use rehearsal_mockbroker::server::TlsConfig;
use rehearsal_mockbroker::testing::{Builder, ListenAt};
use secrecy::{ExposeSecret, SecretString};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// Who may connect, and how.
#[derive(Debug, clap::Args)]
pub(super) struct SecurityArgs {
    /// The listeners of every broker, comma-separated; broker i listens on each port + i. The protocol is PLAINTEXT, SSL,
    /// SASL_PLAINTEXT or SASL_SSL
    #[arg(long, value_name = "PROTOCOL://ADDRESS:PORT", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["port", "bind", "advertise_port"])]
    listen: Vec<ListenArg>,
    /// Somebody who can log in on SASL listeners, by every mechanism that works with passwords or only by the one named;
    /// may be given several times
    #[arg(long = "user", value_name = "NAME:PASSWORD[:MECHANISM]")]
    users: Vec<UserArg>,
    /// The brokers' certificate, and those between it and its authority, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the brokers' certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authority whose certificates clients of SSL listeners must show, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Who says what clients may do; nobody unless given, so that they may do everything
    #[arg(long, value_name = "WHICH")]
    authorizer: Option<Authorizer>,
    /// Who may do everything whatever the ACLs say, e.g. User:admin; may be given several times
    #[arg(long = "super-user", value_name = "PRINCIPAL", requires = "authorizer")]
    super_users: Vec<String>,
}

/// The authorisers there are.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Authorizer {
    /// Kafka's StandardAuthorizer
    Standard,
}

impl SecurityArgs {
    /// Puts what was said into the description of a cluster.
    pub(super) fn apply(self, mut builder: Builder) -> anyhow::Result<Builder> {
        let protocols: Vec<_> = self.listen.iter().map(|listen| listen.protocol).collect();
        let encrypts = protocols.iter().any(|protocol| protocol.uses_tls());
        let asks = protocols.iter().any(|protocol| protocol.uses_sasl());
        if !self.users.is_empty() && !asks {
            bail!("--user is given, but nobody logs in anywhere; --listen a SASL_PLAINTEXT or SASL_SSL listener");
        }
        match (self.tls_cert, self.tls_key) {
            (Some(_), _) if !encrypts => {
                bail!("--tls-cert is given, but nothing is encrypted; --listen an SSL or SASL_SSL listener")
            }
            (Some(certificate), Some(key)) => {
                let mut tls = TlsConfig::from_files(&certificate, &key).context("reading --tls-cert and --tls-key")?;
                if let Some(ca) = &self.tls_client_ca {
                    tls = tls.client_ca_file(ca).context("reading --tls-client-ca")?;
                }
                builder = builder.tls(tls);
            }
            _ if encrypts => bail!("an SSL or SASL_SSL listener needs --tls-cert and --tls-key"),
            _ => {}
        }
        if !self.listen.is_empty() {
            builder = builder.listen(self.listen.into_iter().map(ListenArg::listener));
        }
        for user in &self.users {
            builder = builder.user_with(user.parse()?);
        }
        Ok(match self.authorizer {
            Some(Authorizer::Standard) => builder.authorizer(self.super_users),
            None => builder,
        })
    }
}

/// `PROTOCOL://ADDRESS:PORT`.
#[derive(Debug, Clone)]
struct ListenArg {
    protocol: SecurityProtocol,
    address: IpAddr,
    port: u16,
}

impl ListenArg {
    fn listener(self) -> (ListenerConfig, ListenAt) {
        let at = ListenAt { bind: self.address, base_port: self.port, advertise_port: None };
        (ListenerConfig::new(self.protocol), at)
    }
}

impl FromStr for ListenArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "say PROTOCOL://ADDRESS:PORT, e.g. SASL_PLAINTEXT://127.0.0.1:9093".to_owned();
        let (protocol, place) = text.split_once("://").ok_or_else(form)?;
        let (address, port) = place.rsplit_once(':').ok_or_else(form)?;
        let address = match address.trim_matches(['[', ']']) {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            address => address.parse().map_err(|_| format!("'{address}' is no address; say one, e.g. 127.0.0.1"))?,
        };
        let port = port.parse().map_err(|_| format!("'{port}' is no port; say 0 to 65535"))?;
        Ok(Self { protocol: protocol.parse()?, address, port })
    }
}

/// `NAME:PASSWORD[:MECHANISM]`, taken as it is: a message about what is wrong with it would repeat the password.
#[derive(Debug, Clone)]
struct UserArg(SecretString);

impl FromStr for UserArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(SecretString::from(text)))
    }
}

impl UserArg {
    fn parse(&self) -> anyhow::Result<UserConfig> {
        let Some((name, rest)) = self.0.expose_secret().split_once(':') else {
            bail!("--user takes NAME:PASSWORD or NAME:PASSWORD:MECHANISM; one has no colon");
        };
        // A password may hold colons; what follows its last one is a mechanism when it is one.
        let mechanism = rest.rsplit_once(':').and_then(|(password, name)| Some((password, name.parse().ok()?)));
        let (password, mechanism) = match mechanism {
            Some((password, mechanism)) => (password, Some(mechanism)),
            None => (rest, None),
        };
        if name.is_empty() || password.is_empty() {
            bail!("--user takes NAME:PASSWORD or NAME:PASSWORD:MECHANISM; one lacks its name or its password");
        }
        if mechanism == Some(SaslMechanism::OauthBearer) {
            bail!("--user {name}: with OAUTHBEARER a client's token says who it is, and no password");
        }
        Ok(UserConfig { mechanism, ..UserConfig::new(name, password) })
    }
}
