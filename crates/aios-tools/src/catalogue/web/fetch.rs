//! `web.fetch`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::{Page, decode, is_text};
use crate::{
    access::Access,
    args::{Count, WebUrl},
    error::{Code, ToolError},
    host::Host,
    http::{self, Client, Reach},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Bytes of an answer that are read.
const BODY_MAX: u64 = 4 << 20;
/// Time for all of it.
const TIME_MAX: Duration = Duration::from_secs(25);

pub struct Fetch;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Address to fetch.
    url: WebUrl,
    /// Characters of the text to leave out at the beginning, to read on.
    #[serde(default)]
    offset: Count<0, 4_194_304, 0>,
    /// Characters of text at most.
    #[serde(default)]
    limit: Count<1, 100_000, 8000>,
    /// Whether HTML is returned as it is, instead of its text.
    #[serde(default)]
    raw: bool,
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
    /// Content type as the server states it, without parameters.
    content_type: String,
    /// Title of a page.
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    /// Text of the page, or the text as it was sent.
    text: String,
    /// Where to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
    /// Whether the answer was longer than the 4 MiB that are read.
    truncated: bool,
}

impl Tool for Fetch {
    const SPEC: ToolSpec = ToolSpec {
        name: "web.fetch",
        description: "Fetches a page or text from the web (GET, https or http) and returns its text, 8000 characters \
                      unless asked for more. A redirect to another server is reported, not followed. Takes 25 seconds \
                      at most.",
        examples: &[
            Example { goal: "read the page of the project", arguments: r#"{"url": "https://example.com/docs"}"# },
            Example {
                goal: "ask the meter in the local network",
                arguments: r#"{"url": "http://meter.lan/status.json", "local": true}"#,
            },
        ],
        needs: &["web:fetch:{url}", "web:local:{url}"],
        timeout: Duration::from_secs(30),
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
        let client = Client::new(Reach::of(input.local), TIME_MAX);
        let (url, response) = client.get(&input.url, "text/html, text/*, application/json, */*;q=0.1")?;
        let status = response.status().as_u16();
        let (content_type, whole_type) = http::content_type(&response);
        if !is_text(&content_type) {
            let text = format!("{url} is {content_type} and no text: web.download stores it in a file");
            return Err(ToolError::new(Code::InvalidArgument, text));
        }
        let (bytes, truncated) = http::read(&url, response.into_body(), BODY_MAX)?;
        let text = decode(&bytes, &whole_type);
        let is_page = !input.raw && matches!(content_type.as_str(), "text/html" | "application/xhtml+xml");
        let Page { title, text } = if is_page { Page::of(&text) } else { Page { title: String::new(), text } };
        let (text, next_offset) = part(&text, input.offset.get(), input.limit.get());
        let title = title.chars().take(200).collect();
        Ok(Output { status, url, content_type, title, text, next_offset, truncated })
    }
}

/// `limit` characters from `offset` on, and where to read on.
fn part(text: &str, offset: u64, limit: u64) -> (String, Option<u64>) {
    let mut rest = text.chars().skip(offset as usize);
    let part: String = rest.by_ref().take(limit as usize).collect();
    let more = rest.next().is_some();
    (part, more.then_some(offset + limit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        catalogue::fs::testing::call,
        http::testing::{Server, respond},
    };

    #[test]
    fn a_page_is_fetched_as_text_in_parts() {
        let server = Server::start(|request, to| match request.head.split(' ').nth(1).unwrap_or_default() {
            "/page" => respond(
                to,
                "200 OK",
                "Content-Type: Text/HTML; charset=utf-8\r\n",
                b"<title>T</title><p>hello</p>world",
            ),
            "/json" => respond(to, "404 Not Found", "Content-Type: application/json\r\n", b"{\"a\": 1}"),
            _ => respond(to, "200 OK", "Content-Type: image/png\r\n", b"\x89PNG"),
        });
        let host = Host::device();
        let page = json!({"url": server.url("/page"), "local": true, "limit": 7});
        let first = call::<Fetch>(&host, page).expect("fetch");
        let expected = json!({"status": 200, "url": server.url("/page"), "content_type": "text/html", "title": "T", "text": "hello\nw", "next_offset": 7, "truncated": false});
        assert_eq!(first, expected);
        let rest =
            call::<Fetch>(&host, json!({"url": server.url("/page"), "local": true, "offset": 7})).expect("fetch");
        assert_eq!((&rest["text"], rest.get("next_offset")), (&json!("orld"), None));
        let raw = call::<Fetch>(&host, json!({"url": server.url("/page"), "local": true, "raw": true})).expect("fetch");
        assert_eq!(raw["text"], "<title>T</title><p>hello</p>world");
        let answer = call::<Fetch>(&host, json!({"url": server.url("/json"), "local": true})).expect("fetch");
        assert_eq!((&answer["status"], &answer["text"]), (&json!(404), &json!("{\"a\": 1}")));
        let image = call::<Fetch>(&host, json!({"url": server.url("/image"), "local": true})).expect_err("no text");
        assert_eq!(image.code, Code::InvalidArgument);
        let local = call::<Fetch>(&host, json!({"url": server.url("/page")})).expect_err("not asked for");
        assert_eq!(local.code, Code::PermissionDenied);
    }

    #[test]
    fn a_server_without_a_public_address_takes_a_capability_of_its_own() {
        let needs = |arguments| Fetch::access(&serde_json::from_value(arguments).expect("arguments")).capabilities;
        assert_eq!(needs(json!({"url": "https://example.com/a"})), ["web:fetch:example.com"]);
        let local = json!({"url": "http://127.0.0.1:8080/", "local": true});
        assert_eq!(needs(local), ["web:fetch:127.0.0.1:8080", "web:local:127.0.0.1:8080"]);
    }
}
