//! From a directory of TOML files to checked units. Each file stands alone: a broken one is reported and spoils no other.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aios_core::quantity::{ByteSize, HumanDuration};
use rustix::thread::CapabilitySet;
use serde::Deserialize;

use super::{Capability, Confine, Limits, Unit};
use crate::supervisor::{ReadyWhen, Restart};

/// Default of `start-timeout`.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(90);
/// Default of `stop-timeout`.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The shutdown waits this long for one unit at most, whatever its file says.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// No sensible unit file is longer; init must not read a disk into memory.
const FILE_SIZE_MAX: u64 = 64 * 1024;

/// What is wrong with a unit file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFileError {
    pub path: PathBuf,
    /// Counted from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    pub reason: String,
}

impl fmt::Display for UnitFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.reason),
            None => write!(f, "{}: {}", self.path.display(), self.reason),
        }
    }
}

impl std::error::Error for UnitFileError {}

/// All that was found in the unit directories.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By unit name.
    pub units: BTreeMap<String, Result<Unit, UnitFileError>>,
    /// Directories and files that are no units at all.
    pub problems: Vec<String>,
}

/// Reads all `*.toml` files; one in a later directory replaces that of the same name in an earlier one.
pub fn load(directories: &[PathBuf]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                loaded.problems.push(format!("unit directory {}: {error}", directory.display()));
                continue;
            }
        };
        for entry in entries {
            match entry.map(|entry| entry.path()) {
                Ok(path) if path.extension().is_some_and(|extension| extension == "toml") => {
                    match path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_plain_name(stem)) {
                        Some(name) => drop(files.insert(name.to_string(), path)),
                        None => loaded.problems.push(format!("{}: {NAME_RULE}; ignored", path.display())),
                    }
                }
                Ok(_) => {}
                Err(error) => loaded.problems.push(format!("unit directory {}: {error}", directory.display())),
            }
        }
    }
    for (name, path) in files {
        let unit = read(&path).and_then(|text| parse(&name, &path, &text));
        if let btree_map::Entry::Vacant(free) = loaded.units.entry(name) {
            free.insert(unit);
        }
    }
    loaded
}

fn read(path: &Path) -> Result<String, UnitFileError> {
    let error = |reason: String| UnitFileError { path: path.into(), line: None, reason };
    // A FIFO under this name would block PID 1 in `open`.
    let metadata = fs::metadata(path).map_err(|source| error(source.to_string()))?;
    if !metadata.is_file() {
        return Err(error("is not a regular file".into()));
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|source| error(source.to_string()))?;
    file.take(FILE_SIZE_MAX + 1).read_to_string(&mut text).map_err(|source| error(source.to_string()))?;
    if text.len() as u64 > FILE_SIZE_MAX {
        return Err(error(format!("is larger than {} KiB", FILE_SIZE_MAX / 1024)));
    }
    Ok(text)
}

/// Reads and checks one unit file's text.
pub fn parse(name: &str, path: &Path, text: &str) -> Result<Unit, UnitFileError> {
    let file: UnitFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        UnitFileError { path: path.into(), line, reason: error.message().trim().replace('\n', ", ") }
    })?;
    let limits = Limits {
        memory_max: file.limits.memory_max,
        memory_high: file.limits.memory_high,
        cpu_weight: file.limits.cpu_weight.map(|weight| weight.0),
        tasks_max: file.limits.tasks_max.map(|count| count.0),
        open_files: file.limits.open_files.map(|count| count.0),
    };
    // Root keeps what it has unless the file says otherwise; everyone else gets nothing.
    let capabilities = match file.capabilities {
        Some(capabilities) => Some(Capability::union(capabilities)),
        None if file.user.0 == "root" => None,
        None => Some(CapabilitySet::empty()),
    };
    let names = |names: Vec<PlainName>| names.into_iter().map(|name| name.0).collect();
    Ok(Unit {
        name: name.into(),
        description: file.description,
        command: file.command.0,
        user: file.user.0,
        after: names(file.after),
        requires: names(file.requires),
        ready: file.ready,
        start_timeout: file.start_timeout.0,
        stop_timeout: file.stop_timeout.0,
        restart: file.restart,
        environment: file.environment.into_iter().map(|(name, value)| (name.0, value.0)).collect(),
        runtime_directory: file.runtime_directory.map(|name| name.0),
        state_directory: file.state_directory.map(|name| name.0),
        credentials: names(file.credentials),
        capabilities,
        limits,
        confine: file.confine.map(ConfineTable::checked),
        terminal: None,
    })
}

