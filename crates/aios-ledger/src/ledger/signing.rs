//! The thread that signs checkpoints.

use std::{
    num::NonZeroU64,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::{Shared, queue::Due};
use crate::error::LedgerError;

/// How long after a failure another checkpoint is tried.
const RETRY: Duration = Duration::from_secs(5);

/// The thread. Signing takes milliseconds, and no entry should wait for it.
pub(super) struct Signing(JoinHandle<()>);

impl Signing {
    /// Signs after `entries` entries, or `time` after the first one that is not signed.
    pub fn start(shared: Arc<Shared>, entries: NonZeroU64, time: Duration) -> Result<Signing, LedgerError> {
        let work = move || {
            while shared.queue.wait_due(entries.get(), time) == Due::Checkpoint {
                if let Err(error) = shared.checkpoint() {
                    tracing::warn!(%error, "the ledger could not be signed");
                    shared.queue.pause(RETRY);
                }
            }
        };
        let thread = Builder::new().name("ledger-signing".into()).spawn(work);
        thread.map(Signing).map_err(|error| LedgerError::Thread(error.to_string()))
    }

    /// Waits for its end; the queue is closed.
    pub fn end(self) {
        if self.0.join().is_err() {
            tracing::error!("the thread that signs the ledger panicked");
        }
    }
}
