//! A machine with an empty disk: everything but the guest is real. The firmware is what speaks on its console.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use aios_vm::{
    Accelerator, End, Environment, Firmware, Images, Lifetime, RunDir, StartError, Vm, VmBuilder, WaitError,
    machine::DiskFormat, ports::Forwards,
};

const PATIENCE: Duration = Duration::from_secs(120);

fn empty_machine(dir: &Path) -> VmBuilder {
    let disk = dir.join("empty.img");
    File::create(&disk).and_then(|file| file.set_len(1 << 20)).expect("the scratch directory takes a file");
    let images = Images::new(dir.join("images"));
    Vm::builder(&images, dir.join("run")).accelerator(Accelerator::Tcg).memory_mib(256).disk(disk, DiskFormat::Raw)
}

#[test]
fn seabios_says_that_an_empty_disk_does_not_boot() {
    let dir = tempfile::tempdir().unwrap();
    let mut vm = empty_machine(dir.path()).firmware(Firmware::Bios).start().unwrap();
    vm.wait_console("No bootable device", PATIENCE).unwrap();
    assert!(vm.console().unwrap().text().contains("SeaBIOS"));
}

#[test]
fn ovmf_reaches_its_shell_and_obeys_the_console() {
    let dir = tempfile::tempdir().unwrap();
    let mut vm = empty_machine(dir.path()).firmware(Firmware::Uefi).start().unwrap();
    vm.wait_console("any other key to continue", PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    // Any key skips the shell's countdown; `reset -s` powers the machine off.
    vm.send_console("\r").unwrap();
    vm.send_console("reset -s\r").unwrap();
    assert!(vm.wait_end(PATIENCE).unwrap().success());
}

#[test]
fn a_directory_whose_path_is_too_long_for_a_socket_serves() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a".repeat(100)).join("b,c");
    std::fs::create_dir_all(&deep).unwrap();
    let mut vm = empty_machine(&deep).firmware(Firmware::Uefi).start().unwrap();
    vm.wait_console("any other key to continue", PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    vm.send_console("\r").unwrap();
    vm.send_console("reset -s\r").unwrap();
    assert!(vm.wait_end(PATIENCE).unwrap().success());
}

#[test]
fn a_wait_that_ends_without_its_marker_shows_the_console() {
    let dir = tempfile::tempdir().unwrap();
    let mut vm = empty_machine(dir.path()).firmware(Firmware::Bios).start().unwrap();
    vm.wait_console("No bootable device", PATIENCE).unwrap();
    let asked = Instant::now();
    let error = vm.wait_console("all units Ready", Duration::from_secs(1)).unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(matches!(error, WaitError::Timeout { .. }));
    assert!(
        error.to_string().contains("all units Ready") && error.to_string().contains("No bootable device"),
        "{error}"
    );
}

#[test]
fn a_dropped_machine_leaves_no_process_and_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let vm = empty_machine(dir.path()).firmware(Firmware::Bios).start().unwrap();
    let run_dir = RunDir::open(dir.path().join("run")).unwrap();
    assert!(run_dir.running().is_some());
    assert_eq!(&Environment::read(&run_dir.env()).unwrap(), vm.environment());
    drop(vm);
    assert_eq!(run_dir.running(), None);
    assert!(!run_dir.env().exists());
}

#[test]
fn a_second_machine_in_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let builder = empty_machine(dir.path()).firmware(Firmware::Bios);
    let _vm = builder.clone().start().unwrap();
    let error = builder.start().unwrap_err();
    assert!(matches!(error, StartError::AlreadyRunning { .. }), "{error}");
}

#[test]
fn a_detached_machine_runs_on_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let vm = empty_machine(dir.path()).firmware(Firmware::Bios).lifetime(Lifetime::Detachable).start().unwrap();
    vm.detach();
    let run_dir = RunDir::open(dir.path().join("run")).unwrap();
    let running = run_dir.running().unwrap();
    // SeaBIOS does not listen to the power button.
    assert_eq!(run_dir.stop(running, Duration::from_millis(100)), End::Quit);
    assert_eq!(run_dir.running(), None);
}

#[test]
fn a_port_that_is_taken_after_all_is_reported_with_what_qemu_said() {
    let dir = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = held.local_addr().unwrap().port();
    let forwards = Forwards { api, ..Forwards::any().unwrap() };
    let error = empty_machine(dir.path()).firmware(Firmware::Bios).forwards(forwards).start().unwrap_err();
    assert!(matches!(error, StartError::EndedAtOnce { .. }), "{error}");
    assert!(error.to_string().contains("hostfwd") || error.to_string().contains("host forwarding"), "{error}");
}
