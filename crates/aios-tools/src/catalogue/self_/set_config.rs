//! `self.set_config`

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aios_core::{
    config::{self, Layer},
    paths,
};
use rustix::fs::{FlockOperation, flock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike};

use super::{config::Key, settings};
use crate::{
    access::Access,
    args::AbsolutePath,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Inverse, Origin, Risk, Serial, Tool, ToolSpec},
};

/// Longest text, and most texts of a list.
const TEXT_MAX: usize = 4096;
const LIST_MAX: usize = 64;

pub struct SetConfig;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Key with its sections, such as `runtime.http.listen`.
    key: Key,
    /// New value; null gives the key the image's value again. Sizes and durations are texts with a unit: "64MiB", "30s".
    value: Setting,
}

/// A value of `aios.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Setting {
    Default,
    Switch(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The value that was in force.
    before: Value,
    /// The value that the key has now. The services read it when they start, PID 1 at boot.
    after: Value,
}

impl Tool for SetConfig {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.set_config",
        description: "Sets one key in this device's aios.toml, whose comments stay; refused if the whole would not be valid. Services read it when they start (service.restart), PID 1 at boot.",
        examples: &[
            Example { goal: "log more", arguments: r#"{"key": "log.level", "value": "debug"}"# },
            Example { goal: "give the device a name", arguments: r#"{"key": "system.hostname", "value": "gate-7"}"# },
            Example { goal: "back to the usual queue", arguments: r#"{"key": "runtime.queue", "value": null}"# },
        ],
        needs: &["self:write:config.{key}"],
        risk: Risk::High,
        reversible: true,
        sinks: &["/key", "/value"],
        origin: Origin::Files,
        serial: Some(Serial::Configuration),
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        let access = Access::needs(format!("self:write:config.{}", input.key.as_str())).sees(paths::IMAGE_CONFIG);
        // The folder, because a file is replaced by a rename in it.
        access.changes(folder())
    }

    fn inverse(_: &Input, _: &Host) -> Result<Inverse, ToolError> {
        let file = AbsolutePath::new(paths::DEVICE_CONFIG).expect("invariant: a constant path in its only form");
        Ok(Inverse::Paths { paths: vec![file] })
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        input.value.check()?;
        let key = input.key.as_str();
        let folder = File::open(host.path(folder())).map_err(|error| ToolError::io(folder(), &error))?;
        // Of two calls at once, the second edits what the first has written.
        flock(&folder, FlockOperation::LockExclusive)
            .map_err(|errno| ToolError::io(Path::new(paths::DEVICE_CONFIG), &errno.into()))?;
        let before = settings::value(&settings::in_force(host).0, key);
        let text = optional(host, paths::DEVICE_CONFIG)?;
        let edited = edit(&text, key, &input.value)?;
        let layers = [
            Layer { path: paths::IMAGE_CONFIG.into(), text: optional(host, paths::IMAGE_CONFIG)? },
            Layer { path: paths::DEVICE_CONFIG.into(), text: edited.clone() },
        ];
        let config = config::from_layers(&layers)
            .map_err(|error| ToolError::new(Code::InvalidArgument, format!("nothing was changed: {error}")))?;
        let after = settings::value(&config, key)
            .ok_or_else(|| ToolError::new(Code::NotFound, format!("there is no key {key} in aios.toml")))?;
        if edited != text {
            replace(&host.path(paths::DEVICE_CONFIG), &edited, &folder)
                .map_err(|error| ToolError::io(Path::new(paths::DEVICE_CONFIG), &error))?;
        }
        Ok(Output { before: before.unwrap_or_default(), after })
    }
}

impl Setting {
    fn check(&self) -> Result<(), ToolError> {
        let refused = |text: String| Err(ToolError::new(Code::InvalidArgument, text));
        match self {
            Setting::Text(text) if text.len() > TEXT_MAX => {
                refused(format!("the value is longer than {TEXT_MAX} bytes"))
            }
            Setting::List(list) if list.len() > LIST_MAX || list.iter().any(|text| text.len() > TEXT_MAX) => {
                refused(format!("the value is longer than {LIST_MAX} texts of {TEXT_MAX} bytes"))
            }
            _ => Ok(()),
        }
    }

    /// As TOML; `None` where the key is to go.
    fn to_toml(&self) -> Option<toml_edit::Value> {
        match self {
            Setting::Default => None,
            Setting::Switch(value) => Some((*value).into()),
            Setting::Number(value) => Some((*value).into()),
            Setting::Text(value) => Some(value.as_str().into()),
            Setting::List(values) => Some(values.iter().map(String::as_str).collect::<Array>().into()),
        }
    }
}

fn folder() -> &'static Path {
    Path::new(paths::DEVICE_CONFIG).parent().expect("invariant: the file lies in a folder")
}

/// Text of a file; empty where there is none.
fn optional(host: &Host, path: &str) -> Result<String, ToolError> {
    match host.text(path) {
        Err(error) if error.code == Code::NotFound => Ok(String::new()),
        text => text,
    }
}

/// `text` with `key` set to `setting`, and everything else as it was.
fn edit(text: &str, key: &str, setting: &Setting) -> Result<String, ToolError> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let text = format!("{} is no TOML, so no key can be set in it: {}", paths::DEVICE_CONFIG, error.message());
        ToolError::new(Code::FailedPrecondition, text)
    })?;
    let (sections, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        let item = table.entry(section).or_insert_with(|| {
            let mut new = Table::new();
            new.set_implicit(true);
            Item::Table(new)
        });
        table = item.as_table_like_mut().ok_or_else(|| {
            ToolError::new(Code::InvalidArgument, format!("{section} in {key} is a value, not a section"))
        })?;
    }
    match (setting.to_toml(), table.get_mut(name)) {
        (None, _) => drop(table.remove(name)),
        (Some(mut value), Some(Item::Value(old))) => {
            // The comment behind the value belongs to the key.
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        (Some(value), _) => drop(table.insert(name, Item::Value(value))),
    }
    // A first section would be set off from what is before it, which is nothing.
    let edited = document.to_string();
    Ok(if text.is_empty() { edited.trim_start().to_owned() } else { edited })
}

