//! What the tests of built images share. The tests themselves are in `tests/`; they need the images that `make` builds.

pub mod namespace;
pub mod qemu;
