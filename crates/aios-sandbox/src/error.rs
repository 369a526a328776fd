//! Why a call was not run.

use std::{io, path::PathBuf};

/// Why a call was not run, or why nothing is known of how it ran.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or how it is set up, lacks a layer of the sandbox. The call is refused: nothing is run without.
    #[error("{feature} is missing on this machine ({reason}); tools are not run without it, see docs/sandbox.md")]
    Unsupported {
        /// The layer.
        feature: String,
        /// What was tried, and what the system said.
        reason: String,
    },
    /// The profile asks for something that can't be meant.
    #[error("profile: {field}: {reason}")]
    Profile {
        /// Field of [`Profile`](crate::Profile).
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A granted path can't be shown inside: it does not exist, or a symbolic link leads there. Nothing was run.
    #[error("{}: can't be shown in the sandbox: {source}", path.display())]
    Path {
        /// Path of the profile.
        path: PathBuf,
        /// What the system said; a symbolic link on the way is `ELOOP`.
        source: io::Error,
    },
    /// The child could not be confined. Nothing was run.
    #[error("sandbox: {stage}: {source}; nothing was run")]
    Setup {
        /// What was being done.
        stage: String,
        /// What the system said.
        source: io::Error,
    },
    /// The fork server can't be started.
    #[error("fork server: {what}: {source}")]
    Start {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The fork server ended while the call ran. The call's processes are gone, what they did is not known. The next
    /// call starts another server.
    #[error("the fork server ended ({how}) while the call ran; what the call has done is not known")]
    ServerDied {
        /// How it ended.
        how: String,
    },
    /// Pipes, memory for the input or the like can't be had.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Error {
        move |source| Error::Io { what, source }
    }
}
