//! The local model runtime: models from GGUF files, inference on them, and two ways to ask for it.
//!
//! The way of a request: [`openai`] or [`grpc`] (protocol) → [`scheduler`] (bounded queue, one worker per slot) →
//! [`generate`] (tokens, sampling, stop sequences) → [`engine`] (arithmetic).

pub use aios_models::gguf;

pub mod bench;
pub mod constraint;
pub mod daemon;
pub mod embedding;
pub mod engine;
pub mod generate;
pub mod grpc;
pub mod inference;
pub mod kept;
pub mod model;
pub mod openai;
pub mod registry;
pub mod sampling;
pub mod scheduler;
pub mod server;
pub mod template;
pub mod tokenizer;
pub mod tools;
