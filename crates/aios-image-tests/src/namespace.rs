//! The built root file system with `aios-init` as PID 1 in namespaces of its own: native speed, real services, no kernel.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use aios_core::control::{SystemStatus, UnitState, UnitStatus};
use anyhow::{Context, Result, bail};

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const NO_NSENTER: &str = "can't start `nsenter` (Debian package util-linux)";

/// Set-up inside the new mount namespace, before PID 1 takes over: `sh -c SCRIPT NAME TARGET MODELS ROOT`.
///
/// The root file system is read-only as on a device; what the kernel would provide is bound from outside.
const ENTER: &str = r#"
set -eu
target=$1 models=$2 root=$3
mount --make-rprivate /
mount --bind "$target" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$models" "$root/usr/share/aios/models"
mount -t proc proc "$root/proc"
mount -t tmpfs dev "$root/dev"
for node in null zero full random urandom; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
# Not chroot: from one, the kernel lets nobody make a user namespace, and the tools' sandbox does.
cd "$root"
pivot_root . mnt
exec env -i "PATH=$PATH" container=namespace-boot /bin/sh -c 'umount -l /mnt && exec /usr/sbin/aios-init'
"#;

/// Makes a control group of its own the root of what the namespace sees, where we may make one.
const OWN_GROUP: &str = r#"
case $1 in /*) mkdir "$1" 2>/dev/null && echo $$ >"$1/cgroup.procs" ;; esac
shift
exec "$@"
"#;

/// A booted root file system. Dropped, it is killed with everything in it.
pub struct Namespace {
    unshare: Child,
    group: PathBuf,
    /// PID 1, as seen from outside.
    init: u32,
    console: PathBuf,
    _dir: tempfile::TempDir,
}

impl Namespace {
    /// Boots the root file system that the images were made of.
    pub fn boot() -> Result<Namespace> {
        let (target, models) = built()?;
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("root");
        fs::create_dir(&root)?;
        let console = dir.path().join("console.log");
        let log = fs::File::create(&console)?;
        let group = dir.path().file_name().context("a temporary directory has a name")?;
        // Where there is no place for it, the namespace sees the groups that we are in.
        let group = control_groups().unwrap_or_default().join(format!("aios-test-{}", group.display()));
        let mut unshare = Command::new("sh");
        unshare.args(["-c", OWN_GROUP, "own-group"]).arg(&group).arg("unshare");
        // Without root, a user namespace makes us root of the rest.
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let unshare = unshare
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"])
            .args(["sh", "-c", ENTER, "enter"])
            .args([&target, &models, &root])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("can't start `unshare` (Debian package util-linux)")?;
        let mut namespace = Namespace { unshare, group, init: 0, console, _dir: dir };
        namespace.init = namespace.wait_for("PID 1 to start", Duration::from_secs(10), |ns| ns.started_init())?;
        Ok(namespace)
    }

    /// Runs the image's `aios` inside.
    pub fn aios(&self, args: &[&str]) -> Result<Output> {
        self.inside(&[&["aios"], args].concat())
    }

    /// Runs the image's `aios` inside as a user of the image.
    pub fn aios_as(&self, user: &str, args: &[&str]) -> Result<Output> {
        let accounts = text_of(self.inside(&["/bin/cat", "/etc/passwd"])?)?;
        let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let account = fields.into_iter().find(|fields| fields[0] == user && fields.len() > 3);
        let account = account.with_context(|| format!("the image has no user {user}"))?;
        let ids = [format!("--setuid={}", account[2]), format!("--setgid={}", account[3])];
        self.enter(&ids, &[&["aios"], args].concat())
    }

    /// State of the system, once PID 1 answers.
    pub fn status(&self) -> Option<SystemStatus> {
        let output = self.aios(&["--json", "status"]).ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        serde_json::from_value(answer).ok()
    }

    /// State of one unit.
    pub fn unit(&self, name: &str) -> Option<UnitStatus> {
        self.status()?.units.into_iter().find(|u| u.name == name)
    }

    /// Waits until every unit is Ready, and returns them.
    pub fn wait_until_ready(&self, limit: Duration) -> Result<Vec<UnitStatus>> {
        self.wait_for("all units to be Ready", limit, |ns| {
            let units = ns.status()?.units;
            (!units.is_empty() && units.iter().all(|u| u.state == UnitState::Ready)).then_some(units)
        })
    }

    /// Waits until `condition` gives something; fails with what the console said.
    pub fn wait_for<T>(&self, what: &str, limit: Duration, condition: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = condition(self) {
                return Ok(found);
            }
            if started.elapsed() > limit {
                bail!("waited {limit:?} for {what}; the console said:\n{}", self.console());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Runs a program of the image inside.
    pub fn inside(&self, args: &[&str]) -> Result<Output> {
        self.enter(&[], args)
    }

    /// Starts a program of this machine, not of the image, among the system's processes and on its network.
    pub fn intrude(&self, args: &[&str]) -> Result<Child> {
        let enter = self.nsenter(&["--pid", "--net"]).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        enter.context(NO_NSENTER)
    }

    fn enter(&self, options: &[String], args: &[&str]) -> Result<Output> {
        let enter = self.nsenter(&["--mount", "--pid", "--net", "--root", "--wd"]).args(options).args(args).output();
        enter.context(NO_NSENTER)
    }

    fn nsenter(&self, namespaces: &[&str]) -> Command {
        let user = if is_root() { [].as_slice() } else { ["--user"].as_slice() };
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.init.to_string()]).args(namespaces).args(user);
        enter
    }

    /// Everything that PID 1 has said.
    pub fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// Waits for the namespace to end by itself.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        while self.unshare.try_wait()?.is_none() {
            if started.elapsed() > limit {
                bail!("waited {limit:?} for the end; the console said:\n{}", self.console());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The child that has become PID 1 of the namespace, once the set-up before it is done.
    fn started_init(&self) -> Option<u32> {
        let id = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let comm = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|&pid| comm(pid).trim() == "aios-init")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // `--kill-child` ends PID 1 with `unshare`, and the kernel everything below PID 1.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // The kernel ends what was below PID 1 after PID 1, so the groups become empty a little later.
        let started = Instant::now();
        while self.group.exists() && started.elapsed() < Duration::from_secs(2) {
            remove_groups(&self.group);
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Where control groups (version 2) are mounted: `/sys/fs/cgroup`, or below it on machines that also have version 1.
fn control_groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let find = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next() == Some("cgroup2")).then(|| PathBuf::from(path))
    };
    mounts.lines().find_map(find)
}

/// Removes control groups from the leaves up. One that still has a dying process stays.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// The root file system that was built, and the models beside it.
fn built() -> Result<(PathBuf, PathBuf)> {
    let output = crate::output();
    // The second line of the choice is the base (`support/build.sh`).
    let selected = fs::read_to_string(output.join("selected")).unwrap_or_default();
    let target = output.join(if selected.lines().nth(1) == Some("buildroot") { "buildroot/target" } else { "target" });
    if !target.join("usr/sbin/aios-init").exists() {
        bail!("there is no built root file system in {}: run `make` first", target.display());
    }
    Ok((fs::canonicalize(target)?, fs::canonicalize(output.join("images/models"))?))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0).unwrap_or(false)
}

/// Turns an output into its text, or into an error with what the program said.
pub fn text_of(output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).map_err(|e| io::Error::other(e).into())
}
