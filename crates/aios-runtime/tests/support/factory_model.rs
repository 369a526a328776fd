//! The model that the image is built with.

use std::path::PathBuf;

const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../output/images/models/smollm2-135m-instruct/model.gguf");

/// Its file: `AIOS_TEST_MODEL`, or the one that the build fetched.
pub fn path() -> PathBuf {
    let path = std::env::var_os("AIOS_TEST_MODEL").map_or_else(|| PathBuf::from(BUILT), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: build the image once, or set AIOS_TEST_MODEL to a SmolLM2-135M-Instruct GGUF file",
        path.display()
    );
    path
}
