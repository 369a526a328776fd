//! Models on disk: what is in a file, what is known about it, and whether it is what it was.
//!
//! A model is a folder `<id>` with `model.gguf`, its manifest `model.toml` and this device's signature of the manifest,
//! `model.toml.sig` (docs/formats/model.md). The command line puts models there ([`store`]), the runtime checks them
//! before it loads them ([`trust`]).

pub mod convert;
pub mod formats;
pub mod gguf;
pub mod keys;
pub mod manifest;
pub mod memory;
pub mod store;
pub mod trust;
