//! Deleting for good.
//!
//! Pages that a database frees keep their bytes, and so does the room behind the last row of a page that is in use. So the
//! items are deleted in one transaction, and then everything else is copied into a new file, which never had them.

use redb::{Database, ReadableDatabase as _, ReadableTable as _};

use super::{
    Files,
    apply::Work,
    writer::{Writer, begin, builder, redb_error},
};
use crate::{
    error::StoreError,
    item::Provenance,
    kind::Tier,
    row,
    schema::{self, damaged},
    tables::{self, ABOUT, REWRITE, Tables},
};

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All that this agent wrote.
    Agent(String),
    /// All with this source.
    Source(String),
    /// Everything.
    All,
}

impl Selector {
    fn selects(&self, provenance: &Provenance) -> bool {
        match self {
            Selector::Agent(agent) => provenance.agent == *agent,
            Selector::Source(source) => provenance.source == *source,
            Selector::All => true,
        }
    }
}

impl Writer {
    /// Deletes what is selected, and writes the file anew without it. Returns the number of items and metrics.
    pub(super) fn erase(&mut self, selector: &Selector) -> Result<u64, StoreError> {
        let erased = self.attempt(|work| {
            let erased = remove_items(work, selector)? + remove_metrics(work, selector)?;
            // Also where nothing is left to delete: the ring and retention leave bytes of what was deleted before.
            work.tables.about.insert(REWRITE, 1)?;
            Ok(erased)
        })?;
        self.rewrite()?;
        Ok(erased)
    }

    /// Writes the file anew if something was deleted from it since it was.
    pub(super) fn rewrite_if_due(&mut self) -> Result<(), StoreError> {
        let is_due = self.shared.read(|view| view.is_marked(REWRITE))?;
        if is_due { self.rewrite() } else { Ok(()) }
    }

    /// Copies all that is in the tables into a new file, and puts that in the place of the old one.
    pub(super) fn rewrite(&mut self) -> Result<(), StoreError> {
        self.ready()?;
        let shared = self.shared.clone();
        let replaced = {
            // Nobody reads while the old file is overwritten.
            let files = shared.files_mut();
            let Files::Writable(database) = &*files else { return Err(StoreError::Closed) };
            let fill = |new: &Database| copy(database, new, &shared.options.index);
            self.medium.replace(&builder(), &fill)
        };
        match replaced {
            Ok(()) => self.reopen(),
            Err(error) => {
                let cause = StoreError::storage(&shared.place, error);
                tracing::error!(error = %cause, "what was erased may still be in the file");
                // The new file has the name already if only overwriting the old one failed.
                self.reopen()?;
                Err(StoreError::Unwiped { cause: Box::new(cause) })
            }
        }
    }
}

fn copy(old: &Database, new: &Database, index: &crate::index::SharedIndex) -> Result<(), redb::Error> {
    schema::prepare(new, index).map_err(redb_error)?;
    let from = old.begin_read()?;
    let transaction = begin(new)?;
    tables::copy(&from, &transaction)?;
    if let Some(index) = index {
        index.copy(&from, &transaction)?;
    }
    transaction.open_table(ABOUT)?.remove(REWRITE)?;
    Ok(transaction.commit()?)
}

fn remove_items(work: &mut Work<'_>, selector: &Selector) -> Result<u64, redb::Error> {
    let mut ids = Vec::new();
    for tier in Tier::ALL {
        for stored in work.tables.tier(tier).iter()? {
            let (id, stored) = stored?;
            let item = row::decode(stored.value()).ok_or_else(|| damaged(id.value()))?;
            if selector.selects(&item.content.provenance) {
                ids.push(item.id);
            }
        }
    }
    for id in &ids {
        let item = work.find(*id)?.ok_or_else(|| damaged(*id))?;
        work.remove(&item)?;
    }
    Ok(ids.len() as u64)
}

fn remove_metrics(work: &mut Work<'_>, selector: &Selector) -> Result<u64, redb::Error> {
    let Tables { metrics, .. } = &mut work.tables;
    let mut names = Vec::new();
    for stored in metrics.iter()? {
        let (name, stored) = stored?;
        let damaged = || redb::Error::Corrupted(format!("metric {:?} is not what was written", name.value()));
        let metric = row::decode_metric(stored.value()).ok_or_else(damaged)?;
        if selector.selects(&metric.provenance) {
            names.push(metric.name);
        }
    }
    for name in &names {
        metrics.remove(&**name)?;
    }
    Ok(names.len() as u64)
}
