//! The models that the image is built with.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;

const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../output/images/models/smollm2-135m-instruct/model.gguf");

/// The file of the one that answers: `AIOS_TEST_MODEL`, or the one that the build fetched.
pub fn path() -> PathBuf {
    let path = std::env::var_os("AIOS_TEST_MODEL").map_or_else(|| PathBuf::from(BUILT), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: build the image once, or set AIOS_TEST_MODEL to a SmolLM2-135M-Instruct GGUF file",
        path.display()
    );
    path
}

/// The folder of the one that makes embeddings, beside it.
pub fn embeddings() -> PathBuf {
    let path = path();
    let folder = path.parent().and_then(|folder| folder.parent()).expect("a model has a folder of its own");
    let folder = folder.join("all-minilm-l6-v2");
    assert!(folder.is_dir(), "{} is missing: build the image once", folder.display());
    folder
}
