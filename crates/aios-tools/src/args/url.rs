//! Addresses of the web.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use ureq::http::Uri;

/// Longest address in bytes.
const LENGTH_MAX: usize = 2048;

/// An `https` or `http` address with a host in small letters, without a user, a password or a fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebUrl {
    text: String,
    secure: bool,
    host: String,
    port: u16,
}

impl WebUrl {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What a capability names: `host` of `https` at its usual port, else `host:port`. So plain `http` takes a
    /// capability for `host:80`.
    pub fn resource(&self) -> String {
        if self.secure && self.port == 443 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether both are of one server: scheme, host and port are equal.
    pub fn same_server(&self, other: &WebUrl) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Where `location`, as a server states it, leads from here.
    pub fn join(&self, location: &str) -> Result<WebUrl, String> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.secure { "https" } else { "http" };
        let start = self.text.find("://").map_or(0, |at| at + 3);
        let path = self.text[start..].find('/').map_or(self.text.len(), |at| start + at);
        let url = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{}{location}", &self.text[..path])
        } else if location.contains("://") {
            location.to_owned()
        } else {
            let base = self.text.split('?').next().unwrap_or_default();
            let folder = base.rfind('/').filter(|end| *end >= path).map_or("", |end| &base[path..end]);
            format!("{}{folder}/{location}", &self.text[..path])
        };
        WebUrl::try_from(url)
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !label.starts_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

impl TryFrom<String> for WebUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("the address is longer than {LENGTH_MAX} bytes"));
        }
        let refused = |why: &str| Err(format!("the address {text:?} {why}"));
        if text.contains('#') {
            return refused("has a fragment (#), which no server is told: leave it out");
        }
        let Ok(uri) = text.parse::<Uri>() else { return refused("is none") };
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return refused("must begin with https:// or http://"),
        };
        let Some(authority) = uri.authority() else { return refused("has no host") };
        if authority.as_str().contains('@') {
            return refused("must not hold a user or a password");
        }
        let host = authority.host().to_ascii_lowercase();
        if !is_host(&host) {
            return refused("has a host that is neither a name nor an address");
        }
        let port = match (authority.port_u16(), authority.as_str().len() > authority.host().len()) {
            (None, false) => {
                if secure {
                    443
                } else {
                    80
                }
            }
            (Some(port @ 1..), _) => port,
            _ => return refused("has a port that is none"),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let text =
            format!("{}://{}{path}", if secure { "https" } else { "http" }, authority.as_str().to_ascii_lowercase());
        Ok(WebUrl { text, secure, host, port })
    }
}

impl From<WebUrl> for String {
    fn from(url: WebUrl) -> String {
        url.text
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for WebUrl {
    fn schema_name() -> Cow<'static, str> {
        "WebUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^https?://", "maxLength": LENGTH_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> WebUrl {
        WebUrl::try_from(text.to_owned()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_address_names_one_server() {
        for (text, resource) in [
            ("https://Example.com", "example.com"),
            ("https://example.com:443/a", "example.com"),
            ("http://example.com/a?b=c", "example.com:80"),
            ("https://a-b.c_d:8443/", "a-b.c_d:8443"),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("http://127.0.0.1/", "127.0.0.1:80"),
        ] {
            assert_eq!(url(text).resource(), resource);
        }
        assert_eq!(url("https://EXAMPLE.com/Path").as_str(), "https://example.com/Path");
        for bad in [
            "",
            "example.com",
            "/a",
            "ftp://a/",
            "file:///etc/passwd",
            "https://",
            "https://user@host/",
            "https://good.com@evil.com/",
            "https://a b/",
            "https://a*/",
            "https://a/#b",
            "https://a:0/",
            "https://a:/",
            "https://a:99999/",
            "https://a..b/",
            "https://a./",
            "https://ä.de/",
            "https://-a/",
            "https://[a]/",
            "https://a\\@b/",
        ] {
            assert!(WebUrl::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_redirect_leads_on_from_where_it_was_found() {
        let from = url("https://a.com:8443/x/y?q=/z");
        for (location, to) in [
            ("/b", "https://a.com:8443/b"),
            ("b", "https://a.com:8443/x/b"),
            ("//b.com/c", "https://b.com/c"),
            ("http://a.com/", "http://a.com/"),
            ("/b#part", "https://a.com:8443/b"),
        ] {
            assert_eq!(from.join(location).expect(location).as_str(), to);
        }
        assert_eq!(url("https://a.com").join("b").expect("join").as_str(), "https://a.com/b");
        assert!(!from.same_server(&url("https://a.com/")) && from.same_server(&url("https://a.com:8443/")));
        for bad in ["file:///etc/passwd", "https://user@b/", "javascript://alert"] {
            assert!(from.join(bad).is_err(), "{bad}");
        }
    }
}
