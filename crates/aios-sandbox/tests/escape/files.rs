//! Files that were not granted, and changes to files that were granted to read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use super::{attacks, c_path, call, done, read_secret};
use crate::ground::Ground;

attacks![
    read_the_secret_by_its_path,
    read_the_secret_through_dot_dot,
    read_the_secret_through_a_link_in_a_directory_to_read,
    read_the_secret_through_a_link_in_a_directory_to_write,
    read_the_secret_through_a_new_link,
    read_the_secret_through_a_link_to_its_directory,
    race_a_file_against_a_link,
    link_the_secret_into_a_granted_directory,
    move_a_file_out_of_a_granted_directory,
    see_that_a_file_outside_exists,
    read_a_file_of_another_user,
    write_a_file_to_read,
    append_to_a_file_to_read,
    truncate_a_file_to_read,
    change_the_mode_of_a_file_to_read,
    change_the_times_of_a_file_to_read,
    set_an_attribute_of_a_file_to_read,
    remove_a_file_to_read,
    make_a_file_in_a_directory_to_read,
    make_a_directory_in_the_root,
    list_the_root,
    find_an_open_file_of_the_daemon,
    write_more_than_the_largest_file,
    open_more_files_than_allowed,
    read_by_a_file_handle,
    make_a_block_device,
    make_a_character_device,
    make_a_socket_file,
    open_the_machines_memory,
    open_a_disk,
    open_a_terminal,
    read_the_programs_own_file,
    write_the_programs_own_file,
];

fn read_the_secret_by_its_path(ground: &Ground) -> io::Result<String> {
    read_secret(&ground.secret)
}

fn read_the_secret_through_dot_dot(ground: &Ground) -> io::Result<String> {
    read_secret(ground.write.join("../outside/secret"))
}

fn read_the_secret_through_a_link_in_a_directory_to_read(ground: &Ground) -> io::Result<String> {
    read_secret(ground.read.join("link"))
}

fn read_the_secret_through_a_link_in_a_directory_to_write(ground: &Ground) -> io::Result<String> {
    read_secret(ground.write.join("link"))
}

fn read_the_secret_through_a_new_link(ground: &Ground) -> io::Result<String> {
    let link = ground.write.join("new-link");
    let _ = fs::remove_file(&link);
    symlink(&ground.secret, &link)?;
    read_secret(link)
}

fn read_the_secret_through_a_link_to_its_directory(ground: &Ground) -> io::Result<String> {
    read_secret(ground.write.join("up/secret"))
}

fn race_a_file_against_a_link(ground: &Ground) -> io::Result<String> {
    let (file, link) = (ground.write.join("race"), ground.write.join("race-link"));
    // An earlier race may have left them the other way round.
    let _ = (fs::remove_file(&file), fs::remove_file(&link));
    fs::write(&file, "harmless")?;
    symlink(&ground.secret, &link)?;
    let (from, to) = (c_path(&file), c_path(&link));
    let swapper = std::thread::spawn(move || {
        for _ in 0..2000 {
            let _ = call!(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), 2);
        }
    });
    let mut met = io::Error::other("never the secret");
    while !swapper.is_finished() {
        match read_secret(&file) {
            Ok(prize) => {
                let _ = swapper.join();
                return Ok(prize);
            }
            Err(error) => met = error,
        }
    }
    Err(met)
}

fn link_the_secret_into_a_granted_directory(ground: &Ground) -> io::Result<String> {
    let name = ground.write.join("hard");
    fs::hard_link(&ground.secret, &name)?;
    read_secret(name)
}

fn move_a_file_out_of_a_granted_directory(ground: &Ground) -> io::Result<String> {
    fs::write(ground.write.join("moved"), "x")?;
    done(fs::rename(ground.write.join("moved"), ground.write.join("../moved")))
}

fn see_that_a_file_outside_exists(ground: &Ground) -> io::Result<String> {
    done(fs::metadata(&ground.secret))
}

fn read_a_file_of_another_user(ground: &Ground) -> io::Result<String> {
    read_secret(ground.write.join("private"))
}

fn write_a_file_to_read(ground: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open(ground.read.join("file")))
}

fn append_to_a_file_to_read(ground: &Ground) -> io::Result<String> {
    done(OpenOptions::new().append(true).open(ground.read.join("file")))
}

fn truncate_a_file_to_read(ground: &Ground) -> io::Result<String> {
    let path = c_path(&ground.read.join("file"));
    done(call!(libc::SYS_truncate, path.as_ptr(), crate::ground::READABLE.len()))
}

fn change_the_mode_of_a_file_to_read(ground: &Ground) -> io::Result<String> {
    done(fs::set_permissions(ground.read.join("file"), fs::Permissions::from_mode(0o644)))
}

