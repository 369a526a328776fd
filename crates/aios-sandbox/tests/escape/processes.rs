//! Other processes: their memory, their signals, their settings; and more processes than allowed.

use std::{
    fs::{self, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    process::Stdio,
    ptr::null,
};

use super::{answered, attacks, call, done};
use crate::ground::Ground;

attacks![
    trace_a_process_of_the_same_user,
    trace_a_process_of_root,
    be_traced,
    read_the_memory_of_the_daemon_by_proc,
    read_the_environment_of_the_daemon,
    read_the_memory_map_of_the_daemon,
    read_memory_by_process_vm_readv,
    write_memory_by_process_vm_writev,
    kill_a_process_of_the_same_user,
    kill_a_process_of_root,
    kill_the_daemon,
    // Refused for each by Landlock, and yet answered with success as a whole.
    kill_everybody["privileged"],
    kill_a_thread_of_the_victim,
    queue_a_signal,
    signal_by_a_descriptor,
    signal_by_an_owned_pipe,
    take_a_descriptor_of_the_daemon,
    see_the_session_of_the_daemon["privileged"],
    change_the_priority_of_the_victim,
    change_the_scheduling_of_the_victim,
    change_the_limits_of_the_victim,
    change_the_victims_chance_to_be_killed_for_memory,
    compare_with_the_daemon,
    move_pages_of_the_victim,
    outlive_the_call,
    start_more_threads_than_allowed,
    take_more_memory_than_allowed,
    raise_the_own_limits,
    stop_dying_with_the_server,
    become_dumpable,
    let_others_trace,
    set_the_oom_score,
];

fn trace(pid: i32) -> io::Result<String> {
    // SEIZE stops nobody.
    done(call!(libc::SYS_ptrace, libc::PTRACE_SEIZE, pid, 0, 0))
}

fn trace_a_process_of_the_same_user(ground: &Ground) -> io::Result<String> {
    trace(ground.victim)
}

fn trace_a_process_of_root(ground: &Ground) -> io::Result<String> {
    trace(ground.root_victim)
}

fn be_traced(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0))
}

fn read_the_memory_of_the_daemon_by_proc(ground: &Ground) -> io::Result<String> {
    done(fs::File::open(format!("/proc/{}/mem", ground.daemon)))
}

fn read_the_environment_of_the_daemon(ground: &Ground) -> io::Result<String> {
    fs::read(format!("/proc/{}/environ", ground.daemon)).map(|bytes| format!("{} bytes", bytes.len()))
}

fn read_the_memory_map_of_the_daemon(ground: &Ground) -> io::Result<String> {
    let map = fs::read_to_string(format!("/proc/{}/maps", ground.daemon))?;
    if map.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(format!("{} bytes", map.len())) }
}

/// One byte between here and a place of the victim where nothing is: whether one may is decided before that is seen.
fn move_a_byte(number: libc::c_long, pid: i32) -> io::Result<String> {
    let mut byte = 0_u8;
    let (here, there) = ([&raw mut byte as u64, 1], [4096_u64, 1]);
    answered(call!(number, pid, here.as_ptr(), 1, there.as_ptr(), 1, 0))
}

fn read_memory_by_process_vm_readv(ground: &Ground) -> io::Result<String> {
    move_a_byte(libc::SYS_process_vm_readv, ground.victim)
}

fn write_memory_by_process_vm_writev(ground: &Ground) -> io::Result<String> {
    move_a_byte(libc::SYS_process_vm_writev, ground.victim)
}

/// Signal 0 asks whether a signal could be sent.
fn kill(pid: i32) -> io::Result<String> {
    done(call!(libc::SYS_kill, pid, 0))
}

fn kill_a_process_of_the_same_user(ground: &Ground) -> io::Result<String> {
    kill(ground.victim)
}

fn kill_a_process_of_root(ground: &Ground) -> io::Result<String> {
    kill(ground.root_victim)
}

fn kill_the_daemon(ground: &Ground) -> io::Result<String> {
    kill(ground.daemon)
}

fn kill_everybody(_: &Ground) -> io::Result<String> {
    kill(-1)
}

fn kill_a_thread_of_the_victim(ground: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_tgkill, ground.victim, ground.victim, 0))
}

