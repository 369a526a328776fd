//! `demo`: one question from boot to answer.

use std::{
    io::{Write as _, stdout},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use aios_vm::{
    Api, Environment, Vm,
    api::{Answer, ApiError},
    interrupt,
};
use anyhow::Context as _;
use serde_json::Value;

use super::{Build, progress::Progress, up};

#[derive(clap::Args)]
pub struct Options {
    /// What to ask.
    #[arg(long, default_value = "What is an operating system? Answer in one sentence.")]
    prompt: String,
    /// Longest answer, in tokens.
    #[arg(long, default_value_t = 64)]
    max_tokens: u32,
}

/// The guest's file systems are ephemeral here, so an unwilling guest is not waited for long.
const POWER_OFF_PATIENCE: Duration = Duration::from_secs(60);

/// Boots unless a machine runs, asks, prints, and stops what it booted.
pub fn run(build: &Build, options: Options) -> anyhow::Result<()> {
    let run_dir = super::run_dir(build)?;
    if run_dir.running().is_some() {
        println!("using the machine that is already up");
        let environment = Environment::read(&run_dir.env()).context("cannot read the running machine's env file")?;
        let api = Api::new(environment.api, environment.token);
        let model = api.default_model()?;
        interrupt::catch();
        return ask(api, &model, options);
    }
    let (mut vm, model) = up::start(build, None)?;
    ask(vm.api(), &model, options)?;
    shut_down(&mut vm)
}

/// What the asking thread tells.
enum Said {
    Piece(String),
    Done(Result<Answer, ApiError>),
}

/// Asks on a thread of its own, so that ctrl-c is obeyed while the model is at work.
fn ask(api: Api, model: &Value, options: Options) -> anyhow::Result<()> {
    const STEP: Duration = Duration::from_millis(200);
    println!("\n> {}\n", options.prompt);
    let (sender, said) = mpsc::channel();
    let pieces = sender.clone();
    thread::spawn(move || {
        // Nobody listens any more after ctrl-c.
        let piece = |piece: &str| drop(pieces.send(Said::Piece(piece.to_owned())));
        let _ = sender.send(Said::Done(api.chat_stream(&options.prompt, options.max_tokens, piece)));
    });
    let mut before_first = Some(Progress::start());
    let answer = loop {
        anyhow::ensure!(!interrupt::requested(), "interrupted");
        match said.recv_timeout(STEP) {
            Ok(Said::Piece(piece)) => {
                before_first.take().into_iter().for_each(Progress::finish);
                print!("{piece}");
                stdout().flush()?;
            }
            Ok(Said::Done(answer)) => break answer,
            Err(RecvTimeoutError::Timeout) => {
                before_first.iter_mut().for_each(|progress| progress.show("the model reads the question"));
            }
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the asking thread ended without an answer"),
        }
    };
    before_first.into_iter().for_each(Progress::finish);
    let answer = answer?;
    println!("\n");
    print!("{}", report(model, &answer));
    anyhow::ensure!(!answer.text.trim().is_empty(), "the model answered with no text");
    Ok(())
}

fn report(model: &Value, answer: &Answer) -> String {
    let timings = &answer.timings;
    let mut lines = vec![("model", up::model_name(model).to_owned())];
    if let Some(load_ms) = model["aios"]["load_ms"].as_f64() {
        lines.push(("load time", format!("{:.2} s", load_ms / 1000.0)));
    }
    if let Some(arithmetic) = model["aios"]["arithmetic"].as_str() {
        lines.push(("arithmetic", arithmetic.to_owned()));
    }
    let prompt = format!("{} tokens in {:.2} s (server)", timings.prompt_n, timings.prompt_ms / 1000.0);
    lines.push(("prompt", prompt));
    if let Some(first) = answer.to_first_token {
        lines.push(("time to first token", format!("{:.2} s (client)", first.as_secs_f64())));
    }
    let rate = |rate: Option<f64>, by: &str| rate.map(|rate| format!("{rate:.1} tokens/s ({by})"));
    let rates = [rate(timings.tokens_per_second(), "server"), rate(answer.client_tokens_per_second(), "client")];
    let answer_line =
        format!("{} tokens: {}", timings.predicted_n, rates.into_iter().flatten().collect::<Vec<_>>().join(", "));
    lines.push(("answer", answer_line));
    lines.iter().map(|(name, value)| format!("{name:<20} {value}\n")).collect()
}

fn shut_down(vm: &mut Vm) -> anyhow::Result<()> {
    match vm.shut_down(POWER_OFF_PATIENCE) {
        Ok(_) => println!("powered off in order"),
        // The answer was given; what is left of the machine ends with this process.
        Err(error) => println!("the machine was stopped by force: {error}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aios_vm::api::Timings;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_report_has_load_time_arithmetic_first_token_and_rates() {
        let answer = Answer {
            text: "It runs programs.".into(),
            timings: Timings { prompt_n: 20, prompt_ms: 400.0, predicted_n: 5, predicted_ms: 250.0, queue_ms: 0.0 },
            to_first_token: Some(Duration::from_millis(500)),
            total: Duration::from_millis(900),
        };
        let model = json!({ "id": "default", "aios": { "id": "tiny", "load_ms": 1230, "arithmetic": "avx2" } });
        let expected = "model                tiny\n\
                        load time            1.23 s\n\
                        arithmetic           avx2\n\
                        prompt               20 tokens in 0.40 s (server)\n\
                        time to first token  0.50 s (client)\n\
                        answer               5 tokens: 20.0 tokens/s (server), 10.0 tokens/s (client)\n";
        assert_eq!(report(&model, &answer), expected);
    }
}
