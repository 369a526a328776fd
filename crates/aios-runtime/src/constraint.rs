//! Answers of a given form: a JSON schema, a regular expression or a grammar decides which tokens may come next.
//!
//! A form is compiled once ([`Grammars::compile`]) and followed token by token ([`Constraint`]). Which tokens may come next
//! depends on the tokens so far alone, so it can be computed while the model computes how likely they are. Where only one
//! continuation is possible, its tokens are taken without asking the model.

mod cache;
mod schema;
mod vocabulary;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::{
    Matcher, ParserFactory,
    api::{GrammarWithLexer, ParserLimits, StopReason, TopLevelGrammar},
    earley::SlicedBiasComputer,
};
use serde_json::{Value, json};
use toktrie::{InferenceCapabilities, TokEnv};

pub use toktrie::SimpleVob as TokenSet;

use crate::tokenizer::Tokenizer;
use cache::Cache;

/// Longest form in bytes of its source. The schemas of 40 tools have about 20 KiB.
pub const MAX_SOURCE: usize = 128 << 10;
/// Deepest nesting of brackets in a regular expression or a grammar; the compiler descends by recursion.
const MAX_DEPTH: usize = 100;
/// Stack of the thread that compiles, in bytes: enough for a chain of rules as long as [`MAX_SOURCE`] allows.
const COMPILER_STACK: usize = 256 << 20;

/// Bounds on what one form may cost. Within them a hostile one is refused or compiled in a second or so, and a
/// step takes at most about 15 ms.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2_000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    // About 2 KiB of memory each.
    max_lexer_states: 20_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: false,
    verbose_errors: false,
};

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON object.
    Json,
    /// JSON that is valid by this schema.
    Schema(Value),
    /// A text that this regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of this language, in the Lark syntax of llguidance.
    Grammar(String),
}

/// Why a form can't be followed. The text says what is wrong with it and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It is not what it says it is, or asks for what can't be had.
    #[error("{0}")]
    Invalid(String),
    /// It costs more than any request may.
    #[error("it is too large: {0}")]
    TooLarge(String),
}

/// No token may come next, or finding out which costs too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the form of the answer can't be followed any further: {0}")]
pub struct DeadEnd(String);

impl DeadEnd {
    /// The thread that followed the form is gone.
    pub(crate) fn lost() -> Self {
        Self("its thread ended".to_owned())
    }
}

/// The forms that a model's answers may be asked for.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    compiler: OnceLock<Result<Compiler, String>>,
    compiled: Mutex<Cache<Arc<str>, Matcher>>,
}

struct Compiler {
    factory: ParserFactory,
    forbidden: Arc<TokenSet>,
}

/// A form, and how far an answer has followed it.
#[derive(Clone)]
pub struct Constraint {
    source: Arc<str>,
    matcher: Matcher,
    forbidden: Arc<TokenSet>,
}

impl Form {
    /// A JSON schema as it is written inside of a grammar, behind `%json`.
    pub(crate) fn embedded(schema: &Value) -> String {
        schema::prepare(schema.clone()).to_string()
    }
}

impl Grammars {
    /// Forms compiled for the tokens of `tokenizer`.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, compiler: OnceLock::new(), compiled: Mutex::default() }
    }

    /// Compiles a form, or finds it compiled. Takes milliseconds; call it where blocking is allowed.
    pub fn compile(&self, form: &Form) -> Result<Constraint, FormError> {
        let (source, grammar) = source(form)?;
        if source.len() > MAX_SOURCE {
            return Err(FormError::TooLarge(format!("{} bytes; at most {MAX_SOURCE} are allowed", source.len())));
        }
        let found = self.compiled().get(&source).cloned();
        let forbidden = self.compiler()?.forbidden.clone();
        let matcher = match found {
            Some(matcher) => matcher,
            None => {
                let matcher = self.compile_apart(grammar)?;
                self.compiled().insert(source.clone(), matcher.clone());
                matcher
            }
        };
        Ok(Constraint { source, matcher, forbidden })
    }

    /// Drops the compiled form of a constraint that came to a dead end: all that follow the same form share what was
    /// learned about it, and with it the bound that was reached.
    pub fn forget(&self, constraint: &Constraint) {
        self.compiled().remove(&constraint.source);
    }

    /// Compiles on a thread of its own, as the compiler's recursion needs more stack than other threads have.
    fn compile_apart(&self, grammar: TopLevelGrammar) -> Result<Matcher, FormError> {
        let compiler = self.compiler()?;
        let unable = |reason: String| FormError::TooLarge(format!("compiling it failed: {reason}"));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(COMPILER_STACK);
            let thread = thread.spawn_scoped(scope, || compiler.compile(grammar));
            let joined = thread.map_err(|error| unable(error.to_string()))?.join();
            joined.unwrap_or_else(|_| Err(unable("the compiler panicked".to_owned())))
        })
    }

    fn compiler(&self) -> Result<&Compiler, FormError> {
        let compiler = self.compiler.get_or_init(|| Compiler::new(&self.tokenizer));
        compiler.as_ref().map_err(|reason| FormError::Invalid(reason.clone()))
    }

    fn compiled(&self) -> std::sync::MutexGuard<'_, Cache<Arc<str>, Matcher>> {
        // No code panics while it holds the lock, and every change is a single insertion or removal.
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Compiler {
    fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self, String> {
        let environment: TokEnv = vocabulary::environment(tokenizer.clone());
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices).map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = LIMITS;
        Ok(Self { factory, forbidden: Arc::new(vocabulary::forbidden(tokenizer)) })
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Matcher, FormError> {
        let parser = self.factory.create_parser(grammar).map_err(|error| refusal(&format!("{error:#}")))?;
        let mut matcher = Matcher::new(Ok(parser));
        let mut first = matcher.compute_mask().map_err(|error| refusal(&error.to_string()))?;
        first.sub(&self.forbidden);
        if first.is_zero() { Err(nothing()) } else { Ok(matcher) }
    }
}

