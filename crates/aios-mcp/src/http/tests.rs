use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::testing::{Waiting, conversation};

/// Knows one token.
struct One;

impl Authenticate for One {
    fn conversation(&self, token: &str) -> Result<Conversation, String> {
        match token {
            "good" => Ok(conversation(Arc::new(Waiting::default()))),
            _ => Err("the token expired".into()),
        }
    }
}

fn request() -> axum::http::request::Builder {
    Request::post(PATH)
        .header(header::HOST, "127.0.0.1:50083")
        .header(header::AUTHORIZATION, "Bearer good")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
}

async fn answer(request: Request<Body>) -> Response {
    let config = config("127.0.0.1:50083".parse().unwrap(), vec!["pump-2.local".into()]);
    router(config, Arc::new(One)).oneshot(request).await.unwrap()
}

fn list() -> Body {
    Body::from(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string())
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), BODY_MAX).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_request_needs_no_session_but_a_good_token() {
    let listed = answer(request().body(list()).unwrap()).await;
    assert_eq!(listed.status(), StatusCode::OK);
    assert!(listed.headers().get("mcp-session-id").is_none());
    assert_eq!(json(listed).await["result"]["tools"][0]["name"], "fs_write");
    for (token, challenge) in [
        (None, "Bearer realm=\"aios\""),
        (Some("Bearer bad"), "Bearer realm=\"aios\", error=\"invalid_token\""),
        (Some("Basic good"), "Bearer realm=\"aios\""),
        (Some("good"), "Bearer realm=\"aios\""),
    ] {
        for method in ["POST", "GET", "DELETE"] {
            let mut request = request().method(method).body(list()).unwrap();
            request.headers_mut().remove(header::AUTHORIZATION);
            if let Some(token) = token {
                request.headers_mut().insert(header::AUTHORIZATION, token.parse().unwrap());
            }
            let refused = answer(request).await;
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{token:?}");
            assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], challenge, "{token:?}");
        }
    }
}

#[tokio::test]
async fn a_token_that_stands_twice_is_none() {
    let twice = request().header(header::AUTHORIZATION, "Bearer good").body(list()).unwrap();
    assert_eq!(answer(twice).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_a_web_page_can_send_does_not_get_through() {
    let hosts = [
        ("localhost:50083", StatusCode::OK),
        ("[::1]:50083", StatusCode::OK),
        ("pump-2.local", StatusCode::OK),
        ("rebound.example:50083", StatusCode::FORBIDDEN),
        ("localhost.rebound.example", StatusCode::FORBIDDEN),
    ];
    for (host, status) in hosts {
        let mut request = request().body(list()).unwrap();
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        assert_eq!(answer(request).await.status(), status, "{host}");
    }
    for origin in ["https://rebound.example", "http://localhost:50083", "null"] {
        let request = request().header(header::ORIGIN, origin).body(list()).unwrap();
        assert_eq!(answer(request).await.status(), StatusCode::FORBIDDEN, "{origin}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_an_error_of_the_protocol() {
    for (body, status, code) in [
        ("{\"jsonrpc\":", StatusCode::BAD_REQUEST, -32700),
        ("[]", StatusCode::BAD_REQUEST, -32600),
        ("\"text\"", StatusCode::BAD_REQUEST, -32600),
    ] {
        let refused = answer(request().body(Body::from(body)).unwrap()).await;
        assert_eq!(refused.status(), status, "{body}");
        assert_eq!(json(refused).await["error"]["code"], code, "{body}");
    }
    let long = format!("\"{}\"", "x".repeat(BODY_MAX));
    let refused = answer(request().body(Body::from(long)).unwrap()).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
