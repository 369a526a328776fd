//! `sec.privileges`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::Count,
    error::{Code, ToolError},
    host::Host,
    text::plain,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Longest name of a process that is shown, in characters.
const NAME_MAX: usize = 32;

pub struct Privileges;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Only this process.
    pid: Option<Count<1, 4_194_304>>,
    /// Kernel threads too.
    #[serde(default)]
    kernel_threads: bool,
    /// Most to list, 1 to 500.
    #[serde(default)]
    limit: Count<1, 500, 50>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Processes, by number.
    processes: Vec<Process>,
    /// How many there are.
    total: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Process {
    pid: u32,
    /// Its name, which it can choose itself.
    name: String,
    /// Effective user.
    uid: u32,
    /// Linux capabilities that it has, by their names; `all` for every one.
    capabilities: Vec<String>,
    /// Whether it can gain no more by executing a program.
    no_new_privileges: bool,
    /// Which system calls it may make: `off` all, `strict`, or `filter`.
    seccomp: String,
}

impl Tool for Privileges {
    const SPEC: ToolSpec = ToolSpec {
        name: "sec.privileges",
        description: "Shows what processes may do: user, Linux capabilities, no_new_privs, seccomp.",
        examples: &[
            Example { goal: "which processes have root rights", arguments: "{}" },
            Example { goal: "is process 812 confined", arguments: r#"{"pid": 812}"# },
        ],
        needs: &["sec:read:privileges"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("sec:read:privileges").among_processes()
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let last = host.line("/proc/sys/kernel/cap_last_cap").and_then(|line| line.trim().parse().ok()).unwrap_or(40);
        if let Some(pid) = input.pid {
            let status = host.text(format!("/proc/{}/status", pid.get()));
            let missing = |_| ToolError::new(Code::NotFound, format!("there is no process {}", pid.get()));
            let (process, _) = status.map_err(missing).and_then(|text| {
                let damaged = || ToolError::new(Code::Failed, format!("/proc/{}/status is damaged", pid.get()));
                parse(&text, last).ok_or_else(damaged)
            })?;
            return Ok(Output { processes: vec![process], total: 1 });
        }
        let mut pids: Vec<u32> = host.names("/proc").iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        let found = pids.iter().filter_map(|pid| parse(&host.line(format!("/proc/{pid}/status"))?, last));
        let mut processes: Vec<Process> =
            found.filter(|(_, kernel)| input.kernel_threads || !kernel).map(|(process, _)| process).collect();
        let total = processes.len();
        processes.truncate(input.limit.index());
        Ok(Output { processes, total })
    }
}

/// `/proc/PID/status` (proc_pid_status(5)), and whether it is a kernel thread, which has no memory of its own. A name can
/// hold no newline there: the kernel escapes it.
fn parse(text: &str, last: u32) -> Option<(Process, bool)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let mask = u64::from_str_radix(field("CapEff")?, 16).ok()?;
    let process = Process {
        pid: field("Pid")?.parse().ok()?,
        name: plain(field("Name")?, NAME_MAX),
        uid: field("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        capabilities: names(mask, last),
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp: match field("Seccomp") {
            Some("1") => "strict",
            Some("2") => "filter",
            _ => "off",
        }
        .to_owned(),
    };
    Some((process, field("VmSize").is_none() && field("State").is_none_or(|state| !state.starts_with('Z'))))
}

/// Names of the bits of a mask, `last` being the kernel's last one.
fn names(mask: u64, last: u32) -> Vec<String> {
    const NAMES: [&str; 41] = [
        "chown",
        "dac_override",
        "dac_read_search",
        "fowner",
        "fsetid",
        "kill",
        "setgid",
        "setuid",
        "setpcap",
        "linux_immutable",
        "net_bind_service",
        "net_broadcast",
        "net_admin",
        "net_raw",
        "ipc_lock",
        "ipc_owner",
        "sys_module",
        "sys_rawio",
        "sys_chroot",
        "sys_ptrace",
        "sys_pacct",
        "sys_admin",
        "sys_boot",
        "sys_nice",
        "sys_resource",
        "sys_time",
        "sys_tty_config",
        "mknod",
        "lease",
        "audit_write",
        "audit_control",
        "setfcap",
        "mac_override",
        "mac_admin",
        "syslog",
        "wake_alarm",
        "block_suspend",
        "audit_read",
        "perfmon",
        "bpf",
        "checkpoint_restore",
    ];
    let all = u64::MAX >> (63 - last.min(63));
    if mask & all == all {
        return vec!["all".to_owned()];
    }
    let name = |bit: u32| NAMES.get(bit as usize).map_or_else(|| bit.to_string(), ToString::to_string);
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::call;

    const STATUS: &str = "Name:\ta\\nb) R (\nState:\tS (sleeping)\nPid:\t7\nUid:\t1\t901\t1\t1\nVmSize:\t1 kB\n\
                          CapEff:\t0000000000003000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn a_process_is_read_with_its_rights() {
        let (process, kernel) = parse(STATUS, 40).expect("a process");
        assert!(!kernel);
        let expected = json!({"pid": 7, "name": "a\\nb) R (", "uid": 901, "capabilities": ["net_admin", "net_raw"],
            "no_new_privileges": true, "seccomp": "filter"});
        assert_eq!(serde_json::to_value(process).expect("JSON"), expected);
        for field in ["Pid", "Uid", "CapEff", "NoNewPrivs", "Name"] {
            assert!(parse(&STATUS.replace(field, "Other"), 40).is_none(), "{field}");
        }
        assert_eq!(names(0x1ff_ffff_ffff, 40), ["all"]);
        assert_eq!(names(1 << 50, 40), ["50"]);
        assert!(names(0, 40).is_empty());
    }

    #[test]
    fn this_process_is_found_and_one_that_is_not_there_is_an_error() {
        let pid = std::process::id();
        let answer = call::<Privileges>(&Host::device(), json!({ "pid": pid })).expect("privileges");
        assert_eq!(answer["processes"][0]["pid"], pid);
        let all = call::<Privileges>(&Host::device(), json!({"limit": 1})).expect("privileges");
        assert!(all["total"].as_u64() > Some(1) && all["processes"].as_array().map(Vec::len) == Some(1));
        let code = call::<Privileges>(&Host::device(), json!({"pid": 4_194_304})).map_err(|error| error.code);
        assert_eq!(code, Err(Code::NotFound));
    }
}
