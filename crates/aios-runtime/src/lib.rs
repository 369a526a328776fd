//! The local model runtime: models from GGUF files, inference on them, and two ways to ask for it.
//!
//! The way of a request: [`openai`] or [`grpc`] (protocol) → [`scheduler`] (bounded queue, one worker per slot) →
//! [`generate`] (tokens, sampling, stop sequences) → [`engine`] (arithmetic).

pub mod bench;
pub mod engine;
pub mod generate;
pub mod gguf;
pub mod model;
pub mod sampling;
pub mod template;
pub mod tokenizer;
