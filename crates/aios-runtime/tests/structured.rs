//! Answers of a given form: every one has it, what it forces costs no pass of its own, and drafts change nothing.
//!
//! The tests on the default model need it: `AIOS_TEST_MODEL=FILE.gguf`, or the one that the build fetched.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/factory_model.rs"]
mod factory_model;
#[path = "support/schemas.rs"]
mod schemas;
#[path = "support/tiny_model.rs"]
mod tiny_model;

use std::{
    ops::ControlFlow,
    sync::LazyLock,
    time::{Duration, Instant},
};

use aios_runtime::{
    constraint::{Form, FormError},
    engine::{Cancel, EngineError, Session},
    generate::{Finish, GenerateRequest, Generated, Guidance, TokenLogprob, generate},
    model::{LoadOptions, LoadedModel},
    sampling::Sampling,
    template::ChatMessage,
    tools::{Choice, Syntax, Tool, Tools},
};
use serde_json::{Value, json};

static TINY: LazyLock<LoadedModel> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny_model::write(&path);
    LoadedModel::load("tiny", &path, &LoadOptions::new(tiny_model::CONTEXT)).unwrap()
});

static SMOLLM2: LazyLock<LoadedModel> =
    LazyLock::new(|| LoadedModel::load("smollm2", &factory_model::path(), &LoadOptions::new(2048)).unwrap());

/// A session that counts.
struct Counted {
    session: Box<dyn Session>,
    /// Tokens of each pass.
    passes: Vec<usize>,
}

impl Session for Counted {
    fn len(&self) -> usize {
        self.session.len()
    }

    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<&[f32], EngineError> {
        self.passes.push(tokens.len());
        self.session.forward(tokens, outputs, cancel)
    }

    fn resume(&mut self, tokens: &[u32]) -> usize {
        self.session.resume(tokens)
    }

    fn truncate(&mut self, len: usize) {
        self.session.truncate(len);
    }
}

struct Answer {
    text: String,
    tokens: Vec<TokenLogprob>,
    generated: Generated,
    passes: Vec<usize>,
}

fn ask(model: &LoadedModel, request: &GenerateRequest) -> Answer {
    let mut session = Counted { session: model.engine.session().unwrap(), passes: Vec::new() };
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let generated = generate(model, &mut session, request, &mut |piece| {
        text.push_str(&piece.text);
        tokens.extend(piece.tokens);
        ControlFlow::Continue(())
    });
    Answer { text, tokens, generated: generated.unwrap(), passes: session.passes }
}

fn guided(model: &LoadedModel, form: &Form) -> Option<Guidance> {
    Some(Guidance { constraint: model.grammars.compile(form).unwrap(), marker: None })
}

fn request(model: &LoadedModel, prompt: &str, form: Option<&Form>, temperature: f32, seed: u64) -> GenerateRequest {
    GenerateRequest {
        prompt_tokens: model.chat_tokens(&[ChatMessage::new("user", prompt)], &[]).unwrap(),
        sampling: Sampling { temperature, top_p: 1.0, seed: Some(seed) },
        max_tokens: Some(400),
        stop: Vec::new(),
        guidance: form.and_then(|form| guided(model, form)),
        logprobs: None,
        pin: 0,
        lookup: true,
        cancel: Cancel::default(),
    }
}

/// Answers `runs` questions for documents and returns how many were valid.
fn valid_documents(model: &LoadedModel, runs: u64) -> u64 {
    let schemas = schemas::bounded();
    let checks: Vec<jsonschema::Validator> = schemas.iter().map(|s| jsonschema::validator_for(s).unwrap()).collect();
    let mut valid = 0;
    for seed in 0..runs {
        let index = seed as usize % schemas.len();
        let form = Form::Schema(schemas[index].clone());
        let answer = ask(model, &request(model, "Make something up.", Some(&form), 1.0, seed));
        let document: Option<Value> = serde_json::from_str(&answer.text).ok();
        if answer.generated.finish == Finish::Stop && document.is_some_and(|document| checks[index].is_valid(&document))
        {
            valid += 1;
        } else {
            println!("seed {seed}: {} {:?}: {}", schemas[index], answer.generated.finish, answer.text);
        }
    }
    valid
}

#[test]
fn a_thousand_of_a_thousand_documents_are_valid() {
    assert_eq!(valid_documents(&TINY, 1000), 1000);
}

#[test]
fn the_default_models_documents_are_valid() {
    // All of a thousand were, too: AIOS_TEST_DOCUMENTS=1000.
    let runs = std::env::var("AIOS_TEST_DOCUMENTS").map_or(45, |runs| runs.parse().unwrap());
    let started = Instant::now();
    assert_eq!(valid_documents(&SMOLLM2, runs), runs);
    println!("{runs} documents in {:?}", started.elapsed());
}

