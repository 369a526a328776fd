//! Why a tool could not do what it was asked for.

use std::{fmt::Display, io, path::Path};

use serde::{Deserialize, Serialize};

/// What kind of failure it is: what a caller can decide by. The names are part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The arguments can never work: a call with the same ones fails again.
    InvalidArgument,
    /// What the arguments name does not exist.
    NotFound,
    /// What should be made exists.
    AlreadyExists,
    /// The system, or the sandbox, does not let this tool do it.
    PermissionDenied,
    /// Something else must be done or be true first; the message says what.
    FailedPrecondition,
    /// A program, a driver or a piece of hardware that this needs is not on this device.
    NotInstalled,
    /// The kernel or the device can't do it.
    Unsupported,
    /// More than the tool's stated limit.
    TooLarge,
    /// No answer in time.
    TimedOut,
    /// The other side can't be reached, or ended the conversation.
    Unavailable,
    /// Anything else that went wrong on the way; the message says where.
    Failed,
}

/// A tool's failure. The text says what happened, where, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// Kind.
    pub code: Code,
    /// Whole sentence for people and models, without the tool's name.
    pub message: String,
}

impl ToolError {
    /// A failure of the kind `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ToolError { code, message: message.into() }
    }

    /// What the system said about `path`.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::of_io(path.display(), error)
    }

    /// What the system said about `what`: a path, an address, an interface.
    pub fn of_io(what: impl Display, error: &io::Error) -> Self {
        use io::ErrorKind::*;
        let code = match error.kind() {
            NotFound => Code::NotFound,
            AlreadyExists => Code::AlreadyExists,
            PermissionDenied | ReadOnlyFilesystem => Code::PermissionDenied,
            InvalidInput | InvalidFilename | NotADirectory | IsADirectory => Code::InvalidArgument,
            DirectoryNotEmpty | ResourceBusy | ExecutableFileBusy | CrossesDevices => Code::FailedPrecondition,
            Unsupported => Code::Unsupported,
            FileTooLarge | StorageFull | QuotaExceeded => Code::TooLarge,
            TimedOut => Code::TimedOut,
            ConnectionRefused | ConnectionReset | ConnectionAborted | NotConnected | HostUnreachable
            | NetworkUnreachable | NetworkDown | BrokenPipe | UnexpectedEof => Code::Unavailable,
            _ => Code::Failed,
        };
        ToolError { code, message: format!("{what}: {error}") }
    }
}
