//! Services that need more than a shell. PID 1 starts this test program again with a role to play.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;

fn notify(message: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(message.as_bytes(), std::env::var_os("NOTIFY_SOCKET").unwrap()).unwrap();
}

fn tell(event: &str) {
    let mut events = OpenOptions::new().append(true).create(true).open(std::env::var_os("EVENTS").unwrap()).unwrap();
    writeln!(events, "{event}").unwrap();
}

fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

/// Does nothing in an ordinary test run.
#[test]
fn plays_its_role() {
    let Ok(role) = std::env::var("ROLE") else { return };
    match role.as_str() {
        "ready" => {
            notify("STATUS=at work\nREADY=1");
            rest();
        }
        "ready-from-a-child" => {
            // The child's pid is not the unit's main process, but it is in its group; it ends at once.
            // SAFETY: the child makes one system call and ends without returning into the test.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => {
                    notify("READY=1");
                    // SAFETY: takes no pointers.
                    unsafe { libc::_exit(0) }
                }
                nix::unistd::ForkResult::Parent { .. } => rest(),
            }
        }
        "mute" => rest(),
        "impostor" => {
            notify("READY=1");
            tell("impostor spoke");
            rest();
        }
        other => panic!("no role {other}"),
    }
}
