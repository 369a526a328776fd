//! PID 1 of aiOS: boots the machine, starts the units, keeps them running, ends them in order.
//!
//! Two halves share this crate.
//!
//! *Bringing the machine up and down*, a sequence of named stages:
//! - [`stage1`]: `run() -> !`, the initramfs half; ends in `exec` of this same binary from the root file system.
//! - [`boot`]: `bring_up(Mode) -> BootReport`, the named boot stages of PID 1, each failure said on the console.
//! - [`watchdog`]: `Watchdog { pet(&mut self), interval(&self) -> Duration }`, the hardware watchdog.
//! - [`power_button`]: `PowerButtons { pressed(&mut self) -> bool }`, input devices with `KEY_POWER`.
//! - [`shutdown`]: `finish(Kind, Mode) -> !`, what is left once every unit is stopped: kill, sync, unmount, `reboot(2)`.
//!
//! *Keeping units running*:
//! - [`layout`]: the paths it all happens under.
//! - [`mod@unit`]: unit files to checked [`unit::Unit`] values.
//! - [`graph`]: order, cycles and unknown dependencies.
//! - [`supervisor`]: the pure state machine, `step(event, now) -> actions`.
//! - [`process`]: performs `Start` and `Kill`: fork, set-up, exec, control groups.
//! - [`logs`]: a bounded ring of lines per unit.
//! - [`control`]: the control socket.
//! - [`run`]: the loop that turns what the kernel reports into events and performs the actions.

pub mod boot;
pub mod cmdline;
pub mod console;
pub mod control;
pub mod failure;
pub mod graph;
pub mod layout;
pub mod logs;
pub mod modules;
pub mod power_button;
pub mod process;
pub mod run;
pub mod shutdown;
pub mod stage1;
pub mod supervisor;
pub mod unit;
pub mod watchdog;

/// Where PID 1 runs: decides which parts of the machine are ours to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On hardware or in a virtual machine: everything is ours.
    Machine,
    /// In a PID namespace (`container=` is set): devices, modules, disks and the clock belong to the host.
    Container,
}
