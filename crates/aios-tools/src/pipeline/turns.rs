//! Calls that change one thing, one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tool::Serial;

/// The right to change something, which nobody else has meanwhile.
pub type Turn<'a> = MutexGuard<'a, ()>;

/// Whose turn it is, for each thing.
#[derive(Debug, Default)]
pub(super) struct Turns {
    firewall: Mutex<()>,
    network: Mutex<()>,
    slots: Mutex<()>,
    configuration: Mutex<()>,
}

impl Turns {
    /// Waits for a turn. Nobody waits longer than the calls before take, which the sandbox ends in time.
    pub(super) fn take(&self, serial: Serial) -> Turn<'_> {
        self.of(serial).lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, serial: Serial) -> &Mutex<()> {
        match serial {
            Serial::Firewall => &self.firewall,
            Serial::Network => &self.network,
            Serial::Slots => &self.slots,
            Serial::Configuration => &self.configuration,
        }
    }
}
