//! `process.files`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{pid::Pid, proc_file::Stat};
use crate::{
    access::{Access, Privilege},
    args::Bounded,
    error::ToolError,
    facts::Fact,
    host::Host,
    text::plain,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Longest target that is shown, in characters.
const TARGET_MAX: usize = 256;

pub struct Files;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Process.
    pid: Pid,
    /// Descriptors in the answer at most, 1 to 500.
    #[serde(default)]
    limit: Bounded<1, 500, 60>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Descriptors by number.
    files: Vec<Open>,
    /// How many there are.
    total: usize,
    /// Whether some are left out.
    truncated: bool,
    /// Of those shown, how many targets the kernel did not let be seen.
    hidden: usize,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Open {
    /// Number.
    fd: u32,
    /// What it leads to: a path, or `socket:[inode]`, `pipe:[inode]`, `anon_inode:[kind]`. Absent where hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl Tool for Files {
    const SPEC: ToolSpec = ToolSpec {
        name: "process.files",
        description: "Lists the open files, pipes and sockets of one process, by descriptor.",
        examples: &[Example { goal: "what process 1 has open", arguments: r#"{"pid": 1}"# }],
        needs: &["process:read:{pid}"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("process:read:{}", input.pid))
            .among_processes()
            .knows(Fact::Process(input.pid.get()))
            .with(Privilege::ReadAll)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        Stat::of(input.pid, host)?;
        let folder = format!("/proc/{}/fd", input.pid);
        let mut numbers: Vec<u32> = host.names(&folder).iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let open = |fd: &u32| {
            let target = host.target(format!("{folder}/{fd}"));
            Open { fd: *fd, target: target.map(|target| plain(&target, TARGET_MAX)) }
        };
        let files: Vec<Open> = numbers.iter().take(input.limit.length()).map(open).collect();
        let hidden = files.iter().filter(|file| file.target.is_none()).count();
        Ok(Output { truncated: files.len() < numbers.len(), total: numbers.len(), files, hidden })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsRawFd};

    use super::*;
    use crate::error::Code;

    fn me() -> Pid {
        rustix::process::getpid().as_raw_nonzero().get().try_into().expect("pid")
    }

    #[test]
    fn an_open_file_is_found_by_its_descriptor() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("a\nb");
        let file = fs::File::create(&path).expect("create");
        let output =
            Files::run(Input { pid: me(), limit: 500.try_into().expect("limit") }, &Host::device()).expect("files");
        let fd = u32::try_from(file.as_raw_fd()).expect("fd");
        let found = output.files.iter().find(|open| open.fd == fd).expect("the file");
        assert_eq!(found.target, Some(path.to_str().expect("UTF-8").replace('\n', "\u{FFFD}")));
        assert!(output.files.is_sorted_by_key(|open| open.fd));
    }

    #[test]
    fn the_answer_is_bounded_and_a_missing_process_is_named() {
        let _two = (fs::File::open("/dev/null").expect("open"), fs::File::open("/dev/null").expect("open"));
        let output =
            Files::run(Input { pid: me(), limit: 1.try_into().expect("limit") }, &Host::device()).expect("files");
        assert!(output.files.len() == 1 && output.truncated && output.total > 1);
        let nobody = Host::below("/nonexistent");
        let failure = Files::run(Input { pid: me(), limit: Bounded::default() }, &nobody).expect_err("no process");
        assert_eq!(failure.code, Code::NotFound);
    }
}
