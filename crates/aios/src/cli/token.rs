//! `aios token`, `aios key`

use std::path::PathBuf;

use aios_core::quantity::HumanDuration;
use clap::{Args, Subcommand};

use super::tool::ToolsSocket;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token that hands some of your rights to an agent, and print it. It is as secret as a password.
    Mint {
        /// Name of the agent that may use it.
        #[arg(long)]
        agent: String,
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        made: Made,
        #[command(flatten)]
        tools: ToolsSocket,
    },
    /// Show what a token says, without asking the device. Whether it counts, only the device knows.
    Show {
        /// File that holds the token; - is standard input.
        token: PathBuf,
    },
    /// Make a narrower token of one, without asking the device.
    Narrow {
        /// File that holds the token; - is standard input.
        token: PathBuf,
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        made: Made,
    },
    /// Take a token back, and all that was narrowed from it, with effect on the next call.
    Revoke {
        /// Its id, as `aios token show` shows it.
        id: String,
        #[command(flatten)]
        tools: ToolsSocket,
    },
}

/// What a token is limited to.
#[derive(Debug, Args)]
pub struct Limits {
    /// What it allows: NAMESPACE:ACTION:RESOURCE, with * and **. May be given more than once.
    #[arg(long = "cap", value_name = "CAPABILITY")]
    pub capabilities: Vec<String>,
    /// The only tool that it is for. May be given more than once. Without it: any.
    #[arg(long = "tool", value_name = "TOOL")]
    pub tools: Vec<String>,
    /// For how long, for example 30m or 2h. Without it: as long as the policy, or the token, allows.
    #[arg(long = "for", value_name = "TIME")]
    pub lifetime: Option<HumanDuration>,
}

/// What becomes of a token that was made.
#[derive(Debug, Args)]
pub struct Made {
    /// Nobody can narrow it further.
    #[arg(long)]
    pub sealed: bool,
    /// Write it to a new file, for its owner alone, in place of printing it.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key to sign answers with: FILE for its owner alone, and FILE.pub.
    New {
        /// Where.
        file: PathBuf,
        /// Whose: letters, digits, '.', '_', '@' and '-'.
        #[arg(long)]
        name: String,
    },
    /// Show a key's name and fingerprint, as the policy of a device needs it.
    Show {
        /// FILE or FILE.pub.
        file: PathBuf,
    },
}
