//! `GET /v1/models` and `GET /v1/models/{id}`: what is loaded, and the model that makes embeddings.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde_json::{Value, json};

use super::{Api, error::ApiError};
use crate::registry::{DEFAULT, Registry, Resident, millis};

/// Lists the loaded models; the default one under its own id and as `default`.
pub async fn list(State(api): State<Api>) -> Json<Value> {
    let registry = &api.inference.registry;
    let mut models = Vec::new();
    for model in registry.resident() {
        if registry.is_default(&model.id) {
            models.push(object(DEFAULT, &model));
        }
        models.push(object(&model.id, &model));
    }
    models.extend(embedding(registry));
    Json(json!({"object": "list", "data": models}))
}

/// Describes one loaded model.
pub async fn get(State(api): State<Api>, path: Result<Path<String>, PathRejection>) -> Result<Json<Value>, ApiError> {
    let Path(id) = path.map_err(|_| ApiError::unknown_model(""))?;
    let registry = &api.inference.registry;
    if let Some(model) = registry.find(&id) {
        return Ok(Json(object(&id, &model)));
    }
    let embedding = registry.embedding_id().filter(|embedding| *embedding == id).and_then(|_| embedding(registry));
    embedding.map(Json).ok_or_else(|| ApiError::unknown_model(&id))
}

/// The model that makes embeddings, in memory or not: the first request brings it there.
fn embedding(registry: &Registry) -> Option<Value> {
    let id = registry.embedding_id()?;
    let (path, loaded) = registry.embedding_listed()?;
    let file = fs::metadata(path).ok()?;
    let mut model = json!({
        "id": id,
        "object": "model",
        "created": unix_time(file.modified().unwrap_or(UNIX_EPOCH)),
        "owned_by": "aios",
        "aios": {"id": id, "kind": "embedding", "loaded": loaded.is_some(), "size_bytes": file.len()},
    });
    if let Some(loaded) = loaded {
        model["aios"]["dimensions"] = loaded.dimensions().into();
        model["aios"]["context_length"] = loaded.longest().into();
        model["aios"]["load_ms"] = millis(loaded.load_time()).into();
    }
    Some(model)
}

fn object(id: &str, model: &Resident) -> Value {
    let info = model.engine.info();
    json!({
        "id": id,
        "object": "model",
        "created": unix_time(model.loaded_at()),
        "owned_by": "aios",
        "aios": {
            "id": model.id,
            "kind": "language",
            "loaded": true,
            "architecture": info.architecture,
            "arithmetic": info.arithmetic,
            "parameters": info.parameters,
            "context_length": info.context_length,
            "size_bytes": model.size_bytes,
            "load_ms": millis(model.load_time),
        },
    })
}

/// Seconds since 1970, as the API counts time. A clock before that reads as 0.
pub fn unix_time(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}