#[test]
fn texts_follow_regular_expressions_choices_and_grammars() {
    let sum = "start: term (\"+\" term){1,3}\nterm: NUMBER | \"(\" start \")\"\nNUMBER: /[1-9][0-9]?/\n";
    for seed in 0..40 {
        let form = Form::Regex(r"(\+49|0)[1-9][0-9]{2,4}/[0-9]{4,8}".to_owned());
        let answer = ask(&TINY, &request(&TINY, "Call", Some(&form), 1.0, seed));
        let (area, number) = answer.text.split_once('/').unwrap();
        let area = area.strip_prefix("+49").or_else(|| area.strip_prefix('0')).unwrap();
        let digits = |text: &str, length: std::ops::RangeInclusive<usize>| {
            length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        assert!(digits(area, 3..=5) && !area.starts_with('0') && digits(number, 4..=8), "{}", answer.text);
        let choices = ["yes", "no", "yes, but"].map(str::to_owned).to_vec();
        let answer = ask(&TINY, &request(&TINY, "Sure?", Some(&Form::Choice(choices.clone())), 1.0, seed));
        assert!(choices.contains(&answer.text), "{}", answer.text);
        let answer = ask(&TINY, &request(&TINY, "Add", Some(&Form::Grammar(sum.to_owned())), 1.0, seed));
        let balance = |text: &str| text.matches('(').count() == text.matches(')').count();
        let finished = answer.generated.finish == Finish::Stop;
        assert!(!finished || (answer.text.contains('+') && balance(&answer.text)), "{}", answer.text);
    }
}

#[test]
fn what_a_form_forces_takes_no_pass_of_its_own() {
    let form = Form::Schema(json!({
        "type": "object", "required": ["temperature_in_degrees", "will_it_rain_tomorrow"],
        "properties": {"temperature_in_degrees": {"enum": [10, 20]}, "will_it_rain_tomorrow": {"type": "boolean"}},
    }));
    for logprobs in [None, Some(2)] {
        let request = request(&SMOLLM2, "How is the weather?", Some(&form), 0.0, 1);
        let prompt = request.prompt_tokens.len();
        let answer = ask(&SMOLLM2, &GenerateRequest { logprobs, lookup: false, ..request });
        let generated = &answer.generated;
        assert!(generated.forced_tokens * 3 > generated.completion_tokens * 2, "{generated:?}");
        assert!(answer.passes[0] > prompt + 3, "the first key is in the pass of the prompt: {:?}", answer.passes);
        let chosen = generated.completion_tokens - generated.forced_tokens;
        // What is forced at the end is known without a pass, unless its probability is asked for.
        let passes = chosen + usize::from(logprobs.is_some());
        assert_eq!(answer.passes.len(), passes, "{:?} of {generated:?}", answer.passes);
        assert_eq!(answer.tokens.len(), if logprobs.is_some() { generated.completion_tokens } else { 0 });
        let document: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(document["will_it_rain_tomorrow"].is_boolean());
    }
}

#[test]
fn an_answer_that_is_cut_off_says_so_and_begins_like_the_whole() {
    let form = Form::Schema(schemas::bounded()[11].clone());
    let whole = ask(&TINY, &request(&TINY, "Who?", Some(&form), 1.0, 5));
    assert_eq!(whole.generated.finish, Finish::Stop);
    let length = whole.generated.completion_tokens;
    for (max_tokens, logprobs) in (1..=length).flat_map(|max| [(max, None), (max, Some(0))]) {
        let request = request(&TINY, "Who?", Some(&form), 1.0, 5);
        let cut = ask(&TINY, &GenerateRequest { max_tokens: Some(max_tokens), logprobs, ..request });
        assert_eq!(cut.generated.completion_tokens, max_tokens);
        assert!(whole.text.starts_with(&cut.text));
        let expected = if max_tokens == length { Finish::Stop } else { Finish::Length };
        assert_eq!(cut.generated.finish, expected, "after {max_tokens} of {length}");
    }
}

#[test]
fn drafts_change_no_answer() {
    let list =
        "Repeat exactly: alpha beta gamma delta epsilon, alpha beta gamma delta epsilon, alpha beta gamma delta.";
    let form = Form::Schema(json!({"type": "array", "minItems": 4, "maxItems": 8, "items": {
        "type": "object", "required": ["name", "kind"],
        "properties": {"name": {"type": "string", "maxLength": 10}, "kind": {"enum": ["first", "second"]}},
    }}));
    let mut accepted = 0;
    for (temperature, seed) in [(0.0, 1), (0.5, 2), (1.0, 3), (1.0, 4), (1.5, 5)] {
        for form in [None, Some(&form)] {
            let with = GenerateRequest { max_tokens: Some(60), ..request(&SMOLLM2, list, form, temperature, seed) };
            let without = ask(&SMOLLM2, &GenerateRequest { lookup: false, ..with.clone() });
            let with = ask(&SMOLLM2, &with);
            assert_eq!(with.text, without.text, "temperature {temperature}, seed {seed}");
            assert_eq!(with.generated.completion_tokens, without.generated.completion_tokens);
            assert_eq!((without.generated.drafted_tokens, without.generated.accepted_tokens), (0, 0));
            assert!(with.passes.len() <= without.passes.len());
            accepted += with.generated.accepted_tokens;
            if temperature == 0.0 && form.is_none() {
                assert!(with.passes.len() * 3 < without.passes.len() * 2, "{:?}", with.generated);
            }
        }
    }
    assert!(accepted > 20, "only {accepted} tokens of drafts were right");
}

#[test]
fn probabilities_are_the_models_own_and_add_up() {
    let asked = request(&SMOLLM2, "What is the capital of Germany?", None, 0.0, 1);
    let vocabulary = SMOLLM2.engine.info().vocabulary;
    let answer = ask(&SMOLLM2, &GenerateRequest { logprobs: Some(vocabulary), max_tokens: Some(8), ..asked.clone() });
    assert_eq!(answer.text, "The capital of Germany is Berlin.");
    assert_eq!(answer.tokens.len(), answer.generated.completion_tokens);
    let ids: Vec<u32> = answer.tokens.iter().map(|token| token.token).collect();
    assert_eq!(SMOLLM2.tokenizer.decode(&ids), answer.text);
    for place in &answer.tokens {
        let total: f64 = place.top.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        assert!((total - 1.0).abs() < 1e-3, "{total}");
        assert_eq!(place.top[0], (place.token, place.logprob), "at temperature 0 the likeliest is taken");
        assert!(place.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }
    // A form changes what is taken, not how likely the model held it.
    let form = Form::Regex("Paris".to_owned());
    let forced = GenerateRequest { logprobs: Some(1), guidance: guided(&SMOLLM2, &form), ..asked };
    let forced = ask(&SMOLLM2, &forced);
    assert_eq!((forced.text.as_str(), forced.tokens[0].top[0]), ("Paris", answer.tokens[0].top[0]));
    assert!(forced.tokens[0].logprob < forced.tokens[0].top[0].1);
}

#[test]
fn a_stop_sequence_takes_its_tokens_probabilities_with_it() {
    let asked = request(&SMOLLM2, "What is the capital of Germany?", None, 0.0, 1);
    let asked = GenerateRequest { logprobs: Some(0), stop: vec![" is Ber".to_owned()], ..asked };
    let answer = ask(&SMOLLM2, &asked);
    let ids: Vec<u32> = answer.tokens.iter().map(|token| token.token).collect();
    assert_eq!((answer.text.as_str(), SMOLLM2.tokenizer.decode(&ids)), ("The capital of Germany", answer.text.clone()));
}

#[test]
fn a_call_is_bound_from_its_marker_on() {
    let tool = |name: &str, parameters: Value| Tool { name: name.to_owned(), description: None, parameters };
    let tools = vec![
        tool("set_light", json!({"type": "object", "required": ["on"], "properties": {"on": {"type": "boolean"}}})),
        tool(
            "wait",
            json!({"type": "object", "required": ["s"], "properties": {"s": {"type": "integer", "maximum": 9, "minimum": 1}}}),
        ),
    ];
    for syntax in [Syntax::TAGS, Syntax::BARE, Syntax::LIST] {
        for choice in [Choice::Auto, Choice::Required, Choice::Named("wait".to_owned())] {
            let tools = Tools { tools: tools.clone(), choice: choice.clone(), parallel: false };
            let mut constraint = TINY.grammars.compile(&tools.form(&syntax)).unwrap();
            let written = [syntax.first, "wait", syntax.middle, "{\"s\": 5}", syntax.tail, syntax.end].concat();
            for token in TINY.tokenizer.encode(&written).unwrap() {
                assert!(!constraint.is_complete());
                constraint.accept(token).unwrap();
            }
            assert!(constraint.is_complete(), "{choice:?}");
            let mut constraint = TINY.grammars.compile(&tools.form(&syntax)).unwrap();
            let wrong = [syntax.first, "wait", syntax.middle, "{\"s\": 0"].concat();
            let tokens = TINY.tokenizer.encode(&wrong).unwrap();
            let refused = tokens.iter().position(|&token| !constraint.accept_if_allowed(token).unwrap());
            assert_eq!(refused, Some(tokens.len() - 1), "a number out of its bounds");
        }
    }
}

#[test]
fn control_tokens_are_never_allowed_and_ends_only_at_the_end() {
    let grammars = &SMOLLM2.grammars;
    let ends: Vec<u32> = (0..20).filter(|&token| SMOLLM2.tokenizer.is_end(token)).collect();
    assert!(!ends.is_empty());
    for form in [Form::Json, Form::Regex("(?s:.*)".into()), Form::Grammar("start: /(?s:.+)/".into())] {
        let mut constraint = grammars.compile(&form).unwrap();
        let allowed = constraint.allowed().unwrap();
        let may_end = matches!(&form, Form::Regex(_));
        for token in (0..17).filter(|&token| SMOLLM2.tokenizer.token_bytes(token).is_empty()) {
            let expected = may_end && ends.contains(&token);
            assert_eq!(allowed.is_allowed(token), expected, "token {token} in {form:?}");
        }
    }
    // A grammar can name tokens by number; not these.
    let by_number = grammars.compile(&Form::Grammar("start: <[1]> \"a\"".into()));
    assert!(matches!(by_number, Err(FormError::Invalid(_))), "{by_number:?}");
}

#[test]
fn hostile_forms_are_refused_quickly_and_say_why() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let schema = |text: &str| Form::Schema(serde_json::from_str(text).unwrap());
    let mut deep = json!({"type": "null"});
    for _ in 0..100 {
        deep = json!({"type": "object", "properties": {"a": deep}, "required": ["a"]});
    }
    let wide: serde_json::Map<String, Value> = (0..1800)
        .map(|index| (format!("property{index}"), json!({"type": "string", "pattern": "^a{1,50}b$"})))
        .collect();
    let chain: String = (0..8_000).map(|index| format!("r{index}: r{}\n", index + 1)).collect();
    let cases = [
        (Form::Schema(json!({"type": "nonsense"})), Some("Invalid type: nonsense")),
        (Form::Schema(json!({"type": "object", "properties": []})), Some("properties must be an object")),
        (Form::Schema(json!({"$ref": "#/$defs/none"})), Some("none")),
        (Form::Schema(json!({"$ref": "http://example.com/schema.json"})), Some("ref")),
        (Form::Schema(json!({"$ref": "#"})), Some("no text")),
        (Form::Schema(json!({"type": "integer", "minimum": 5, "maximum": 4})), Some("minimum")),
        (Form::Schema(json!({"not": {"type": "string"}})), Some("not")),
        (Form::Schema(json!(false)), Some("false")),
        (schema(r#"{"type": "string", "pattern": "(((a{1,1000}){1,1000}){1,1000})"}"#), None),
        (schema(r#"{"type": "string", "minLength": 1000000000}"#), None),
        (schema(r#"{"type": "array", "minItems": 1000000000, "items": {"type": "integer"}}"#), None),
        (Form::Schema(deep), None),
        (Form::Schema(json!({"type": "object", "properties": wide})), None),
        (Form::Regex(nested("(", ")", 100_000)), Some("nested")),
        (Form::Regex("a{1,1000000}".into()), None),
        (Form::Regex("(a|b)*a(a|b){40}".into()), None),
        (Form::Regex("((a*)*)*b".into()), None),
        (Form::Regex("a(".into()), Some("unclosed")),
        (Form::Regex("a\\b".into()), Some("")),
        (Form::Regex("x".repeat(1 << 20)), Some("too large")),
        (Form::Choice(Vec::new()), Some("no text")),
        (Form::Grammar(String::new()), Some("")),
        (Form::Grammar("start: missing".into()), Some("missing")),
        (Form::Grammar("start: start".into()), None),
        (Form::Grammar("start: start start | \"a\"".into()), None),
        (Form::Grammar(format!("start: r0\n{chain}r8000: \"a\"\n")), None),
        (Form::Grammar(format!("start: {}", nested("(", ")", 50_000))), Some("nested")),
        (Form::Grammar("start: \"".into()), Some("")),
    ];
    for (form, reason) in cases {
        let short: String = format!("{form:?}").chars().take(120).collect();
        let started = Instant::now();
        let compiled = SMOLLM2.grammars.compile(&form);
        let took = started.elapsed();
        println!("{took:?} {short}: {:?}", compiled.as_ref().map(|_| ()));
        assert!(took < Duration::from_secs(3), "{short} took {took:?}");
        match (compiled, reason) {
            (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{short}: {error}"),
            (Err(error), None) => assert!(!error.to_string().is_empty()),
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => panic!("{short} was accepted"),
        }
    }
}
