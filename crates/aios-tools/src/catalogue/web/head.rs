//! `web.head`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::WebUrl,
    error::ToolError,
    host::Host,
    http::{self, Client, Reach},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Headers that are returned, and characters of each.
const HEADERS_MAX: usize = 40;
const VALUE_MAX: usize = 300;
/// Time for all of it.
const TIME_MAX: Duration = Duration::from_secs(15);

pub struct Head;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Address to ask about.
    url: WebUrl,
    /// Whether the server may be this device or in the local network; takes `web:local:<host>`.
    #[serde(default)]
    local: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Status of the answer: 200 is success, 404 not found.
    status: u16,
    /// Address that answered, after redirects on the same server.
    url: WebUrl,
    /// Headers of the answer, 40 at most, values cut to 300 characters.
    headers: Vec<Header>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Header {
    /// Name in small letters.
    name: String,
    /// Value.
    value: String,
}

impl Tool for Head {
    const SPEC: ToolSpec = ToolSpec {
        name: "web.head",
        description: "Asks a web server about an address (HEAD): whether it is there, its size and type. Takes 15 seconds \
                      at most.",
        examples: &[Example { goal: "is the site up", arguments: r#"{"url": "https://example.com/"}"# }],
        needs: &["web:fetch:{url}", "web:local:{url}"],
        timeout: Duration::from_secs(20),
        sinks: &["/url"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        http::access("fetch", &input.url, Reach::of(input.local))
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let (url, response) = Client::new(Reach::of(input.local), TIME_MAX).head(&input.url)?;
        let headers = response.headers().iter().take(HEADERS_MAX).map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            Header { name: name.as_str().to_owned(), value: value.chars().take(VALUE_MAX).collect() }
        });
        Ok(Output { status: response.status().as_u16(), url, headers: headers.collect() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{catalogue::fs::testing::call, http::testing::Server};

    #[test]
    fn headers_are_told_and_no_body_is_waited_for() {
        let server = Server::start(|_, to| {
            let _ = to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-A: b\r\n\r\n");
        });
        let head = call::<Head>(&Host::device(), json!({"url": server.url("/"), "local": true})).expect("head");
        assert_eq!(head["status"], 200);
        let headers = head["headers"].as_array().expect("headers");
        assert!(headers.contains(&json!({"name": "content-length", "value": "1000"})), "{head}");
        assert!(headers.contains(&json!({"name": "x-a", "value": "b"})), "{head}");
        let requests = server.requests.lock().expect("lock");
        assert!(requests[0].head.starts_with("HEAD / HTTP/1.1\r\n"), "{requests:?}");
    }
}
