//! The OpenAI-compatible API over HTTP. docs/api.md is its public description.

mod answer;
mod body;
mod chat;
mod completions;
mod embeddings;
mod error;
mod fields;
mod form;
mod guard;
mod messages;
mod models;
mod sampling;
mod tools;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use self::error::ApiError;
use crate::inference::Inference;

pub use self::{
    body::BodyLimits,
    guard::{Token, TokenError},
};

/// Header by which an answer and the log are brought together; the official clients show it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every handler sees.
#[derive(Clone)]
struct Api {
    inference: Arc<Inference>,
    body: BodyLimits,
}

/// Name of one request.
#[derive(Clone)]
struct RequestId(String);

/// The API's routes.
pub fn router(inference: Arc<Inference>, token: Option<Token>, body: BodyLimits) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::create))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(token, guard::guard))
        .layer(from_fn(name_request))
        .with_state(Api { inference, body })
}

/// Answers once requests are served; before that, connections wait.
async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn unknown_route(request: Request) -> ApiError {
    ApiError::unknown_route(request.method().as_str(), request.uri().path())
}

async fn method_not_allowed(request: Request) -> ApiError {
    ApiError::method_not_allowed(request.method().as_str(), request.uri().path())
}

async fn name_request(mut request: Request, next: Next) -> Response {
    let id = format!("{:032x}", rand::random::<u128>());
    let header = HeaderValue::from_str(&id).expect("invariant: hexadecimal digits are a header value");
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, header);
    response
}

/// A request's name, and its body within the limits.
async fn receive(State(api): &State<Api>, request: Request) -> Result<(String, fields::Fields), ApiError> {
    let RequestId(id) = request.extensions().get().cloned().expect("invariant: every route is behind name_request");
    let body = body::receive(request, api.body).await?;
    Ok((id, fields::Fields::parse(&body)?))
}
