//! The API's error objects: `{"error": {"message", "type", "param", "code"}}`.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    embedding::EmbedError,
    inference::{FailedRun, Refusal},
};

/// An answer that is not the one asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    /// Class of error, as the API names it; follows from the status.
    kind: &'static str,
    /// Which error; clients branch on it.
    code: Option<&'static str>,
    /// The request field at fault.
    param: Option<String>,
    message: String,
}

/// Seconds after which a refused client may try again. A short answer takes about so long on a small machine.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    fn new(status: StatusCode, code: Option<&'static str>, param: Option<String>, message: String) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        ApiError { status, kind, code, param, message }
    }

    /// 400: the field `param` can't be used as it is.
    pub fn invalid(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, Some(code), Some(param.into()), message.into())
    }

    /// 400: the body is not JSON, or not an object.
    pub fn malformed(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, Some("invalid_json"), None, message.into())
    }

    /// 401: the token is missing or another one.
    pub fn unauthorized(message: &str) -> Self {
        ApiError::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), None, message.into())
    }

    /// 403: a request that a web page may have caused.
    pub fn forbidden(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::FORBIDDEN, Some("forbidden_host"), None, message.into())
    }

    /// 404: no such route.
    pub fn unknown_route(method: &str, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {path}. The routes are listed in docs/api.md.");
        ApiError::new(StatusCode::NOT_FOUND, Some("unknown_url"), None, message)
    }

    /// 405: the route exists, and has other methods.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let message = format!("{method} is not allowed on {path}.");
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_allowed"), None, message)
    }

    /// 408: the body did not arrive.
    pub fn body_timeout(allowed: Duration) -> Self {
        let message = format!("The request body did not arrive within {} s.", allowed.as_secs_f32());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, Some("request_timeout"), None, message)
    }

    /// 413: the body is larger than the configuration allows.
    pub fn body_too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than {limit} bytes (runtime.http.max-body).");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, Some("request_too_large"), None, message)
    }

    /// 415: the body says that it is something other than JSON.
    pub fn not_json() -> Self {
        let message = "Send the request body as JSON, with the header Content-Type: application/json.".into();
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("unsupported_media_type"), None, message)
    }

    /// 404: no loaded model has this id.
    pub fn unknown_model(model: &str) -> Self {
        let message = format!("The model '{model}' does not exist or is not loaded. GET /v1/models lists what is.");
        ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), Some("model".into()), message)
    }

    /// The object as it is sent, in a body or as an event of a stream.
    pub fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let bad = |code, param: &str| {
            ApiError::new(StatusCode::BAD_REQUEST, Some(code), Some(param.to_owned()), message.clone())
        };
        match &refusal {
            Refusal::UnknownModel { model } => ApiError::unknown_model(model),
            Refusal::ContextExceeded { param, .. } => bad("context_length_exceeded", param),
            Refusal::Form { param, .. } => bad("invalid_schema", param),
            Refusal::Template { .. } => bad("invalid_messages", "messages"),
            Refusal::EmptyPrompt { param } => bad("empty_prompt", param),
            Refusal::NoMemory { .. } => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Some("insufficient_memory"),
                Some("model".into()),
                message,
            ),
            Refusal::NotLoaded { .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, Some("model_failed"), Some("model".into()), message)
            }
            Refusal::QueueFull => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"), None, message)
            }
            Refusal::ShuttingDown => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Some("shutting_down"), None, message)
            }
            Refusal::Internal { .. } => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, None, None, message),
        }
    }
}

impl From<FailedRun> for ApiError {
    fn from(failed: FailedRun) -> Self {
        let message = failed.to_string();
        match failed {
            FailedRun::Cancelled => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Some("shutting_down"), None, message)
            }
            FailedRun::SlowReceiver(_) => {
                ApiError::new(StatusCode::REQUEST_TIMEOUT, Some("client_too_slow"), None, message)
            }
            FailedRun::Form(_) => ApiError::new(StatusCode::BAD_REQUEST, Some("invalid_schema"), None, message),
            FailedRun::Engine(_) | FailedRun::Panicked => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, Some("model_failed"), None, message)
            }
        }
    }
}

impl From<EmbedError> for ApiError {
    fn from(error: EmbedError) -> Self {
        let message = error.to_string();
        match error {
            EmbedError::UnknownModel { .. } | EmbedError::NoModel | EmbedError::Missing(_) => {
                ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), Some("model".into()), message)
            }
            EmbedError::NoMemory(_) => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Some("insufficient_memory"),
                Some("model".into()),
                message,
            ),
            EmbedError::UnknownToken { input, .. } => {
                ApiError::invalid(format!("input[{input}]"), "invalid_value", message)
            }
            EmbedError::Dimensions { .. } => ApiError::invalid("dimensions", "unsupported_parameter", message),
            EmbedError::QueueFull => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"), None, message)
            }
            EmbedError::Cancelled => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Some("shutting_down"), None, message)
            }
            EmbedError::Load(_) | EmbedError::Failed(_) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, Some("model_failed"), None, message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            // The rest of the body is still on its way; this connection can't carry another request.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
