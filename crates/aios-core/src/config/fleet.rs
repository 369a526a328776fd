//! `[fleet]`

use std::{path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Violation;
use crate::quantity::HumanDuration;

/// Port of MQTT over TLS.
const PORT_TLS: u16 = 8883;
/// Port of MQTT in the clear.
const PORT_PLAIN: u16 = 1883;

/// `[fleet]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fleet {
    /// The MQTT 5 broker. Without one, this device is in no fleet.
    pub broker: Option<Broker>,
    /// Name of this device in the fleet. Empty: `system.hostname`.
    pub device_id: String,
    /// File with the certificates of the authorities that the broker's may be from (PEM). Relative paths of this section
    /// are below the unit's credentials.
    pub ca_file: Option<PathBuf>,
    /// File with this device's certificate and those between it and the authority (PEM).
    pub certificate_file: Option<PathBuf>,
    /// File with the private key to it (PEM).
    pub key_file: Option<PathBuf>,
    /// A connection that was silent for so long is probed, and given up when there is no answer in as long again.
    pub keep_alive: HumanDuration,
}

/// Where a broker is: `mqtts://host:port`, or `mqtt://host:port` for one in a laboratory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A text that is no address of a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a broker: write \"mqtts://HOST\" or \"mqtts://HOST:PORT\"")]
pub struct BrokerError(String);

impl Default for Fleet {
    fn default() -> Self {
        Fleet {
            broker: None,
            device_id: String::new(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            keep_alive: HumanDuration(Duration::from_secs(60)),
        }
    }
}

impl Fleet {
    /// The first rule that the values break.
    pub(super) fn violation(&self) -> Option<Violation> {
        let broken = |key, reason: &str| Some(Violation { key, reason: reason.into() });
        if !self.device_id.is_empty() && !is_device_id(&self.device_id) {
            return broken(&["fleet", "device-id"], "use 1 to 64 letters, digits, '.', '_', ':' and '-'");
        }
        if !(5..=3600).contains(&self.keep_alive.0.as_secs()) {
            return broken(&["fleet", "keep-alive"], "use \"5s\" to \"1h\"");
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return broken(&["fleet", "certificate-file"], "goes with fleet.key-file: set both or neither");
        }
        let tls = self.broker.as_ref().is_some_and(|broker| broker.tls);
        if tls && self.ca_file.is_none() {
            return broken(&["fleet", "broker"], "set fleet.ca-file as well: who may vouch for the broker");
        }
        if self.broker.is_some() && !tls && (self.ca_file.is_some() || self.key_file.is_some()) {
            return broken(
                &["fleet", "broker"],
                "mqtt:// knows no certificates: write mqtts://, or leave their files out",
            );
        }
        None
    }
}

/// Whether `id` can be a device's name: it is a level of MQTT topics.
pub fn is_device_id(id: &str) -> bool {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    plain && (1..=64).contains(&id.len())
}

impl FromStr for Broker {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Broker, BrokerError> {
        let error = || BrokerError(text.chars().take(256).collect());
        let (tls, rest) = match (text.strip_prefix("mqtts://"), text.strip_prefix("mqtt://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(error()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(error)?) };
                (host, port)
            }
            Some(_) => return Err(error()),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let named = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(named) {
            return Err(error());
        }
        let default = if tls { PORT_TLS } else { PORT_PLAIN };
        let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| error()))?;
        if port == 0 {
            return Err(error());
        }
        Ok(Broker { tls, host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Broker { tls, host, port } = self;
        let scheme = if *tls { "mqtts" } else { "mqtt" };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

impl Serialize for Broker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Broker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_broker_has_a_scheme_a_host_and_perhaps_a_port() {
        for (text, written) in [
            ("mqtts://fleet.example.com", "mqtts://fleet.example.com:8883"),
            ("mqtt://10.0.0.1", "mqtt://10.0.0.1:1883"),
            ("mqtts://h:1/", "mqtts://h:1"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
            ("mqtts://[fd00::1]:9", "mqtts://[fd00::1]:9"),
        ] {
            let broker: Broker = text.parse().expect(text);
            assert_eq!(broker.to_string(), written);
            assert_eq!(written.parse(), Ok(broker));
        }
        for wrong in [
            "",
            "host:1",
            "http://h",
            "mqtts://",
            "mqtts://:1",
            "mqtts://h:0",
            "mqtts://h:65536",
            "mqtts://h:",
            "mqtts://a b",
            "mqtts://u@h",
            "mqtts://h/path",
            "mqtts://[::1",
            "mqtts://[h]:1",
            "mqtts://[::1]1",
            "mqtts://::1",
        ] {
            assert!(wrong.parse::<Broker>().is_err(), "{wrong:?}");
        }
    }
}
