//! A second thread for the form of an answer, while the model computes.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

use super::{Allowed, Bound};
use crate::{constraint::DeadEnd, engine::EngineError, generate::GenerateError};

/// A thread that waits for work without using the CPU. It ends with this.
pub(super) struct Helper {
    work: Option<SyncSender<Box<Bound>>>,
    done: Receiver<(Box<Bound>, Result<Allowed, DeadEnd>)>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    pub(super) fn start() -> Result<Self, GenerateError> {
        let (work, receiver) = sync_channel::<Box<Bound>>(1);
        let (sender, done) = sync_channel(1);
        let run = move || {
            while let Ok(mut bound) = receiver.recv() {
                let allowed = bound.allowed();
                if sender.send((bound, allowed)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("grammar".to_owned()).spawn(run);
        let thread = thread.map_err(|error| EngineError::Compute(format!("no thread for a grammar: {error}")))?;
        Ok(Self { work: Some(work), done, thread: Some(thread) })
    }

    /// Hands over a form.
    pub(super) fn begin(&mut self, bound: Box<Bound>) {
        if let Some(work) = &self.work {
            // A thread that is gone is noticed at the end.
            let _ = work.send(bound);
        }
    }

    /// The form again, and what it allows. `None` where the thread is gone.
    pub(super) fn end(&mut self) -> Option<(Box<Bound>, Result<Allowed, DeadEnd>)> {
        self.done.recv().ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
