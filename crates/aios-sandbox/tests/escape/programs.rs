//! New code: programs, executable memory, and rights that come with a program.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::FromRawFd as _,
    process::Command,
    ptr::null,
};

use super::{attacks, call, done};
use crate::ground::Ground;

attacks![
    start_a_shell,
    start_a_program_that_was_written,
    start_a_program_by_its_interpreter,
    start_a_program_from_memory,
    start_a_program_by_descriptor,
    start_the_own_program_again,
    map_executable_memory["network", "privileged"],
    map_a_written_file_as_code,
    make_data_executable["network", "privileged"],
    fork["network", "privileged"],
    become_another_user,
    become_root,
    take_another_group,
    raise_capabilities,
    raise_ambient_capabilities,
    change_the_secure_bits,
    set_a_file_capability,
    give_a_file_away,
    install_another_filter,
    change_the_personality,
    call_by_the_32_bit_entry,
    call_by_the_x32_numbers,
];

fn start(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

fn start_a_shell(_: &Ground) -> io::Result<String> {
    start("/bin/sh", &["-c", "echo started"])
}

fn start_a_program_that_was_written(ground: &Ground) -> io::Result<String> {
    start(&ground.write.join("program").to_string_lossy(), &[])
}

/// The interpreter is among the shared libraries, so it may be started where a program may be.
fn start_a_program_by_its_interpreter(ground: &Ground) -> io::Result<String> {
    let interpreters = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let program = ground.write.join("program");
    let mut met = io::Error::other("none");
    for interpreter in interpreters {
        match start(interpreter, &[&program.to_string_lossy()]) {
            Ok(prize) => return Ok(prize),
            Err(error) => met = error,
        }
    }
    Err(met)
}

fn start_a_program_from_memory(ground: &Ground) -> io::Result<String> {
    let memory = call!(libc::SYS_memfd_create, c"program".as_ptr(), 0)?;
    // SAFETY: a new descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(memory as i32) };
    file.write_all(&std::fs::read(ground.write.join("program"))?)?;
    start(&format!("/proc/self/fd/{memory}"), &[])
}

/// Asks for a program that is none, after the permission was checked.
fn start_a_program_by_descriptor(ground: &Ground) -> io::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = ground.write.join("no-program");
    std::fs::write(&path, "neither a script nor a binary")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let file = File::open(path)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    let nothing = [null::<u8>()];
    let met = call!(libc::SYS_execveat, number, c"".as_ptr(), nothing.as_ptr(), nothing.as_ptr(), libc::AT_EMPTY_PATH);
    match met {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOEXEC)) => done(Ok(())),
        other => done(other),
    }
}

fn start_the_own_program_again(_: &Ground) -> io::Result<String> {
    start("/proc/self/exe", &["--help"])
}

fn map(protection: i32, flags: i32, file: i32) -> io::Result<i64> {
    call!(libc::SYS_mmap, null::<u8>(), 4096, protection, flags, file, 0)
}

fn map_executable_memory(_: &Ground) -> io::Result<String> {
    done(map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1))
}

fn map_a_written_file_as_code(ground: &Ground) -> io::Result<String> {
    let file = File::open(ground.write.join("program"))?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    done(map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, number))
}

fn make_data_executable(_: &Ground) -> io::Result<String> {
    let page = map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    done(call!(libc::SYS_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC))
}

fn fork(_: &Ground) -> io::Result<String> {
    let pid = call!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)?;
    if pid == 0 {
        // SAFETY: ends this process and asks nothing of it.
        unsafe { libc::_exit(0) };
    }
    done(Ok(()))
}

fn become_another_user(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_setresuid, 12_345, 12_345, 12_345))
}

fn become_root(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_setresuid, 0, 0, 0))
}

fn take_another_group(_: &Ground) -> io::Result<String> {
    let groups = [0_u32];
    done(call!(libc::SYS_setgroups, 1, groups.as_ptr()))
}

/// Asks for what is not permitted, and looks whether it has come.
fn raise_capabilities(_: &Ground) -> io::Result<String> {
    let header = [0x2008_0522_u32, 0];
    let all = [u32::MAX, u32::MAX, 0, 0x1FF, 0x1FF, 0];
    let _ = call!(libc::SYS_capset, header.as_ptr(), all.as_ptr());
    let mut has = [0_u32; 6];
    call!(libc::SYS_capget, header.as_ptr(), has.as_mut_ptr())?;
    const SYS_ADMIN: u32 = 1 << 21;
    if has[0] & SYS_ADMIN == 0 { Err(io::Error::other("not permitted")) } else { done(Ok(())) }
}

fn raise_ambient_capabilities(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, 12, 0, 0))
}

fn change_the_secure_bits(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_prctl, libc::PR_SET_SECUREBITS, 0, 0, 0, 0))
}

fn set_a_file_capability(ground: &Ground) -> io::Result<String> {
    let file = ground.write.join("capable");
    std::fs::write(&file, "")?;
    let path = super::c_path(&file);
    // Revision 2, effective, everything permitted.
    let all = [0x0200_0001_u32, u32::MAX, 0, u32::MAX, 0];
    done(call!(libc::SYS_setxattr, path.as_ptr(), c"security.capability".as_ptr(), all.as_ptr(), 20, 0))
}

fn give_a_file_away(ground: &Ground) -> io::Result<String> {
    let file = ground.write.join("given");
    std::fs::write(&file, "")?;
    done(std::os::unix::fs::chown(file, Some(12_345), None))
}

fn install_another_filter(_: &Ground) -> io::Result<String> {
    // One instruction: allow.
    let instruction = [0x7FFF_0000_0000_0006_u64];
    let program = [1_u64, instruction.as_ptr() as u64];
    done(call!(libc::SYS_seccomp, 1, 0, program.as_ptr()))
}

fn change_the_personality(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_personality, libc::ADDR_NO_RANDOMIZE))
}

/// `mkdir` by the entry of 32-bit programs, where calls have other numbers.
#[cfg(target_arch = "x86_64")]
fn call_by_the_32_bit_entry(_: &Ground) -> io::Result<String> {
    const GETPID_32: i64 = 20;
    let mut result = GETPID_32;
    // SAFETY: the call takes no arguments and touches no memory.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    if result > 0 { Ok(format!("process {result}")) } else { Err(io::Error::from_raw_os_error(-result as i32)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn call_by_the_32_bit_entry(_: &Ground) -> io::Result<String> {
    Err(io::Error::other("there is none"))
}

fn call_by_the_x32_numbers(_: &Ground) -> io::Result<String> {
    const X32: i64 = 0x4000_0000;
    done(call!(X32 + libc::SYS_getpid))
}
