//! What PID 1 holds in bounds, and what holds PID 1.

use std::time::Duration;

use aios_core::quantity::ByteSize;
use aios_image_tests::qemu::{Scratch, TestVm};
use aios_vm::{conf_volume::EmergencyShell, console};

/// Where the units' control groups are.
const GROUPS: &str = "/sys/fs/cgroup/aios";
/// For what takes a machine that runs a moment, or a watchdog its five seconds.
const SOON: Duration = Duration::from_secs(60);

fn boot_with_shell(scratch: &Scratch, watchdog: &str) -> TestVm {
    let machine = scratch.machine("run").emergency_shell(EmergencyShell::Allowed);
    TestVm::start_to_ready(machine.setting(format!("init.watchdog = \"{watchdog}\""))).0
}

/// The story: PID 1 hangs in the kernel, and nothing that runs can end that. The device is alone in a cellar.
#[test]
fn a_hung_pid_1_is_reset_by_the_hardware_watchdog() {
    let scratch = Scratch::new();
    let mut machine = boot_with_shell(&scratch, "5s");
    machine.expect_line("aios-init: watchdog armed: the machine is reset when PID 1 hangs for 5 s");
    machine.console().unwrap().skip_seen();
    let mut qemu = machine.qmp().unwrap_or_else(|error| panic!("{error}"));
    // No signal stops PID 1; the freezer does.
    machine
        .send_console("cd /sys/fs/cgroup; mkdir hung; echo 1 >hung/cgroup.procs; echo 1 >hung/cgroup.freeze\n")
        .unwrap();
    let event = qemu.wait_event("WATCHDOG", SOON).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(event["action"], "reset");
    drop(qemu);
    machine.expect_line(console::STAGE_1);
    machine.expect_line(console::ALL_READY);
    machine.power_off();
}

#[test]
fn a_watchdog_time_of_zero_arms_nothing_and_a_power_button_that_comes_late_is_heard() {
    let scratch = Scratch::new();
    let mut machine = boot_with_shell(&scratch, "0s");
    assert_eq!(machine.shell("ls /dev/watchdog"), "/dev/watchdog");
    let open = machine.shell("ls -l /proc/1/fd");
    assert!(open.contains("socket:") && !open.contains("watchdog"), "{open}");
    power_off_by_a_late_button(&mut machine);
    let text = machine.console_text();
    assert!(!text.contains("watchdog armed"), "armed all the same:\n{text}");
}

/// Takes the button's driver away and back, as if it came late; then presses once, because a press that nobody hears is
/// lost.
fn power_off_by_a_late_button(machine: &mut TestVm) {
    let drivers = "cd /sys/bus/acpi/drivers/button";
    let button = machine.shell(&format!("{drivers}; ls -d LNXPWRBN:*"));
    assert!(!button.contains(char::is_whitespace) && button.starts_with("LNXPWRBN:"), "{button}");
    // A second is enough for a button that is told of, and too little for one that is found by chance.
    machine.shell(&format!("{drivers}; echo {button} >unbind; echo {button} >bind; sleep 1"));
    let mut qemu = machine.qmp().unwrap_or_else(|error| panic!("{error}"));
    qemu.execute("system_powerdown").unwrap_or_else(|error| panic!("{error}"));
    drop(qemu);
    machine.wait_console("aios-init: power button pressed", SOON).unwrap_or_else(|error| panic!("{error}"));
    machine.expect_line(console::POWER_OFF);
}

/// The story: a service leaks memory. It alone is ended and started again.
#[test]
fn limits_are_in_force_and_a_unit_beyond_its_memory_is_ended_alone() {
    let scratch = Scratch::new();
    let (mut machine, _) = TestVm::start_to_ready(scratch.machine("run").emergency_shell(EmergencyShell::Allowed));
    let network: ByteSize = limit(&mut machine, "network", "memory-max").trim_matches('"').parse().unwrap();
    assert_eq!(machine.shell(&format!("cat {GROUPS}/network/memory.max")), network.0.to_string());
    let tasks = limit(&mut machine, "runtime", "tasks-max");
    assert_eq!(machine.shell(&format!("cat {GROUPS}/runtime/pids.max")), tasks);

    let runtime = machine.shell("pidof aios-runtime");
    assert!(runtime.parse::<u32>().is_ok(), "{runtime}");
    machine.console().unwrap().skip_seen();
    let twice = network.0 * 2;
    let leak = format!("echo 0 >{GROUPS}/network/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs={twice} count=1");
    machine.shell(&format!("sh -c '{leak}'"));
    let ended = machine.expect_line("aios-init: unit network: ");
    assert!(ended.contains("Backoff (running): killed by signal 9"), "{ended}");
    machine.expect_line("aios-init: unit network: Ready");
    assert_eq!(machine.shell("pidof aios-runtime"), runtime);
    let text = machine.power_off();
    assert!(text.contains("Memory cgroup out of memory"), "the kernel names no reason:\n{text}");
    let others = ["runtime", "emergency-shell"].map(|unit| text.matches(&format!("unit {unit}: Ready")).count());
    assert_eq!(others, [1, 1], "another unit was ended, too:\n{text}");
}

/// A limit as the unit's file on the image has it.
fn limit(machine: &mut TestVm, unit: &str, key: &str) -> String {
    let line = machine.shell(&format!("grep '^{key} = ' /usr/lib/aios/units/{unit}.toml"));
    line.split_once(" = ").unwrap_or_else(|| panic!("{unit} has no {key}: {line}")).1.to_owned()
}
