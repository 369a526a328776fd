//! What can be typed.

mod memory;
mod token;
mod tool;

use std::path::{Path, PathBuf};

use aios_core::paths;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

pub use self::{
    memory::{MemoryAddArgs, MemoryCommand, MemoryContextArgs, MemoryEraseArgs, MemoryServeArgs},
    token::{KeyCommand, Limits, Made, TokenCommand},
    tool::{Afar, McpArgs, RollbackArgs, RunArgs, ToolCommand, ToolsArgs},
};

/// Look after this aiOS device.
#[derive(Debug, Parser)]
#[command(name = "aios", version, arg_required_else_help = true)]
pub struct Cli {
    /// Control socket of PID 1.
    #[arg(long, global = true, value_name = "PATH", default_value = paths::INIT_SOCKET, hide_default_value = true)]
    pub socket: PathBuf,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the system and its units, or one unit. Exits with 3 where a unit is not Ready.
    Status {
        /// Name of a unit.
        unit: Option<String>,
    },
    /// Start a unit and what it requires; waits until it is Ready.
    Start { unit: String },
    /// Stop a unit and what requires it; waits until it is Stopped.
    Stop { unit: String },
    /// Stop a unit and start it again; forgives earlier failures.
    Restart { unit: String },
    /// Print what a unit wrote.
    Log {
        unit: String,
        /// Go on with new lines as they come.
        #[arg(short, long)]
        follow: bool,
        /// Begin with the last N lines.
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<usize>,
    },
    /// Stop all units in order and switch the device off.
    #[command(name = "poweroff")]
    PowerOff,
    /// Stop all units in order and start the device again.
    Reboot,
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the models: list, pull, verify, load, remove.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Ask the local model, and print its answer as it comes.
    Ask(AskArgs),
    /// Call this device's tools, and say who may.
    #[command(subcommand)]
    Tool(ToolCommand),
    /// Hand rights to other agents: make, show, narrow and take back tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys to sign answers with.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Undo a call of a tool. Without an id: list the calls that can be undone, latest first.
    Rollback(RollbackArgs),
    /// Offer the tools to a client of the Model Context Protocol, over standard input and output: what such a client starts.
    Mcp(McpArgs),
    /// What this device remembers: serve it, search it, add to it, erase, repair.
    #[command(subcommand)]
    Memory(MemoryCommand),
    /// Serve the tools, until SIGTERM: what the unit `tools` runs.
    Tools(ToolsArgs),
    /// Be part of a fleet, until SIGTERM: what the unit `fleet` runs.
    Fleet {
        /// Configuration files in place of the device's; later ones win.
        #[arg(long, value_name = "FILE")]
        config: Vec<PathBuf>,
    },
    /// Read, check and export the record of what tools were asked and did.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Try what kernel and hardware must do, on this device. Exits with 1 where a check fails.
    Selftest(SelftestArgs),
    #[command(name = aios_selftest::probe::ARGUMENT, hide = true)]
    SelftestProbe { arguments: Vec<String> },
    /// Install the running live system to a disk.
    Install(InstallArgs),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check configuration files: names file, line and key of an error, and exits with 64.
    Check {
        /// Files in order, later ones win. Without any: this device's.
        files: Vec<PathBuf>,
    },
    /// Print the configuration in force, with every default.
    Show {
        /// Files in order, later ones win. Without any: this device's.
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models on this device.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        device: DeviceArgs,
        #[command(flatten)]
        runtime: RuntimeArgs,
    },
    /// Show what is in a model's file, what computes it, and the memory that it needs.
    Show {
        model: String,
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// Download a model from the hub, check it, and sign its manifest. Goes on where an earlier attempt ended.
    Pull(PullArgs),
    /// Add a model from a file, and sign its manifest.
    Import(ImportArgs),
    /// Make the same model in another format: smaller, or one that is fast here.
    Convert(ConvertArgs),
    /// Read the models' files and compare them with their signed manifests. Exits with 1 where one differs.
    Verify {
        /// Model id. Without it: all models.
        model: Option<String>,
        /// Sign the model as it is now: you vouch for the file.
        #[arg(long, requires = "model")]
        sign: bool,
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// Remove a model from this device, or what there is of an interrupted download.
    #[command(name = "rm")]
    Remove {
        model: String,
        /// Unload it first where it is in memory.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        device: DeviceArgs,
        #[command(flatten)]
        runtime: RuntimeArgs,
    },
    /// Load a model and keep it in memory.
    Load {
        model: String,
        #[command(flatten)]
        runtime: RuntimeArgs,
    },
    /// Take a model out of memory.
    Unload {
        model: String,
        #[command(flatten)]
        runtime: RuntimeArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check every entry, checkpoint and signature. Exits with 1 where something was changed.
    Verify {
        /// Check an export instead of this device's ledger; `-` reads it from standard input.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// A signed checkpoint that was kept elsewhere: without one, nobody can tell that the end is missing.
        #[arg(long, value_name = "FILE")]
        known: Vec<PathBuf>,
        #[command(flatten)]
        place: LedgerArgs,
    },
    /// Show the last entries, or one of them in full.
    Show {
        /// Number of an entry.
        #[arg(conflicts_with_all = ["agent", "tool", "kind", "since", "limit"])]
        seq: Option<u64>,
        /// Only what this agent asked for.
        #[arg(long)]
        agent: Option<String>,
        /// Only of this tool.
        #[arg(long)]
        tool: Option<String>,
        /// Only of this kind, for example decision or result.
        #[arg(long)]
        kind: Option<String>,
        /// Only what is not older: a duration like 90s, 15m, 2h or 7d, or a time like 2026-11-22T04:30:00Z.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Entries to show at most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        place: LedgerArgs,
    },
    /// Write the entries, with the proofs of them, as text that `aios ledger verify --export` checks anywhere.
    Export {
        /// File that gets them; it must not be there yet. Without it: standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Begin with this entry, or the nearest one before it that has a checkpoint in front.
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        from: u64,
        #[command(flatten)]
        place: LedgerArgs,
    },
}

#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// File of the ledger.
    #[arg(long, value_name = "FILE", default_value_os_t = Path::new(paths::TOOLS_STATE).join(paths::LEDGER), hide_default_value = true)]
    pub ledger: PathBuf,
    /// Folder with the public keys, ledger.pub.
    #[arg(long, value_name = "FOLDER", default_value = paths::KEYS, hide_default_value = true)]
    pub keys: PathBuf,
}

#[derive(Debug, Args)]
pub struct PullArgs {
    /// Repository on the hub, and a branch, tag or commit of it: OWNER/NAME or OWNER/NAME@REVISION.
    pub repository: String,
    /// GGUF file in the repository. Not needed where it has only one.
    #[arg(long, value_name = "NAME.gguf")]
    pub file: Option<String>,
    /// Id that the model gets. Without it: the file's name in lower case.
    #[arg(long)]
    pub id: Option<String>,
    /// SHA-256 that the file must have, besides the one that the hub promises.
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// How often to try again what fails for a reason that may pass.
    #[arg(long, default_value_t = 5)]
    pub retries: u32,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// GGUF file.
    pub file: PathBuf,
    /// Id that the model gets. Without it: the file's name in lower case.
    #[arg(long)]
    pub id: Option<String>,
    /// SHA-256 that the file must have.
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Its licence, where the file does not say it.
    #[arg(long)]
    pub licence: Option<String>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Model id, or a GGUF file.
    pub model: String,
    /// Format of the matrices: q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k or q6_k.
    #[arg(long)]
    pub format: String,
    /// Id that the new model gets.
    #[arg(long)]
    pub id: String,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Configuration files in place of the device's; later ones win.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AskArgs {
    /// The question. `-` reads it from standard input.
    pub prompt: String,
    /// Model id.
    #[arg(long, default_value = "default")]
    pub model: String,
    /// System message to put before the question.
    #[arg(long)]
    pub system: Option<String>,
    /// Tokens to generate at most.
    #[arg(long, default_value_t = 256)]
    pub max_tokens: u32,
    /// 0 (always the likeliest token) to 2.
    #[arg(long, default_value_t = 0.7)]
    pub temperature: f32,
    /// Makes the answer repeatable.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Answer with JSON that is valid by this schema: a file, or the schema itself, beginning with "{".
    #[arg(long, value_name = "FILE|SCHEMA", conflicts_with = "regex")]
    pub json_schema: Option<String>,
    /// Answer with a text that this regular expression matches as a whole.
    #[arg(long, value_name = "REGEX")]
    pub regex: Option<String>,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Checks to make. Without any: all.
    pub checks: Vec<String>,
    /// Print the names of the checks, and what is true when they pass.
    #[arg(long)]
    pub list: bool,
    /// Disk to OVERWRITE and read back. Other disks are only read.
    #[arg(long, value_name = "DISK")]
    pub scratch: Vec<PathBuf>,
    /// Suspend the machine for some seconds, too.
    #[arg(long)]
    pub suspend: bool,
    /// Folder for temporary files.
    #[arg(long, value_name = "FOLDER", default_value = paths::DATA)]
    pub data: PathBuf,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["disk", "list", "unattended"])))]
pub struct InstallArgs {
    /// The disk, for example /dev/nvme0n1. It must be empty.
    pub disk: Option<PathBuf>,
    /// Show the disks, what is on them, and whether they can be installed to.
    #[arg(long)]
    pub list: bool,
    /// Do what `[install]` in the configuration says, if this is a live system.
    #[arg(long)]
    pub unattended: bool,
    /// Overwrite what is on the disk: all of it is lost.
    #[arg(long, requires = "disk")]
    pub force: bool,
    /// What to do when it is installed.
    #[arg(long, requires = "disk")]
    pub then: Option<Then>,
    /// Where the live medium is mounted.
    #[arg(long, value_name = "PATH", default_value = paths::LIVE_MEDIUM, hide = true)]
    pub medium: PathBuf,
}

/// What follows an installation.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Then {
    Poweroff,
    Reboot,
}

#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// gRPC socket of the runtime.
    #[arg(long, value_name = "PATH", default_value = paths::RUNTIME_SOCKET, hide_default_value = true)]
    pub runtime_socket: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
