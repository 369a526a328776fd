//! Tools on a kernel of the image's own, where control groups have their controllers and modules are loaded on demand.

use std::path::{Path, PathBuf};

use aios_image_tests::qemu::{Scratch, TestVm, images};
use aios_vm::{ImageKind, conf_volume::EmergencyShell, disk, machine::DiskFormat};
use serde_json::{Value, json};

const GROUPS: &str = "/sys/fs/cgroup/aios/tools";

/// A disk that outlives its machine.
fn new_disk(scratch: &Scratch) -> PathBuf {
    let disk = scratch.path().join("disk.qcow2");
    let image = images().path(ImageKind::Qcow2).unwrap_or_else(|error| panic!("{error}"));
    disk::create_overlay(&disk, &image, DiskFormat::Qcow2, 8 << 30).unwrap_or_else(|error| panic!("{error}"));
    disk
}

fn boot(scratch: &Scratch, name: &str, disk: &Path) -> TestVm {
    let machine = scratch.machine(name).disk(disk, DiskFormat::Qcow2).emergency_shell(EmergencyShell::Allowed);
    TestVm::start_to_ready(machine).0
}

/// Runs a tool as the operator; the whole answer.
fn call(machine: &mut TestVm, tool: &str, arguments: &Value) -> Value {
    machine.shell(&format!("aios --json tool run {tool} '{arguments}' --yes >/run/called"));
    let answer = machine.read_file("/run/called");
    serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{tool}: {error}: {}", answer.escape_ascii()))
}

/// The story: a folder is deleted by mistake, the device loses power, and the operator notices a day later.
#[test]
fn what_a_tool_deleted_is_brought_back_after_a_power_cut_as_it_was() {
    let scratch = Scratch::new();
    let disk = new_disk(&scratch);
    let facts =
        "cd /var/lib/aios/plant && for f in . log log/a; do stat -c '%n %a %u %g %s %F' $f; done; sha256sum log/a";

    let mut first = boot(&scratch, "first", &disk);
    first.shell("mkdir -p /var/lib/aios/plant/log; dd if=/dev/urandom of=/var/lib/aios/plant/log/a bs=1k count=70");
    first.shell("cd /var/lib/aios/plant; chown 911:912 log/a; chmod 2750 log; chmod 4601 log/a; sync");
    let before = first.shell(facts);
    assert!(before.contains("log/a 4601 911 912 71680"), "{before}");
    let deleted = call(&mut first, "fs.delete", &json!({ "path": "/var/lib/aios/plant/log", "recursive": true }));
    let id = deleted["call_id"].as_str().unwrap_or_else(|| panic!("{deleted}")).to_owned();
    assert_eq!(first.shell("ls /var/lib/aios/plant"), "");
    // Gone, as if unplugged.
    drop(first);

    let mut second = boot(&scratch, "second", &disk);
    let undone = second.shell(&format!("aios rollback {id} >/dev/null && echo undone"));
    assert_eq!(undone, "undone");
    assert_eq!(second.shell(facts), before);
    let verified = second.shell("aios ledger verify >/dev/null && echo sound");
    assert_eq!(verified, "sound");
    second.power_off();
}

/// The story: a model calls a tool such that it would take all memory. That call alone ends, and its caller is told why.
#[test]
fn a_call_has_limits_of_memory_and_processes_and_ends_alone_beyond_them() {
    let scratch = Scratch::new();
    let disk = new_disk(&scratch);
    let mut machine = boot(&scratch, "run", &disk);
    let daemon = machine.shell(&format!("head -n 1 {GROUPS}/daemon/cgroup.procs"));
    assert!(daemon.parse::<u32>().is_ok(), "{daemon}");

    let slow = r#"{"events":["sched/sched_switch"],"duration_ms":10000}"#;
    let trace = format!("aios --json tool run monitor.trace '{slow}' >/run/traced 2>&1; mv /run/traced /run/answer");
    machine.shell(&format!("({trace}) & echo started"));
    machine.shell(&format!("until ls -d {GROUPS}/calls-*/[0-9]* 2>/dev/null >/run/group; do sleep 0.1; done"));
    let limits = machine.shell("cd $(head -n 1 /run/group); cat memory.max pids.max memory.oom.group");
    let limits: Vec<u64> = limits.lines().map(|line| line.parse().expect("a limit")).collect();
    assert!(matches!(limits[..], [memory, tasks, 1] if memory < 1 << 30 && tasks < 1000), "{limits:?}");
    let hog = format!("echo 0 >cgroup.procs; exec dd if=/dev/zero of=/dev/null bs={} count=1", limits[0] * 2);
    machine.shell(&format!("cd $(head -n 1 /run/group); sh -c '{hog}'"));
    machine.shell("until [ -s /run/answer ]; do sleep 0.1; done");
    let answer = machine.read_file("/run/answer");
    let answer: Value =
        serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error}: {}", answer.escape_ascii()));
    assert_eq!(answer["failure"]["code"], "too-large", "{answer}");
    assert_eq!(machine.shell(&format!("head -n 1 {GROUPS}/daemon/cgroup.procs")), daemon, "the service was ended, too");

    // The firewall's modules are loaded when somebody asks for one.
    let shown = call(&mut machine, "firewall.show", &json!({}));
    assert!(shown["result"].is_object(), "{shown}");
    let listed = call(&mut machine, "process.list", &json!({}));
    assert!(listed["result"].to_string().contains("aios-runtime"), "{listed}");
    machine.power_off();
}
