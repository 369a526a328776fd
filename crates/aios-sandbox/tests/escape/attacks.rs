//! What an attacker tries from inside. Each attempt gives what it got hold of, or the error that it met.

use std::{fs, io, path::Path};

use crate::ground::{Ground, SECRET};

#[path = "files.rs"]
mod files;
#[path = "kernel.rs"]
mod kernel;
#[path = "mounts.rs"]
mod mounts;
#[path = "network.rs"]
mod network;
#[path = "processes.rs"]
mod processes;
#[path = "programs.rs"]
mod programs;

/// What was got hold of, or what was met.
pub type Attempt = fn(&Ground) -> io::Result<String>;

/// One way out that is tried.
pub struct Attack {
    /// Name of the test.
    pub name: &'static str,
    /// What is done.
    pub attempt: Attempt,
    /// Profiles that grant just this, where it is no escape.
    pub granted: &'static [&'static str],
}

/// Builds a table of attacks from functions.
macro_rules! attacks {
    ($($name:ident $([$($granted:literal),*])?),* $(,)?) => {
        pub const ATTACKS: &[crate::attacks::Attack] = &[$(crate::attacks::Attack {
            name: stringify!($name),
            attempt: $name,
            granted: &[$($($granted),*)?],
        }),*];
    };
}
pub(crate) use attacks;

/// A system call that std does not offer, with its error.
macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        // SAFETY: arguments are numbers, or pointers to values that outlive the call.
        let result = unsafe { libc::syscall($number $(, $argument)*) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
    }};
}
pub(crate) use call;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [files::ATTACKS, mounts::ATTACKS, processes::ATTACKS, programs::ATTACKS, network::ATTACKS, kernel::ATTACKS]
        .into_iter()
        .flatten()
}

/// The handler: the name of an attack, a newline, and the ground as JSON.
pub fn handler(input: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(input);
    let (name, ground) = text.split_once('\n').expect("invariant: tests send two parts");
    let ground: Ground = serde_json::from_str(ground).expect("invariant: tests send the ground");
    let attack = all().find(|attack| attack.name == name).expect("invariant: tests send a known name");
    match (attack.attempt)(&ground) {
        Ok(prize) => format!("ESCAPED {prize}").into_bytes(),
        Err(error) => format!("held: {error}").into_bytes(),
    }
}

/// The prize is the secret itself.
fn read_secret(path: impl AsRef<Path>) -> io::Result<String> {
    let content = fs::read_to_string(path)?;
    if content.contains(SECRET) { Ok(content) } else { Err(io::Error::other("something else lies there")) }
}

/// That it went well is the prize.
fn done<T>(result: io::Result<T>) -> io::Result<String> {
    result.map(|_| "it was done".into())
}

fn c_path(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::CString::new(path.as_os_str().as_bytes()).expect("invariant: no zero in paths of tests")
}

/// Whether it was answered at all: any error but "not permitted" and "no such call" is an answer of the part itself.
fn answered(result: io::Result<i64>) -> io::Result<String> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES)) => Err(error),
        Err(error) => Ok(format!("it answers: {error}")),
        Ok(value) => Ok(format!("it gives {value}")),
    }
}
