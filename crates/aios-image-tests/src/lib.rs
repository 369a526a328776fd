//! What the tests of built images share. The tests themselves are in `tests/`; they need the images that `make` builds.

use std::path::{Path, PathBuf};

pub mod install;
pub mod namespace;
pub mod outputs;
pub mod qemu;

/// The build's output folder: `O`, as for `make`, or `output/` of this tree.
pub fn output() -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    tree.join(std::env::var_os("O").unwrap_or_else(|| "output".into()))
}
