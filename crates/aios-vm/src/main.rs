//! `aios-vm`: what `make run`, `up`, `down`, `boot`, `demo` and `bench-boot` call.

mod command;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use command::{bench, boot, demo, down, up};

/// Runs aiOS in QEMU.
///
/// Environment: AIOS_ACCEL=kvm|tcg, AIOS_PORT (of the API on 127.0.0.1), AIOS_MEMORY (such as 2GiB), KEEP=1 (keeps the disk).
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The build's output directory, which holds images/ and run/.
    #[arg(long, global = true, default_value = "output")]
    output: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boots the qcow2 disk by UEFI, with its console in this terminal.
    Run,
    /// Boots any image, with its console in this terminal.
    Boot(boot::Options),
    /// Boots in the background and waits for Ready; leaves addresses and token in output/run/env.
    Up(up::Options),
    /// Stops the machine in order.
    Down(down::Options),
    /// Boots, asks the model a question, prints the answer and how fast it came.
    Demo(demo::Options),
    /// Measures boots.
    BenchBoot(bench::Options),
    /// Says which accelerator QEMU is run with, and why.
    Accel,
}

fn main() -> ExitCode {
    let Options { output, command } = Options::parse();
    let result = match command {
        Command::Run => boot::run(&output, boot::Options::default()),
        Command::Boot(options) => boot::run(&output, options),
        Command::Up(options) => up::run(&output, options),
        Command::Down(options) => down::run(&output, options),
        Command::Demo(options) => demo::run(&output, options),
        Command::BenchBoot(options) => bench::run(&output, options),
        Command::Accel => command::print_accelerator(&output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aios-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
