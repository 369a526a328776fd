//! The run directory (`output/run`): what a machine needs and leaves, and which machine runs in it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{StartError, env_file::write_private, machine::escape, process, qmp};

/// Names of the sockets in the directory, in which QEMU runs.
pub(crate) const CONSOLE_SOCKET: &str = "console.sock";
pub(crate) const QMP_SOCKET: &str = "qmp.sock";

/// One machine's directory. Its paths are absolute.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// Held while a machine is being started, so that two starts cannot both find the directory free.
#[derive(Debug)]
pub struct StartLock {
    _file: File,
}

/// A machine that runs in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
}

/// How a machine came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest powered off in order.
    PoweredOff,
    /// The guest did not react to the power button; QEMU ended it.
    Quit,
    /// QEMU did not react either.
    Killed,
}

impl RunDir {
    /// Opens the directory, creating it where needed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StartError> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(StartError::io(format!("create {}", path.display())))?;
        let path = path.canonicalize().map_err(StartError::io(format!("open {}", path.display())))?;
        Ok(RunDir { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn env(&self) -> PathBuf {
        self.path.join("env")
    }

    pub fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }

    pub fn console_socket(&self) -> PathBuf {
        self.path.join(CONSOLE_SOCKET)
    }

    pub fn qmp_socket(&self) -> PathBuf {
        self.path.join(QMP_SOCKET)
    }

    pub fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    pub fn disk(&self) -> PathBuf {
        self.path.join("disk.qcow2")
    }

    pub fn conf_volume(&self) -> PathBuf {
        self.path.join("aios-conf.img")
    }

    pub fn firmware_variables(&self) -> PathBuf {
        self.path.join("ovmf-vars.fd")
    }

    /// Where the files that a Raspberry Pi's card names are copied to.
    pub fn card(&self) -> PathBuf {
        self.path.join("card")
    }

    pub fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    fn pid_file(&self) -> PathBuf {
        self.path.join("qemu.pid")
    }

    /// The API token, made of 32 random bytes when the directory has none yet.
    pub fn token(&self) -> Result<String, StartError> {
        let path = self.token_file();
        match fs::read_to_string(&path) {
            Ok(token) if is_token(token.trim()) => return Ok(token.trim().into()),
            // A damaged token is replaced: nobody else has it.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StartError::io(format!("read {}", path.display()))(error)),
        }
        let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&path, token.as_bytes()).map_err(StartError::io(format!("write {}", path.display())))?;
        Ok(token)
    }

    /// Claims the directory for a start.
    pub fn lock(&self) -> Result<StartLock, StartError> {
        let path = self.path.join("lock");
        let file = File::create(&path).map_err(StartError::io(format!("create {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(StartLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: self.path.clone() }),
            Err(TryLockError::Error(source)) => Err(StartError::io(format!("lock {}", path.display()))(source)),
        }
    }

    /// The machine that runs here, if the process of the pid file is really ours.
    pub fn running(&self) -> Option<Running> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        process::runs_with(pid, &escape(&self.conf_volume())).then_some(Running { pid })
    }

    /// Notes the machine that now runs here.
    pub fn note_running(&self, pid: u32) -> Result<(), StartError> {
        let path = self.pid_file();
        fs::write(&path, format!("{pid}\n")).map_err(StartError::io(format!("write {}", path.display())))
    }

    /// Removes what only a running machine has.
    pub fn clear(&self) {
        for path in [self.pid_file(), self.env(), self.qmp_socket(), self.console_socket()] {
            // Most often it is not there; if it cannot be removed, the next start says why it cannot make it.
            let _ = fs::remove_file(path);
        }
    }

    /// Ends a machine: by its power button within `patience`, else through QEMU, else by force.
    pub fn stop(&self, running: Running, patience: Duration) -> End {
        let end = self.end(running, patience);
        self.clear();
        end
    }

    fn end(&self, Running { pid }: Running, patience: Duration) -> End {
        /// QEMU ends within a fraction of a second, unless it hangs on its host.
        const QUIT_PATIENCE: Duration = Duration::from_secs(5);
        let socket = self.qmp_socket();
        if qmp::power_down(&socket, patience, |step| process::wait_for_end_of(pid, step)).unwrap_or(false) {
            return End::PoweredOff;
        }
        if qmp::quit(&socket).is_ok() && process::wait_for_end_of(pid, QUIT_PATIENCE) {
            return End::Quit;
        }
        process::kill(pid);
        process::wait_for_end_of(pid, QUIT_PATIENCE);
        End::Killed
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{Architecture, process::Guarded};

    fn run_dir() -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path().join("run")).unwrap();
        (dir, run_dir)
    }

    #[test]
    fn the_token_is_made_once_and_private() {
        let (_dir, run_dir) = run_dir();
        let token = run_dir.token().unwrap();
        assert!(is_token(&token));
        assert_eq!(run_dir.token().unwrap(), token);
        assert_eq!(fs::metadata(run_dir.token_file()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_token_is_replaced() {
        let (_dir, run_dir) = run_dir();
        fs::write(run_dir.token_file(), "short").unwrap();
        assert!(is_token(&run_dir.token().unwrap()));
    }

    #[test]
    fn a_pid_file_of_a_dead_or_foreign_process_is_stale() {
        let (_dir, run_dir) = run_dir();
        assert_eq!(run_dir.running(), None);
        run_dir.note_running(std::process::id()).unwrap();
        assert_eq!(run_dir.running(), None);
        run_dir.note_running(u32::MAX).unwrap();
        assert_eq!(run_dir.running(), None);
    }

    #[test]
    fn two_starts_in_one_directory_exclude_each_other() {
        let (_dir, run_dir) = run_dir();
        let lock = run_dir.lock().unwrap();
        assert!(matches!(run_dir.lock(), Err(StartError::Locked { .. })));
        drop(lock);
        run_dir.lock().unwrap();
    }

    #[test]
    fn a_guest_that_ignores_its_power_button_is_ended_through_qemu() {
        let (_dir, run_dir) = run_dir();
        let mut command = Command::new(Architecture::X86_64.qemu());
        fs::write(run_dir.conf_volume(), [0; 512]).unwrap();
        let conf_volume = format!("format=raw,readonly=on,if=none,file={}", run_dir.conf_volume().display());
        command.args(["-nodefaults", "-display", "none", "-accel", "tcg", "-m", "16M", "-S", "-drive", &conf_volume]);
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", run_dir.qmp_socket().display())]);
        let qemu = Guarded::spawn(command.stdin(Stdio::null())).unwrap();
        run_dir.note_running(qemu.id()).unwrap();
        let running = run_dir.running().unwrap();
        assert_eq!(running.pid, qemu.id());
        assert_eq!(run_dir.stop(running, Duration::from_millis(200)), End::Quit);
        assert_eq!(run_dir.running(), None);
    }
}
