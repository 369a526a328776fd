//! Parts of the kernel that a tool has no need of.

use std::{io, ptr::null};

use super::{answered, attacks, call};
use crate::ground::Ground;

attacks![
    set_up_an_io_ring,
    load_a_bpf_program,
    make_a_bpf_map,
    count_events,
    handle_page_faults,
    add_a_key,
    ask_for_a_key,
    read_the_keyring,
    load_a_module,
    load_another_kernel,
    restart_the_machine,
    use_a_swap_file,
    account_processes,
    set_a_quota,
    read_the_kernels_log,
    set_the_clock["privileged"],
    adjust_the_clock["privileged"],
    change_descriptor_tables_of_the_processor,
    open_io_ports,
    watch_all_files,
    share_memory_by_system_v,
    make_a_message_queue,
    make_semaphores,
    open_a_posix_queue,
    make_secret_memory,
    make_an_anonymous_file,
    make_a_landlock_ruleset,
    change_the_page_policy,
    hang_up_the_terminal,
    use_vmsplice,
];

fn set_up_an_io_ring(_: &Ground) -> io::Result<String> {
    let parameters = [0_u8; 120];
    answered(call!(libc::SYS_io_uring_setup, 4, parameters.as_ptr()))
}

fn load_a_bpf_program(_: &Ground) -> io::Result<String> {
    const BPF_PROG_LOAD: i32 = 5;
    let attributes = [0_u8; 128];
    answered(call!(libc::SYS_bpf, BPF_PROG_LOAD, attributes.as_ptr(), 128))
}

fn make_a_bpf_map(_: &Ground) -> io::Result<String> {
    let attributes = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0];
    answered(call!(libc::SYS_bpf, 0, attributes.as_ptr(), 40))
}

fn count_events(_: &Ground) -> io::Result<String> {
    let mut attributes = [0_u32; 32];
    attributes[0] = 1; // software
    attributes[1] = 128;
    answered(call!(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0))
}

fn handle_page_faults(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_userfaultfd, 1))
}

fn add_a_key(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_add_key, c"user".as_ptr(), c"mark".as_ptr(), c"x".as_ptr(), 1, -2))
}

fn ask_for_a_key(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_request_key, c"user".as_ptr(), c"nothing".as_ptr(), null::<u8>(), 0))
}

fn read_the_keyring(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_keyctl, 0, -3, 0, 0, 0))
}

fn load_a_module(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_finit_module, -1, c"".as_ptr(), 0))
}

/// More segments than there can be: whether one may is decided before.
fn load_another_kernel(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_kexec_load, 0, 1000, null::<u8>(), 0))
}

/// With numbers that mean nothing: whether one may is decided before.
fn restart_the_machine(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_reboot, 0, 0, 0, null::<u8>()))
}

fn use_a_swap_file(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_swapon, c"/nowhere".as_ptr(), 0))
}

fn account_processes(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_acct, c"/nowhere".as_ptr()))
}

fn set_a_quota(_: &Ground) -> io::Result<String> {
    const SYNC_USERS: i32 = 0x80_0001_u32.cast_signed() << 8;
    answered(call!(libc::SYS_quotactl, SYNC_USERS, null::<u8>(), 0, null::<u8>()))
}

fn read_the_kernels_log(_: &Ground) -> io::Result<String> {
    const SIZE_OF_BUFFER: i32 = 10;
    answered(call!(libc::SYS_syslog, SIZE_OF_BUFFER, null::<u8>(), 0))
}

/// To the time that it shows.
fn set_the_clock(_: &Ground) -> io::Result<String> {
    let mut time = [0_i64; 2];
    call!(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, time.as_mut_ptr())?;
    answered(call!(libc::SYS_clock_settime, libc::CLOCK_REALTIME, time.as_ptr()))
}

fn adjust_the_clock(_: &Ground) -> io::Result<String> {
    let nothing = [0_u64; 32];
    answered(call!(libc::SYS_adjtimex, nothing.as_ptr()))
}

#[cfg(target_arch = "x86_64")]
fn change_descriptor_tables_of_the_processor(_: &Ground) -> io::Result<String> {
    let room = [0_u8; 64];
    answered(call!(libc::SYS_modify_ldt, 0, room.as_ptr(), 64))
}

#[cfg(target_arch = "x86_64")]
fn open_io_ports(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_ioperm, 0x80, 1, 1))
}

#[cfg(not(target_arch = "x86_64"))]
fn change_descriptor_tables_of_the_processor(_: &Ground) -> io::Result<String> {
    Err(io::Error::other("there are none"))
}

#[cfg(not(target_arch = "x86_64"))]
fn open_io_ports(_: &Ground) -> io::Result<String> {
    Err(io::Error::other("there are none"))
}

fn watch_all_files(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_fanotify_init, 0, 0))
}

fn share_memory_by_system_v(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_shmget, 0, 4096, 0o600))
}

fn make_a_message_queue(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_msgget, 0, 0o600))
}

fn make_semaphores(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_semget, 0, 1, 0o600))
}

fn open_a_posix_queue(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_mq_open, c"aios-escape".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, null::<u8>()))
}

fn make_secret_memory(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_memfd_secret, 0))
}

fn make_an_anonymous_file(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_memfd_create, c"x".as_ptr(), 0))
}

fn make_a_landlock_ruleset(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_landlock_create_ruleset, null::<u8>(), 0, 1))
}

fn change_the_page_policy(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_set_mempolicy, 0, null::<u8>(), 0))
}

fn hang_up_the_terminal(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_vhangup))
}

fn use_vmsplice(_: &Ground) -> io::Result<String> {
    answered(call!(libc::SYS_vmsplice, -1, null::<u8>(), 0, 0))
}
