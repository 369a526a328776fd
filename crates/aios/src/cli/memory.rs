//! `aios memory`

use std::path::PathBuf;

use aios_core::paths;
use aios_memory::Kind;
use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum MemoryCommand {
    /// Serve the memory, until SIGTERM: what the unit `memory` runs.
    Serve(MemoryServeArgs),
    /// Find what is remembered, by words and by meaning: the best first.
    Search {
        /// What to look for.
        text: String,
        /// Only of this kind, for example knowledge or incident. May be given more than once.
        #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
        kinds: Vec<Kind>,
        /// Results at most.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        memory: MemorySocket,
    },
    /// Put together what matters for a question, within a budget of tokens: what a model would be given to read.
    Context(MemoryContextArgs),
    /// Add knowledge.
    Add(MemoryAddArgs),
    /// Show how much there is of what, and whether it can be written and searched.
    Stats {
        #[command(flatten)]
        memory: MemorySocket,
    },
    /// Delete for good what an agent wrote, what is from a source, or everything.
    Erase(MemoryEraseArgs),
    /// Save what can be read of a damaged memory into a new file, and keep the damaged one beside it. Stop the unit before.
    Repair {
        /// File of the memory. Without it: this device's.
        path: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct MemoryServeArgs {
    /// Configuration files in place of the device's; later ones win.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Policy files in place of the device's; later ones win.
    #[arg(long, value_name = "FILE")]
    pub policy: Vec<PathBuf>,
    /// Folder of the memory's file.
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct MemoryContextArgs {
    /// The question or goal that it is for.
    pub text: String,
    /// Tokens at most, as the model counts them.
    #[arg(short, long, value_name = "TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub budget: u32,
    /// Model that is to read it. Without it: the default one.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub model: String,
    /// Number of the goal at work.
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    pub goal: u64,
    /// Only of this kind, for example knowledge or incident. May be given more than once.
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<Kind>,
    #[command(flatten)]
    pub memory: MemorySocket,
}

#[derive(Debug, Args)]
pub struct MemoryAddArgs {
    /// What is to be known. `-`, or none, reads it from standard input.
    pub text: Option<String>,
    /// What it is about. Without it: the beginning of the text.
    #[arg(long)]
    pub title: Option<String>,
    /// Document, page or file that it is from. `aios memory erase --source` finds it by that.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub source: String,
    /// Word to sort by. May be given more than once.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Whose words they are: operator, user, web, log, model or tool:NAME. May be given more than once.
    #[arg(long = "origin", value_name = "ORIGIN", default_value = "operator")]
    pub origins: Vec<String>,
    #[command(flatten)]
    pub memory: MemorySocket,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["agent", "source", "all"])))]
pub struct MemoryEraseArgs {
    /// All that this agent wrote.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// All that is from this source.
    #[arg(long)]
    pub source: Option<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
    /// Don't ask.
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub memory: MemorySocket,
}

#[derive(Debug, Args)]
pub struct MemorySocket {
    /// gRPC socket of the memory.
    #[arg(long, value_name = "PATH", default_value = paths::MEMORY_SOCKET, hide_default_value = true)]
    pub memory_socket: PathBuf,
}

fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("use one of {}", names()))
}
