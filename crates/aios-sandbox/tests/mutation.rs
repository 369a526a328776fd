//! With one layer of the sandbox left out an attempt succeeds that all layers together hold (`escape.rs` shows that):
//! the layer is needed, and in force.

#![allow(clippy::unwrap_used)] // A panic is how a test fails; clippy knows only `#[test]` functions as tests.

#[path = "escape/attacks.rs"]
mod attacks;
#[path = "escape/ground.rs"]
mod ground;

use std::time::{Duration, Instant};

use aios_sandbox::{Enforcement, Layer, Options, Sandbox};
use libtest_mimic::{Arguments, Failed, Trial};

use ground::Field;

const PATIENCE: Duration = Duration::from_secs(20);

/// A layer, and a profile with an attempt that nothing else holds.
const HELD_BY: &[(Layer, &str, &str)] = &[
    (Layer::PidNamespace, "plain", "see_the_session_of_the_daemon"),
    (Layer::NetworkNamespace, "plain", "see_the_machines_interfaces"),
    (Layer::UtsNamespace, "plain", "see_the_machines_host_name"),
    (Layer::Root, "plain", "see_that_a_file_outside_exists"),
    (Layer::ReadOnlyMounts, "plain", "change_the_mode_of_a_file_to_read"),
    (Layer::ReadOnlyMounts, "plain", "change_the_times_of_a_file_to_read"),
    (Layer::Landlock, "plain", "list_the_root"),
    (Layer::Landlock, "plain", "read_the_programs_own_file"),
    (Layer::Landlock, "privileged", "kill_a_process_of_root"),
    (Layer::Landlock, "privileged", "kill_the_daemon"),
    (Layer::Landlock, "privileged", "signal_by_an_owned_pipe"),
    (Layer::Landlock, "network", "connect_to_an_abstract_socket"),
    (Layer::Root, "network", "connect_to_a_path_socket_outside"),
    (Layer::Seccomp, "plain", "set_up_an_io_ring"),
    (Layer::Seccomp, "plain", "new_user_namespace_by_unshare"),
    (Layer::Seccomp, "plain", "new_user_namespace_by_clone3"),
    (Layer::Seccomp, "plain", "add_a_key"),
    (Layer::Seccomp, "plain", "map_executable_memory"),
    (Layer::Seccomp, "network", "start_a_program_from_memory"),
    (Layer::Seccomp, "network", "open_a_vsock"),
    (Layer::Seccomp, "plain", "stop_dying_with_the_server"),
    (Layer::Capabilities, "privileged", "read_a_file_of_another_user"),
    (Layer::Capabilities, "privileged", "give_a_file_away"),
    (Layer::Descriptors, "plain", "find_an_open_file_of_the_daemon"),
    (Layer::ResourceLimits, "plain", "open_more_files_than_allowed"),
    (Layer::ResourceLimits, "plain", "write_more_than_the_largest_file"),
    (Layer::ResourceLimits, "plain", "start_more_threads_than_allowed"),
    (Layer::ControlGroup, "privileged", "outlive_the_call"),
];

fn main() {
    aios_sandbox::serve_if_asked(attacks::handler);
    let mut arguments = Arguments::from_args();
    // Each test has victims of its own, but marks of processes are the machine's.
    arguments.test_threads = Some(1);
    let trials = HELD_BY.iter().map(|&(layer, profile, attack)| {
        let name = format!("without_{layer:?}_under_{profile}_one_can_{attack}");
        Trial::test(name, move || succeeds(layer, profile, attack))
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn succeeds(layer: Layer, profile_name: &str, attack_name: &str) -> Result<(), Failed> {
    let mut field = Field::new().expect("tests need root");
    let options = Options { enforcement: Enforcement::WhereOffered, without: [layer].into(), ..Options::default() };
    let sandbox = Sandbox::start(options).expect("tests need root, Landlock and namespaces");
    let profiles = ground::profiles(&field.ground);
    let (_, profile) = profiles.iter().find(|(name, _)| *name == profile_name).unwrap();
    assert!(attacks::all().any(|attack| attack.name == attack_name && !attack.granted.contains(&profile_name)));
    let message = format!("{attack_name}\n{}", serde_json::to_string(&field.ground).unwrap());
    let outcome = sandbox.run(profile, message.as_bytes(), PATIENCE).map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&outcome.output).into_owned();
    // A signal that was sent takes its time to end a process.
    let deadline = Instant::now() + PATIENCE;
    let mut damage = field.damage();
    while damage.is_none() && !said.starts_with("ESCAPED") && Instant::now() < deadline {
        std::thread::yield_now();
        damage = field.damage();
    }
    ground::end_outlivers();
    if said.starts_with("ESCAPED") || damage.is_some() {
        Ok(())
    } else {
        Err(format!("{:?}: {said}", outcome.exit).into())
    }
}
