//! Addresses of the network.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An address with the length of its network's prefix: `192.0.2.7/24`, `2001:db8::7/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// Address.
    pub address: IpAddr,
    /// Bits of the network's part: up to 32 of IPv4, up to 128 of IPv6.
    pub length: u8,
}

/// A network: a [`Prefix`] whose bits after the prefix are zero. `0.0.0.0/0` and `::/0` are everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(Prefix);

/// A host: its name in the DNS, or its address. Small letters; so a capability can be compared with it as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no address with a prefix length, for example 192.0.2.7/24 or 2001:db8::7/64");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u8 = length.parse().map_err(|_| wrong())?;
        if !digits || length > bits(address) {
            return Err(wrong());
        }
        Ok(Prefix { address, length })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Network {
    /// The network that `prefix` lies in.
    pub fn of(prefix: Prefix) -> Self {
        let host_bits = bits(prefix.address) - prefix.length;
        let address = match prefix.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(u32::from(host_bits)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(u32::from(host_bits)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Network(Prefix { address, ..prefix })
    }

    /// Its first address, and the length of its prefix.
    pub fn prefix(&self) -> Prefix {
        self.0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix: Prefix = text.parse()?;
        let network = Network::of(prefix);
        if network.0 != prefix {
            return Err(format!("{text:?} is a host in a network: the network is {network}"));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl HostName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(HostName(address.to_string()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        // What ends in a number is an address to some, and none to others (`127.1`, `0x7f.1`).
        let last_is_word =
            name.rsplit('.').next().is_some_and(|label| label.starts_with(|c: char| c.is_ascii_alphabetic()));
        if name.len() > 253 || !last_is_word || !name.split('.').all(is_label) {
            return Err(format!("{text:?} is neither a host's name nor an address"));
        }
        Ok(HostName(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !label.starts_with('-') && !label.ends_with('-')
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

macro_rules! text {
    ($type:ident, $length:expr, $pattern:expr) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": $length })
            }
        }
    };
}

text!(Prefix, 43, "^[0-9A-Fa-f.:]+/[0-9]{1,3}$");
text!(Network, 43, "^[0-9A-Fa-f.:]+/[0-9]{1,3}$");
text!(HostName, 254, "^[0-9A-Za-z._:-]+$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_networks_have_one_form() {
        for good in ["192.0.2.7/24", "0.0.0.0/0", "2001:db8::7/64", "::1/128"] {
            assert_eq!(good.parse::<Prefix>().map(String::from).as_deref(), Ok(good));
        }
        for bad in
            ["", "192.0.2.7", "192.0.2.7/", "192.0.2.7/33", "192.0.2.7/+8", "::/129", "a/8", "1/8", "192.0.2.7/-1"]
        {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
        for good in ["192.0.2.0/24", "0.0.0.0/0", "::/0", "2001:db8::/33", "10.1.2.3/32", "::1/128"] {
            assert_eq!(good.parse::<Network>().map(String::from).as_deref(), Ok(good));
        }
        let error = "192.0.2.7/24".parse::<Network>().expect_err("a host");
        assert!(error.ends_with("the network is 192.0.2.0/24"), "{error}");
        assert!("2001:db8::1/64".parse::<Network>().is_err());
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_that_is_read_in_two_ways() {
        for (text, host) in [
            ("Example.ORG.", "example.org"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("_sip._tcp.example.org", "_sip._tcp.example.org"),
        ] {
            assert_eq!(text.parse::<HostName>().map(String::from).as_deref(), Ok(host));
        }
        let long = format!("{}.org", "a".repeat(64));
        for bad in ["", ".", "a..b", "-a.org", "a b", "a/b", "a:80", "127.1", "0x7f.0x1", "1", "ä.org", "a\n", &long] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }
}
