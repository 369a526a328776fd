//! What is checked of a request before the protocol is spoken: who asks, and whether it is JSON.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Authenticate, BODY_MAX};

/// Time for a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// JSON-RPC: not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: not a request.
const INVALID_REQUEST: i32 = -32600;

/// Lets a request through that carries a good token and a body that is JSON, with its [`crate::Conversation`] beside it.
pub async fn check(State(authenticate): State<Arc<dyn Authenticate>>, request: Request, next: Next) -> Response {
    let token = match bearer(request.headers()) {
        Ok(token) => token.to_owned(),
        Err(reason) => return unauthorized(None, reason),
    };
    let conversation = match authenticate.conversation(&token) {
        Ok(conversation) => conversation,
        Err(reason) => {
            tracing::warn!(reason, "client refused: its token is not good");
            return unauthorized(Some("invalid_token"), &reason);
        }
    };
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(conversation);
    if parts.method != Method::POST {
        return next.run(Request::from_parts(parts, body)).await;
    }
    match timeout(BODY_TIMEOUT, to_bytes(body, BODY_MAX)).await {
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST, "the body did not arrive in time"),
        Ok(Err(_)) => {
            let text = format!("the body did not arrive whole, or is longer than {BODY_MAX} bytes");
            refused(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, &text)
        }
        Ok(Ok(bytes)) => match serde_json::from_slice::<Value>(&bytes) {
            Err(error) => refused(StatusCode::BAD_REQUEST, PARSE_ERROR, &format!("the body is no JSON: {error}")),
            Ok(Value::Object(_)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
            Ok(_) => refused(StatusCode::BAD_REQUEST, INVALID_REQUEST, "the body is no JSON-RPC message"),
        },
    }
}

/// The token that the request carries.
fn bearer(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or("send a token of this device in the header Authorization: Bearer TOKEN")?;
    if values.next().is_some() {
        return Err("the request has two headers Authorization");
    }
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err("the header Authorization is not Bearer TOKEN"),
    }
}

/// As RFC 6750 has it: a request without a token is told the scheme alone.
fn unauthorized(error: Option<&str>, reason: &str) -> Response {
    let challenge = match error {
        Some(error) => format!("Bearer realm=\"aios\", error=\"{error}\""),
        None => "Bearer realm=\"aios\"".to_owned(),
    };
    let body = Json(json!({ "error": error.unwrap_or("unauthorized"), "error_description": reason }));
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], body).into_response()
}

fn refused(status: StatusCode, code: i32, message: &str) -> Response {
    let error = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } });
    (status, Json(error)).into_response()
}
