//! `service.log`

use aios_core::paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    args::{Bounded, UnitName},
    error::ToolError,
    host::Host,
    init,
    text::{plain, thousandths},
    tool::{Example, Origin, Tool, ToolSpec},
};

/// Longest line that is shown, in characters.
const LINE_MAX: usize = 1000;
/// Most text of one answer, in bytes; the oldest lines give way.
const TEXT_MAX: usize = 48 << 10;

pub struct Log;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unit.
    unit: UnitName,
    /// Last lines to show at most, 1 to 1000.
    #[serde(default)]
    lines: Bounded<1, 1000, 30>,
    /// Only lines that hold this text, in this case; up to 200 characters. They are looked for in the last 1000 lines.
    #[serde(default)]
    #[schemars(length(max = 200))]
    containing: Option<Word>,
}

/// A text to look for.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
struct Word(String);

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Lines, the oldest first.
    lines: Vec<Line>,
    /// Whether older ones that were asked for are left out, for the size of the answer.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Line {
    /// Seconds since the kernel started.
    at_s: f64,
    /// What the unit wrote: 1000 characters at most.
    text: String,
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.chars().count() {
            1..=200 => Ok(Word(text)),
            length => Err(format!("the text to look for has {length} characters, but must have 1 to 200")),
        }
    }
}

impl Tool for Log {
    const SPEC: ToolSpec = ToolSpec {
        name: "service.log",
        description: "Shows the last lines that a unit (service) wrote: up to 1000 lines, 48 KiB a call.",
        examples: &[
            Example { goal: "what the network service said last", arguments: r#"{"unit": "network"}"# },
            Example {
                goal: "errors of the model runtime",
                arguments: r#"{"unit": "runtime", "containing": "ERROR", "lines": 10}"#,
            },
        ],
        needs: &["service:log:{unit}"],
        origin: Origin::Logs,
        ..ToolSpec::DEFAULT
    };
    type Input = Input;
    type Output = Output;

    fn access(input: &Input) -> Access {
        Access::needs(format!("service:log:{}", input.unit)).talks_to(paths::INIT_SOCKET)
    }

    fn run(input: Input, host: &Host) -> Result<Output, ToolError> {
        init::unit(host, &input.unit)?;
        let asked = if input.containing.is_some() { 1000 } else { input.lines.length() };
        let holds = |text: &str| input.containing.as_ref().is_none_or(|word| text.contains(&word.0));
        let mut found = init::log(host, &input.unit, asked)?;
        found.retain(|line| holds(&line.text));
        let mut lines: Vec<Line> = Vec::new();
        let (mut bytes, mut truncated) = (0, false);
        for line in found.into_iter().rev().take(input.lines.length()) {
            let text = plain(&line.text, LINE_MAX);
            bytes += text.len();
            if bytes > TEXT_MAX {
                truncated = true;
                break;
            }
            lines.push(Line { at_s: thousandths(line.at_s), text });
        }
        lines.reverse();
        Ok(Output { lines, truncated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Code, init::fake::FakeInit};

    #[test]
    fn the_last_lines_come_in_their_order() {
        let init = FakeInit::start(&["a"]);
        let log =
            |arguments: serde_json::Value| Log::run(serde_json::from_value(arguments).expect("JSON"), &init.host());
        let texts = |output: Output| output.lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(texts(log(serde_json::json!({"unit": "a", "lines": 2})).expect("log")), ["line 8", "line 9"]);
        let failure = log(serde_json::json!({"unit": "b", "lines": 2})).expect_err("no unit");
        assert_eq!(failure.code, Code::NotFound);
    }

    #[test]
    fn an_empty_or_long_word_is_refused() {
        for bad in ["".to_owned(), "ä".repeat(201)] {
            assert!(serde_json::from_value::<Input>(serde_json::json!({"unit": "a", "containing": bad})).is_err());
        }
    }
}
