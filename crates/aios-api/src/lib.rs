//! Wire types, clients and servers of the aiOS services, one module per protobuf package.
//!
//! The code under `src/generated` is made from `proto/` and committed, so that a build needs no protobuf compiler. After
//! an edit to a `.proto` file run `AIOS_REGENERATE=1 cargo test -p aios-api`; without the variable the same test fails on
//! any difference.

/// `aios.memory`: what this device remembers.
pub mod memory {
    /// Version 1. The errors of each call are in `proto/aios/memory/v1/memory.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/aios.memory.v1.rs");

        /// The package's `google.protobuf.FileDescriptorSet`, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/aios.memory.v1.descriptors.bin");
    }
}

/// `aios.runtime`: models and inference on them.
pub mod runtime {
    /// Version 1. The errors of each call are in `proto/aios/runtime/v1/runtime.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/aios.runtime.v1.rs");

        /// The package's `google.protobuf.FileDescriptorSet`, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/aios.runtime.v1.descriptors.bin");
    }
}

/// `aios.tools`: the tools of this device, and calls of them.
pub mod tools {
    /// Version 1. The errors of each call are in `proto/aios/tools/v1/tools.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!("generated/aios.tools.v1.rs");

        /// The package's `google.protobuf.FileDescriptorSet`, for server reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/aios.tools.v1.descriptors.bin");
    }
}
