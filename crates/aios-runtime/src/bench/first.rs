//! The first token of a prompt: one that was never seen, one that begins as an earlier one did, and one whose beginning an
//! earlier process kept on disk.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Advice, fadvise};

use super::{BenchArgs, FirstToken, median, prompt};
use crate::{
    engine::{Cancel, Session},
    kept::{Place, Shelf},
    model::{LoadOptions, LoadedModel},
};

/// Prompts that differ from their first token on, and then each with another end.
pub fn measure(model: &LoadedModel, tokens: usize, options: &LoadOptions, arguments: &BenchArgs) -> Result<FirstToken> {
    ensure!(tokens > 32, "--first-token must be above 32");
    let mut sessions = [model.engine.session()?, model.engine.session()?];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..arguments.repeat {
        let mut prompt = prompt(tokens, model.engine.info().vocabulary);
        prompt[0] = round as u32;
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            times.push(first_token(session.as_mut(), &prompt)?);
            prompt[tokens - 1] = round as u32;
        }
    }
    drop(sessions);
    let kept = kept(tokens, options, arguments)?;
    let ms = |times| median(times).as_secs_f64() * 1e3;
    let [cold_ms, warm_ms] = times.map(ms);
    Ok(FirstToken { tokens, cold_ms, warm_ms, kept_ms: kept.map(ms) })
}

fn first_token(session: &mut dyn Session, prompt: &[u32]) -> Result<Duration> {
    let started = Instant::now();
    let known = session.resume(&prompt[..prompt.len() - 1]);
    session.forward(&prompt[known..], 1, &Cancel::default())?;
    Ok(started.elapsed())
}

/// The same with the model loaded anew each time, and the file of the beginning not in memory any more.
fn kept(tokens: usize, options: &LoadOptions, arguments: &BenchArgs) -> Result<Option<Vec<Duration>>> {
    let directory = tempfile::tempdir().context("no directory to keep the beginning of a prompt in (TMPDIR)")?;
    let place = Place { directory: directory.path().to_owned(), bytes: u64::MAX, age: Duration::ZERO };
    let shelf = Shelf { place, model: "bench".to_owned(), identity: "bench".to_owned() };
    let options = LoadOptions { kept: Some(shelf), ..options.clone() };
    let load = || LoadedModel::load("bench", &arguments.model, &options);
    let model = load()?;
    let prompt = prompt(tokens, model.engine.info().vocabulary);
    let mut session = model.engine.session()?;
    session.forward(&prompt, 1, &Cancel::default())?;
    session.pin(tokens);
    // With the model goes whoever writes, when all is written.
    drop((session, model));
    let mut times = Vec::new();
    for _ in 0..arguments.repeat {
        let model = load()?;
        let mut session = model.engine.session()?;
        session.forward(&prompt[..8], 1, &Cancel::default())?;
        session.truncate(0);
        if forget(&directory.path().join("bench"))? == 0 {
            return Ok(None);
        }
        times.push(first_token(session.as_mut(), &prompt)?);
    }
    Ok(Some(times))
}

/// Makes the system forget what it has in memory of a folder's files, and counts them.
fn forget(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for file in fs::read_dir(folder).into_iter().flatten() {
        fadvise(fs::File::open(file?.path())?, 0, None, Advice::DontNeed)?;
        count += 1;
    }
    Ok(count)
}
