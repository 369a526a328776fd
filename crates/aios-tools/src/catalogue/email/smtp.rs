//! The mail server of this device: its configuration, and a conversation with it.

use std::{borrow::Cow, fmt, net::SocketAddr, num::NonZeroU16, time::Duration};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{Certificate, CertificateStore, SmtpConnection, TlsParameters},
        extension::ClientId,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    args::HostName,
    catalogue::net::{lookup, sees},
    error::{Code, ToolError},
    host::Host,
};

/// Where the configuration lies: for root alone.
const CONFIGURATION: &str = "/var/lib/aios/config/secrets/smtp.toml";

/// How long the server has for each answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// An address that mail can go to: `name@host`. What means something in a header, an SMTP command or a capability can't be
/// in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(String);

/// What protects the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Encryption {
    /// TLS from the first byte: port 465.
    #[default]
    Tls,
    /// TLS after the greeting, and nothing without it: port 587.
    Starttls,
    /// None: to a server on this device alone.
    None,
}

/// `smtp.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    server: HostName,
    port: NonZeroU16,
    #[serde(default)]
    encryption: Encryption,
    /// The sender of all mail.
    pub from: Recipient,
    user: Option<String>,
    password: Option<String>,
    /// Certificate of the server's authority, as PEM, in place of the public ones.
    authority: Option<String>,
}

/// What talking to the server takes.
pub fn access(access: Access) -> Access {
    sees(access).sees(CONFIGURATION).with(Privilege::ReadAll)
}

impl Server {
    /// Reads the configuration.
    pub fn read(host: &Host) -> Result<Server, ToolError> {
        let text = host.text(CONFIGURATION).map_err(|error| match error.code {
            Code::NotFound => {
                let text = format!(
                    "no mail server is configured: {CONFIGURATION} is missing (server, port, from, user, password)"
                );
                ToolError::new(Code::FailedPrecondition, text)
            }
            _ => error,
        })?;
        // The message of the error alone: its context would show a password.
        let wrong = |text: String| ToolError::new(Code::FailedPrecondition, format!("{CONFIGURATION}: {text}"));
        let server: Server = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        let local = server.server.as_str() == "localhost" || server.server.address().is_some_and(|a| a.is_loopback());
        if server.encryption == Encryption::None && !local {
            return Err(wrong("encryption = \"none\" is for a server on this device only".to_owned()));
        }
        if server.user.is_some() != server.password.is_some() {
            return Err(wrong("user and password need each other".to_owned()));
        }
        Ok(server)
    }

    /// Connects and logs in. Says whether it did log in.
    pub fn connect(&self, host: &Host) -> Result<(SmtpConnection, bool), ToolError> {
        let tls = (self.encryption != Encryption::None).then(|| self.tls()).transpose()?;
        let wrapper = tls.as_ref().filter(|_| self.encryption == Encryption::Tls);
        let addresses: Vec<SocketAddr> =
            lookup(host, &self.server)?.into_iter().map(|address| SocketAddr::new(address, self.port.get())).collect();
        let name = ClientId::default();
        let mut connection = SmtpConnection::connect(&addresses[..], Some(PATIENCE), &name, wrapper, None)
            .map_err(|error| self.failed(&error))?;
        if let Some(tls) = tls.as_ref().filter(|_| self.encryption == Encryption::Starttls) {
            connection.starttls(tls, &name).map_err(|error| self.failed(&error))?;
        }
        let (Some(user), Some(password)) = (&self.user, &self.password) else { return Ok((connection, false)) };
        let credentials = Credentials::new(user.clone(), password.clone());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).map_err(|error| {
            let ToolError { code, message } = self.failed(&error);
            ToolError::new(
                if error.is_permanent() { Code::PermissionDenied } else { code },
                format!("logging in failed: {message}"),
            )
        })?;
        Ok((connection, true))
    }

    fn tls(&self) -> Result<TlsParameters, ToolError> {
        let wrong = |error: Error| {
            ToolError::new(Code::FailedPrecondition, format!("{CONFIGURATION}: authority: {}", whole(&error)))
        };
        let mut builder = TlsParameters::builder(self.server.to_string());
        if let Some(authority) = &self.authority {
            let certificate = Certificate::from_pem(authority.as_bytes()).map_err(wrong)?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        builder.build_rustls().map_err(wrong)
    }

    /// What the server, or the way to it, said.
    pub fn failed(&self, error: &Error) -> ToolError {
        let code = match error {
            _ if error.is_timeout() => Code::TimedOut,
            _ if error.is_permanent() => Code::Failed,
            _ if error.is_tls() || error.is_client() => Code::FailedPrecondition,
            _ => Code::Unavailable,
        };
        ToolError::new(code, format!("{}:{}: {}", self.server, self.port, whole(error)))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server, self.port)
    }
}

/// An error with its causes, each once.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Recipient {
    /// As lettre has it.
    pub fn address(&self) -> Address {
        self.0.parse().expect("invariant: checked when it was made")
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Recipient {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-' | b'=');
        let parsed = text.split_once('@').and_then(|(user, host)| {
            let host = host.parse::<HostName>().ok().filter(|host| host.address().is_none())?;
            let user_is_right = (1..=64).contains(&user.len()) && user.bytes().all(allowed) && !user.starts_with('-');
            let address = format!("{user}@{host}");
            (user_is_right && address.parse::<Address>().is_ok()).then_some(address)
        });
        parsed.map(Recipient).ok_or_else(|| format!("{text:?} is no mail address"))
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> String {
        recipient.0
    }
}

impl JsonSchema for Recipient {
    fn schema_name() -> Cow<'static, str> {
        "Recipient".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._+=-]+@[A-Za-z0-9.-]+$", "maxLength": 320 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_nothing_that_means_something_elsewhere() {
        let read = |text: &str| Recipient::try_from(text.to_owned()).map(String::from);
        assert_eq!(read("Ops+box@Example.ORG").as_deref(), Ok("Ops+box@example.org"));
        for bad in [
            "",
            "a",
            "a@",
            "@b.org",
            "a@b.org\r\nRCPT TO:<c@d.org>",
            "a@b.org, c@d.org",
            "a b@c.org",
            "<a@b.org>",
            "*@b.org",
            "a@*",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@b@c.org",
            "ä@b.org",
            "-a@b.org",
            "a..b@c.org",
            "a:b@c.org",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
