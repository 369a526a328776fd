//! `process.priority`

use std::borrow::Cow;

use rustix::{
    io::Errno,
    process::{getpriority_process, setpriority_process},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::pid::{Pid, target};
use crate::{
    access::{Access, Privilege},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Risk, Tool, ToolSpec},
};

pub struct Priority;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Process.
    pid: Pid,
    /// Its start, as `process.list` gives it: no other process that got the same id later is changed.
    start_ticks: u64,
    /// Priority: -20 (first) to 19 (last); 0 is usual.
    nice: Nice,
}

/// A priority as nice(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "i32", into = "i32")]
struct Nice(i32);

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Name of the process.
    name: String,
    /// Priority before.
    before: i32,
    /// Threads that have the new one.
    threads: usize,
}

impl TryFrom<i32> for Nice {
    type Error = String;

    fn try_from(nice: i32) -> Result<Self, String> {
        if (-20..=19).contains(&nice) {
            return Ok(Nice(nice));
        }
        Err(format!("{nice} is not a priority: use -20 to 19"))
    }
}

impl From<Nice> for i32 {
    fn from(nice: Nice) -> i32 {
        nice.0
    }
}

impl JsonSchema for Nice {
    fn schema_name() -> Cow<'static, str> {
        "Nice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": -20, "maximum": 19 })
    }
}

impl Tool for Priority {
    const SPEC: ToolSpec = ToolSpec {
        name: "process.priority",
        description: "Sets the priority (nice) of a process and all its threads, named by pid and start_ticks of process.list: -20 gets the processor first, 19 last.",
        examples: &[Example {
            goal: "let a process work only when nothing else does",
            arguments: r#"{"pid": 4711, "start_ticks": 98765, "nice": 19}"#,
        }],
        needs: &["process:priority:{pid}"],
        risk: Risk::Medium,
        reversible: true,
        sinks: &["/pid", "/nice"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("process:priority:{}", input.pid)).among_processes().with(Privilege::SysNice)
    }

    fn inverse(input: &Input, host: &Host) -> Result<Inverse, ToolError> {
        let stat = target(input.pid, input.start_ticks, host)?;
        common_nice(&stat.name, &threads(input.pid, host))?;
        let before = Input { nice: Nice(stat.nice), ..*input };
        let arguments = serde_json::to_value(before).expect("invariant: numbers are JSON");
        Ok(Inverse::Call { tool: Self::SPEC.name.into(), arguments })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let stat = target(input.pid, input.start_ticks, host)?;
        let all = threads(input.pid, host);
        let before = common_nice(&stat.name, &all)?;
        let mut changed = 0;
        for thread in all {
            match setpriority_process(Some(thread.to_system()), input.nice.0) {
                Ok(()) => changed += 1,
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(ToolError::of_io(format_args!("process {}", input.pid), &errno.into())),
            }
        }
        // A priority is set by id alone. If the id changed hands since it was checked, this says so.
        target(input.pid, input.start_ticks, host)?;
        Ok(Output { name: stat.name, before, threads: changed })
    }
}

/// The threads of a process: to the kernel, each has a priority of its own.
fn threads(pid: Pid, host: &Host) -> Vec<Pid> {
    let names = host.names(format!("/proc/{pid}/task"));
    names.into_iter().filter_map(|name| name.parse::<i32>().ok()?.try_into().ok()).collect()
}

/// The priority that all `threads` have: with several, one number could not bring them back.
fn common_nice(name: &str, threads: &[Pid]) -> Result<i32, ToolError> {
    let mut nices: Vec<i32> =
        threads.iter().filter_map(|thread| getpriority_process(Some(thread.to_system())).ok()).collect();
    nices.sort_unstable();
    nices.dedup();
    match nices[..] {
        [nice] => Ok(nice),
        [] => Err(ToolError::new(Code::NotFound, format!("{name} has ended; process.list lists what runs"))),
        _ => Err(ToolError::new(
            Code::FailedPrecondition,
            format!("the threads of {name} have priorities of their own ({nices:?}), which its program has set"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::catalogue::process::proc_file::Stat;

    #[test]
    fn the_inverse_brings_the_old_priority_back() {
        // Only root raises a priority that was lowered.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let host = Host::device();
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep");
        let pid: Pid = i32::try_from(child.id()).expect("pid").try_into().expect("pid");
        let before = Stat::of(pid, &host).expect("stat");
        let input = Input { pid, start_ticks: before.start_ticks, nice: Nice((before.nice + 3).min(19)) };
        let inverse = Priority::inverse(&input, &host);
        let wanted = input.nice.0;
        let output = Priority::run(input, &host);
        let changed = Stat::of(pid, &host).map(|stat| stat.nice);
        let Ok(Inverse::Call { tool, arguments }) = inverse else { panic!("{inverse:?}") };
        let undone = Priority::run(serde_json::from_value(arguments).expect("arguments"), &host);
        let after = Stat::of(pid, &host).map(|stat| stat.nice);
        child.kill().expect("kill");
        child.wait().expect("wait");
        let output = output.expect("run");
        assert_eq!((output.before, output.threads, output.name.as_str()), (before.nice, 1, "sleep"));
        assert_eq!((tool.as_str(), changed), ("process.priority", Ok(wanted)));
        assert!(undone.is_ok() && after == Ok(before.nice), "{undone:?} {after:?}");
    }

    #[test]
    fn bad_priorities_and_wrong_starts_are_refused() {
        for bad in [-21, 20] {
            assert!(serde_json::from_value::<Nice>(bad.into()).is_err(), "{bad}");
        }
        let me = rustix::process::getppid().expect("parent").as_raw_nonzero().get();
        let input = Input { pid: me.try_into().expect("pid"), start_ticks: 1, nice: Nice(19) };
        assert!(matches!(
            Priority::run(input, &Host::device()).map_err(|error| error.code),
            Err(Code::FailedPrecondition | Code::PermissionDenied)
        ));
    }
}