impl Constraint {
    /// Which tokens may come next; among them those that end the answer, where it may end.
    pub fn allowed(&mut self) -> Result<TokenSet, DeadEnd> {
        let mut allowed = self.matcher.compute_mask().map_err(|error| DeadEnd(first_line(&error.to_string())))?;
        allowed.sub(&self.forbidden);
        if allowed.is_zero() {
            return Err(DeadEnd("no token is left that it allows".to_owned()));
        }
        Ok(allowed)
    }

    /// Goes on by a token that was allowed.
    pub fn accept(&mut self, token: u32) -> Result<(), DeadEnd> {
        self.matcher.consume_token(token).map_err(|error| DeadEnd(first_line(&error.to_string())))
    }

    /// Goes on by `token` if it is allowed; says whether it was.
    pub fn accept_if_allowed(&mut self, token: u32) -> Result<bool, DeadEnd> {
        let accepted = self.matcher.try_consume_tokens(&[token]);
        accepted.map(|count| count == 1).map_err(|error| DeadEnd(first_line(&error.to_string())))
    }

    /// Goes on by all tokens that the form leaves no choice about, and returns them.
    pub fn accept_forced(&mut self) -> Vec<u32> {
        if self.is_complete() { Vec::new() } else { self.matcher.consume_ff_tokens() }
    }

    /// Takes back the last `count` tokens.
    pub fn take_back(&mut self, count: usize) -> Result<(), DeadEnd> {
        self.matcher.rollback(count).map_err(|error| DeadEnd(first_line(&error.to_string())))
    }

    /// Whether the answer has its whole form, and nothing may follow.
    pub fn is_complete(&self) -> bool {
        matches!(self.matcher.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Constraint").field("state", &self.matcher.stop_reason()).finish_non_exhaustive()
    }
}

/// The form's name in the cache, and what the library compiles.
fn source(form: &Form) -> Result<(Arc<str>, TopLevelGrammar), FormError> {
    let (kind, text, grammar) = match form {
        Form::Json => json_schema(&json!({"type": "object"})),
        Form::Schema(schema) => json_schema(schema),
        Form::Regex(regex) => {
            check_depth(regex)?;
            ("regex", regex.clone(), GrammarWithLexer::from_regex(regex))
        }
        Form::Choice(texts) if texts.is_empty() => {
            return Err(FormError::Invalid("there is no text to choose from".to_owned()));
        }
        Form::Choice(texts) => choice(texts),
        Form::Grammar(grammar) => {
            check_depth(grammar)?;
            ("grammar", grammar.clone(), GrammarWithLexer::from_lark(grammar.clone()))
        }
    };
    Ok((format!("{kind} {text}").into(), TopLevelGrammar::from_grammar(grammar)))
}

fn json_schema(schema: &Value) -> (&'static str, String, GrammarWithLexer) {
    let prepared = schema::prepare(schema.clone());
    ("json", prepared.to_string(), GrammarWithLexer::from_json_schema(prepared))
}

fn choice(texts: &[String]) -> (&'static str, String, GrammarWithLexer) {
    let literals: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    let grammar = format!("start: {}", literals.join(" | "));
    ("grammar", grammar.clone(), GrammarWithLexer::from_lark(grammar))
}

fn check_depth(source: &str) -> Result<(), FormError> {
    let (mut depth, mut deepest) = (0usize, 0usize);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH {
        return Err(FormError::TooLarge(format!("brackets are nested {deepest} deep; at most {MAX_DEPTH} may be")));
    }
    Ok(())
}

/// What the compiler found, without its own state and a backtrace.
fn refusal(message: &str) -> FormError {
    let message = message.split("\n<").next().unwrap_or_default().trim().to_owned();
    if message == StopReason::NoExtensionBias.to_string() {
        return nothing();
    }
    let bounds = ["too large", "too complex", "too many", "limit", "too big"];
    match bounds.iter().any(|bound| message.to_lowercase().contains(bound)) {
        true => FormError::TooLarge(message),
        false => FormError::Invalid(message),
    }
}

fn nothing() -> FormError {
    FormError::Invalid("no text has this form".to_owned())
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
