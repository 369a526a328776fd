//! Mounts, roots and namespaces.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    ptr::null,
};

use super::{attacks, c_path, call, done, read_secret};
use crate::ground::Ground;

attacks![
    mount_a_tmpfs,
    bind_a_directory,
    mount_proc,
    unmount_proc,
    unmount_a_directory_to_read,
    remount_a_directory_to_read,
    make_a_mount_writable_by_mount_setattr,
    clone_a_mount,
    open_a_file_system,
    move_the_root,
    change_the_root,
    climb_out_of_the_root,
    new_user_namespace_by_unshare,
    new_mount_namespace_by_unshare,
    new_network_namespace_by_unshare,
    new_user_namespace_by_clone,
    new_user_namespace_by_clone3,
    enter_the_namespace_of_the_first_process,
    enter_the_namespace_of_the_daemon,
    read_the_secret_through_the_root_of_the_first_process,
    read_the_secret_through_the_root_of_the_daemon,
    read_the_secret_through_the_directory_of_the_daemon,
    read_the_secret_through_an_open_file_of_the_daemon,
    map_users_again,
    see_the_machines_host_name,
    change_the_host_name,
    change_the_domain_name,
    join_another_control_group,
    write_a_setting_of_the_kernel,
    write_the_core_pattern,
    press_the_system_request_key,
];

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) -> io::Result<String> {
    let [source, target, kind] = [source, target, kind].map(|text| c_path(text.as_ref()));
    done(call!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, null::<u8>()))
}

fn mount_a_tmpfs(ground: &Ground) -> io::Result<String> {
    let target = ground.write.join("mount");
    let _ = fs::create_dir(&target);
    mount("none", &target.to_string_lossy(), "tmpfs", 0)
}

fn bind_a_directory(ground: &Ground) -> io::Result<String> {
    let target = ground.write.join("mount");
    let _ = fs::create_dir(&target);
    mount(&ground.read.to_string_lossy(), &target.to_string_lossy(), "none", libc::MS_BIND)
}

fn mount_proc(ground: &Ground) -> io::Result<String> {
    let target = ground.write.join("mount");
    let _ = fs::create_dir(&target);
    mount("proc", &target.to_string_lossy(), "proc", 0)
}

fn unmount_proc(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_umount2, c"/proc".as_ptr(), libc::MNT_DETACH))
}

fn unmount_a_directory_to_read(ground: &Ground) -> io::Result<String> {
    let target = c_path(&ground.read);
    done(call!(libc::SYS_umount2, target.as_ptr(), libc::MNT_DETACH))
}

fn remount_a_directory_to_read(ground: &Ground) -> io::Result<String> {
    mount("none", &ground.read.to_string_lossy(), "none", libc::MS_REMOUNT | libc::MS_BIND)
}

fn make_a_mount_writable_by_mount_setattr(ground: &Ground) -> io::Result<String> {
    let target = c_path(&ground.read);
    // Sets nothing and clears "read-only".
    let attributes = [0_u64, 1, 0, 0];
    done(call!(libc::SYS_mount_setattr, libc::AT_FDCWD, target.as_ptr(), 0, attributes.as_ptr(), 32))
}

fn clone_a_mount(ground: &Ground) -> io::Result<String> {
    let target = c_path(&ground.read);
    done(call!(libc::SYS_open_tree, libc::AT_FDCWD, target.as_ptr(), 1))
}

fn open_a_file_system(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))
}

fn move_the_root(ground: &Ground) -> io::Result<String> {
    let target = c_path(&ground.write);
    done(call!(libc::SYS_pivot_root, target.as_ptr(), target.as_ptr()))
}

fn change_the_root(ground: &Ground) -> io::Result<String> {
    done(std::os::unix::fs::chroot(&ground.write))
}

