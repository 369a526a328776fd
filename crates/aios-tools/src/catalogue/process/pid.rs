//! What names a process, and keeps naming the same one.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::proc_file::Stat;
use crate::{
    error::{Code, ToolError},
    host::Host,
};

/// Highest process id that Linux gives (`PID_MAX_LIMIT`).
const PID_MAX: i32 = 1 << 22;

/// Id of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Pid(i32);

impl Pid {
    /// Its number.
    pub fn get(self) -> u32 {
        self.0.unsigned_abs()
    }

    /// As the system calls take it.
    pub fn to_system(self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(self.0).expect("invariant: a Pid is above 0")
    }
}

impl TryFrom<i32> for Pid {
    type Error = String;

    fn try_from(pid: i32) -> Result<Self, String> {
        if (1..=PID_MAX).contains(&pid) {
            return Ok(Pid(pid));
        }
        Err(format!("{pid} is not a process id: use 1 to {PID_MAX}"))
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> i32 {
        pid.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Pid {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Pid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": PID_MAX })
    }
}

/// The process `pid`, if it is the one that started `start_ticks` after the kernel, and one that may be acted on: neither
/// PID 1, nor a thread of the kernel, nor the caller.
pub fn target(pid: Pid, start_ticks: u64, host: &Host) -> Result<Stat, ToolError> {
    if i32::from(pid) == 1 {
        let text = "process 1 is the system itself; self.reboot and self.poweroff end it";
        return Err(ToolError::new(Code::PermissionDenied, text));
    }
    if pid.to_system() == rustix::process::getpid() {
        return Err(ToolError::new(Code::PermissionDenied, format!("process {pid} is this call itself")));
    }
    let stat = Stat::of(pid, host)?;
    if stat.start_ticks != start_ticks {
        let text = format!(
            "process {pid} is another one by now: it started at {} ticks, not at {start_ticks}; look again with process.list",
            stat.start_ticks
        );
        return Err(ToolError::new(Code::FailedPrecondition, text));
    }
    if stat.is_of_kernel() {
        let text = format!("process {pid} ({}) is a thread of the kernel", stat.name);
        return Err(ToolError::new(Code::PermissionDenied, text));
    }
    Ok(stat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::process::fixture::Fixture;

    #[test]
    fn what_is_no_process_id_is_refused() {
        for bad in [0, -1, i32::MIN, PID_MAX + 1] {
            assert!(Pid::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_system_and_the_kernel_and_other_processes_are_no_targets() {
        let fixture = Fixture::new();
        fixture.process(1, "init", 0, 5);
        fixture.kernel_thread(2, "kthreadd");
        fixture.process(30, "sh", 1, 99);
        let code = |pid: i32, start_ticks| {
            target(Pid(pid), start_ticks, &fixture.host()).map(|stat| stat.start_ticks).map_err(|error| error.code)
        };
        assert_eq!(code(1, 5), Err(Code::PermissionDenied));
        assert_eq!(code(2, 0), Err(Code::PermissionDenied));
        assert_eq!(code(30, 98), Err(Code::FailedPrecondition));
        assert_eq!(code(31, 99), Err(Code::NotFound));
        assert_eq!(code(30, 99), Ok(99));
    }
}
