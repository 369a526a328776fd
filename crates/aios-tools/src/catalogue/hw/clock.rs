//! `hw.clock`

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sysfs::{self, Folder};
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Tool, ToolSpec},
};

const FOLDER: &str = "/sys/class/rtc";
const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0";

pub struct Clock;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The system's time (UTC, RFC 3339).
    time: String,
    /// The same in seconds since 1970.
    unix_s: u64,
    /// What the kernel counts time with: `tsc`, `arch_sys_counter`, `kvm-clock` or another.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Clocks that go on while the machine is off; empty where there is none, and the time is lost with the power.
    rtcs: Vec<Rtc>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Rtc {
    /// The kernel's name.
    name: String,
    /// Chip or driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    chip: Option<String>,
    /// Its time (UTC, RFC 3339).
    time: String,
    /// How far it is ahead of the system's time; it only counts whole seconds.
    ahead_s: i64,
    /// Whether the system took its time from it at boot.
    sets_system: bool,
}

impl Tool for Clock {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.clock",
        description: "Shows the system's time (UTC) and the hardware clocks with how far they are ahead (seconds).",
        examples: &[Example { goal: "what time is it", arguments: "{}" }],
        needs: &["hw:read:clock"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        sysfs::visible(Access::needs("hw:read:clock"), FOLDER)
    }

    fn run(_: Input, host: &Host) -> Result<Output, ToolError> {
        at(SystemTime::now(), host)
    }
}

fn at(now: SystemTime, host: &Host) -> Result<Output, ToolError> {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| {
        ToolError::new(Code::FailedPrecondition, "the system's time is before 1970: the clock was never set")
    })?;
    let time =
        text(since_1970).ok_or_else(|| ToolError::new(Code::Failed, "the system's time is out of all bounds"))?;
    let rtcs = host.names(FOLDER).into_iter().filter_map(|name| rtc(name, since_1970.as_secs(), host)).collect();
    Ok(Output {
        time,
        unix_s: since_1970.as_secs(),
        source: Folder::new(host, SOURCE).text("current_clocksource"),
        rtcs,
    })
}

/// A clock that can't be read now, for example because its battery is empty, is left out.
fn rtc(name: String, now_s: u64, host: &Host) -> Option<Rtc> {
    let path = format!("{FOLDER}/{name}");
    let folder = Folder::new(host, &path);
    let seconds: u64 = folder.number("since_epoch")?;
    Some(Rtc {
        chip: folder.text("name"),
        time: text(Duration::from_secs(seconds))?,
        ahead_s: i64::try_from(i128::from(seconds) - i128::from(now_s)).ok()?,
        sets_system: folder.is_set("hctosys"),
        name,
    })
}

fn text(since_1970: Duration) -> Option<String> {
    Some(Timestamp::new(i64::try_from(since_1970.as_secs()).ok()?, 0).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn a_clock_that_is_ahead_and_one_that_is_broken_are_told_apart() {
        let system = FakeInit::start(&[]);
        system.file("/sys/class/rtc/rtc0/since_epoch", "1000000120\n");
        system.file("/sys/class/rtc/rtc0/name", "rtc_cmos 00:00\n");
        system.file("/sys/class/rtc/rtc0/hctosys", "1\n");
        system.file("/sys/class/rtc/rtc1/since_epoch", "18446744073709551615\n");
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
        let output = at(now, &system.host()).expect("clock");
        assert_eq!((output.time.as_str(), output.unix_s), ("2001-09-09T01:46:40Z", 1_000_000_000));
        let expected = Rtc {
            name: "rtc0".into(),
            chip: Some("rtc_cmos 00:00".into()),
            time: "2001-09-09T01:48:40Z".into(),
            ahead_s: 120,
            sets_system: true,
        };
        assert_eq!(output.rtcs, [expected]);
    }

    #[test]
    fn a_clock_that_was_never_set_is_named() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(at(before, &Host::device()).map_err(|error| error.code).err(), Some(Code::FailedPrecondition));
    }
}
