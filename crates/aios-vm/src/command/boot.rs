//! `run` and `boot`: the console in this terminal.

use std::path::Path;

use aios_vm::{Environment, Firmware, ImageKind, conf_volume::EmergencyShell};
use clap::ValueEnum;

use super::Build;

#[derive(Default, clap::Args)]
pub struct Options {
    /// Which output to boot; by default the one for virtual machines, if the board has it, else its only one.
    #[arg(long, value_enum)]
    image: Option<Image>,
    /// What starts the boot loader; by default what the board starts by.
    #[arg(long, value_enum)]
    firmware: Option<FirmwareOption>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Image {
    Iso,
    Img,
    Qcow2,
}

#[derive(Clone, Copy, ValueEnum)]
enum FirmwareOption {
    Uefi,
    Bios,
}

/// Boots and stays until the machine ends or is left.
pub fn run(build: &Build, options: Options) -> anyhow::Result<()> {
    let image = match options.image {
        None => build.board.image(),
        Some(Image::Iso) => ImageKind::Iso,
        Some(Image::Img) => ImageKind::Img,
        Some(Image::Qcow2) => ImageKind::Qcow2,
    };
    let firmware = match options.firmware {
        None => build.board.firmware,
        Some(FirmwareOption::Uefi) => Firmware::Uefi,
        Some(FirmwareOption::Bios) => Firmware::Bios,
    };
    let mut builder = super::developer_vm(build)?
        .image(image)
        .firmware(firmware)
        .emergency_shell(EmergencyShell::Allowed)
        .console_in_terminal();
    let run_dir = super::run_dir(build)?;
    // The guest's text follows at once, so the addresses are said before it starts.
    tell(&builder.planned_environment()?, &run_dir.env());
    let vm = builder.start()?;
    super::tell_of_set_aside_disk(&vm);
    let status = vm.wait_for_leave()?;
    println!();
    anyhow::ensure!(status.success(), "qemu ended with {status}");
    Ok(())
}

fn tell(environment: &Environment, env_file: &Path) {
    println!("leave:   ctrl-a x        (ctrl-a c: QEMU's monitor; `make down` in another terminal: power off)");
    println!("API:     {}/v1    token: . {}", environment.api, env_file.display());
    println!("console: {}", environment.console);
    println!();
}
