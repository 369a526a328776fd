//! A system to test: unit files in a directory, `aios-init` on top of them, and what can be seen from outside.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use aios_core::control::{Response, SystemStatus, UnitState, UnitStatus};

/// Generous: the machine may be busy. Nothing waits for this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at something that cannot be waited for.
const GLANCE: Duration = Duration::from_millis(10);

static SYSTEMS: AtomicU32 = AtomicU32::new(0);

/// Unit files and the directory that stands for `/`.
pub struct Plan {
    root: tempfile::TempDir,
    control_groups: bool,
}

/// A running system; ends with the test.
pub struct System {
    pub root: tempfile::TempDir,
    unshare: Child,
    console: Arc<Console>,
    control_group: Option<PathBuf>,
}

#[derive(Default)]
struct Console {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Plan {
    pub fn new() -> Self {
        // Not below /tmp, which PID 1 may mount over.
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir_all(root.path().join("etc/aios/units")).unwrap();
        fs::create_dir_all(root.path().join("var/lib/aios/config/secrets")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nservice:x:61234:61235::/:/bin/false\n",
        )
        .unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\nservice:x:61235:\nrender:x:61236:service\n").unwrap();
        Plan { root, control_groups: true }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(self, path: &str, text: &str) -> Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    pub fn unit(self, name: &str, text: &str) -> Self {
        let path = format!("etc/aios/units/{name}.toml");
        self.write(&path, text)
    }

    /// A unit that runs a shell script. `$EVENTS` is a file to tell the test things in.
    pub fn script(self, name: &str, script: &str, keys: &str) -> Self {
        let events = self.path("events");
        let text = format!(
            "command = [\"/bin/sh\", \"-c\", '''{script}''']\nenvironment = {{ EVENTS = \"{}\" }}\n{keys}\n",
            events.display()
        );
        self.unit(name, &text)
    }

    /// A unit that plays one of the roles in `service.rs`.
    pub fn role(self, name: &str, role: &str, keys: &str) -> Self {
        let events = self.path("events");
        let program = std::env::current_exe().unwrap();
        let text = format!(
            "command = [\"{}\", \"--exact\", \"service::plays_its_role\", \"--nocapture\"]\n\
             environment = {{ EVENTS = \"{}\", ROLE = \"{role}\" }}\n{keys}\n",
            program.display(),
            events.display()
        );
        self.unit(name, &text)
    }

    /// Hides the control groups from PID 1.
    pub fn without_control_groups(mut self) -> Self {
        self.control_groups = false;
        self
    }

    pub fn boot(self) -> System {
        let control_group = if self.control_groups { make_control_group() } else { None };
        let mut script = String::new();
        if let Some(group) = &control_group {
            script += &format!("echo $$ > '{}/cgroup.procs'; ", group.display());
        }
        let user_namespace = if is_root() { "" } else { "--user --map-root-user" };
        let hide =
            if self.control_groups { "" } else { "umount -l /sys/fs/cgroup/unified /sys/fs/cgroup 2>/dev/null; " };
        script += &format!(
            "exec unshare {user_namespace} --pid --mount --fork --mount-proc --kill-child=KILL \
             /bin/sh -c '{hide}exec \"$0\"' \"$0\""
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_aios-init")]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("container", "test").env("AIOS_ROOT", self.root.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut unshare = command.spawn().expect("this test needs util-linux");
        let console = Arc::new(Console::default());
        let output = BufReader::new(unshare.stdout.take().unwrap());
        let sink = Arc::clone(&console);
        std::thread::spawn(move || sink.collect(output));
        System { root: self.root, unshare, console, control_group }
    }
}

impl Console {
    fn collect(&self, output: impl BufRead) {
        for line in output.lines() {
            let Ok(line) = line else { break };
            self.lines.lock().unwrap().0.push(line);
            self.changed.notify_all();
        }
        self.lines.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

impl System {
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// All console lines so far.
    pub fn console(&self) -> Vec<String> {
        self.console.lines.lock().unwrap().0.clone()
    }

    /// Waits for a console line that contains `text`.
    pub fn wait_for_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.console.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !lines.1, "no line \"{text}\" on the console:\n{}", lines.0.join("\n"));
            lines = self.console.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until PID 1 has come to its end.
    pub fn wait_for_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.unshare.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "PID 1 does not end:\n{}", self.console().join("\n"));
            std::thread::sleep(GLANCE);
        }
    }

    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{what} does not come:\n{}", self.console().join("\n"));
            std::thread::sleep(GLANCE);
        }
    }

    /// The lines that units wrote to `$EVENTS`.
    pub fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("events")).unwrap_or_default();
        text.lines().map(ToString::to_string).collect()
    }

    pub fn wait_for_event(&self, event: &str) {
        self.wait_until(event, || self.events().iter().any(|line| line == event));
    }

    pub fn connect(&self) -> UnixStream {
        let path = self.path("run/aios/init.sock");
        self.wait_until("the control socket", || UnixStream::connect(&path).is_ok());
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request; gives the answers, to be read as they come.
    pub fn ask(&self, request: &str) -> impl Iterator<Item = Response> + use<> {
        let mut stream = self.connect();
        writeln!(stream, "{request}").unwrap();
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }

    /// Sends a request that has one answer.
    pub fn order(&self, request: &str) -> Response {
        self.ask(request).next().expect("PID 1 hung up without an answer")
    }

    pub fn status(&self) -> SystemStatus {
        match self.order(r#"{"request":"status"}"#) {
            Response::Status(status) => status,
            other => panic!("no status but {other:?}"),
        }
    }

    pub fn unit(&self, name: &str) -> UnitStatus {
        let status = self.status();
        status.units.into_iter().find(|unit| unit.name == name).unwrap_or_else(|| panic!("no unit {name}"))
    }

    pub fn wait_for_state(&self, name: &str, state: UnitState) -> UnitStatus {
        self.wait_until(&format!("{name} {state:?}"), || self.unit(name).state == state);
        self.unit(name)
    }

    /// Captured lines of a unit, without those that PID 1 added.
    pub fn output(&self, name: &str) -> Vec<String> {
        self.log(name).into_iter().filter(|line| !line.starts_with("aios-init: ")).collect()
    }

    /// All lines of a unit's log.
    pub fn log(&self, name: &str) -> Vec<String> {
        let request = format!(r#"{{"request":"log","unit":"{name}"}}"#);
        let text = |response| match response {
            Response::Log(line) => line.text,
            other => panic!("no log line but {other:?}"),
        };
        self.ask(&request).map(text).collect()
    }

    pub fn wait_for_log(&self, name: &str, text: &str) {
        self.wait_until(text, || self.log(name).iter().any(|line| line.contains(text)));
    }

    /// PID 1's pid as the test sees it.
    pub fn pid1(&self) -> u32 {
        let unshare = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        children.split_whitespace().next().expect("PID 1 runs").parse().unwrap()
    }

    /// Processes in PID 1's namespace, itself included, with their state letter and parent, all in the test's view.
    pub fn processes(&self) -> Vec<(u32, char, String)> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.pid1()).expect("PID 1 runs");
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let describe = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            (namespace(pid)? == own).then(|| (pid, state, String::from_utf8_lossy(&command).replace('\0', " ")))
        };
        pids.filter_map(describe).collect()
    }

    /// Sends a signal to a process in the test's view.
    pub fn signal(&self, pid: u32, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
    }

    /// The main process of a unit, in the test's view: control says its pid inside the namespace.
    pub fn main_process(&self, name: &str) -> u32 {
        let inside = self.unit(name).pid.unwrap_or_else(|| panic!("{name} does not run"));
        let matches = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            ids.split_whitespace().last() == Some(&inside.to_string())
        };
        let processes = self.processes();
        processes.iter().map(|process| process.0).find(matches).unwrap_or_else(|| panic!("{name} is not found"))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Its namespace dies with PID 1, which `unshare` kills when it dies.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if let Some(group) = &self.control_group {
            let deadline = Instant::now() + PATIENCE;
            while !remove_groups(group) && Instant::now() < deadline {
                std::thread::sleep(GLANCE);
            }
        }
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A control group for this system alone, so that tests do not meet in one; `None` where the test may not make one.
fn make_control_group() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (mount, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| mount.to_string())
    })?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/').to_string();
    let number = SYSTEMS.fetch_add(1, Ordering::Relaxed);
    let group = Path::new(&mount).join(own).join(format!("aios-init-test-{}-{number}", std::process::id()));
    fs::create_dir(&group).ok()?;
    Some(group)
}

/// Removes a control group with those below it; false while processes are in one.
fn remove_groups(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !remove_groups(&entry.path()) {
            return false;
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
