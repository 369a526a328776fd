//! `self.config`

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings;
use crate::{
    access::Access,
    error::{Code, ToolError},
    host::Host,
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Longest key, in bytes.
const KEY_MAX: usize = 128;
const KEY_PATTERN: &str = "^[a-z][a-z0-9-]*(\\.[a-z][a-z0-9-]*)*$";

pub struct Config;

/// A key of `aios.toml` with its sections: `runtime.http.listen`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Key(String);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Key or section to show, such as `runtime.http`; absent for all.
    #[serde(default)]
    key: Option<Key>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The value in force, defaults included. Secrets are named by their files only.
    value: Value,
    /// What is wrong with files that are therefore left out; empty as a rule.
    problems: Vec<String>,
}

impl Key {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if key.len() <= KEY_MAX && key.split('.').all(is_word) {
            return Ok(Key(key));
        }
        Err(format!("{key:?} is not a key of aios.toml; one is for example runtime.http.listen"))
    }
}

impl JsonSchema for Key {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Key".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": KEY_PATTERN, "maxLength": KEY_MAX })
    }
}

impl Tool for Config {
    const SPEC: ToolSpec = ToolSpec {
        name: "self.config",
        description: "Shows the configuration in force (aios.toml of the image and of the device, with defaults), whole or one key or section.",
        examples: &[
            Example { goal: "how is this device configured", arguments: "{}" },
            Example { goal: "where does the API listen", arguments: r#"{"key": "runtime.http.listen"}"# },
        ],
        needs: &["self:read:config"],
        origin: Origin::Files,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(_: &Input) -> Access {
        settings::visible(Access::needs("self:read:config"))
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        let (config, problems) = settings::in_force(host);
        let value = match &input.key {
            None => serde_json::to_value(&config).expect("invariant: a configuration is JSON"),
            Some(key) => settings::value(&config, key.as_str()).ok_or_else(|| {
                let text =
                    format!("there is no key {} in aios.toml; self.config without a key shows all", key.as_str());
                ToolError::new(Code::NotFound, text)
            })?,
        };
        Ok(Output { value, problems })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::init::fake::FakeInit;

    fn config(system: &FakeInit, arguments: Value) -> Result<Output, ToolError> {
        Config::run(serde_json::from_value(arguments).expect("arguments"), &system.host())
    }

    #[test]
    fn the_devices_file_wins_over_the_images() {
        let system = FakeInit::start(&[]);
        system.file("/etc/aios/aios.toml", "[runtime]\nslots = 2\nqueue = 3\n");
        system.file("/var/lib/aios/config/aios.toml", "[runtime]\nqueue = 5\n");
        let output = config(&system, json!({"key": "runtime"})).expect("config");
        assert_eq!((&output.value["slots"], &output.value["queue"]), (&json!(2), &json!(5)));
        assert_eq!(config(&system, json!({"key": "log.level"})).expect("config").value, json!("info"));
        assert_eq!(
            config(&system, json!({"key": "log.colour"})).map_err(|error| error.code).err(),
            Some(Code::NotFound)
        );
    }

    #[test]
    fn a_file_that_is_wrong_is_left_out_and_named() {
        let system = FakeInit::start(&[]);
        system.file("/var/lib/aios/config/aios.toml", "[runtime]\nqueue = \"many\"\n");
        let output = config(&system, json!({})).expect("config");
        assert_eq!(output.value["runtime"]["queue"], json!(16));
        assert!(output.problems.len() == 1 && output.problems[0].contains("runtime.queue"), "{:?}", output.problems);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", ".", "a.", "A", "a/b", "a..b", "a b", "-a", &"a".repeat(129)] {
            assert!(Key::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