fn queue_a_signal(ground: &Ground) -> io::Result<String> {
    let mut information = [0_i32; 32];
    information[2] = libc::SI_QUEUE;
    done(call!(libc::SYS_rt_sigqueueinfo, ground.victim, 0, information.as_ptr()))
}

fn signal_by_a_descriptor(ground: &Ground) -> io::Result<String> {
    let process = call!(libc::SYS_pidfd_open, ground.victim, 0)?;
    done(call!(libc::SYS_pidfd_send_signal, process, 0, null::<u8>(), 0))
}

/// The kernel sends `SIGKILL` to the owner of a socket when something arrives; whether it did shows on the victim.
fn signal_by_an_owned_pipe(ground: &Ground) -> io::Result<String> {
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    call!(libc::SYS_fcntl, one.as_raw_fd(), libc::F_SETOWN, ground.victim)?;
    const F_SETSIG: i32 = 10;
    call!(libc::SYS_fcntl, one.as_raw_fd(), F_SETSIG, libc::SIGKILL)?;
    call!(libc::SYS_fcntl, one.as_raw_fd(), libc::F_SETFL, libc::O_ASYNC)?;
    io::Write::write_all(&mut &other, b"x")?;
    Err(io::Error::other("sent; the victim tells"))
}

fn take_a_descriptor_of_the_daemon(ground: &Ground) -> io::Result<String> {
    let process = call!(libc::SYS_pidfd_open, ground.daemon, 0)?;
    done(call!(libc::SYS_pidfd_getfd, process, 0, 0))
}

fn see_the_session_of_the_daemon(ground: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_getsid, ground.daemon))
}

fn change_the_priority_of_the_victim(ground: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_setpriority, libc::PRIO_PROCESS, ground.victim, 1))
}

fn change_the_scheduling_of_the_victim(ground: &Ground) -> io::Result<String> {
    let all = [u64::MAX; 16];
    done(call!(libc::SYS_sched_setaffinity, ground.victim, 128, all.as_ptr()))
}

fn change_the_limits_of_the_victim(ground: &Ground) -> io::Result<String> {
    let limit = [64_u64, 64];
    done(call!(libc::SYS_prlimit64, ground.victim, libc::RLIMIT_NOFILE, limit.as_ptr(), null::<u8>()))
}

fn change_the_victims_chance_to_be_killed_for_memory(ground: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open(format!("/proc/{}/oom_score_adj", ground.victim)))
}

fn compare_with_the_daemon(ground: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_kcmp, ground.daemon, ground.root_victim, 0, 0, 0))
}

fn move_pages_of_the_victim(ground: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_move_pages, ground.victim, 0, null::<u8>(), null::<u8>(), null::<u8>(), 0))
}

/// Whether it lived on shows outside.
fn outlive_the_call(_: &Ground) -> io::Result<String> {
    use std::os::unix::process::CommandExt as _;
    let mut program = std::process::Command::new("/bin/sleep");
    program
        .arg0(crate::ground::OUTLIVER)
        .arg("1000")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Err(io::Error::other("started; whether it lives on shows outside"))
}

fn start_more_threads_than_allowed(ground: &Ground) -> io::Result<String> {
    let (hold, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let mut threads = Vec::new();
    let mut met = None;
    for _ in 0..ground.tasks_max {
        let wait = wait.clone();
        match std::thread::Builder::new().stack_size(64 << 10).spawn(move || drop(wait.lock().map(|wait| wait.recv())))
        {
            Ok(thread) => threads.push(thread),
            Err(error) => met = Some(error),
        }
    }
    drop(hold);
    let _ = threads.into_iter().try_for_each(std::thread::JoinHandle::join);
    met.map_or_else(|| done(Ok(())), Err)
}

fn take_more_memory_than_allowed(_: &Ground) -> io::Result<String> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve_exact(512 << 20).map_err(io::Error::other)?;
    done(Ok(()))
}

fn raise_the_own_limits(_: &Ground) -> io::Result<String> {
    let limit = [1024_u64, 1024];
    done(call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), null::<u8>()))
}

fn stop_dying_with_the_server(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0))
}

fn become_dumpable(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0))
}

fn let_others_trace(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_prctl, libc::PR_SET_PTRACER, -1, 0, 0, 0))
}

fn set_the_oom_score(_: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open("/proc/self/oom_score_adj"))
}
