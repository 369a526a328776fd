//! What one call touches: the capabilities that its caller must hold, and all that its sandbox shows it.

use std::path::{Path, PathBuf};

use aios_policy::{Capability, capability::CapabilityError};
use serde::{Deserialize, Serialize};

use crate::{args::AbsolutePath, facts::Fact};

/// What one call may touch. Whatever is not named here does not exist for it.
///
/// Made by [`crate::tool::Tool::access`] from the arguments alone, before anything runs. A path of the arguments is added
/// together with the capability that allows it, so that one can't be forgotten without the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Capabilities that the caller must hold, all of them: `namespace:action:resource`.
    pub capabilities: Vec<String>,
    /// Capabilities that the caller needs for all that is below a folder, each `namespace:action:folder`, literally.
    #[serde(default)]
    pub below: Vec<String>,
    /// Files and folders of the arguments, with all below, that can be read. No symbolic link on the way is followed.
    pub read: Vec<PathBuf>,
    /// Files and folders that the tool has chosen, to read. What does not exist is left out.
    pub system: Vec<PathBuf>,
    /// Files and folders of the arguments, with all below, that can be read, changed, made and removed.
    pub write: Vec<PathBuf>,
    /// The same that the tool has chosen: what it keeps itself.
    pub own: Vec<PathBuf>,
    /// Programs that can be executed, with the libraries of the image. What this device lacks is left out, here and in
    /// the next two: the tool finds it missing and says so.
    pub programs: Vec<PathBuf>,
    /// Unix sockets that can be connected to.
    pub sockets: Vec<PathBuf>,
    /// Device nodes that can be opened.
    pub devices: Vec<PathBuf>,
    /// Whose network it sees.
    pub network: Network,
    /// Whose processes, and so whose `/proc`, it sees.
    pub processes: Processes,
    /// What it is told because it could not see it.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// Linux capabilities that it keeps, without which the kernel refuses the operation.
    pub privileges: Vec<Privilege>,
    /// Folders of the arguments that are moved, copied or removed with all below. Where the policy denies some of that,
    /// the call is refused.
    #[serde(default)]
    pub whole: Vec<PathBuf>,
    /// Folders of the arguments that are looked through, with all below. What the policy denies of that is hidden.
    #[serde(default)]
    pub through: Vec<PathBuf>,
    /// What the policy denies below the folders that are shown; the pipeline fills it in. Nothing is seen of it.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
    /// The same where only writing is denied: it can be read.
    #[serde(default)]
    pub fixed: Vec<PathBuf>,
    /// Largest file that it makes, in bytes, where that can be more than what suffices for most tools.
    pub file_size_max: Option<u64>,
}

/// Whose network a call sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// None: not even a loopback interface that is up.
    #[default]
    None,
    /// The device's.
    Host,
}

/// Whose processes a call sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// Its own.
    #[default]
    Own,
    /// The device's: `/proc` is the device's, read-only but for what a privilege allows.
    Host,
}

/// A Linux capability that a call keeps (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    /// `CAP_NET_ADMIN`: links, addresses, routes, the firewall.
    NetAdmin,
    /// `CAP_NET_RAW`: packets as they are on the wire.
    NetRaw,
    /// `CAP_KILL`: signals to processes of other users.
    Kill,
    /// `CAP_SYS_NICE`: priorities of processes of other users.
    SysNice,
    /// `CAP_SYS_TIME`: the clocks.
    SysTime,
    /// `CAP_CHOWN` and `CAP_FOWNER`: owners and modes of others' files.
    FileOwner,
    /// `CAP_DAC_READ_SEARCH`: reading others' files.
    ReadAll,
    /// `CAP_DAC_OVERRIDE`: reading and writing others' files.
    WriteAll,
    /// `CAP_SYSLOG`: the kernel's log.
    Syslog,
}

impl Access {
    /// Whether it comes across names that neither its arguments nor this system chose: files' and programs' own words.
    pub fn looks_around(&self) -> bool {
        !(self.read.is_empty() && self.write.is_empty() && self.programs.is_empty())
    }

    /// Nothing but the capability `capability`.
    pub fn needs(capability: impl Into<String>) -> Self {
        Access { capabilities: vec![capability.into()], ..Access::default() }
    }

