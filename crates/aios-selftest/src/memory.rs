//! Memory limits of control groups.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::{Options, Problem, absent, failed, probe::Probe};

const GROUPS: &str = "/sys/fs/cgroup";
const LIMIT_MIB: usize = 32;

/// Two groups with the same limit: the process that takes four times as much is killed, the modest one is not.
pub fn limit(_: &Options) -> Result<String, Problem> {
    let controllers = fs::read_to_string(format!("{GROUPS}/cgroup.controllers"));
    if !controllers.is_ok_and(|list| list.split_whitespace().any(|name| name == "memory")) {
        return absent(format!("{GROUPS} is not cgroup v2 with a memory controller"));
    }
    let parent = Group::make(Path::new(GROUPS), &format!("aios-selftest-{}", std::process::id()))?;
    let children = parent.0.join("cgroup.subtree_control");
    fs::write(&children, "+memory").map_err(Problem::io(children.display()))?;
    let (greedy_group, modest_group) = (Group::limited(&parent, "greedy")?, Group::limited(&parent, "modest")?);
    let mut greedy = Eater::start(&greedy_group)?;
    let mut modest = Eater::start(&modest_group)?;
    if !modest.take(LIMIT_MIB / 4) {
        return failed(format!("a process could not take {} of {LIMIT_MIB} MiB", LIMIT_MIB / 4));
    }
    if greedy.take(LIMIT_MIB * 4) {
        return failed(format!("a process took {} MiB in a group that is limited to {LIMIT_MIB} MiB", LIMIT_MIB * 4));
    }
    let ended = greedy.child.wait().map_err(Problem::io("waiting for a process"))?;
    let kills = greedy_group.out_of_memory_kills()?;
    if ended.signal() != Some(libc::SIGKILL) || kills == 0 {
        return failed(format!("the process over its limit ended by {ended}, with {kills} kills counted"));
    }
    if !modest.take(1) || modest_group.out_of_memory_kills()? != 0 {
        return failed("the process below its limit was killed too");
    }
    Ok(format!("killed at {LIMIT_MIB} MiB; its neighbour at {} MiB goes on", LIMIT_MIB / 4 + 1))
}

/// A control group that is removed with all processes in it.
struct Group(PathBuf);

impl Group {
    fn make(parent: &Path, name: &str) -> Result<Self, Problem> {
        let path = parent.join(name);
        fs::create_dir(&path).map_err(Problem::io(path.display()))?;
        Ok(Group(path))
    }

    fn limited(parent: &Group, name: &str) -> Result<Self, Problem> {
        let group = Group::make(&parent.0, name)?;
        group.set("memory.max", &(LIMIT_MIB << 20).to_string())?;
        // Where there is swap (zram), what is over the limit would go there.
        if group.0.join("memory.swap.max").exists() {
            group.set("memory.swap.max", "0")?;
        }
        Ok(group)
    }

    fn set(&self, file: &str, value: &str) -> Result<(), Problem> {
        let path = self.0.join(file);
        fs::write(&path, value).map_err(Problem::io(path.display()))
    }

    /// `memory.events` has a line `oom_kill <number>`.
    fn out_of_memory_kills(&self) -> Result<u64, Problem> {
        let path = self.0.join("memory.events");
        let events = fs::read_to_string(&path).map_err(Problem::io(path.display()))?;
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        count.ok_or_else(|| Problem::Failed(format!("{} counts no oom_kill", path.display())))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        // The kernel refuses until the last process is gone.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

struct Eater {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Eater {
    fn start(group: &Group) -> Result<Self, Problem> {
        let command = Probe::Allocate.command();
        let child = command
            .and_then(|mut command| command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn());
        let mut child = child.map_err(Problem::io("starting a process"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, answers) = pipes.expect("both are piped");
        let eater = Eater { child, orders, answers: BufReader::new(answers) };
        group.set("cgroup.procs", &eater.child.id().to_string())?;
        Ok(eater)
    }

    /// Whether the process lived to say that it has the memory.
    fn take(&mut self, mebibytes: usize) -> bool {
        let mut answer = String::new();
        let asked = writeln!(self.orders, "{mebibytes}").is_ok();
        asked && self.answers.read_line(&mut answer).is_ok() && answer.trim() == "taken"
    }
}

impl Drop for Eater {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