/// Puts `text` in the place of the file at `path`, whole or not at all, also where the power fails.
fn replace(path: &Path, text: &str, folder: &File) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
    let new = path.with_extension("toml.new");
    // What an interrupted call has left; the lock says that nobody writes it now.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::init::fake::FakeInit;

    const FILE: &str = "# Ours.\n[runtime] # the model\nqueue = 5 # few\nslots = 2\n\n[log]\nlevel = \"info\"\n";

    fn set(system: &FakeInit, key: &str, value: Value) -> Result<Output, ToolError> {
        let input = serde_json::from_value(json!({"key": key, "value": value})).expect("arguments");
        SetConfig::run(input, &system.host())
    }

    fn text(system: &FakeInit) -> String {
        system.host().text(paths::DEVICE_CONFIG).expect("file")
    }

    #[test]
    fn a_key_changes_and_the_rest_stays_as_it_was_written() {
        let system = FakeInit::start(&[]);
        system.file(paths::DEVICE_CONFIG, FILE);
        let output = set(&system, "runtime.queue", json!(7)).expect("set");
        assert_eq!((output.before, output.after), (json!(5), json!(7)));
        assert_eq!(text(&system), FILE.replace("queue = 5", "queue = 7"));
        set(&system, "runtime.queue", json!(null)).expect("set");
        assert_eq!(text(&system), FILE.replace("queue = 5 # few\n", ""));
        set(&system, "runtime.http.listen", json!("[::1]:9000")).expect("set");
        assert!(text(&system).contains("[runtime.http]\nlisten = \"[::1]:9000\"\n"), "{}", text(&system));
    }

    #[test]
    fn the_first_key_makes_the_file_and_no_key_is_set_twice() {
        let system = FakeInit::start(&[]);
        system.file("/var/lib/aios/config/other", "");
        let list = json!(["/a", "/b"]);
        assert_eq!(set(&system, "runtime.model-dirs", list.clone()).expect("set").after, list);
        let once = text(&system);
        assert_eq!(once, "[runtime]\nmodel-dirs = [\"/a\", \"/b\"]\n");
        assert_eq!(set(&system, "runtime.model-dirs", list.clone()).expect("set").before, list);
        assert_eq!(text(&system), once);
    }

    #[test]
    fn what_would_not_be_valid_changes_nothing() {
        let system = FakeInit::start(&[]);
        system.file(paths::DEVICE_CONFIG, FILE);
        for (key, value) in [
            ("runtime.queue", json!("many")),
            ("runtime.http.listen", json!("0.0.0.0:80")),
            ("runtime.no-such-key", json!(1)),
            ("no-such-key", json!(1)),
            ("runtime.queue.depth", json!(1)),
            ("runtime", json!(1)),
            ("log.level", json!("x".repeat(TEXT_MAX + 1))),
        ] {
            let failure = set(&system, key, value).expect_err(key);
            assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
        }
        assert_eq!(
            set(&system, "runtime.no-such-key", json!(null)).map_err(|error| error.code).err(),
            Some(Code::NotFound)
        );
        assert_eq!(text(&system), FILE);
        system.file(paths::DEVICE_CONFIG, "queue = ");
        assert_eq!(
            set(&system, "log.level", json!("warn")).map_err(|error| error.code).err(),
            Some(Code::FailedPrecondition)
        );
    }

    #[test]
    fn its_inverse_is_the_file_as_it_was() {
        let input = serde_json::from_value(json!({"key": "log.level", "value": "warn"})).expect("arguments");
        let Ok(Inverse::Paths { paths }) = SetConfig::inverse(&input, &Host::device()) else { panic!("no paths") };
        assert_eq!(paths.iter().map(AbsolutePath::as_str).collect::<Vec<_>>(), [aios_core::paths::DEVICE_CONFIG]);
        assert!(
            serde_json::from_value::<Input>(json!({"key": "log.level"})).is_err(),
            "a value that is forgotten is no null"
        );
    }
}
