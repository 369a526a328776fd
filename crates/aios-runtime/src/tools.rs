//! Tools: what a model is told of them, and the form in which it calls them.
//!
//! A model whose chat template knows tools gets them by it, and calls in the form that the template shows. For any other the
//! tools, calls and results are written into the messages as text. Either way the form of a call is enforced: its name is
//! one of the tools', its arguments are valid by that tool's schema.

mod reader;

use serde_json::{Value, json};

use crate::{constraint::Form, template::ChatMessage};

pub use reader::{CallReader, Part};

/// Most calls of one answer.
const MOST_CALLS: usize = 16;

/// Something that a model can ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// A call that a model made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Name of the call, by which its result is told from others'.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

/// Which tools an answer may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The model answers or calls.
    Auto,
    /// The model calls.
    Required,
    /// The model calls this tool, once.
    Named(String),
}

/// The tools of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    /// At least one.
    pub tools: Vec<Tool>,
    /// Which of them may or must be called.
    pub choice: Choice,
    /// Whether an answer may hold several calls.
    pub parallel: bool,
}

/// How a model writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// Text by which calls are recognised; the beginning of `first`.
    pub marker: &'static str,
    /// What stands before the name of the first call's tool.
    pub first: &'static str,
    /// What stands before the name of any other call's tool.
    pub next: &'static str,
    /// What stands between name and arguments.
    pub middle: &'static str,
    /// What stands behind the arguments.
    pub tail: &'static str,
    /// What stands behind the last call.
    pub end: &'static str,
    /// Most calls of one answer.
    pub most: usize,
}

impl Syntax {
    /// As Hermes, Qwen and SmolLM write them.
    pub const TAGS: Syntax = Syntax {
        marker: "<tool_call>",
        first: "<tool_call>\n{\"name\": \"",
        next: "\n<tool_call>\n{\"name\": \"",
        middle: "\", \"arguments\": ",
        tail: "}\n</tool_call>",
        end: "",
        most: MOST_CALLS,
    };
    /// As Llama 3 writes them; its templates refuse a message with several.
    pub const BARE: Syntax = Syntax {
        marker: "{\"name\": \"",
        first: "{\"name\": \"",
        next: "; {\"name\": \"",
        middle: "\", \"parameters\": ",
        tail: "}",
        end: "",
        most: 1,
    };
    /// As Mistral writes them, behind its control token `[TOOL_CALLS]`, which is no text.
    pub const LIST: Syntax = Syntax {
        marker: "[{\"name\": \"",
        first: "[{\"name\": \"",
        next: ", {\"name\": \"",
        middle: "\", \"arguments\": ",
        tail: "}",
        end: "]",
        most: MOST_CALLS,
    };

    /// The syntax that a chat template shows, of one that knows tools.
    pub fn of_template(source: &str) -> Syntax {
        if source.contains("[TOOL_CALLS]") {
            Self::LIST
        } else if source.contains("\"parameters\": ") && !source.contains(Self::TAGS.marker) {
            Self::BARE
        } else {
            Self::TAGS
        }
    }

    /// Calls as an answer holds them: names and arguments.
    fn written(&self, calls: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (index, (name, arguments)) in calls.iter().enumerate() {
            let before = if index == 0 { self.first } else { self.next };
            text += &[before, name, self.middle, arguments, self.tail].concat();
        }
        text + self.end
    }
}

impl Tool {
    /// As the OpenAI API describes it, which is what templates expect.
    pub fn described(&self) -> Value {
        let mut function = json!({"name": self.name});
        if let Some(description) = &self.description {
            function["description"] = description.as_str().into();
        }
        function["parameters"] = self.parameters.clone();
        json!({"type": "function", "function": function})
    }
}

impl Tools {
    /// The form of an answer with calls, from the marker on where the model may also answer without.
    pub fn form(&self, syntax: &Syntax) -> Form {
        let literal = |text: &str| Value::from(text).to_string();
        let chosen = |tool: &&Tool| !matches!(&self.choice, Choice::Named(name) if *name != tool.name);
        let tools: Vec<&Tool> = self.tools.iter().filter(chosen).collect();
        let calls = |before: &str| {
            let call = |(index, tool): (usize, &&Tool)| {
                let before = [before, &tool.name, syntax.middle].concat();
                format!("{} arguments_{index} {}", literal(&before), literal(syntax.tail))
            };
            tools.iter().enumerate().map(call).collect::<Vec<String>>().join(" | ")
        };
        // A token in which the marker begins may have begun before it.
        let lead = format!("/[^{}]{{1,64}}/", regex_character(syntax.marker));
        let lead = if self.choice == Choice::Auto { format!("({lead})? ") } else { String::new() };
        let one = !self.parallel || matches!(self.choice, Choice::Named(_));
        let more = if one { 0 } else { syntax.most - 1 };
        let (more, next) = match more {
            0 => (String::new(), String::new()),
            more => (format!(" next{{0,{more}}}"), format!("next: {}\n", calls(syntax.next))),
        };
        let end = if syntax.end.is_empty() { String::new() } else { format!(" {}", literal(syntax.end)) };
        let mut grammar = format!("start: {lead}call{more}{end}\ncall: {}\n{next}", calls(syntax.first));
        for (index, tool) in tools.iter().enumerate() {
            grammar += &format!("arguments_{index}: %json {}\n", Form::embedded(&tool.parameters));
        }
        Form::Grammar(grammar)
    }
}

/// The first character of `marker`, for a character class.
fn regex_character(marker: &str) -> String {
    marker.chars().next().map(|first| format!("\\x{:02x}", u32::from(first))).unwrap_or_default()
}

/// Messages for a model whose template knows nothing of tools: they are described in the system message, and calls and
/// results written out.
pub fn told_in_text(messages: &[ChatMessage], tools: &[Tool]) -> Vec<ChatMessage> {
    let mut told: Vec<ChatMessage> = Vec::with_capacity(messages.len() + 1);
    for (index, message) in messages.iter().enumerate() {
        // Results of one turn are one message: many templates want users and assistants to take turns.
        let goes_on = message.role == "tool" && index > 0 && messages[index - 1].role == "tool";
        match (in_text(message), told.last_mut().filter(|_| goes_on)) {
            (next, Some(last)) => last.content = format!("{}\n{}", last.content, next.content),
            (next, None) => told.push(next),
        }
    }
    if !tools.is_empty() {
        let section = section(tools);
        match told.first_mut().filter(|first| first.role == "system") {
            Some(system) => system.content = format!("{}\n\n{section}", system.content),
            None => told.insert(0, ChatMessage::new("system", section)),
        }
    }
    told
}

fn in_text(message: &ChatMessage) -> ChatMessage {
    if message.role == "tool" {
        let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return ChatMessage::new("user", content);
    }
    let calls: Vec<_> = message.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
    let parts = [message.content.clone(), Syntax::TAGS.written(&calls)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    ChatMessage::new(&message.role, parts.join("\n"))
}

fn section(tools: &[Tool]) -> String {
    let list: Vec<String> =
        tools.iter().map(|tool| crate::template::python_json(&tool.described()["function"])).collect();
    let example = Syntax::TAGS.written(&[("TOOL", "{\"PARAMETER\": \"VALUE\"}")]);
    format!(
        "You can use these tools:\n<tools>\n{}\n</tools>\nTo use a tool, answer with its name and arguments, and nothing \
         else:\n{example}",
        list.join("\n")
    )
}

#[cfg(test)]
mod tests;
