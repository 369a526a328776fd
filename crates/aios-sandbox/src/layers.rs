//! The layers of the sandbox by name, so that tests can show that each of them holds something back by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A layer of the sandbox. Only a build with the feature `mutation`, which is for tests, can leave one out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layer {
    /// Processes of its own.
    PidNamespace,
    /// Network of its own.
    NetworkNamespace,
    /// Host name of its own.
    UtsNamespace,
    /// A root with nothing in it but what is granted.
    Root,
    /// Read-only mounts where nothing is to be changed.
    ReadOnlyMounts,
    /// Rights on files, ports, abstract sockets and signals.
    Landlock,
    /// The list of system calls.
    Seccomp,
    /// All capabilities given up but the profile's.
    Capabilities,
    /// Nothing open but input, output and error.
    Descriptors,
    /// Limits of the process.
    ResourceLimits,
    /// A control group, through which all processes of a call are ended.
    ControlGroup,
}

/// The layers in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Layers {
    without: BTreeSet<Layer>,
}

impl Layers {
    /// All but these.
    #[cfg(feature = "mutation")]
    pub fn without(without: &BTreeSet<Layer>) -> Layers {
        Layers { without: without.clone() }
    }

    /// Whether the layer is in force.
    pub fn has(&self, layer: Layer) -> bool {
        // Also what arrives over a socket counts only in such a build.
        !(cfg!(feature = "mutation") && self.without.contains(&layer))
    }
}