/// The file as written. Each field's type carries its rule, so that a breach is reported with its line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct UnitFile {
    #[serde(default)]
    description: String,
    command: Command,
    #[serde(default = "root")]
    user: PlainName,
    #[serde(default)]
    after: Vec<PlainName>,
    #[serde(default)]
    requires: Vec<PlainName>,
    #[serde(default = "started")]
    ready: ReadyWhen,
    #[serde(default = "start_timeout")]
    start_timeout: StartTimeout,
    #[serde(default = "stop_timeout")]
    stop_timeout: StopTimeout,
    #[serde(default = "on_failure")]
    restart: Restart,
    #[serde(default)]
    environment: BTreeMap<VariableName, Text>,
    runtime_directory: Option<PlainName>,
    state_directory: Option<PlainName>,
    #[serde(default)]
    credentials: Vec<PlainName>,
    capabilities: Option<Vec<Capability>>,
    #[serde(default)]
    limits: LimitsTable,
    confine: Option<ConfineTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfineTable {
    #[serde(default)]
    read: Vec<AbsolutePath>,
    #[serde(default)]
    write: Vec<AbsolutePath>,
    #[serde(default)]
    execute: Vec<AbsolutePath>,
    bind_tcp: Option<Vec<u16>>,
    connect_tcp: Option<Vec<u16>>,
}

