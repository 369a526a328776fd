//! A deterministic engine whose answers a test can foretell: after a letter comes the next one, after `z` the end of the
//! turn. A test can hold it, count its work, and make it fail.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aios_runtime::{
    engine::{Cancel, Engine, EngineError, EngineInfo, Session},
    model::{LoadOptions, LoadedModel},
    registry::Loader,
};

/// What a whole answer to a chat is.
pub const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";

/// A message with this letter makes the engine panic.
pub const PANIC: &str = "!";

/// A message with this letter makes the engine fail.
pub const FAIL: &str = "?";

/// After this letter comes the same again, without end.
pub const ENDLESS: &str = "~";

/// A chat with this letter is answered by [`CALL`], as far as the form of the answer leaves it be.
pub const CALLER: &str = "^";

/// Text and the beginning of a call.
pub const CALL: &str = "ok <tool_call>";

/// The test's hand on all engines of a server.
#[derive(Default)]
pub struct Control {
    forwards: AtomicUsize,
    cancelled: AtomicUsize,
    sessions: AtomicUsize,
    prompts: Mutex<Vec<usize>>,
    held: Mutex<bool>,
    change: Condvar,
}

impl Control {
    /// Calls of `forward` that were begun.
    pub fn forwards(&self) -> usize {
        self.forwards.load(Ordering::SeqCst)
    }

    /// Calls of `forward` that were told to stop.
    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Lengths of the prompts that were worked on, in order.
    pub fn prompts(&self) -> Vec<usize> {
        self.prompts.lock().unwrap().clone()
    }

    /// Sessions that exist.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::SeqCst)
    }

    /// Makes every call of `forward` wait until `release`, or until it is cancelled.
    pub fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    /// Ends `hold`.
    pub fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.change.notify_all();
    }

    fn pass(&self, cancel: &Cancel) -> Result<(), EngineError> {
        let mut held = self.held.lock().unwrap();
        while *held {
            if cancel.is_cancelled() {
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                return Err(EngineError::Cancelled);
            }
            held = self.change.wait_timeout(held, Duration::from_millis(1)).unwrap().0;
        }
        Ok(())
    }
}

/// A loader that takes the tokenizer and the template from the file, and puts the letters in place of the arithmetic.
pub fn loader(control: Arc<Control>) -> Loader {
    Box::new(move |id: &str, path: &Path, options: &LoadOptions| {
        let mut model = LoadedModel::load(id, path, options)?;
        let tokens = |text: &str| -> u32 { model.tokenizer.encode(text).unwrap()[0] };
        let mut next = vec![tokens("a"); model.tokenizer.vocabulary()];
        for pair in ALPHABET.as_bytes().windows(2) {
            let [first, second] = [pair[0], pair[1]].map(|letter| tokens(&char::from(letter).to_string()));
            next[first as usize] = second;
        }
        let end = (0..next.len() as u32).find(|token| model.tokenizer.is_end(*token)).unwrap();
        next[tokens("z") as usize] = end;
        next[tokens(ENDLESS) as usize] = tokens(ENDLESS);
        let (panic, fail) = (tokens(PANIC), tokens(FAIL));
        let caller = (tokens(CALLER), model.tokenizer.encode(CALL).unwrap());
        let info = model.engine.info().clone();
        let (next, caller, control) = (next.into(), caller.into(), control.clone());
        model.engine = Box::new(Letters { info, next, panic, fail, caller, control });
        Ok(model)
    })
}

struct Letters {
    info: EngineInfo,
    next: Arc<[u32]>,
    panic: u32,
    fail: u32,
    caller: Arc<(u32, Vec<u32>)>,
    control: Arc<Control>,
}

struct Context {
    next: Arc<[u32]>,
    panic: u32,
    fail: u32,
    caller: Arc<(u32, Vec<u32>)>,
    /// Length of the prompt.
    prompt: usize,
    control: Arc<Control>,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl Engine for Letters {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        self.control.sessions.fetch_add(1, Ordering::SeqCst);
        let (tokens, logits) = (Vec::new(), Vec::new());
        let (next, caller, control) = (self.next.clone(), self.caller.clone(), self.control.clone());
        let (panic, fail) = (self.panic, self.fail);
        Ok(Box::new(Context { next, panic, fail, caller, prompt: 0, control, tokens, logits }))
    }
}

impl Session for Context {
    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<&[f32], EngineError> {
        self.control.forwards.fetch_add(1, Ordering::SeqCst);
        assert!(!tokens.contains(&self.panic), "the test asked for a panic");
        if tokens.contains(&self.fail) {
            return Err(EngineError::Compute("the test asked for a failure".to_owned()));
        }
        if self.tokens.is_empty() {
            self.control.prompts.lock().unwrap().push(tokens.len());
            self.prompt = tokens.len();
        }
        self.control.pass(cancel)?;
        let before = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let last = &tokens[tokens.len().saturating_sub(outputs)..];
        // The other tokens keep a chance, so that a draw at high temperature depends on the seed.
        self.logits.clear();
        self.logits.resize(last.len() * self.next.len(), 0.0);
        let first = before + tokens.len() - last.len() + 1;
        for (index, logits) in self.logits.chunks_exact_mut(self.next.len()).enumerate() {
            let said = (first + index).saturating_sub(self.prompt);
            let script = self.caller.1.get(said).filter(|_| self.tokens[..self.prompt].contains(&self.caller.0));
            logits[*script.unwrap_or(&self.next[last[index] as usize]) as usize] = 8.0;
        }
        Ok(&self.logits)
    }

    fn resume(&mut self, _: &[u32]) -> usize {
        self.tokens.clear();
        0
    }

    fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.control.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}
