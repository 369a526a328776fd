//! `up`: a machine in the background.

use std::{path::Path, time::Duration};

use aios_vm::{Accelerator, Api, Environment, Lifetime, Running, StartError, Vm, WaitError, interrupt};
use anyhow::Context as _;
use serde_json::Value;

use super::{Build, progress::Progress};

#[derive(clap::Args)]
pub struct Options {
    /// Seconds to wait for Ready; by default 60 under KVM and 300 without it.
    #[arg(long)]
    timeout: Option<u64>,
}

/// A minute is many times what a boot takes under hardware virtualisation.
const PATIENCE: Duration = Duration::from_secs(60);

/// Boots and returns when the machine is Ready; a machine that already runs is left alone.
pub fn run(build: &Build, options: Options) -> anyhow::Result<()> {
    let run_dir = super::run_dir(build)?;
    if let Some(running) = run_dir.running() {
        return already_up(running, &run_dir.env());
    }
    let (vm, model) = match start(build, options.timeout.map(Duration::from_secs)) {
        // Somebody else's start won the race for the directory.
        Err(error) => match error.downcast::<StartError>()? {
            StartError::AlreadyRunning { pid } => return already_up(Running { pid }, &run_dir.env()),
            error => return Err(error.into()),
        },
        Ok(started) => started,
    };
    println!("up: model {}", model_name(&model));
    tell(vm.environment(), &run_dir.env());
    vm.detach();
    Ok(())
}

/// Boots the developer's machine and waits for Ready, showing progress. Until the caller detaches it, it ends with the
/// returned value; a failed wait leaves nothing running.
pub fn start(build: &Build, patience: Option<Duration>) -> anyhow::Result<(Vm, Value)> {
    let builder = super::developer_vm(build)?.lifetime(Lifetime::Detachable);
    interrupt::catch();
    let mut vm = builder.start()?;
    super::tell_of_set_aside_disk(&vm);
    let patience = patience.unwrap_or_else(|| default_patience(vm.accelerator()));
    let mut progress = Progress::start();
    let ready = vm.wait_ready(patience, |line| progress.show(line));
    progress.finish();
    let log = super::run_dir(build)?.console_log();
    match ready {
        Ok(model) => {
            println!("Ready {:.1} s after QEMU's start", vm.started().elapsed().as_secs_f64());
            Ok((vm, model))
        }
        Err(WaitError::Interrupted) => anyhow::bail!("interrupted; the machine was stopped"),
        Err(error) => Err(anyhow::Error::new(error).context(format!(
            "the machine did not become Ready and was stopped (its whole console: {})",
            log.display()
        ))),
    }
}

/// The name behind the id `default`.
pub fn model_name(model: &Value) -> &str {
    model["aios"]["id"].as_str().or_else(|| model["id"].as_str()).unwrap_or("default")
}

fn default_patience(accelerator: Accelerator) -> Duration {
    PATIENCE * accelerator.patience()
}

fn already_up(running: Running, env: &Path) -> anyhow::Result<()> {
    println!("already up (process {})", running.pid);
    let environment = Environment::read(env).with_context(|| format!("cannot read {}", env.display()))?;
    tell(&environment, env);
    let api = Api::new(&environment.api, &environment.token);
    let answered = api.default_model().map(drop);
    answered.context("the machine runs, but its API does not answer; it may still be starting, else `make down`")
}

fn tell(environment: &Environment, env: &Path) {
    println!("API:     {}/v1    token: . {}", environment.api, env.display());
    println!("console: {}", environment.console);
}
