//! `aios-vm`: what `make run`, `up`, `down`, `boot`, `demo` and `bench-boot` call.

mod command;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use aios_vm::{Architecture, Board, Firmware};
use command::{Build, bench, boot, demo, down, up};

/// Runs aiOS in QEMU.
///
/// Environment: AIOS_ACCEL=kvm|tcg, AIOS_PORT (of the API on 127.0.0.1), AIOS_MEMORY (such as 2GiB), KEEP=1 (keeps the disk).
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The build's output directory, which holds images/ and run/.
    #[arg(long, global = true, default_value = "output")]
    output: PathBuf,
    /// Whose images they are: the `BOARD` of a board/*/meta.
    #[arg(long, global = true, default_value = "x86_64")]
    board: String,
    /// The architecture of the board's processor: its `ARCH`.
    #[arg(long, global = true, default_value = "x86_64", value_parser = architecture)]
    arch: Architecture,
    /// What can start the board: its `FIRMWARE`, the first of it unless another is asked for.
    #[arg(long, global = true, default_value = "uefi", value_parser = firmware)]
    board_firmware: Firmware,
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

fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::from_name(name).ok_or_else(|| "there are x86_64 and aarch64".into())
}

fn firmware(fact: &str) -> Result<Firmware, String> {
    Firmware::from_fact(fact).ok_or_else(|| "there are uefi, bios and raspberrypi".into())
}

fn main() -> ExitCode {
    let Options { output, board, arch, board_firmware, command } = Options::parse();
    let build = Build { output, board: Board::new(board, arch, board_firmware) };
    let result = match command {
        Command::Run => boot::run(&build, boot::Options::default()),
        Command::Boot(options) => boot::run(&build, options),
        Command::Up(options) => up::run(&build, options),
        Command::Down(options) => down::run(&build, options),
        Command::Demo(options) => demo::run(&build, options),
        Command::BenchBoot(options) => bench::run(&build, options),
        Command::Accel => command::print_accelerator(&build),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aios-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
