//! The machine as the attacker finds it: secrets, victims and listeners outside, and a directory to read and one to
//! write inside.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{PermissionsExt as _, symlink},
            net::{SocketAddr, UnixListener},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use aios_sandbox::{Capability, Identity, Limits, Network, Processes, Profile};
use serde::{Deserialize, Serialize};

/// What nobody inside may learn.
pub const SECRET: &str = "the launch code is 00000000";
/// Name of a process that tries to live longer than its call.
pub const OUTLIVER: &str = "outlive-me";
/// What a file to read says before and after.
pub const READABLE: &str = "to be read";

/// What the attacker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ground {
    /// File outside, readable by everybody.
    pub secret: PathBuf,
    /// Granted to read; holds `file`, and `link` to the secret.
    pub read: PathBuf,
    /// Granted to write; holds `link` to the secret, `up` to its directory, and `program`, a copy of `true`, set-user-id.
    pub write: PathBuf,
    /// A process outside of user 65534.
    pub victim: i32,
    /// A process outside of root.
    pub root_victim: i32,
    /// The process that holds the sandbox.
    pub daemon: i32,
    /// An abstract socket outside.
    pub abstract_name: String,
    /// A path socket outside that is not granted.
    pub socket: PathBuf,
    /// A path socket that the profile `network` is granted, and with it the family.
    pub granted_socket: PathBuf,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Host name outside.
    pub host_name: String,
    /// Processes allowed at once.
    pub tasks_max: u32,
    /// Largest file allowed, in bytes.
    pub file_size_max: u64,
    /// Most open files allowed.
    pub open_files_max: u32,
}

/// The ground while it exists.
pub struct Field {
    /// What the attacker is told.
    pub ground: Ground,
    victims: [Child; 2],
    _listeners: (TcpListener, [UnixListener; 3]),
    _leak: OwnedFd,
    _directory: tempfile::TempDir,
}

impl Field {
    /// Prepares all of it.
    pub fn new() -> io::Result<Field> {
        let directory = tempfile::tempdir()?;
        let base = directory.path().canonicalize()?;
        let (outside, read, write) = (base.join("outside"), base.join("read"), base.join("write"));
        for made in [&outside, &read, &write] {
            fs::create_dir(made)?;
        }
        for open in [&base, &outside, &read] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(&write, fs::Permissions::from_mode(0o777))?;
        let secret = outside.join("secret");
        fs::write(&secret, SECRET)?;
        fs::write(read.join("file"), READABLE)?;
        // Of the identity that the plain profile has, so that only the sandbox keeps it from being changed.
        std::os::unix::fs::chown(read.join("file"), Some(65_534), Some(65_534))?;
        std::os::unix::fs::chown(&read, Some(65_534), Some(65_534))?;
        symlink(&secret, read.join("link"))?;
        symlink(&secret, write.join("link"))?;
        symlink(&outside, write.join("up"))?;
        let program = write.join("program");
        fs::copy(fs::canonicalize("/bin/true")?, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
        let private = write.join("private");
        fs::write(&private, SECRET)?;
        std::os::unix::fs::chown(&private, Some(12_345), Some(12_345))?;
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;

        let sleeper = |uid: u32| {
            Command::new("/bin/sleep")
                .arg("1000")
                .uid(uid)
                .gid(uid)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let victims = [sleeper(65_534)?, sleeper(0)?];
        let abstract_name = format!("aios-escape-{}", base.display());
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = outside.join("socket");
        let ground = Ground {
            secret: secret.clone(),
            read,
            write,
            victim: victims[0].id() as i32,
            root_victim: victims[1].id() as i32,
            daemon: std::process::id() as i32,
            abstract_name: abstract_name.clone(),
            socket: socket.clone(),
            granted_socket: base.join("granted-socket"),
            port: listener.local_addr()?.port(),
            host_name: fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned(),
            tasks_max: 8,
            file_size_max: 1 << 20,
            open_files_max: 32,
        };
        let unix = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
        let granted = UnixListener::bind(&ground.granted_socket)?;
        let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(abstract_name)?)?;
        // A descriptor that survives `execve` by mistake.
        let leak: OwnedFd = fs::File::open(&secret)?.into();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty())?;
        Ok(Field {
            ground,
            victims,
            _listeners: (listener, [unix, granted, hidden]),
            _leak: leak,
            _directory: directory,
        })
    }

    /// What an attack has changed outside, if anything.
    pub fn damage(&mut self) -> Option<String> {
        let says = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        if says(&self.ground.secret) != SECRET {
            return Some("the secret was changed".into());
        }
        let file = self.ground.read.join("file");
        if says(&file) != READABLE {
            return Some("a file to read was changed".into());
        }
        let mode = fs::metadata(&file).map_or(0, |metadata| metadata.permissions().mode() & 0o7777);
        if mode != 0o644 {
            return Some(format!("a file to read has mode {mode:o}"));
        }
        for victim in &mut self.victims {
            if !matches!(victim.try_wait(), Ok(None)) {
                return Some(format!("victim {} is dead", victim.id()));
            }
        }
        if says(Path::new("/proc/sys/kernel/hostname")).trim() != self.ground.host_name {
            return Some("the host name was changed".into());
        }
        process_with(OUTLIVER).map(|pid| format!("process {pid} has outlived its call"))
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for victim in &mut self.victims {
            let _ = victim.kill();
            let _ = victim.wait();
        }
    }
}

/// A process whose command line holds a mark.
fn process_with(mark: &str) -> Option<String> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let found = line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes());
        found.then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// Ends what lives longer than its call when no layer ends it.
#[allow(dead_code, reason = "only where a layer is left out does something live on")]
pub fn end_outlivers() {
    while let Some(pid) = process_with(OUTLIVER).and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        std::thread::yield_now();
    }
}

/// Profiles that attacks are made under.
pub fn profiles(ground: &Ground) -> [(&'static str, Profile); 3] {
    let limits = Limits {
        tasks_max: ground.tasks_max,
        file_size_max: ground.file_size_max,
        open_files_max: ground.open_files_max,
        ..Limits::default()
    };
    let plain =
        Profile { read: vec![ground.read.clone()], write: vec![ground.write.clone()], limits, ..Profile::default() };
    let network = Profile {
        network: Network::Host,
        execute: vec!["/bin/sleep".into()],
        sockets: vec![ground.granted_socket.clone()],
        identity: Identity::Daemon,
        ..plain.clone()
    };
    let privileged = Profile {
        network: Network::Host,
        processes: Processes::Host,
        capabilities: [Capability::NetAdmin, Capability::SysTime].into(),
        identity: Identity::Daemon,
        execute: vec!["/bin/sleep".into()],
        ..plain.clone()
    };
    [("plain", plain), ("network", network), ("privileged", privileged)]
}
