//! Chat templates: messages to a prompt.
//!
//! A template writes control tokens such as `<|im_end|>` as plain text around the messages. So a message that contains
//! the text `<|im_end|>` could end its own turn and speak in another role. To prevent that, every place in a message where
//! a control token's text begins is marked with a guard, a character that occurs nowhere else in the prompt; the tokenizer
//! recognises no control token behind a guard, and drops the guards. What the template itself wrote has none.

use std::collections::HashMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize as _;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::tokenizer::Markers;
use crate::tools::{Syntax, Tool, ToolCall, told_in_text};

/// Bound on the work of one rendering; a chat of a thousand messages needs about 50,000.
const FUEL: u64 = 5_000_000;
/// Bound on a prompt's text in bytes; far beyond any context.
const MAX_PROMPT_BYTES: usize = 16 << 20;
/// Noncharacters: valid in a string, meaningless in text.
const GUARDS: std::ops::RangeInclusive<char> = '\u{FDD0}'..='\u{FDEF}';
const NAME: &str = "chat";

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, `tool` or another role that the template knows: letters, digits, `_` and `-`.
    pub role: String,
    /// Any text.
    pub content: String,
    /// Calls that the assistant made.
    pub calls: Vec<ToolCall>,
    /// In a message of a tool: the call that it answers.
    pub call_id: Option<String>,
}

impl ChatMessage {
    /// A message without calls.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), calls: Vec::new(), call_id: None }
    }
}

/// A rendered chat, to be turned into tokens by [`crate::tokenizer::Tokenizer::encode_prompt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    guard: char,
}

impl Prompt {
    /// The text, with guards.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The guard character.
    pub fn guard(&self) -> char {
        self.guard
    }
}

/// Why no prompt could be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is no valid Jinja.
    #[error("the model's chat template is broken: {0}")]
    Syntax(String),
    /// The template refused the messages or failed on them.
    #[error("the model's chat template does not accept these messages: {0}")]
    Render(String),
    /// A role with other characters than a role may have.
    #[error("{0:?} is no role: a role has 1 to 32 letters, digits, \"_\" or \"-\"")]
    Role(String),
    /// The messages use up all guard characters.
    #[error("the messages contain every one of the noncharacters U+FDD0 to U+FDEF; leave one out")]
    NoGuard,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    control: Markers,
    /// Ends of control tokens by their first character: which token, and from which byte.
    endings: HashMap<char, Vec<(u32, u32)>>,
    /// Guards that neither the template nor a control token contains.
    guards: Vec<char>,
    bos: String,
    eos: String,
    knows_tools: bool,
    /// Whether the names of calls have 9 letters and digits, as Mistral's have to.
    short_call_ids: bool,
    /// Whether the first message may be the system's; Gemma 2 refuses it.
    knows_system: bool,
}

impl ChatTemplate {
    /// Compiles `source`. `control` are the texts of the model's control tokens; `bos` and `eos` go into the template's
    /// `bos_token` and `eos_token`.
    pub fn new(source: &str, control: Vec<String>, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // As the templates' authors tested them: transformers' `apply_chat_template`.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("invariant: the delimiters are Jinja's own"));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        let syntax = |error: Error| TemplateError::Syntax(describe(&error));
        environment.add_template_owned(NAME, source.to_owned()).map_err(syntax)?;
        let knows_tools = environment.get_template(NAME).map_err(syntax)?.undeclared_variables(false).contains("tools");
        let used = |guard: char| source.contains(guard) || control.iter().any(|text| text.contains(guard));
        let guards = GUARDS.filter(|&guard| !used(guard)).collect();
        let control = Markers::new((0..).zip(control).map(|(index, text)| (text, index)));
        let endings = endings(&control);
        let short_call_ids = source.contains("length != 9");
        let knows_system = !source.contains("System role not supported");
        let (source, bos, eos) = (source.to_owned(), bos.to_owned(), eos.to_owned());
        Ok(Self { environment, source, control, endings, guards, bos, eos, knows_tools, short_call_ids, knows_system })
    }

    /// How the model writes calls of tools.
    pub fn call_syntax(&self) -> Syntax {
        if self.knows_tools { Syntax::of_template(&self.source) } else { Syntax::TAGS }
    }

