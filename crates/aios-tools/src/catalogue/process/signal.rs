//! `process.signal`

use rustix::{
    io::Errno,
    process::{PidfdFlags, Signal as SystemSignal, pidfd_open, pidfd_send_signal},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    pid::{Pid, target},
    proc_file::no_process,
};
use crate::{
    access::{Access, Privilege},
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Risk, Tool, ToolSpec},
};

pub struct Signal;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Process.
    pid: Pid,
    /// Its start, as `process.list` gives it: the signal never hits another process that got the same id later.
    start_ticks: u64,
    /// What it is told: to end (`term`), to end at once (`kill`), to read its configuration again (`hup`), to pause and go on
    /// (`stop`, `cont`), to be interrupted (`int`), to leave a core (`quit`), or what it defines itself (`usr1`, `usr2`).
    #[serde(default)]
    signal: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Term,
    Kill,
    Hup,
    Int,
    Quit,
    Stop,
    Cont,
    Usr1,
    Usr2,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Name of the process that the signal went to.
    name: String,
}

impl Kind {
    fn to_system(self) -> SystemSignal {
        match self {
            Kind::Term => SystemSignal::TERM,
            Kind::Kill => SystemSignal::KILL,
            Kind::Hup => SystemSignal::HUP,
            Kind::Int => SystemSignal::INT,
            Kind::Quit => SystemSignal::QUIT,
            Kind::Stop => SystemSignal::STOP,
            Kind::Cont => SystemSignal::CONT,
            Kind::Usr1 => SystemSignal::USR1,
            Kind::Usr2 => SystemSignal::USR2,
        }
    }
}

impl Tool for Signal {
    const SPEC: ToolSpec = ToolSpec {
        name: "process.signal",
        description: "Sends a signal to one process, named by pid and start_ticks of process.list. Never to process 1 or a thread of the kernel. A unit is better stopped with service.stop.",
        examples: &[
            Example { goal: "end a process", arguments: r#"{"pid": 4711, "start_ticks": 98765}"# },
            Example {
                goal: "end a process that does not listen",
                arguments: r#"{"pid": 4711, "start_ticks": 98765, "signal": "kill"}"#,
            },
        ],
        needs: &["process:signal:{pid}"],
        risk: Risk::High,
        idempotent: false,
        sinks: &["/pid", "/signal"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("process:signal:{}", input.pid)).among_processes().with(Privilege::Kill)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let Input { pid, start_ticks, signal } = input;
        let failed = |errno: Errno| match errno {
            Errno::SRCH => no_process(pid),
            errno => ToolError::of_io(format_args!("process {pid}"), &errno.into()),
        };
        // The descriptor comes first. If the process had ended before its start was read, the descriptor leads nowhere, whoever
        // got the id since; if not, what was read was about the process that the descriptor leads to.
        let process = pidfd_open(pid.to_system(), PidfdFlags::empty()).map_err(|errno| match errno {
            // The id of a thread that is not a process.
            Errno::INVAL | Errno::NOENT => {
                ToolError::new(Code::InvalidArgument, format!("{pid} is a thread, not a process"))
            }
            errno => failed(errno),
        })?;
        let stat = target(pid, start_ticks, host)?;
        pidfd_send_signal(&process, signal.to_system()).map_err(failed)?;
        Ok(Output { name: stat.name })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{Child, Command},
    };

    use super::*;
    use crate::catalogue::process::proc_file::Stat;

    fn child() -> (Child, Pid, u64) {
        let child = Command::new("sleep").arg("600").spawn().expect("sleep");
        let pid: Pid = i32::try_from(child.id()).expect("pid").try_into().expect("pid");
        let start_ticks = Stat::of(pid, &Host::device()).expect("stat").start_ticks;
        (child, pid, start_ticks)
    }

    #[test]
    fn the_process_that_is_meant_is_ended() {
        let (mut child, pid, start_ticks) = child();
        Signal::run(Input { pid, start_ticks, signal: Kind::Term }, &Host::device()).expect("signal");
        assert_eq!(child.wait().expect("wait").signal(), Some(SystemSignal::TERM.as_raw()));
        let again = Signal::run(Input { pid, start_ticks, signal: Kind::Term }, &Host::device());
        assert_eq!(again.map(|output| output.name).map_err(|error| error.code), Err(Code::NotFound));
    }

    #[test]
    fn a_process_with_a_used_id_is_spared() {
        let (mut child, pid, start_ticks) = child();
        let wrong = Input { pid, start_ticks: start_ticks - 1, signal: Kind::Kill };
        let failure = Signal::run(wrong, &Host::device()).expect_err("another process");
        let alive = child.try_wait().expect("wait").is_none();
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(alive && failure.code == Code::FailedPrecondition, "{failure}");
    }

    #[test]
    fn the_system_is_spared() {
        let input = Input { pid: 1.try_into().expect("pid"), start_ticks: 0, signal: Kind::Cont };
        assert_eq!(Signal::run(input, &Host::device()).expect_err("process 1").code, Code::PermissionDenied);
    }
}
