//! `web.post`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page::{decode, is_text};
use crate::{
    access::Access,
    args::{Count, WebUrl},
    error::{Code, ToolError},
    host::Host,
    http::{self, Client, Reach},
    tool::{Example, Origin, Risk, Tool, ToolSpec},
};

/// Longest body that is sent, as JSON.
const SENT_MAX: usize = 256 << 10;
/// Longest token.
const TOKEN_MAX: usize = 4096;
/// Time for all of it.
const TIME_MAX: Duration = Duration::from_secs(25);

pub struct Post;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Address to send to.
    url: WebUrl,
    /// JSON object to send, 256 KiB at most.
    body: Map<String, Value>,
    /// Token to send with it (`Authorization: Bearer`), for `https` only.
    #[serde(default)]
    token: Option<String>,
    /// Bytes of the answer at most.
    #[serde(default)]
    limit: Count<1, 100_000, 8000>,
    /// Whether the server may be this device or in the local network; takes `web:local:<host>`.
    #[serde(default)]
    local: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Status of the answer: 200 to 299 is success; 300 to 399 names another address, to which nothing was sent.
    status: u16,
    /// Content type as the server states it, without parameters.
    content_type: String,
    /// The answer's text; empty where it is no text.
    text: String,
    /// Whether the answer was longer.
    truncated: bool,
}

impl Tool for Post {
    const SPEC: ToolSpec = ToolSpec {
        name: "web.post",
        description: "Sends a JSON object to a web server (POST) and returns the answer's text. Redirects are not \
                      followed. Takes 25 seconds at most.",
        examples: &[Example {
            goal: "report that the pump stopped",
            arguments: r#"{"url": "https://hooks.example.com/pump", "body": {"state": "stopped"}}"#,
        }],
        needs: &["web:post:{url}", "web:local:{url}"],
        risk: Risk::High,
        idempotent: false,
        timeout: Duration::from_secs(30),
        sinks: &["/url", "/body"],
        secrets: &["/arguments/token"],
        origin: Origin::Network,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        http::access("post", &input.url, Reach::of(input.local))
    }

    fn run(input: Input, _: &Host) -> Result<Output, ToolError> {
        let refused = |code, text: String| Err(ToolError::new(code, text));
        let body = Value::Object(input.body).to_string();
        if body.len() > SENT_MAX {
            return refused(Code::TooLarge, format!("the body has {} bytes, {SENT_MAX} is the most", body.len()));
        }
        let authorization = match &input.token {
            Some(_) if !input.url.as_str().starts_with("https:") => {
                return refused(Code::InvalidArgument, "a token is sent over https only".to_owned());
            }
            Some(token) if token.len() > TOKEN_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return refused(
                    Code::InvalidArgument,
                    format!("a token has up to {TOKEN_MAX} visible ASCII characters"),
                );
            }
            Some(token) => Some(format!("Bearer {token}")),
            None => None,
        };
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let client = Client::new(Reach::of(input.local), TIME_MAX);
        let response = client.post(&input.url, &headers, body.as_bytes())?;
        let status = response.status().as_u16();
        let (content_type, whole_type) = http::content_type(&response);
        if !is_text(&content_type) {
            return Ok(Output { status, content_type, text: String::new(), truncated: true });
        }
        let (bytes, truncated) = http::read(&input.url, response.into_body(), input.limit.get())?;
        Ok(Output { status, content_type, text: decode(&bytes, &whole_type), truncated })
    }
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
    fn an_object_is_sent_once() {
        let other = Server::start(|_, to| respond(to, "200 OK", "", b""));
        let away = format!("Location: {}\r\n", other.url("/"));
        let server = Server::start(move |request, to| match request.head.split(' ').nth(1).unwrap_or_default() {
            "/away" => respond(to, "307 Temporary Redirect", &away, b""),
            _ => respond(to, "201 Created", "Content-Type: application/json\r\n", b"{\"id\": 1}"),
        });
        let post = |path: &str, limit: u64| {
            let body = json!({"a": [1, "ü"]});
            call::<Post>(&Host::device(), json!({"url": server.url(path), "local": true, "body": body, "limit": limit}))
        };
        let answer = post("/", 5).expect("post");
        let expected = json!({"status": 201, "content_type": "application/json", "text": "{\"id\"", "truncated": true});
        assert_eq!(answer, expected);
        assert_eq!(post("/away", 5).expect("post")["status"], 307);
        assert!(other.requests.lock().expect("lock").is_empty());
        let requests = server.requests.lock().expect("lock");
        assert!(requests[0].head.to_lowercase().contains("content-type: application/json"), "{requests:?}");
        assert_eq!((requests.len(), requests[0].body.as_str()), (2, r#"{"a":[1,"ü"]}"#));
    }

    #[test]
    fn tokens_go_over_tls_only_and_break_no_header() {
        for (url, token) in
            [("http://example.com/", "a"), ("https://example.com/", "a\r\nX: y"), ("https://example.com/", "ä")]
        {
            let arguments = json!({"url": url, "body": {}, "token": token});
            let error = call::<Post>(&Host::device(), arguments).expect_err(url);
            assert_eq!(error.code, Code::InvalidArgument, "{url} {token:?}");
        }
        let large = json!({"url": "https://example.com/", "body": {"a": "a".repeat(SENT_MAX)}});
        assert_eq!(call::<Post>(&Host::device(), large).expect_err("large").code, Code::TooLarge);
    }
}