    /// Renders `messages` with what the model is told of `tools`; with `add_generation_prompt`, up to where the assistant's
    /// answer begins.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        tools: &[Tool],
        add_generation_prompt: bool,
    ) -> Result<Prompt, TemplateError> {
        let in_text = (!self.knows_tools).then(|| {
            let mut told = told_in_text(messages, tools);
            if !tools.is_empty() && !self.knows_system {
                fold_system(&mut told);
            }
            told
        });
        let messages = in_text.as_deref().unwrap_or(messages);
        let tools = if self.knows_tools { tools } else { &[] };
        messages.iter().try_for_each(|message| check_role(&message.role))?;
        let call_id = |id: &str| if self.short_call_ids { short_call_id(id) } else { id.to_owned() };
        let messages: Vec<Json> = messages.iter().map(|one| message(one, &call_id)).collect();
        let tools: Vec<Json> = tools.iter().map(Tool::described).collect();
        let mut values = [Json::Array(messages), Json::Array(tools)];
        let guard = self.free_guard(&values)?;
        values.iter_mut().for_each(|value| self.guard(value, guard));
        let [messages, tools] = values.map(|value| Value::from(Serde(value)));

        let template = self.environment.get_template(NAME).map_err(|error| TemplateError::Syntax(describe(&error)))?;
        let variables = context! {
            messages,
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            // Templates ask whether there are tools in one way or another; without any, the variable is not there.
            ..if tools.len() == Some(0) { context! {} } else { context! { tools } },
        };
        let mut output = BoundedOutput::default();
        template.render_captured_to(variables, &mut output).map_err(|error| TemplateError::Render(describe(&error)))?;
        let text = String::from_utf8(output.bytes).map_err(|error| TemplateError::Render(error.to_string()))?;
        Ok(Prompt { text, guard })
    }

    fn free_guard(&self, values: &[Json]) -> Result<char, TemplateError> {
        let used = |guard: char| values.iter().any(|value| any_text(value, &|text| text.contains(guard)));
        self.guards.iter().copied().find(|&guard| !used(guard)).ok_or(TemplateError::NoGuard)
    }

    /// Guards every text in `value`, names included.
    fn guard(&self, value: &mut Json, guard: char) {
        match value {
            Json::String(text) => *text = self.guard_content(text, guard),
            Json::Array(values) => values.iter_mut().for_each(|value| self.guard(value, guard)),
            Json::Object(map) => {
                let guarded = std::mem::take(map).into_iter().map(|(name, mut value)| {
                    self.guard(&mut value, guard);
                    (self.guard_content(&name, guard), value)
                });
                *map = guarded.collect();
            }
            _ => {}
        }
    }

    /// Whether `content`, which begins with `first`, begins with the end of a control token, or lies within one.
    fn continues_a_token(&self, content: &str, first: char) -> bool {
        self.endings.get(&first).into_iter().flatten().any(|&(index, at)| {
            let end = &self.control.spelling(index as usize)[at as usize..];
            content.starts_with(end) || end.starts_with(content)
        })
    }

    /// Puts a guard wherever a control token begins in `content`, or begins there and could end in what the template
    /// writes behind it, or could have begun in what the template writes before it.
    fn guard_content(&self, content: &str, guard: char) -> String {
        let mut guarded = String::with_capacity(content.len());
        for (at, character) in content.char_indices() {
            let rest = &content[at..];
            if self.control.begins(rest)
                || self.control.any_begins_with(rest)
                || (at == 0 && self.continues_a_token(content, character))
            {
                guarded.push(guard);
            }
            guarded.push(character);
        }
        guarded
    }
}

/// All proper ends of the tokens.
fn endings(control: &Markers) -> HashMap<char, Vec<(u32, u32)>> {
    let mut endings: HashMap<char, Vec<(u32, u32)>> = HashMap::new();
    for (index, token) in control.texts().enumerate() {
        for (at, character) in token.char_indices().skip(1) {
            endings.entry(character).or_default().push((index as u32, at as u32));
        }
    }
    endings
}

/// A message as templates expect it. Arguments are an object where they can be, as in `transformers`.
fn message(message: &ChatMessage, call_id: &impl Fn(&str) -> String) -> Json {
    let mut value = json!({"role": message.role, "content": message.content});
    if !message.calls.is_empty() {
        let arguments = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Json::from(text));
        let calls = message.calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": arguments(&call.arguments)});
            json!({"id": call_id(&call.id), "type": "function", "function": function})
        });
        value["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.call_id {
        value["tool_call_id"] = call_id(id).into();
    }
    value
}

/// What is told to the system becomes the beginning of what the user says first.
fn fold_system(messages: &mut Vec<ChatMessage>) {
    let is_system = messages.first().is_some_and(|first| first.role == "system");
    if let (true, Some(user)) = (is_system, messages.iter().position(|message| message.role == "user")) {
        let system = messages.remove(0);
        let user = &mut messages[user - 1];
        user.content = format!("{}\n\n{}", system.content, user.content);
    }
}

/// `id`, or 9 digits that stand for it.
fn short_call_id(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let hash = Sha256::digest(id.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..9].to_owned()
}

fn any_text(value: &Json, is: &impl Fn(&str) -> bool) -> bool {
    match value {
        Json::String(text) => is(text),
        Json::Array(values) => values.iter().any(|value| any_text(value, is)),
        Json::Object(map) => map.iter().any(|(name, value)| is(name) || any_text(value, is)),
        _ => false,
    }
}

/// Jinja's filter as `transformers` has it: Python's `json.dumps`, which escapes nothing for HTML.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let bad = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let json = serde_json::to_value(value).map_err(bad)?;
    let Some(indent) = indent else { return Ok(python_json(&json)) };
    let mut bytes = Vec::new();
    let spaces = " ".repeat(indent.min(16));
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(bad)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON as Python's `json.dumps` writes it, with a space behind each comma and colon: what models have seen most.
pub fn python_json(value: &Json) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter);
    value.serialize(&mut serializer).expect("invariant: a JSON value can be written to memory");
    String::from_utf8_lossy(&bytes).into_owned()
}

struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn check_role(role: &str) -> Result<(), TemplateError> {
    let valid = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    if (1..=32).contains(&role.len()) && role.chars().all(valid) {
        Ok(())
    } else {
        Err(TemplateError::Role(role.to_owned()))
    }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The time in UTC, by `strftime`'s format.
fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

fn describe(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// Output that refuses to grow without end: fuel bounds the number of steps, not what a step writes.
#[derive(Default)]
struct BoundedOutput {
    bytes: Vec<u8>,
}

impl std::io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_PROMPT_BYTES {
            return Err(std::io::Error::other(format!("the prompt is longer than {MAX_PROMPT_BYTES} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