impl ConfineTable {
    fn checked(self) -> Confine {
        let paths = |paths: Vec<AbsolutePath>| paths.into_iter().map(|path| path.0).collect();
        Confine {
            read: paths(self.read),
            write: paths(self.write),
            execute: paths(self.execute),
            bind_tcp: self.bind_tcp,
            connect_tcp: self.connect_tcp,
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct AbsolutePath(PathBuf);

impl TryFrom<String> for AbsolutePath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        if path.starts_with('/') && !path.contains('\0') {
            Ok(AbsolutePath(path.into()))
        } else {
            Err(format!("\"{path}\" is not an absolute path"))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    memory_max: Option<ByteSize>,
    memory_high: Option<ByteSize>,
    cpu_weight: Option<CpuWeight>,
    tasks_max: Option<Count>,
    open_files: Option<Count>,
}

fn root() -> PlainName {
    PlainName("root".into())
}

fn started() -> ReadyWhen {
    ReadyWhen::Started
}

fn on_failure() -> Restart {
    Restart::OnFailure
}

fn start_timeout() -> StartTimeout {
    StartTimeout(START_TIMEOUT)
}

fn stop_timeout() -> StopTimeout {
    StopTimeout(STOP_TIMEOUT)
}

const NAME_RULE: &str = "a name has 1 to 64 letters, digits, '-', '_' or '.', and does not begin with '.' or '-'";

fn is_plain_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

/// Becomes part of a path or of a control group's name, so it is kept to harmless characters.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct PlainName(String);

impl TryFrom<String> for PlainName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_plain_name(&name) { Ok(PlainName(name)) } else { Err(format!("\"{name}\" is not a name: {NAME_RULE}")) }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Command(Vec<String>);

impl TryFrom<Vec<String>> for Command {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        match words.first() {
            None => Err("the command is empty; write [\"/path/of/program\", \"argument\", ...]".into()),
            Some(program) if !program.starts_with('/') => {
                Err(format!("the program \"{program}\" is not an absolute path"))
            }
            Some(_) if words.iter().any(|word| word.contains('\0')) => {
                Err("the command contains a NUL character".into())
            }
            Some(_) => Ok(Command(words)),
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct VariableName(String);

impl TryFrom<String> for VariableName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if begins_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            Ok(VariableName(name))
        } else {
            Err(format!("\"{name}\" is not the name of an environment variable"))
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Text(String);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('\0') { Err("contains a NUL character".into()) } else { Ok(Text(text)) }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "HumanDuration")]
struct StartTimeout(Duration);

impl TryFrom<HumanDuration> for StartTimeout {
    type Error = String;

    fn try_from(duration: HumanDuration) -> Result<Self, String> {
        if duration.0.is_zero() {
            Err("a start-timeout of 0s lets nothing start".into())
        } else {
            Ok(StartTimeout(duration.0))
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "HumanDuration")]
struct StopTimeout(Duration);

impl TryFrom<HumanDuration> for StopTimeout {
    type Error = String;

    fn try_from(duration: HumanDuration) -> Result<Self, String> {
        if duration.0 > STOP_TIMEOUT_MAX {
            return Err(format!(
                "\"{duration}\" is longer than a shutdown may wait: at most \"{}\"",
                HumanDuration(STOP_TIMEOUT_MAX)
            ));
        }
        Ok(StopTimeout(duration.0))
    }
}

/// `cpu.weight` of the control group.
#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct CpuWeight(u64);

impl TryFrom<i64> for CpuWeight {
    type Error = String;

    fn try_from(weight: i64) -> Result<Self, String> {
        let weight = u64::try_from(weight).ok().filter(|weight| (1..=10_000).contains(weight));
        weight.map(CpuWeight).ok_or_else(|| "a cpu-weight lies between 1 and 10000 (100 is everyone's default)".into())
    }
}

#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct Count(u64);

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(count: i64) -> Result<Self, String> {
        u64::try_from(count).ok().filter(|count| *count > 0).map(Count).ok_or_else(|| "must be at least 1".into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_text(text: &str) -> Result<Unit, UnitFileError> {
        parse("test", Path::new("/units/test.toml"), text)
    }

    const FULL: &str = r#"
description = "Local model runtime"
command = ["/usr/bin/aios-runtime", "--verbose"]
user = "aios-runtime"
after = ["network"]
requires = ["storage"]
ready = "notify"
start-timeout = "2m"
stop-timeout = "10s"
restart = "always"
environment = { RUST_LOG = "info" }
runtime-directory = "runtime"
state-directory = "runtime"
credentials = ["api-token"]
capabilities = ["CAP_NET_BIND_SERVICE"]
[limits]
memory-max = "2GiB"
memory-high = "1GiB"
cpu-weight = 100
tasks-max = 512
open-files = 4096
[confine]
read = ["/etc"]
write = ["/srv"]
execute = ["/usr/bin"]
bind-tcp = [8080]
connect-tcp = []
"#;

    #[test]
    fn every_key_is_read() {
        let unit = parse_text(FULL).unwrap();
        assert_eq!(unit.command, ["/usr/bin/aios-runtime", "--verbose"]);
        assert_eq!((unit.ready, unit.restart), (ReadyWhen::Notify, Restart::Always));
        assert_eq!(unit.start_timeout, Duration::from_secs(120));
        assert_eq!(unit.environment["RUST_LOG"], "info");
        assert_eq!(unit.capabilities.map(|set| set.bits()), Some(1 << 10));
        assert_eq!(unit.limits.memory_max, Some(ByteSize(2 << 30)));
        assert_eq!(unit.limits.open_files, Some(4096));
        let confine = Confine {
            read: vec!["/etc".into()],
            write: vec!["/srv".into()],
            execute: vec!["/usr/bin".into()],
            bind_tcp: Some(vec![8080]),
            connect_tcp: Some(vec![]),
        };
        assert_eq!(unit.confine, Some(confine));
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let unit = parse_text("command = [\"/bin/true\"]").unwrap();
        assert_eq!((unit.ready, unit.restart), (ReadyWhen::Started, Restart::OnFailure));
        assert_eq!((unit.start_timeout, unit.stop_timeout), (Duration::from_secs(90), Duration::from_secs(10)));
        assert_eq!((unit.user.as_str(), unit.capabilities), ("root", None));
        assert_eq!(unit.confine, None);
        let other = parse_text("command = [\"/bin/true\"]\nuser = \"nobody\"").unwrap();
        assert_eq!(other.capabilities.map(|set| set.bits()), Some(0), "others than root get no capability by default");
    }

    #[test]
    fn an_error_names_file_line_and_reason() {
        for (text, line, reason) in [
            ("command = [\"/bin/true\"]\ncolour = 1", Some(2), "unknown field `colour`"),
            ("\n\ncommand = [\"true\"]", Some(3), "not an absolute path"),
            ("command = []", Some(1), "the command is empty"),
            ("command = [\"/bin/true\"]\nready = \"soon\"", Some(2), "unknown variant `soon`"),
            ("command = [\"/bin/true\"]\nstart-timeout = 90", Some(2), "expected"),
            ("command = [\"/bin/true\"]\nstop-timeout = \"1d\"", Some(2), "longer than a shutdown may wait"),
            ("command = [\"/bin/true\"]\nstart-timeout = \"0s\"", Some(2), "lets nothing start"),
            ("command = [\"/bin/true\"]\nstate-directory = \"../../etc\"", Some(2), "is not a name"),
            ("command = [\"/bin/true\"]\ncapabilities = [\"CAP_FLY\"]", Some(2), "is not a capability"),
            ("command = [\"/bin/true\"]\n[limits]\ncpu-weight = 0", Some(3), "between 1 and 10000"),
            ("command = [\"/bin/true\"]\n[limits]\nmemory-max = \"much\"", Some(3), "is not a size"),
            ("command = [\"/bin/true\"]\n[environment]\n\"A=B\" = \"c\"", Some(3), "environment variable"),
            ("command = [\"/bin/true\"]\n[confine]\nread = [\"etc\"]", Some(3), "not an absolute path"),
            ("command = [\"/bin/true\"]\n[confine]\nbind-tcp = [65536]", Some(3), "65536"),
            ("command = \"/bin/true", Some(1), ""),
        ] {
            let error = parse_text(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.to_string().starts_with("/units/test.toml:"), "{error}");
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        assert!(parse_text("").unwrap_err().reason.contains("missing field `command`"));
    }

    #[test]
    fn a_later_directory_replaces_and_a_broken_file_spoils_no_other() {
        let root = tempfile::tempdir().unwrap();
        let (usr, etc) = (root.path().join("usr"), root.path().join("etc"));
        for directory in [&usr, &etc] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(usr.join("a.toml"), "command = [\"/bin/usr\"]").unwrap();
        fs::write(usr.join("b.toml"), "command = 3").unwrap();
        fs::write(usr.join("README"), "no unit").unwrap();
        fs::write(usr.join(".hidden.toml"), "").unwrap();
        fs::write(usr.join("huge.toml"), "#".repeat(70_000)).unwrap();
        fs::create_dir(usr.join("folder.toml")).unwrap();
        fs::write(etc.join("a.toml"), "command = [\"/bin/etc\"]").unwrap();
        let loaded = load(&[usr, etc, root.path().join("absent")]);
        let reason = |name: &str| loaded.units[name].as_ref().unwrap_err().reason.clone();
        assert_eq!(loaded.units["a"].as_ref().unwrap().command, ["/bin/etc"]);
        assert!(reason("b").contains("invalid type"));
        assert_eq!(reason("huge"), "is larger than 64 KiB");
        assert_eq!(reason("folder"), "is not a regular file");
        assert_eq!(loaded.units.len(), 4);
        assert_eq!(loaded.problems.len(), 1, "{:?}", loaded.problems);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = parse_text(&text);
        }

        #[test]
        fn no_damage_to_a_good_file_makes_the_parser_panic(at in 0..FULL.len(), byte in 0u8..128) {
            let mut bytes = FULL.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse_text(&String::from_utf8_lossy(&bytes));
        }
    }
}
