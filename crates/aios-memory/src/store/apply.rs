//! What one change does to the tables. A change that is refused has changed nothing.

use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use sha2::{Digest as _, Sha256};

use super::{Done, Embedded, GoalUpdate, Write};
use crate::{
    error::StoreError,
    index::{AfterCommit, Change, Index},
    item::{Body, Content, Item, Metric},
    kind::{Indexing, Kind, Tier},
    limits::{self, METRICS, RING},
    row,
    schema::damaged,
    tables::{LAST_ID, Tables, total_key},
};

/// Why a change was not made.
pub(super) enum Failure {
    /// Only this one.
    Refused(StoreError),
    /// The transaction can't go on.
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Storage(error.into())
    }
}

/// One transaction at work: the tables, and what the index has to follow.
pub(super) struct Work<'t> {
    pub tables: Tables<'t>,
    pub changes: Vec<Change>,
    /// Whether the index is to do what can wait. No item is changed then.
    pub is_for_index: bool,
    place: &'t str,
    size_max: u64,
    now: i64,
}

impl<'t> Work<'t> {
    /// Begins to work on `transaction`, at the time `now`.
    pub fn new(
        transaction: &'t WriteTransaction,
        place: &'t str,
        size_max: u64,
        now: i64,
    ) -> Result<Work<'t>, redb::Error> {
        Ok(Work { tables: Tables::open(transaction)?, changes: Vec::new(), is_for_index: false, place, size_max, now })
    }

    /// Closes the tables, and lets the index follow. What it returns is called when the transaction is on the disk.
    pub fn finish(self, transaction: &WriteTransaction, index: Option<&dyn Index>) -> Result<AfterCommit, redb::Error> {
        let Work { tables, changes, is_for_index, .. } = self;
        drop(tables);
        match index {
            Some(index) if !changes.is_empty() => index.apply(transaction, &changes),
            Some(index) if is_for_index => index.work(transaction),
            _ => Ok(None),
        }
    }

    /// Makes one change.
    pub fn apply(&mut self, write: &Write) -> Result<Done, Failure> {
        match write {
            Write::Put(content) => self.put(content).map(Done::Item),
            Write::ReplaceTask { id, content } => self.replace_task(*id, content).map(Done::Item),
            Write::UpdateGoal(update) => self.update_goal(update).map(Done::Item),
            Write::CountUse { id, success } => self.count_use(*id, *success).map(Done::Item),
            Write::Metric(metric) => self.put_metric(metric).map(|()| Done::Written),
            Write::Vectors(vectors) => self.put_vectors(vectors).map(|()| Done::Written),
        }
    }

    /// The item with this id, wherever it is.
    pub fn find(&self, id: u64) -> Result<Option<Item>, redb::Error> {
        let Tables { operational, working, long_term, .. } = &self.tables;
        for table in [working, long_term, operational] {
            if let Some(stored) = table.get(id)? {
                return Ok(Some(row::decode(stored.value()).ok_or_else(|| damaged(id))?));
            }
        }
        Ok(None)
    }

    fn find_kind(&self, kind: Kind, id: u64) -> Result<Item, Failure> {
        match self.find(id)? {
            Some(item) if item.kind() == kind => Ok(item),
            _ => Err(Failure::Refused(StoreError::NotFound { kind, id })),
        }
    }

    fn put(&mut self, content: &Content) -> Result<Item, Failure> {
        limits::check(content).map_err(refused)?;
        if let Some(goal) = content.body.goal() {
            self.find_kind(Kind::Goal, goal)?;
        }
        if let Body::AgentState(state) = &content.body {
            let known = self.tables.states.get((&*state.agent, &*state.key))?.map(|id| id.value());
            if let Some(id) = known {
                let old = self.find_kind(Kind::AgentState, id)?;
                let tier = Kind::AgentState.first_tier();
                let new = Item { tier, updated: self.now, content: content.clone(), ..old.clone() };
                return self.change(&old, new);
            }
        }
        let last = self.tables.counters.get(LAST_ID)?.map_or(0, |last| last.value());
        let (kind, now) = (content.body.kind(), self.now);
        let item = Item { id: last + 1, tier: kind.first_tier(), created: now, updated: now, content: content.clone() };
        let row = row::encode(&item).map_err(refused)?;
        self.check_room(kind, row.len() as u64)?;
        self.tables.counters.insert(LAST_ID, item.id)?;
        self.insert(&item, &row)?;
        if kind == Kind::Event {
            self.evict()?;
        }
        Ok(item)
    }

    /// Keeps the ring at its length.
    fn evict(&mut self) -> Result<(), redb::Error> {
        while self.tables.operational.len()? > RING {
            let oldest = self.tables.operational.first()?.map(|(id, _)| id.value());
            let oldest = oldest.expect("invariant: more than none");
            let stored = self.tables.operational.get(oldest)?.and_then(|stored| row::decode(stored.value()));
            self.remove(&stored.ok_or_else(|| damaged(oldest))?)?;
        }
        Ok(())
    }

    fn replace_task(&mut self, id: u64, content: &Content) -> Result<Item, Failure> {
        limits::check(content).map_err(refused)?;
        let old = self.find_kind(Kind::Task, id)?;
        if content.body.kind() != Kind::Task {
            return Err(Failure::Refused(StoreError::NotFound { kind: content.body.kind(), id }));
        }
        if let Some(goal) = content.body.goal() {
            self.find_kind(Kind::Goal, goal)?;
        }
        // Who began it stays; what its words are of is added up.
        let mut content = content.clone();
        content.provenance.agent.clone_from(&old.content.provenance.agent);
        content.provenance.origins.extend(old.content.provenance.origins.iter().cloned());
        if content.provenance.source.is_empty() {
            content.provenance.source.clone_from(&old.content.provenance.source);
        }
        let new = Item { updated: self.now, content, ..old.clone() };
        self.change(&old, new)
    }

    fn update_goal(&mut self, update: &GoalUpdate) -> Result<Item, Failure> {
        let old = self.find_kind(Kind::Goal, update.id)?;
        let mut new = Item { updated: self.now, ..old.clone() };
        let Body::Goal(goal) = &mut new.content.body else { return Err(damaged(update.id).into()) };
        if let Some(status) = update.status {
            if goal.status.has_ended() && !status.has_ended() {
                return Err(Failure::Refused(StoreError::Ended(update.id)));
            }
            goal.status = status;
        }
        goal.progress = update.progress.unwrap_or(goal.progress);
        goal.priority = update.priority.unwrap_or(goal.priority);
        if let Some(result) = &update.result {
            goal.result.clone_from(result);
        }
        new.content.provenance.origins.extend(update.origins.iter().cloned());
        limits::check(&new.content).map_err(refused)?;
        self.change(&old, new)
    }

    fn count_use(&mut self, id: u64, success: bool) -> Result<Item, Failure> {
        let old = self.find_kind(Kind::Pattern, id)?;
        // What is used again is no longer a thing of the past.
        let mut new = Item { tier: Kind::Pattern.first_tier(), updated: self.now, ..old.clone() };
        let Body::Pattern(pattern) = &mut new.content.body else { return Err(damaged(id).into()) };
        let count = if success { &mut pattern.successes } else { &mut pattern.failures };
        *count = count.saturating_add(1);
        pattern.last_used = self.now;
        self.change(&old, new)
    }

    fn put_metric(&mut self, metric: &Metric) -> Result<(), Failure> {
        let metric = Metric { updated: self.now, ..metric.clone() };
        limits::check_metric(&metric).map_err(refused)?;
        let is_new = self.tables.metrics.get(&*metric.name)?.is_none();
        if is_new && self.tables.metrics.len()? >= METRICS {
            return Err(Failure::Refused(StoreError::Many { what: "metrics", limit: METRICS }));
        }
        self.tables.metrics.insert(&*metric.name, &row::encode_metric(&metric)[..])?;
        Ok(())
    }

    /// Takes vectors of items that are still what they were when the vectors were made.
    fn put_vectors(&mut self, vectors: &[Embedded]) -> Result<(), Failure> {
        for Embedded { id, updated, vector } in vectors {
            let is_current = self.find(*id)?.is_some_and(|item| item.updated == *updated);
            if is_current && self.tables.unembedded.remove(*id)?.is_some() {
                self.changes.push(Change::Vector { id: *id, vector: vector.clone() });
            }
        }
        Ok(())
    }

    /// Puts `new` in the place of `old`, which has the same id and kind; the tier may be another one.
    fn change(&mut self, old: &Item, new: Item) -> Result<Item, Failure> {
        let row = row::encode(&new).map_err(refused)?;
        let before = self.row_length(old)?;
        let more = (row.len() as u64).saturating_sub(before);
        if more > 0 {
            self.check_room(new.kind(), more)?;
        }
        self.forget_links(old)?;
        self.count(old.tier, old.kind(), -1, -signed(before))?;
        if old.tier != new.tier {
            self.tables.tier(old.tier).remove(old.id)?;
        }
        self.write(&new, &row)?;
        let (text, before) = (new.content.body.text(), old.content.body.text());
        if new.kind().indexing() != Indexing::None && text != before {
            if new.kind().indexing() == Indexing::WordsAndMeaning {
                self.tables.unembedded.insert(new.id, ())?;
            }
            self.changes.push(Change::Words { id: new.id, text, before: Some(before) });
        }
        Ok(new)
    }

    fn insert(&mut self, item: &Item, row: &[u8]) -> Result<(), redb::Error> {
        self.write(item, row)?;
        let indexing = item.kind().indexing();
        if indexing == Indexing::WordsAndMeaning {
            self.tables.unembedded.insert(item.id, ())?;
        }
        if indexing != Indexing::None {
            self.changes.push(Change::Words { id: item.id, text: item.content.body.text(), before: None });
        }
        Ok(())
    }

    /// Puts back an item that has its id already.
    pub fn restore(&mut self, item: &Item) -> Result<(), redb::Error> {
        let row = row::encode(item).expect("invariant: it was a row before");
        let last = self.tables.counters.get(LAST_ID)?.map_or(0, |last| last.value());
        self.tables.counters.insert(LAST_ID, last.max(item.id))?;
        self.insert(item, &row)
    }

    /// Writes a row with its links and its part in the totals.
    pub fn write(&mut self, item: &Item, row: &[u8]) -> Result<(), redb::Error> {
        self.tables.tier(item.tier).insert(item.id, row)?;
        self.count(item.tier, item.kind(), 1, signed(row.len() as u64))?;
        if let Some(goal) = item.content.body.goal() {
            self.tables.children.insert((goal, item.id), ())?;
        }
        match &item.content.body {
            Body::Goal(goal) if !goal.status.has_ended() => {
                self.tables.open_goals.insert(item.id, ())?;
            }
            Body::AgentState(state) => {
                self.tables.states.insert((&*state.agent, &*state.key), item.id)?;
            }
            Body::Pattern(pattern) => {
                self.tables.patterns.insert((&goal_hash(&pattern.goal)[..], item.id), ())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Deletes an item with all that leads to it.
    pub fn remove(&mut self, item: &Item) -> Result<(), redb::Error> {
        let length = self.row_length(item)?;
        self.forget_links(item)?;
        self.tables.tier(item.tier).remove(item.id)?;
        self.tables.unembedded.remove(item.id)?;
        self.count(item.tier, item.kind(), -1, -signed(length))?;
        if item.kind().indexing() != Indexing::None {
            self.changes.push(Change::Removed { id: item.id, text: item.content.body.text() });
        }
        Ok(())
    }

    /// Moves an item to another tier. Its id, its times and all that leads to it stay.
    pub fn move_to(&mut self, item: &Item, tier: Tier) -> Result<(), redb::Error> {
        let length = self.row_length(item)?;
        let moved = Item { tier, ..item.clone() };
        let row = row::encode(&moved).expect("invariant: it had room before, and its tier is one byte");
        self.tables.tier(item.tier).remove(item.id)?;
        self.count(item.tier, item.kind(), -1, -signed(length))?;
        self.write(&moved, &row)
    }

    fn forget_links(&mut self, item: &Item) -> Result<(), redb::Error> {
        if let Some(goal) = item.content.body.goal() {
            self.tables.children.remove((goal, item.id))?;
        }
        match &item.content.body {
            Body::Goal(_) => {
                self.tables.open_goals.remove(item.id)?;
            }
            Body::AgentState(state) => {
                self.tables.states.remove((&*state.agent, &*state.key))?;
            }
            Body::Pattern(pattern) => {
                self.tables.patterns.remove((&goal_hash(&pattern.goal)[..], item.id))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn row_length(&mut self, item: &Item) -> Result<u64, redb::Error> {
        let id = item.id;
        let stored = self.tables.tier(item.tier).get(id)?.map(|stored| stored.value().len() as u64);
        stored.ok_or_else(|| damaged(id))
    }

    fn count(&mut self, tier: Tier, kind: Kind, items: i64, bytes: i64) -> Result<(), redb::Error> {
        let key = total_key(tier, kind);
        let (had, had_bytes) = self.tables.totals.get(key)?.map_or((0, 0), |total| total.value());
        let total = (had.saturating_add_signed(items), had_bytes.saturating_add_signed(bytes));
        self.tables.totals.insert(key, total)?;
        Ok(())
    }

    /// Refuses what the memory has no room for. Events always have room: each takes that of the oldest.
    fn check_room(&self, kind: Kind, more: u64) -> Result<(), Failure> {
        if kind == Kind::Event {
            return Ok(());
        }
        let mut found = 0_u64;
        for total in self.tables.totals.iter()? {
            found = found.saturating_add(total?.1.value().1);
        }
        if found.saturating_add(more) <= self.size_max {
            return Ok(());
        }
        let place = self.place.to_owned();
        Err(Failure::Refused(StoreError::Room { place, found, limit: self.size_max }))
    }
}

/// What patterns for a goal are found by: its words, whatever their case and the room between them.
pub(crate) fn goal_hash(goal: &str) -> [u8; 32] {
    let words: Vec<String> = goal.split_whitespace().map(str::to_lowercase).collect();
    Sha256::digest(words.join(" ").as_bytes()).into()
}

fn refused(invalid: limits::Invalid) -> Failure {
    Failure::Refused(invalid.into())
}

fn signed(length: u64) -> i64 {
    i64::try_from(length).expect("invariant: a row is smaller than the limit of items")
}