    /// One more capability.
    #[must_use]
    pub fn and(mut self, capability: impl Into<String>) -> Self {
        self.capabilities.push(capability.into());
        self
    }

    /// One more capability, for all that is below the folder that it ends with. The folder itself is not.
    #[must_use]
    pub fn and_below(mut self, capability: impl Into<String>) -> Self {
        self.below.push(capability.into());
        self
    }

    /// All that the caller needs.
    pub fn wanted(&self) -> Result<Vec<Capability>, CapabilityError> {
        let below = |text: &String| match text.splitn(3, ':').collect::<Vec<_>>()[..] {
            [namespace, action, folder] => Capability::below(namespace, action, folder),
            _ => text.parse(),
        };
        let literal = self.capabilities.iter().map(|text| Capability::literal(text));
        literal.chain(self.below.iter().map(below)).collect()
    }

    /// Reading the argument `path`, which takes `fs:read:<path>`.
    #[must_use]
    pub fn reads(self, path: &AbsolutePath) -> Self {
        let mut with = self.and(format!("fs:read:{path}"));
        with.read.push(path.as_path().to_owned());
        with
    }

    /// Looking through the argument `path`, which takes `fs:read:<path>` and, where that is a folder, `fs:read:<path>/**`.
    #[must_use]
    pub fn looks_through(self, path: &AbsolutePath) -> Self {
        let mut with = self.reads(path);
        with.through.push(path.as_path().to_owned());
        with
    }

    /// Changing the argument `path`, which takes `fs:write:<path>`.
    #[must_use]
    pub fn writes(self, path: &AbsolutePath) -> Self {
        let mut with = self.and(format!("fs:write:{path}"));
        with.write.push(path.as_path().to_owned());
        with
    }

    /// Making, replacing or removing the argument `path`, which takes `fs:write:<path>` and shows the folder that it lies
    /// in: a file that is shown by itself can be changed, but its name can't be given to another.
    #[must_use]
    pub fn replaces(self, path: &AbsolutePath) -> Self {
        let shown = path.parent().filter(|parent| parent.as_str() != "/");
        let mut with = self.and(format!("fs:write:{path}"));
        with.write.push(shown.as_ref().unwrap_or(path).as_path().to_owned());
        with
    }

    /// Moving, copying or removing the argument `path` with all below. Add what that takes, too; where `path` is a folder,
    /// it is taken for all below as well.
    #[must_use]
    pub fn takes_whole(mut self, path: &AbsolutePath) -> Self {
        self.whole.push(path.as_path().to_owned());
        self
    }

    /// Reading `path`, which the tool, not its caller, has chosen.
    #[must_use]
    pub fn sees(mut self, path: impl AsRef<Path>) -> Self {
        self.system.push(path.as_ref().to_owned());
        self
    }

    /// Changing `path`, which the tool, not its caller, has chosen.
    #[must_use]
    pub fn changes(mut self, path: impl AsRef<Path>) -> Self {
        self.own.push(path.as_ref().to_owned());
        self
    }

    /// Executing a program of the image.
    #[must_use]
    pub fn runs(mut self, program: impl AsRef<Path>) -> Self {
        self.programs.push(program.as_ref().to_owned());
        self
    }

    /// Connecting to a Unix socket.
    #[must_use]
    pub fn talks_to(mut self, socket: impl AsRef<Path>) -> Self {
        self.sockets.push(socket.as_ref().to_owned());
        self
    }

    /// Opening a device node.
    #[must_use]
    pub fn opens(mut self, device: impl AsRef<Path>) -> Self {
        self.devices.push(device.as_ref().to_owned());
        self
    }

    /// Being on the device's network.
    #[must_use]
    pub fn on_network(mut self) -> Self {
        self.network = Network::Host;
        self
    }

    /// Seeing the device's processes.
    #[must_use]
    pub fn among_processes(mut self) -> Self {
        self.processes = Processes::Host;
        self
    }

    /// Being told what it could not see.
    #[must_use]
    pub fn knows(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    /// Making files of up to `bytes`.
    #[must_use]
    pub fn with_files_of(mut self, bytes: u64) -> Self {
        self.file_size_max = Some(bytes);
        self
    }

    /// Keeping a Linux capability.
    #[must_use]
    pub fn with(mut self, privilege: Privilege) -> Self {
        self.privileges.push(privilege);
        self
    }
}
