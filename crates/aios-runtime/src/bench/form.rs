//! Generation in a form beside free generation.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{BenchArgs, Rate};
use crate::constraint::Form;
use crate::engine::{Cancel, Session};
use crate::generate::{GenerateRequest, Generated, Guidance, generate};
use crate::model::LoadedModel;
use crate::sampling::Sampling;

/// What stands before the answers.
pub(super) const PROMPT: &str = "Some data as JSON: ";

/// How fast answers in a form and free ones come, with sampling at temperature 1 and without drafts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FormRates {
    /// Answers that may be anything.
    pub free: Rate,
    /// Answers in the form.
    pub formed: Rate,
    /// Share of their tokens that the form left no choice about.
    pub forced_share: f64,
}

impl FormRates {
    pub(super) fn print(&self) {
        let FormRates { free, formed, forced_share } = self;
        println!("free generation {} tokens: {:.1} tokens/s", free.tokens, free.tokens_per_second);
        let forced = forced_share * 100.0;
        println!(
            "generation in the form {} tokens: {:.1} tokens/s, {forced:.0} % of them forced",
            formed.tokens, formed.tokens_per_second
        );
    }
}

/// Times `arguments.decode` tokens both ways in turn.
pub(super) fn measure(
    model: &LoadedModel,
    session: &mut dyn Session,
    path: &Path,
    arguments: &BenchArgs,
) -> Result<FormRates> {
    let schema = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let schema = serde_json::from_str(&schema).with_context(|| path.display().to_string())?;
    let constraint = model.grammars.compile(&Form::Schema(schema)).with_context(|| path.display().to_string())?;
    let guidance = Some(Guidance { constraint, marker: None });
    let count = arguments.decode;
    // Untimed: what is learned about a form by its first answers is kept for the later ones.
    answers(model, session, &guidance, count)?;
    let (mut free, mut formed, mut forced) = (Vec::new(), Vec::new(), 0);
    for _ in 0..arguments.repeat {
        free.push(answers(model, session, &None, count)?.0);
        let (time, forced_tokens) = answers(model, session, &guidance, count)?;
        formed.push(time);
        forced += forced_tokens;
    }
    let forced_share = forced as f64 / (count * arguments.repeat) as f64;
    Ok(FormRates { free: Rate::new(count, free), formed: Rate::new(count, formed), forced_share })
}

/// Generates `count` tokens in one answer or several: the time without that of their prompts, and how many were forced.
fn answers(
    model: &LoadedModel,
    session: &mut dyn Session,
    guidance: &Option<Guidance>,
    count: usize,
) -> Result<(Duration, usize)> {
    let (mut time, mut tokens, mut forced, mut seed) = (Duration::ZERO, 0, 0, 0);
    while tokens < count {
        let request = GenerateRequest {
            prompt_tokens: model.text_tokens(PROMPT)?,
            sampling: Sampling { temperature: 1.0, top_p: 1.0, seed: Some(seed) },
            max_tokens: Some(count - tokens),
            stop: Vec::new(),
            guidance: guidance.clone(),
            logprobs: None,
            pin: 0,
            lookup: false,
            cancel: Cancel::default(),
        };
        let generated: Generated = generate(model, session, &request, &mut |_| ControlFlow::Continue(()))?;
        time += generated.predict_time;
        tokens += generated.completion_tokens;
        forced += generated.forced_tokens;
        seed += 1;
    }
    Ok((time, forced))
}