fn climb_out_of_the_root(ground: &Ground) -> io::Result<String> {
    let above = File::open("/dev").or_else(|_| File::open(&ground.write))?;
    let _ = std::os::unix::fs::chroot(&ground.write);
    call!(libc::SYS_fchdir, above.as_raw_fd())?;
    for _ in 0..64 {
        std::env::set_current_dir("..")?;
    }
    let _ = std::os::unix::fs::chroot(".");
    read_secret(ground.secret.strip_prefix("/").expect("invariant: the path is absolute"))
}

fn new_user_namespace_by_unshare(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_unshare, libc::CLONE_NEWUSER))
}

fn new_mount_namespace_by_unshare(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_unshare, libc::CLONE_NEWNS))
}

fn new_network_namespace_by_unshare(_: &Ground) -> io::Result<String> {
    done(call!(libc::SYS_unshare, libc::CLONE_NEWNET))
}

fn new_user_namespace_by_clone(_: &Ground) -> io::Result<String> {
    let pid = call!(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0)?;
    end_if_child(pid);
    done(Ok(()))
}

fn new_user_namespace_by_clone3(_: &Ground) -> io::Result<String> {
    let mut arguments = [0_u64; 11];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    let pid = call!(libc::SYS_clone3, arguments.as_ptr(), 88)?;
    end_if_child(pid);
    done(Ok(()))
}

fn end_if_child(pid: libc::c_long) {
    if pid == 0 {
        // SAFETY: ends this process and asks nothing of it.
        unsafe { libc::_exit(0) };
    }
}

fn enter(pid: i32) -> io::Result<String> {
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    done(call!(libc::SYS_setns, namespace.as_raw_fd(), 0))
}

fn enter_the_namespace_of_the_first_process(_: &Ground) -> io::Result<String> {
    enter(1)
}

fn enter_the_namespace_of_the_daemon(ground: &Ground) -> io::Result<String> {
    enter(ground.daemon)
}

fn read_the_secret_through_the_root_of_the_first_process(ground: &Ground) -> io::Result<String> {
    read_secret(format!("/proc/1/root{}", ground.secret.display()))
}

fn read_the_secret_through_the_root_of_the_daemon(ground: &Ground) -> io::Result<String> {
    read_secret(format!("/proc/{}/root{}", ground.daemon, ground.secret.display()))
}

fn read_the_secret_through_the_directory_of_the_daemon(ground: &Ground) -> io::Result<String> {
    let up = "../".repeat(20);
    read_secret(format!("/proc/{}/cwd/{up}{}", ground.daemon, ground.secret.display()))
}

fn read_the_secret_through_an_open_file_of_the_daemon(ground: &Ground) -> io::Result<String> {
    let mut met = io::Error::other("no descriptor leads to it");
    for number in 3..256 {
        match read_secret(format!("/proc/{}/fd/{number}", ground.daemon)) {
            Ok(prize) => return Ok(prize),
            Err(error) => met = error,
        }
    }
    Err(met)
}

fn map_users_again(_: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open("/proc/self/uid_map"))
}

fn see_the_machines_host_name(ground: &Ground) -> io::Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name == ground.host_name { Ok(name) } else { Err(io::Error::other("another name is seen")) }
}

fn change_the_host_name(_: &Ground) -> io::Result<String> {
    let name = rustix::system::uname().nodename().to_owned();
    done(call!(libc::SYS_sethostname, name.as_ptr(), name.as_bytes().len()))
}

fn change_the_domain_name(_: &Ground) -> io::Result<String> {
    let name = rustix::system::uname().domainname().to_owned();
    done(call!(libc::SYS_setdomainname, name.as_ptr(), name.as_bytes().len()))
}

fn join_another_control_group(_: &Ground) -> io::Result<String> {
    let roots = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"];
    roots
        .iter()
        .find_map(|root| OpenOptions::new().write(true).open(root).ok())
        .map_or_else(|| done(OpenOptions::new().write(true).open(roots[0])), |_| done(Ok(())))
}

fn write_a_setting_of_the_kernel(_: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open("/proc/sys/kernel/panic"))
}

fn write_the_core_pattern(_: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern"))
}

fn press_the_system_request_key(_: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open("/proc/sysrq-trigger"))
}
