//! `self.kernel_log`

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::{fs::OFlags, io::Errno};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Privilege},
    args::Bounded,
    error::{Code, ToolError},
    host::Host,
    text::{plain, thousandths},
    tool::{Example, Origin, Tool, ToolSpec},
};

const KMSG: &str = "/dev/kmsg";
/// Longest record of /dev/kmsg (`PRINTK_MESSAGE_MAX` is 2048 bytes in current kernels).
const RECORD_MAX: usize = 8192;
/// Records that are looked at: more than any log buffer holds.
const RECORDS_MAX: usize = 1 << 20;
/// Longest message that is shown, in characters.
const MESSAGE_MAX: usize = 600;

pub struct KernelLog;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Last messages to show at most, 1 to 500.
    #[serde(default)]
    lines: Bounded<1, 500, 30>,
    /// Only messages that matter at least so much.
    #[serde(default)]
    level: Level,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Level {
    /// Something does not work.
    Error,
    /// Something may not work.
    Warning,
    /// What happened.
    Info,
    /// How it happened.
    #[default]
    Debug,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Messages, the oldest first.
    messages: Vec<Message>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Message {
    /// Seconds since the kernel started.
    at_s: f64,
    /// How much it matters.
    level: Level,
    /// Message: 600 characters at most.
    text: String,
}

impl Tool for KernelLog {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.kernel_log",
        description: "Shows the kernel's last messages, all or those that matter at least so much: up to 500.",
        examples: &[
            Example { goal: "what the kernel said last", arguments: "{}" },
            Example { goal: "errors of drivers", arguments: r#"{"level": "error", "lines": 10}"# },
        ],
        needs: &["self:read:kernel-log"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("self:read:kernel-log").opens(KMSG).with(Privilege::Syslog)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("invariant: flags of open(2) are an int");
        let log = File::options().read(true).custom_flags(flags).open(host.path(KMSG)).map_err(|error| {
            let hint = "a container has none";
            match error.kind() {
                io::ErrorKind::NotFound => ToolError::new(Code::Unsupported, format!("there is no {KMSG}: {hint}")),
                _ => ToolError::of_io(KMSG, &error),
            }
        })?;
        last(log, input.lines.length(), input.level).map_err(|error| ToolError::of_io(KMSG, &error))
    }
}

/// The last `count` messages that matter at least `level`. Each read gives one record.
fn last(mut log: impl Read, count: usize, level: Level) -> io::Result<Output> {
    let mut messages = VecDeque::new();
    let mut record = [0; RECORD_MAX];
    for _ in 0..RECORDS_MAX {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let Some(message) = parse(&String::from_utf8_lossy(&record[..length])) else { continue };
                if message.level <= level {
                    messages.push_back(message);
                }
                if messages.len() > count {
                    messages.pop_front();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The record was overwritten meanwhile: the next read gives the oldest that is left.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PIPE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Output { messages: messages.into() })
}

/// `priority,sequence,microseconds,flags[,...];message`, then lines of device properties that begin with a space.
/// The kernel writes bytes that are not printable as `\x1b`.
fn parse(record: &str) -> Option<Message> {
    let (prefix, message) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: u64 = fields.nth(1)?.parse().ok()?;
    let level = match priority % 8 {
        0..=3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    };
    let text = plain(message.lines().next().unwrap_or_default(), MESSAGE_MAX);
    Some(Message { at_s: thousandths(microseconds as f64 / 1e6), level, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one record a read, and an error where there is none to give.
    struct Records(VecDeque<Result<&'static str, Errno>>);

    impl Read for Records {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let record = self.0.pop_front().unwrap_or(Err(Errno::AGAIN))?;
            buffer[..record.len()].copy_from_slice(record.as_bytes());
            Ok(record.len())
        }
    }

    #[test]
    fn a_record_is_read_with_its_level_and_without_its_properties() {
        let message = parse("30,1,2500000,-;a; b\\x1b\n SUBSYSTEM=pci\n").expect("message");
        assert_eq!((message.at_s, message.level, message.text.as_str()), (2.5, Level::Info, "a; b\\x1b"));
        for damaged in ["", ";", "6", "6,1", "6,1,x,-;a", "x,1,2,-;a", "6,1,2,-"] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn the_last_that_matter_are_kept_and_lost_ones_skipped() {
        let records =
            [Ok("3,1,1,-;one\n"), Err(Errno::PIPE), Ok("7,3,3,-;three\n"), Ok("4,4,4,-;four\n"), Ok("2,5,5,-;five\n")];
        let texts = |count, level| -> Vec<String> {
            let output = last(Records(records.into()), count, level).expect("log");
            output.messages.into_iter().map(|message| message.text).collect()
        };
        assert_eq!(texts(2, Level::Debug), ["four", "five"]);
        assert_eq!(texts(9, Level::Warning), ["one", "four", "five"]);
        assert_eq!(texts(9, Level::Error), ["one", "five"]);
    }

    #[test]
    fn a_container_without_the_device_is_told() {
        let input = serde_json::from_value(serde_json::json!({})).expect("arguments");
        let failure = KernelLog::run(input, &Host::below("/nonexistent")).expect_err("no kmsg");
        assert_eq!(failure.code, Code::Unsupported);
    }
}
