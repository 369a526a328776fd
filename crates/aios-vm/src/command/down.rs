//! `down`: the end of the machine.

use std::time::Duration;

use aios_vm::End;

use super::Build;

#[derive(clap::Args)]
pub struct Options {
    /// Seconds the guest gets to power off in order.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// Stops what runs; nothing running is no error.
pub fn run(build: &Build, options: Options) -> anyhow::Result<()> {
    // An output directory that is not there is not made for this.
    if !build.output.join("run").is_dir() {
        println!("no machine is running");
        return Ok(());
    }
    let run_dir = super::run_dir(build)?;
    let Some(running) = run_dir.running() else {
        run_dir.clear();
        println!("no machine is running");
        return Ok(());
    };
    println!("stopping the machine (process {})", running.pid);
    match run_dir.stop(running, Duration::from_secs(options.timeout)) {
        End::PoweredOff => println!("powered off in order"),
        End::Quit => println!("the guest did not power off within {} s; QEMU was told to quit", options.timeout),
        End::Killed => println!("neither the guest nor QEMU reacted; the process was killed"),
    }
    Ok(())
}
