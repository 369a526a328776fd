//! Attempts to get out, under three profiles: none may succeed. Without the sandbox most of them do, which shows that
//! they are attempts.

#![allow(clippy::unwrap_used)] // A panic is how a test fails; clippy knows only `#[test]` functions as tests.

#[path = "escape/attacks.rs"]
mod attacks;
#[path = "escape/ground.rs"]
mod ground;

use std::{
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use aios_sandbox::{Enforcement, Exit, Options, Profile, Sandbox};
use libtest_mimic::{Arguments, Failed, Trial};

use attacks::Attack;
use ground::{Field, Ground};

const PATIENCE: Duration = Duration::from_secs(60);
/// Argument to make an attempt with nothing around it.
const BARE: &str = "attack-without-a-sandbox";

/// What these do shows outside, and would stay.
const NOT_WITHOUT: [&str; 2] = ["outlive_the_call", "signal_by_an_owned_pipe"];
/// Not all attempts find something to reach on every machine: a family of sockets, a device, a part of the kernel.
const REAL_AT_LEAST: usize = 120;

fn main() {
    aios_sandbox::serve_if_asked(attacks::handler);
    if std::env::args().nth(1).as_deref() == Some(BARE) {
        let mut input = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut input).unwrap();
        std::io::Write::write_all(&mut std::io::stdout(), &attacks::handler(&input)).unwrap();
        return;
    }
    let arguments = Arguments::from_args();
    let options = Options { enforcement: Enforcement::WhereOffered, ..Options::default() };
    let field = Field::new().expect("tests need root");
    let ground = field.ground.clone();
    let sandbox = Arc::new(Sandbox::start(options).expect("tests need root, Landlock and namespaces"));
    let field = Arc::new(Mutex::new(field));
    let mut trials = Vec::new();
    for (profile_name, profile) in ground::profiles(&ground) {
        for attack in attacks::all().filter(|attack| !attack.granted.contains(&profile_name)) {
            // The limit of a user's processes does not hold root; that of the group needs its controller.
            if attack.name == "start_more_threads_than_allowed" && profile_name != "plain" && !counts_processes() {
                continue;
            }
            let (sandbox, field, profile) = (sandbox.clone(), field.clone(), profile.clone());
            let name = format!("{profile_name}::{}", attack.name);
            trials.push(Trial::test(name, move || hold(&sandbox, &mut field.lock().unwrap(), &profile, attack)));
        }
    }
    let without = ground.clone();
    trials.push(Trial::test("without_a_sandbox_the_attempts_succeed", move || attempts_are_real(&without)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` drops nothing, and victims would live on.
    drop(field);
    drop(sandbox);
    conclusion.exit();
}

fn counts_processes() -> bool {
    let offered = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    offered.split_whitespace().any(|name| name == "pids")
}

fn message(attack: &Attack, ground: &Ground) -> Vec<u8> {
    format!("{}\n{}", attack.name, serde_json::to_string(ground).unwrap()).into_bytes()
}

/// Makes one attempt, and fails if it succeeds or leaves a trace outside.
fn hold(sandbox: &Sandbox, field: &mut Field, profile: &Profile, attack: &Attack) -> Result<(), Failed> {
    let outcome = sandbox.run(profile, &message(attack, &field.ground), PATIENCE).map_err(|error| error.to_string())?;
    if let Some(damage) = field.damage() {
        return Err(damage.into());
    }
    let said = String::from_utf8_lossy(&outcome.output);
    match outcome.exit {
        Exit::Returned if said.starts_with("held: ") => Ok(()),
        Exit::Returned => Err(said.into_owned().into()),
        // It was ended, by the kernel or for its use of things.
        Exit::Signalled(_) | Exit::OutOfMemory | Exit::OutOfCpuTime => Ok(()),
        Exit::Exited(_) | Exit::TimedOut | Exit::OutputTooLarge => Err(format!("{:?}", outcome.exit).into()),
    }
}

/// An attempt that can't succeed anywhere would prove nothing.
fn attempts_are_real(ground: &Ground) -> Result<(), Failed> {
    let mut held = Vec::new();
    let mut real = 0;
    for attack in attacks::all().filter(|attack| !NOT_WITHOUT.contains(&attack.name)) {
        let mut program = Command::new("/usr/bin/unshare");
        // Namespaces around all of it, so that what succeeds does no harm.
        program.args(["--mount", "--uts", "--ipc"]).arg(std::env::current_exe().unwrap()).arg(BARE);
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), &message(attack, ground)).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.stdout.starts_with(b"ESCAPED") {
            real += 1;
        } else {
            held.push(format!("{}: {}", attack.name, String::from_utf8_lossy(&output.stdout)));
        }
    }
    println!("{real} attempts succeed without a sandbox; the others:\n{}", held.join("\n"));
    if real >= REAL_AT_LEAST { Ok(()) } else { Err(format!("only {real} attempts are real here").into()) }
}
