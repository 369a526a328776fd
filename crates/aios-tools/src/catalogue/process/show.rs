//! `process.show`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    pid::Pid,
    proc_file::{Stat, bytes, command, user_id, value},
};
use crate::{
    access::Access,
    error::ToolError,
    facts::Fact,
    host::Host,
    text::{plain, tenths},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Words of a command line that are shown, and characters of each.
const COMMAND_WORDS: usize = 32;
const COMMAND_LENGTH: usize = 256;

pub struct Show;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Process.
    pid: Pid,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Id.
    pid: Pid,
    /// Start in clock ticks after the kernel's: with the pid, what `process.signal` and `process.priority` ask for.
    start_ticks: u64,
    /// Start in seconds after the kernel's.
    started_s: f64,
    /// Name.
    name: String,
    /// Command line, word by word: 32 words of 256 characters at most.
    command: Vec<String>,
    /// Program file, where the kernel lets this be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<String>,
    /// `running`, `sleeping`, `waiting-for-disk`, `stopped`, `zombie` or another word of that kind.
    state: &'static str,
    /// Id of the parent.
    parent: i32,
    /// Whether it is a thread of the kernel.
    kernel: bool,
    /// The user that it acts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<u32>,
    /// Threads.
    threads: u32,
    /// Priority: -20 (first) to 19 (last).
    nice: i32,
    /// Processor time so far, of all its threads.
    cpu_s: f64,
    /// Memory that is really there.
    memory_bytes: u64,
    /// The most that this ever was.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
    /// Memory moved to swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
    /// Linux capabilities in force, as the kernel's bit mask in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<String>,
    /// Control group (version 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<String>,
    /// Resource limits that are in force.
    limits: Vec<Limit>,
    /// What it has read and written, where the kernel lets this be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    io: Option<Io>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Limit {
    /// What is limited, as the kernel names it.
    name: String,
    /// Limit now.
    soft: String,
    /// The highest that the process may set itself.
    hard: String,
    /// Unit; absent for a plain number.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Io {
    /// From storage.
    read_bytes: u64,
    /// To storage.
    written_bytes: u64,
}

impl Tool for Show {
    const SPEC: ToolSpec = ToolSpec {
        name: "process.show",
        description: "Shows one process: command line, state, memory (bytes), processor time (seconds), limits that are set, control group, input and output.",
        examples: &[Example { goal: "what is process 1", arguments: r#"{"pid": 1}"# }],
        needs: &["process:read:{pid}"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("process:read:{}", input.pid)).among_processes().knows(Fact::Process(input.pid.get()))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let pid = input.pid;
        let stat = Stat::of(pid, host)?;
        let file = |name: &str| host.text(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (status, cgroup) = (file("status"), file("cgroup"));
        let executable = host.target(format!("/proc/{pid}/exe"));
        Ok(Output {
            pid,
            start_ticks: stat.start_ticks,
            started_s: stat.started_s(),
            command: command(pid, host, COMMAND_WORDS, COMMAND_LENGTH),
            executable: executable.map(|path| plain(&path, COMMAND_LENGTH)),
            state: stat.state,
            parent: stat.parent,
            kernel: stat.is_of_kernel(),
            user_id: user_id(&status),
            threads: stat.threads,
            nice: stat.nice,
            cpu_s: tenths(stat.cpu.as_secs_f64()),
            memory_bytes: stat.resident_bytes,
            memory_peak_bytes: bytes(&status, "VmHWM"),
            swap_bytes: bytes(&status, "VmSwap"),
            capabilities: value(&status, "CapEff").map(str::to_owned),
            cgroup: cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(|path| plain(path, COMMAND_LENGTH)),
            limits: limits(&file("limits")),
            io: io(&file("io")),
            name: stat.name,
        })
    }
}

/// `/proc/<pid>/limits`, without those that limit nothing. Its columns are as wide as the first line says.
fn limits(text: &str) -> Vec<Limit> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let (Some(soft), Some(hard), Some(unit)) =
        (header.find("Soft Limit"), header.find("Hard Limit"), header.find("Units"))
    else {
        return Vec::new();
    };
    let column =
        |line: &str, from: usize, to: usize| line.get(from..to.min(line.len())).unwrap_or_default().trim().to_owned();
    let limit = |line: &str| Limit {
        name: column(line, 0, soft),
        soft: column(line, soft, hard),
        hard: column(line, hard, unit),
        unit: Some(column(line, unit, line.len())).filter(|unit| !unit.is_empty()),
    };
    lines.map(limit).filter(|limit| limit.soft != "unlimited" && !limit.soft.is_empty()).collect()
}

fn io(text: &str) -> Option<Io> {
    let number = |key| value(text, key)?.parse().ok();
    Some(Io { read_bytes: number("read_bytes")?, written_bytes: number("write_bytes")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::process::fixture::Fixture, error::Code};

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max cpu time              unlimited            unlimited            seconds   \n\
                          Max open files            1024                 524288               files     \n\
                          Max nice priority         0                    0                    \n";

    #[test]
    fn limits_that_limit_are_shown() {
        let found = limits(LIMITS);
        assert_eq!(
            found.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(),
            ["Max open files", "Max nice priority"]
        );
        assert_eq!(
            (found[0].soft.as_str(), found[0].hard.as_str(), found[0].unit.as_deref()),
            ("1024", "524288", Some("files"))
        );
        assert_eq!(found[1].unit, None);
        for damaged in ["", "Limit", "Limit Soft Limit Hard Limit Units\nä\n\n"] {
            assert_eq!(limits(damaged), []);
        }
    }

    #[test]
    fn a_process_is_shown_without_what_the_kernel_hides() {
        let fixture = Fixture::new();
        fixture.process(30, "sh", 1, 99);
        fixture.file(30, "limits", LIMITS);
        fixture.file(30, "cgroup", "1:name=x:/other\n0::/aios/network\n");
        let show = |pid: i32| {
            Show::run(serde_json::from_value(serde_json::json!({ "pid": pid })).expect("JSON"), &fixture.host())
        };
        let output = show(30).expect("show");
        assert_eq!(output.command, ["/usr/bin/sh", "--flag", "two words"]);
        assert_eq!((output.parent, output.start_ticks, output.memory_peak_bytes), (1, 99, Some(400 << 10)));
        assert_eq!((output.cgroup.as_deref(), output.io, output.executable), (Some("/aios/network"), None, None));
        assert_eq!(show(31).map_err(|error| error.code).err(), Some(Code::NotFound));
    }

    #[test]
    fn this_process_is_shown_whole() {
        let me: Pid = rustix::process::getpid().as_raw_nonzero().get().try_into().expect("pid");
        let output = Show::run(Input { pid: me }, &Host::device()).expect("show");
        assert!(
            output.io.is_some() && output.executable.is_some() && !output.limits.is_empty() && output.memory_bytes > 0
        );
    }
}
