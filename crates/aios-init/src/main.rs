//! `aios-init`: `/init` of the initramfs and `/sbin/init` of the root file system, one binary.

use std::path::Path;
use std::process::ExitCode;

use aios_core::paths::CONTAINER_VARIABLE;
use aios_init::console::{self, say};
use aios_init::layout::Layout;
use aios_init::run::Handover;
use aios_init::{Mode, boot, run, stage1};

/// The initramfs has this list and the root file system has not.
const INITRAMFS_MARK: &str = "/modules.load";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "aios-init is PID 1 of aiOS: the kernel starts it. To see or change what runs, use `aios status`, \
             `aios restart UNIT` or `aios poweroff`."
        );
        // EX_USAGE of sysexits.h.
        return ExitCode::from(64);
    }
    std::panic::set_hook(Box::new(|panic| say(format_args!("defect: {panic}; going on"))));
    let mode = if std::env::var_os(CONTAINER_VARIABLE).is_some() { Mode::Container } else { Mode::Machine };
    if mode == Mode::Machine && Path::new(INITRAMFS_MARK).exists() {
        stage1::run();
    }
    if mode == Mode::Container {
        console::use_stdout();
    }
    let handover = match std::panic::catch_unwind(|| boot::bring_up(mode)) {
        Ok(report) => Handover::from(report),
        Err(_) => {
            Handover { failures: vec!["boot: a defect ended it early; see the console".into()], ..Handover::default() }
        }
    };
    run::run(mode, Layout::of(mode), handover)
}
