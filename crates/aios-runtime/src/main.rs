//! `aios-runtime`: serves models, or measures one.

use std::{path::PathBuf, process::ExitCode};

use aios_runtime::{bench, daemon};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "The local model runtime of aiOS")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration files in place of the system's; later ones win.
    #[arg(long, value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over gRPC and HTTP, until SIGTERM (this is the default).
    Serve,
    /// Measure load, prefill and decode of a model file.
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => daemon::run(&cli.config),
        Command::Bench(args) => match bench::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("aios-runtime: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
