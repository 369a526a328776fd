//! `aios tool`, `aios rollback`, `aios tools`, `aios mcp`

use std::path::PathBuf;

use aios_core::paths;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ToolCommand {
    /// List the tools of this device.
    #[command(visible_alias = "ls")]
    List {
        /// Only those of this namespace, for example fs.
        namespace: Option<String>,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Show what a tool does, what it takes and gives, and what it needs.
    Show {
        /// Name of the tool, for example fs.read.
        tool: String,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Call a tool. Exits with 1 where it failed, and with 77 where it was refused.
    Run(RunArgs),
    /// List the calls that wait for somebody's approval.
    Approvals {
        #[command(flatten)]
        afar: Afar,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Approve a call that waits, after a look at it.
    Approve {
        /// Id of the call.
        call: String,
        /// Don't ask again.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        afar: Afar,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Refuse a call that waits.
    Deny {
        /// Id of the call.
        call: String,
        #[command(flatten)]
        afar: Afar,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// List the grants in force.
    Grants {
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Give an agent a capability for a time.
    Grant {
        /// Name of the agent.
        agent: String,
        /// What it may do: NAMESPACE:ACTION:RESOURCE, with * and **.
        capability: String,
        /// For how long, for example 30m or 2h. Without it: as long as the policy allows.
        #[arg(long = "for", value_name = "TIME")]
        lifetime: Option<aios_core::quantity::HumanDuration>,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Take a grant back, with effect on the next call.
    Revoke {
        /// Number of the grant.
        id: String,
        #[command(flatten)]
        tools: ToolsSocket,
    },
}

/// A device that is asked over an MQTT broker, in place of this one.
#[derive(Debug, Args)]
pub struct Afar {
    /// Ask the device of a fleet, over this broker: `mqtts://HOST[:PORT]`.
    #[arg(long, value_name = "URL", requires = "device")]
    pub broker: Option<aios_core::config::Broker>,
    /// What the fleet calls the device.
    #[arg(long, value_name = "ID", requires = "broker", value_parser = device_id)]
    device: Option<String>,
    /// File with the certificates of who may vouch for the broker (PEM).
    #[arg(long, value_name = "FILE", requires = "broker")]
    pub ca: Option<PathBuf>,
    /// File with your certificate for the broker (PEM).
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// File with the private key to it (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// The key that you sign answers with (aios key new).
    #[arg(long, value_name = "FILE", requires = "broker")]
    pub key: Option<PathBuf>,
}

impl Afar {
    /// The device; empty where it is this one.
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or_default()
    }
}

fn device_id(text: &str) -> Result<String, String> {
    let error = "use 1 to 64 letters, digits, '.', '_', ':' and '-'";
    if aios_core::config::is_device_id(text) { Ok(text.to_owned()) } else { Err(error.to_owned()) }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of the tool, for example fs.read.
    pub tool: String,
    /// Its arguments: NAME=VALUE each, where a value that is no text is written as JSON; or a single JSON object.
    pub arguments: Vec<String>,
    /// Approve the call, too, where somebody must.
    #[arg(short, long, conflicts_with = "no_wait")]
    pub yes: bool,
    /// Be refused at once where somebody must approve the call.
    #[arg(long)]
    pub no_wait: bool,
    /// Token that narrows what the call may do: a file that holds it.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub tools: ToolsSocket,
}

#[derive(Debug, Args)]
pub struct McpArgs {
    /// Token that narrows what the client may do: a file that holds it.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub tools: ToolsSocket,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Id of the call.
    pub call: Option<String>,
    /// Also where that loses what was changed after the call.
    #[arg(long, requires = "call")]
    pub force: bool,
    #[command(flatten)]
    pub tools: ToolsSocket,
}

#[derive(Debug, Args)]
pub struct ToolsSocket {
    /// gRPC socket of the tools.
    #[arg(long, value_name = "PATH", default_value = paths::TOOLS_SOCKET, hide_default_value = true)]
    pub tools_socket: PathBuf,
}

#[derive(Debug, Args)]
pub struct ToolsArgs {
    /// Configuration files in place of the device's; later ones win.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Policy files in place of the device's; later ones win.
    #[arg(long, value_name = "FILE")]
    pub policy: Vec<PathBuf>,
    /// Folder for ledger, journal and grants.
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub state: Option<PathBuf>,
    /// Folder of the device's keys.
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub keys: Option<PathBuf>,
    /// Go without limits on memory and processes where the machine has no control groups to give.
    #[arg(long, hide = true)]
    pub without_groups: bool,
}