fn change_the_times_of_a_file_to_read(ground: &Ground) -> io::Result<String> {
    let path = c_path(&ground.read.join("file"));
    done(call!(libc::SYS_utimensat, libc::AT_FDCWD, path.as_ptr(), std::ptr::null::<u8>(), 0))
}

fn set_an_attribute_of_a_file_to_read(ground: &Ground) -> io::Result<String> {
    let path = c_path(&ground.read.join("file"));
    done(call!(libc::SYS_setxattr, path.as_ptr(), c"user.mark".as_ptr(), c"x".as_ptr(), 1, 0))
}

fn remove_a_file_to_read(ground: &Ground) -> io::Result<String> {
    fs::remove_file(ground.read.join("link"))?;
    done(symlink(&ground.secret, ground.read.join("link")))
}

fn make_a_file_in_a_directory_to_read(ground: &Ground) -> io::Result<String> {
    let path = ground.read.join("made");
    File::create(&path)?;
    done(fs::remove_file(path))
}

fn make_a_directory_in_the_root(_: &Ground) -> io::Result<String> {
    fs::create_dir("/made-by-an-attack")?;
    done(fs::remove_dir("/made-by-an-attack"))
}

fn list_the_root(_: &Ground) -> io::Result<String> {
    done(fs::read_dir("/"))
}

/// Beyond input, output, error and the place for the result.
fn find_an_open_file_of_the_daemon(_: &Ground) -> io::Result<String> {
    let open = (4..1024).find(|number| call!(libc::SYS_fcntl, *number, libc::F_GETFD).is_ok());
    open.map(|number| format!("descriptor {number}")).ok_or_else(|| io::Error::other("none is open"))
}

fn write_more_than_the_largest_file(ground: &Ground) -> io::Result<String> {
    call!(libc::SYS_rt_sigaction, libc::SIGXFSZ, ignore().as_ptr(), std::ptr::null::<u8>(), 8)?;
    let mut file = File::create(ground.write.join("large"))?;
    let written = (0..=ground.file_size_max / 65_536).try_for_each(|_| file.write_all(&[0; 65_536]));
    let _ = fs::remove_file(ground.write.join("large"));
    done(written)
}

/// `struct kernel_sigaction` with `SIG_IGN` as its handler.
fn ignore() -> [u64; 4] {
    [libc::SIG_IGN as u64, 0, 0, 0]
}

fn open_more_files_than_allowed(ground: &Ground) -> io::Result<String> {
    let mut open = Vec::new();
    for _ in 0..=ground.open_files_max {
        open.push(File::open("/dev/null")?);
    }
    done(Ok(()))
}

fn read_by_a_file_handle(ground: &Ground) -> io::Result<String> {
    // A handle with room for 128 bytes, of the granted directory; a real attack then guesses the one of `/`.
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let mut mount = 0_i32;
    let path = c_path(&ground.write);
    call!(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), &raw mut handle, &raw mut mount, 0)?;
    let directory = File::open(&ground.write)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    done(call!(libc::SYS_open_by_handle_at, number, &raw mut handle, libc::O_PATH))
}

fn make_node(ground: &Ground, kind: u32, device: u64) -> io::Result<String> {
    let path = ground.write.join("node");
    let name = c_path(&path);
    let made = call!(libc::SYS_mknodat, libc::AT_FDCWD, name.as_ptr(), kind | 0o666, device);
    let _ = fs::remove_file(path);
    done(made)
}

fn make_a_block_device(ground: &Ground) -> io::Result<String> {
    make_node(ground, libc::S_IFBLK, libc::makedev(254, 0))
}

fn make_a_character_device(ground: &Ground) -> io::Result<String> {
    make_node(ground, libc::S_IFCHR, libc::makedev(1, 1))
}

fn make_a_socket_file(ground: &Ground) -> io::Result<String> {
    make_node(ground, libc::S_IFSOCK, 0)
}

fn any_of(paths: &[&str], options: &OpenOptions) -> io::Result<String> {
    let mut met = io::Error::other("no path");
    for path in paths {
        match options.open(path) {
            Ok(_) => return Ok((*path).into()),
            Err(error) => met = error,
        }
    }
    Err(met)
}

fn open_the_machines_memory(_: &Ground) -> io::Result<String> {
    any_of(&["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"], OpenOptions::new().read(true))
}

fn open_a_disk(_: &Ground) -> io::Result<String> {
    any_of(&["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"], OpenOptions::new().read(true))
}

fn open_a_terminal(_: &Ground) -> io::Result<String> {
    let options = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).clone();
    any_of(&["/dev/tty", "/dev/console", "/dev/ptmx", "/dev/tty0"], &options)
}

fn read_the_programs_own_file(_: &Ground) -> io::Result<String> {
    done(File::open(Path::new("/proc/self/exe")))
}

fn write_the_programs_own_file(_: &Ground) -> io::Result<String> {
    done(OpenOptions::new().write(true).open("/proc/self/exe"))
}
