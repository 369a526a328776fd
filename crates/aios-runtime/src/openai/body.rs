//! Receiving a request body, within limits of size and time.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, header},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::error::ApiError;

/// An oversized body is read on up to this many times the limit, since a client that is still writing when the
/// connection closes sees a reset instead of the answer.
const DISCARD_FACTOR: usize = 16;

/// Longest time that is spent on a body whose answer is already known.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Size in bytes.
    pub size: usize,
    /// Time. A client that sends slower than this holds a connection for nothing.
    pub time: Duration,
}

/// Receives a JSON body within `limits`.
pub async fn receive(request: Request, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let BodyLimits { size: limit, time } = limits;
    let (parts, body) = request.into_parts();
    if !says_json(&parts.headers) {
        return Err(ApiError::not_json());
    }
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        // A client that waits for "100 Continue" has sent nothing yet, and need not.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body.into_data_stream(), limit).await;
        }
        return Err(ApiError::body_too_large(limit));
    }
    match timeout(time, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::body_timeout(time)),
    }
}

/// Whether the content type is JSON. A web page can send other types across origins without asking; this one it can't.
fn says_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut received = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ApiError::malformed(format!("The body broke off: {error}.")))?;
        if received.len() + chunk.len() > limit {
            discard(stream, limit).await;
            return Err(ApiError::body_too_large(limit));
        }
        received.extend_from_slice(&chunk);
    }
    Ok(received.into())
}

async fn discard(mut stream: axum::body::BodyDataStream, limit: usize) {
    let rest = async {
        let mut left = limit.saturating_mul(DISCARD_FACTOR);
        while let Some(Ok(chunk)) = stream.next().await {
            match left.checked_sub(chunk.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Whether it ended or not, the answer is the same.
    let _ = timeout(DISCARD_TIMEOUT, rest).await;
}
