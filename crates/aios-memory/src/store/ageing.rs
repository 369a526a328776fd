//! What becomes of items with time.
//!
//! A goal that has ended leaves the working tier when neither it nor anything that belongs to it was changed for the
//! retention, and takes all of that with it. A goal that has not ended stays. What belongs to no goal of the working tier
//! leaves by its own time. An item that leaves is the same item in the long-term tier: same id, same content, found by
//! the same calls. The long-term tier drops what was not changed for its own retention, if it has one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use redb::ReadableTable as _;

use super::{apply::Work, writer::Writer};
use crate::{
    error::StoreError,
    item::Body,
    kind::{Kind, Tier},
    row,
    schema::damaged,
    tables::REWRITE,
};

/// Most items that one transaction moves or drops, but for the last goal's.
const BATCH: usize = 4096;

/// What [`Store::age`](super::Store::age) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aged {
    /// Items that went from the working to the long-term tier.
    pub moved: u64,
    /// Items that were dropped from the long-term tier.
    pub dropped: u64,
}

impl Writer {
    /// Moves and drops what is due, and writes the file anew where something was dropped or erased.
    pub(super) fn age(&mut self) -> Result<Aged, StoreError> {
        let mut aged = Aged::default();
        let options = self.shared.options.clone();
        let now = (options.clock)();
        loop {
            let moved = self.attempt(|work| move_due(work, before(now, options.working_retention)))?;
            aged.moved += moved;
            if moved < BATCH as u64 {
                break;
            }
        }
        while !options.long_term_retention.is_zero() {
            let dropped = self.attempt(|work| drop_due(work, before(now, options.long_term_retention)))?;
            aged.dropped += dropped;
            if dropped < BATCH as u64 {
                break;
            }
        }
        self.rewrite_if_due()?;
        Ok(aged)
    }
}

/// The time that is `retention` before `now`.
fn before(now: i64, retention: Duration) -> i64 {
    now.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
}

/// Moves what was last changed before `due`.
fn move_due(work: &mut Work<'_>, due: i64) -> Result<u64, redb::Error> {
    let mut ids = Vec::new();
    for group in groups(work)?.into_values().filter(|group| group.may_leave && group.updated < due) {
        ids.extend(group.ids);
        if ids.len() >= BATCH {
            break;
        }
    }
    for id in &ids {
        let item = work.find(*id)?.ok_or_else(|| damaged(*id))?;
        work.move_to(&item, Tier::LongTerm)?;
    }
    Ok(ids.len() as u64)
}

/// Items of the working tier that leave together.
struct Group {
    ids: Vec<u64>,
    /// The last change of any of them.
    updated: i64,
    may_leave: bool,
}

/// All items of the working tier, by the goal that holds them together or else by their own id.
fn groups(work: &mut Work<'_>) -> Result<BTreeMap<u64, Group>, redb::Error> {
    let mut groups = BTreeMap::new();
    let mut with_goal = Vec::new();
    for stored in work.tables.working.iter()? {
        let (id, stored) = stored?;
        let (id, head) = (id.value(), row::head(stored.value()).ok_or_else(|| damaged(id.value()))?);
        if matches!(head.kind, Kind::Task | Kind::ToolCall | Kind::Decision) {
            let item = row::decode(stored.value()).ok_or_else(|| damaged(id))?;
            with_goal.push((item.content.body.goal().unwrap_or(id), id, head.updated));
            continue;
        }
        let may_leave = match head.kind {
            Kind::Goal => {
                let item = row::decode(stored.value()).ok_or_else(|| damaged(id))?;
                matches!(item.content.body, Body::Goal(goal) if goal.status.has_ended())
            }
            _ => true,
        };
        groups.insert(id, Group { ids: vec![id], updated: head.updated, may_leave });
    }
    let goals: BTreeSet<u64> = groups.keys().copied().collect();
    for (goal, id, updated) in with_goal {
        let key = if goals.contains(&goal) { goal } else { id };
        let group = groups.entry(key).or_insert(Group { ids: Vec::new(), updated, may_leave: true });
        group.ids.push(id);
        group.updated = group.updated.max(updated);
    }
    Ok(groups)
}

/// Drops what was last changed before `due`.
fn drop_due(work: &mut Work<'_>, due: i64) -> Result<u64, redb::Error> {
    let mut ids = Vec::new();
    for stored in work.tables.long_term.iter()? {
        let (id, stored) = stored?;
        let head = row::head(stored.value()).ok_or_else(|| damaged(id.value()))?;
        if head.updated < due {
            ids.push(id.value());
        }
        if ids.len() >= BATCH {
            break;
        }
    }
    for id in &ids {
        let item = work.find(*id)?.ok_or_else(|| damaged(*id))?;
        work.remove(&item)?;
    }
    if !ids.is_empty() {
        work.tables.about.insert(REWRITE, 1)?;
    }
    Ok(ids.len() as u64)
}
