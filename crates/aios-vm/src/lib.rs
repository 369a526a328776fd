//! aiOS in QEMU: for the developer's terminal (`aios-vm run`, `up`, `demo`, ...) and for tests that boot an image.
//!
//! ```no_run
//! use std::time::Duration;
//! use aios_vm::{Firmware, ImageKind, Images, Vm};
//!
//! let images = Images::new("output/images");
//! let mut vm = Vm::builder(&images, "output/run").image(ImageKind::Qcow2).firmware(Firmware::Uefi).start()?;
//! vm.wait_console("aios-init: all units Ready", Duration::from_secs(300))?;
//! let answer = vm.api().chat("What is an operating system?", 32)?;
//! println!("{}", answer.text);
//! vm.shut_down(Duration::from_secs(60))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod accel;
pub mod api;
mod board;
pub mod conf_volume;
pub mod console;
pub mod disk;
mod env_file;
mod error;
pub mod firmware;
mod images;
pub mod interrupt;
pub mod machine;
pub mod ports;
pub mod process;
pub mod qmp;
pub mod raspberrypi;
mod run_dir;
mod vm;

pub use accel::Accelerator;
pub use api::Api;
pub use board::{Architecture, Board, Hardware};
pub use env_file::Environment;
pub use error::{QmpError, StartError, WaitError};
pub use firmware::Firmware;
pub use images::{ImageKind, Images};
pub use run_dir::{End, RunDir, Running};
pub use vm::{Lifetime, Vm, VmBuilder};
