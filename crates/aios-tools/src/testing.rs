//! What tests of several namespaces share.

use std::thread;

use rustix::thread::UnshareFlags;
use serde_json::Value;

use crate::{
    error::ToolError,
    host::Host,
    tool::{Entry, Inverse, Tool},
};

/// Calls the tool `T` as the pipeline does: JSON in, JSON out.
pub fn call<T: Tool>(host: &Host, arguments: Value) -> Result<Value, ToolError> {
    Entry::of::<T>().run(&arguments, host)
}

/// What would undo a call of `T`.
pub fn inverse<T: Tool>(host: &Host, arguments: &Value) -> Result<Inverse, ToolError> {
    Entry::of::<T>().inverse(arguments, host)
}

/// Makes the call that an inverse names; `None` where there is nothing to undo.
pub fn undo(host: &Host, inverse: &Inverse) -> Option<Result<Value, ToolError>> {
    let Inverse::Call { tool, arguments } = inverse else { return None };
    let tool = crate::catalogue::find(tool).unwrap_or_else(|| panic!("{tool} does not exist"));
    Some(tool.run(arguments, host))
}

/// Runs `test` in a network namespace of its own, where nothing is up: it may change what it likes. Needs root.
pub fn apart<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    let body = || {
        // SAFETY: the flags hold no `FILES`, so that all threads still share one table of descriptors.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace needs root");
        test()
    };
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
