//! `hw.cpu`

use rustix::system::uname;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sysfs::Folder;
use crate::{
    access::Access,
    error::ToolError,
    host::Host,
    text::plain,
    tool::{Example, Tool, ToolSpec},
};

const CPUINFO: &str = "/proc/cpuinfo";
const FOLDER: &str = "/sys/devices/system/cpu";
/// Longest text that is shown, in characters.
const TEXT_MAX: usize = 128;

pub struct Cpu;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Whether the list of features (instruction sets and so on, up to 200 words) is shown.
    #[serde(default)]
    features: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Kind of processor, as the kernel names it.
    architecture: String,
    /// Model, where it is known by a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Processors that are on.
    online: usize,
    /// Processors that there could be.
    possible: usize,
    /// Clock of the first processor now; absent where the kernel does not set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_mhz: Option<f64>,
    /// The highest that it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_max_mhz: Option<f64>,
    /// Who decides on the clock: `performance`, `schedutil`, `ondemand` or another.
    #[serde(skip_serializing_if = "Option::is_none")]
    governor: Option<String>,
    /// Caches of the first processor.
    caches: Vec<Cache>,
    /// Flaws that nothing is done about, as the kernel names them.
    vulnerable: Vec<String>,
    /// Features, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Vec<String>>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Cache {
    /// 1 for the nearest.
    level: u32,
    /// `Data`, `Instruction` or `Unified`.
    kind: String,
    /// Size.
    size_bytes: u64,
}

impl Tool for Cpu {
    const SPEC: ToolSpec = ToolSpec {
        name: "hw.cpu",
        description: "Shows the processor: model, number, clock (MHz), caches (bytes), known flaws that are open, and if asked for its features.",
        examples: &[
            Example { goal: "which processor is this", arguments: "{}" },
            Example { goal: "does it have AVX-512", arguments: r#"{"features": true}"# },
        ],
        needs: &["hw:read:cpu"],
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        Access::needs("hw:read:cpu").sees(CPUINFO).sees(FOLDER)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let info = host.text(CPUINFO)?;
        let folder = Folder::new(host, FOLDER);
        let mhz = |name: &str| folder.number::<f64>(&format!("cpu0/cpufreq/{name}")).map(|khz| khz / 1000.0);
        let flaws = host.names(format!("{FOLDER}/vulnerabilities"));
        let is_open = |flaw: &String| {
            folder.text(&format!("vulnerabilities/{flaw}")).is_some_and(|state| state.starts_with("Vulnerable"))
        };
        Ok(Output {
            architecture: uname().machine().to_string_lossy().into_owned(),
            // x86 names the model of the processor, 32-bit ARM too; 64-bit boards name themselves.
            model: ["model name", "Model"]
                .into_iter()
                .find_map(|key| field(&info, key))
                .map(|text| plain(text, TEXT_MAX)),
            online: count(&folder.text("online").unwrap_or_default()),
            possible: count(&folder.text("possible").unwrap_or_default()),
            frequency_mhz: mhz("scaling_cur_freq"),
            frequency_max_mhz: mhz("cpuinfo_max_freq"),
            governor: folder.text("cpu0/cpufreq/scaling_governor"),
            caches: caches(host),
            vulnerable: flaws.into_iter().filter(is_open).collect(),
            features: input.features.then(|| features(&info)),
        })
    }
}

/// The first `key : value` line of `/proc/cpuinfo`.
fn field<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    let line = info.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))?;
    Some(line.trim())
}

fn features(info: &str) -> Vec<String> {
    let words = ["flags", "Features"].into_iter().find_map(|key| field(info, key)).unwrap_or_default();
    words.split_ascii_whitespace().take(200).map(|word| plain(word, 32)).collect()
}

/// How many numbers a list such as `0-3,8` names; 0 for what is no list.
fn count(list: &str) -> usize {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').filter_map(range).fold(0, usize::saturating_add)
}

fn caches(host: &Host) -> Vec<Cache> {
    let path = format!("{FOLDER}/cpu0/cache");
    let cache = |name: String| {
        let path = format!("{path}/{name}");
        let folder = Folder::new(host, &path);
        let size = folder.text("size")?;
        let kib: u64 = size.strip_suffix('K')?.parse().ok()?;
        Some(Cache { level: folder.number("level")?, kind: folder.text("type")?, size_bytes: kib.checked_mul(1024)? })
    };
    host.names(&path).into_iter().filter_map(cache).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::fake::FakeInit;

    #[test]
    fn lists_of_numbers_are_counted() {
        for (list, expected) in
            [("0", 1), ("0-3", 4), ("0-3,8,10-11", 7), ("", 0), ("3-0", 0), ("x", 0), ("0-18446744073709551615", 0)]
        {
            assert_eq!(count(list), expected, "{list:?}");
        }
    }

    #[test]
    fn a_processor_is_shown_as_far_as_it_is_known() {
        let system = FakeInit::start(&[]);
        system.file(CPUINFO, "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU\nflags\t\t: fpu avx2\n");
        let file = |name: &str, text: &str| system.file(&format!("{FOLDER}/{name}"), text);
        file("online", "0-1\n");
        file("possible", "0-3\n");
        file("cpu0/cpufreq/scaling_cur_freq", "1500000\n");
        file("cpu0/cache/index0/level", "1\n");
        file("cpu0/cache/index0/type", "Data\n");
        file("cpu0/cache/index0/size", "32K\n");
        file("cpu0/cache/uevent", "");
        file("vulnerabilities/meltdown", "Not affected\n");
        file("vulnerabilities/mds", "Vulnerable: no microcode\n");
        let output = Cpu::run(Input { features: true }, &system.host()).expect("cpu");
        assert_eq!((output.model.as_deref(), output.online, output.possible), (Some("Some CPU"), 2, 4));
        assert_eq!((output.frequency_mhz, output.frequency_max_mhz), (Some(1500.0), None));
        assert_eq!(output.caches, [Cache { level: 1, kind: "Data".into(), size_bytes: 32 << 10 }]);
        assert_eq!(
            (output.vulnerable, output.features),
            (vec!["mds".to_owned()], Some(vec!["fpu".to_owned(), "avx2".to_owned()]))
        );
    }
}
