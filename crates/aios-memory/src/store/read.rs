//! What can be asked of the memory.

use std::cell::RefCell;

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};

use super::{Shared, goal_hash};
use crate::{
    error::StoreError,
    index::{Found, Query},
    item::{Body, Item, Metric, Severity},
    kind::{Kind, Tier},
    limits::{self, RING},
    row,
    tables::{self, ABOUT, CHILDREN, METRICS, OPEN_GOALS, OPERATIONAL, PATTERNS, STATES, TOTALS, UNEMBEDDED},
};

/// The memory as it was at one moment.
///
/// An item that is not what was written is left out of lists, and is an error where it is asked for by itself; either way
/// the memory is only read from then on.
pub struct View<'s> {
    transaction: ReadTransaction,
    shared: &'s Shared,
    damage: RefCell<Option<StoreError>>,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// At most.
    pub limit: usize,
    /// Only of this category.
    pub category: Option<String>,
    /// Only at least so grave.
    pub severity: Option<Severity>,
    /// Only before this id.
    pub before: Option<u64>,
}

/// How much there is of a kind in a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindTotal {
    /// Tier.
    pub tier: Tier,
    /// Kind.
    pub kind: Kind,
    /// Number of items.
    pub items: u64,
    /// Bytes of their rows.
    pub bytes: u64,
}

impl<'s> View<'s> {
    pub(super) fn new(transaction: ReadTransaction, shared: &'s Shared) -> View<'s> {
        View { transaction, shared, damage: RefCell::new(None) }
    }

    /// The first thing that was not what was written.
    pub(super) fn first_damage(&self) -> Option<StoreError> {
        self.damage.borrow().clone()
    }

    /// The item with this id.
    pub fn item(&self, id: u64) -> Result<Option<Item>, StoreError> {
        for tier in [Tier::Working, Tier::LongTerm, Tier::Operational] {
            let table = self.transaction.open_table(tables::of(tier)).map_err(|error| self.storage(error))?;
            if let Some(stored) = table.get(id).map_err(|error| self.storage(error))? {
                return row::decode(stored.value()).map(Some).ok_or_else(|| self.unreadable(id));
            }
        }
        Ok(None)
    }

    /// The item of this kind with this id.
    pub fn item_of(&self, kind: Kind, id: u64) -> Result<Item, StoreError> {
        self.item(id)?.filter(|item| item.kind() == kind).ok_or(StoreError::NotFound { kind, id })
    }

    /// Events, latest first.
    pub fn events(&self, wanted: &Events) -> Result<Vec<Item>, StoreError> {
        let table = self.transaction.open_table(OPERATIONAL).map_err(|error| self.storage(error))?;
        let rows = table.range(..wanted.before.unwrap_or(u64::MAX)).map_err(|error| self.storage(error))?;
        let mut events = Vec::new();
        for stored in rows.rev() {
            if events.len() >= wanted.limit {
                break;
            }
            let (id, stored) = stored.map_err(|error| self.storage(error))?;
            let Some(item) = self.decode(id.value(), stored.value()) else { continue };
            let Body::Event(event) = &item.content.body else { continue };
            let fits = wanted.category.as_ref().is_none_or(|category| *category == event.category)
                && wanted.severity.is_none_or(|least| event.severity >= least);
            if fits {
                events.push(item);
            }
        }
        Ok(events)
    }

    /// The metric of this name.
    pub fn metric(&self, name: &str) -> Result<Metric, StoreError> {
        let table = self.transaction.open_table(METRICS).map_err(|error| self.storage(error))?;
        let stored = table.get(name).map_err(|error| self.storage(error))?;
        let stored = stored.ok_or_else(|| StoreError::NoSuch { what: "metric", name: name.to_owned() })?;
        let metric = row::decode_metric(stored.value());
        metric.ok_or_else(|| self.damaged(format!("metric {name:?} is not what was written")))
    }

    /// All metrics by name.
    pub fn metrics(&self) -> Result<Vec<Metric>, StoreError> {
        let table = self.transaction.open_table(METRICS).map_err(|error| self.storage(error))?;
        let mut metrics = Vec::new();
        for stored in table.iter().map_err(|error| self.storage(error))? {
            let (name, stored) = stored.map_err(|error| self.storage(error))?;
            match row::decode_metric(stored.value()) {
                Some(metric) => metrics.push(metric),
                None => self.note(self.damaged(format!("metric {:?} is not what was written", name.value()))),
            }
        }
        Ok(metrics)
    }

    /// Goals that have not ended, by priority and then by age.
    pub fn active_goals(&self, limit: usize) -> Result<Vec<Item>, StoreError> {
        let table = self.transaction.open_table(OPEN_GOALS).map_err(|error| self.storage(error))?;
        let mut goals = Vec::new();
        for id in table.iter().map_err(|error| self.storage(error))? {
            let id = id.map_err(|error| self.storage(error))?.0.value();
            goals.extend(self.listed(id)?);
        }
        let priority = |item: &Item| match &item.content.body {
            Body::Goal(goal) => goal.priority,
            _ => 0,
        };
        goals.sort_by_key(|item| (std::cmp::Reverse(priority(item)), item.id));
        goals.truncate(limit);
        Ok(goals)
    }

    /// What belongs to a goal and is of this kind, oldest first.
    pub fn of_goal(&self, goal: u64, kind: Kind) -> Result<Vec<Item>, StoreError> {
        self.item_of(Kind::Goal, goal)?;
        let table = self.transaction.open_table(CHILDREN).map_err(|error| self.storage(error))?;
        let mut items = Vec::new();
        for pair in table.range((goal, 0)..=(goal, u64::MAX)).map_err(|error| self.storage(error))? {
            let id = pair.map_err(|error| self.storage(error))?.0.value().1;
            items.extend(self.listed(id)?.filter(|item| item.kind() == kind));
        }
        Ok(items)
    }

    /// The latest of what belongs to a goal and is of such a kind, the latest first.
    pub fn latest_of_goal(
        &self,
        goal: u64,
        limit: usize,
        accept: &dyn Fn(Kind) -> bool,
    ) -> Result<Vec<Item>, StoreError> {
        let table = self.transaction.open_table(CHILDREN).map_err(|error| self.storage(error))?;
        let mut items = Vec::new();
        for pair in table.range((goal, 0)..=(goal, u64::MAX)).map_err(|error| self.storage(error))?.rev() {
            if items.len() >= limit {
                break;
            }
            let id = pair.map_err(|error| self.storage(error))?.0.value().1;
            items.extend(self.listed(id)?.filter(|item| accept(item.kind())));
        }
        Ok(items)
    }

    /// Patterns for a goal in just these words, whatever their case and the room between them: the most reliable first.
    pub fn patterns(&self, goal: &str) -> Result<Vec<Item>, StoreError> {
        limits::query("goal", goal)?;
        let hash = goal_hash(goal);
        let table = self.transaction.open_table(PATTERNS).map_err(|error| self.storage(error))?;
        let mut patterns = Vec::new();
        for pair in table.range((&hash[..], 0)..=(&hash[..], u64::MAX)).map_err(|error| self.storage(error))? {
            let id = pair.map_err(|error| self.storage(error))?.0.value().1;
            patterns.extend(self.listed(id)?);
        }
        patterns.sort_by(|a, b| reliability(b).total_cmp(&reliability(a)).then(b.id.cmp(&a.id)));
        Ok(patterns)
    }

    /// What an agent keeps under a key.
    pub fn agent_state(&self, agent: &str, key: &str) -> Result<Item, StoreError> {
        let table = self.transaction.open_table(STATES).map_err(|error| self.storage(error))?;
        let id = table.get((agent, key)).map_err(|error| self.storage(error))?.map(|id| id.value());
        let missing = || StoreError::NoSuch { what: "agent state", name: format!("{agent}/{key}") };
        self.item_of(Kind::AgentState, id.ok_or_else(missing)?)
    }

    /// Searches by the index, among items of the kinds that `accept` lets through.
    pub fn search(&self, query: &Query<'_>, accept: &dyn Fn(Kind) -> bool) -> Result<Vec<(Item, Found)>, StoreError> {
        limits::query("query", query.text)?;
        let index = self.shared.options.index.as_deref().ok_or(StoreError::NoIndex)?;
        let found = index.search(&self.transaction, query, &|id| self.kind_of(id).is_some_and(accept));
        self.found(found.map_err(|error| self.storage(error))?)
    }

    /// The items of this kind whose vectors are nearest to this one, with the cosines; none where there is no index.
    pub fn nearest(&self, vector: &[f32], kind: Kind, limit: usize) -> Result<Vec<(Item, Found)>, StoreError> {
        let Some(index) = self.shared.options.index.as_deref() else { return Ok(Vec::new()) };
        self.found(index.nearest(vector, limit, &|id| self.kind_of(id) == Some(kind)))
    }

    /// The items that an index found, as far as they are there.
    fn found(&self, found: Vec<Found>) -> Result<Vec<(Item, Found)>, StoreError> {
        let mut items = Vec::with_capacity(found.len());
        for found in found {
            items.extend(self.listed(found.id)?.map(|item| (item, found)));
        }
        Ok(items)
    }

    /// The kind of an item by the head of its row alone, as searches ask for that of many; `None` where it is not there.
    fn kind_of(&self, id: u64) -> Option<Kind> {
        [Tier::Working, Tier::LongTerm, Tier::Operational].into_iter().find_map(|tier| {
            let stored = self.transaction.open_table(tables::of(tier)).ok()?.get(id).ok()??;
            Some(row::head(stored.value())?.kind)
        })
    }

    /// How much there is, by tier and kind.
    pub fn totals(&self) -> Result<Vec<KindTotal>, StoreError> {
        let table = self.transaction.open_table(TOTALS).map_err(|error| self.storage(error))?;
        let mut totals = Vec::new();
        for tier in Tier::ALL {
            for kind in Kind::ALL {
                let total = table.get(tables::total_key(tier, kind)).map_err(|error| self.storage(error))?;
                let (items, bytes) = total.map_or((0, 0), |total| total.value());
                if items > 0 {
                    totals.push(KindTotal { tier, kind, items, bytes });
                }
            }
        }
        Ok(totals)
    }

    /// Number of metrics.
    pub fn metric_count(&self) -> Result<u64, StoreError> {
        let table = self.transaction.open_table(METRICS).map_err(|error| self.storage(error))?;
        table.len().map_err(|error| self.storage(error))
    }

    /// Number of items that wait for their vector.
    pub fn unembedded_count(&self) -> Result<u64, StoreError> {
        let table = self.transaction.open_table(UNEMBEDDED).map_err(|error| self.storage(error))?;
        table.len().map_err(|error| self.storage(error))
    }

    /// Items that wait for their vector, oldest first.
    pub fn unembedded(&self, limit: usize) -> Result<Vec<Item>, StoreError> {
        let table = self.transaction.open_table(UNEMBEDDED).map_err(|error| self.storage(error))?;
        let mut items = Vec::new();
        for id in table.iter().map_err(|error| self.storage(error))?.take(limit) {
            items.extend(self.listed(id.map_err(|error| self.storage(error))?.0.value())?);
        }
        Ok(items)
    }

    /// Reads every item and metric, and tells how many can't be.
    pub fn verify(&self) -> Result<u64, StoreError> {
        let mut unreadable = 0;
        for tier in Tier::ALL {
            let table = self.transaction.open_table(tables::of(tier)).map_err(|error| self.storage(error))?;
            for stored in table.iter().map_err(|error| self.storage(error))? {
                let (id, stored) = stored.map_err(|error| self.storage(error))?;
                unreadable += u64::from(self.decode(id.value(), stored.value()).is_none());
            }
            if tier == Tier::Operational && table.len().map_err(|error| self.storage(error))? > RING {
                self.note(self.damaged("the ring is longer than it may be".into()));
            }
        }
        self.metrics()?;
        Ok(unreadable)
    }

    /// Every item of a tier in the order of their ids.
    pub fn items(&self, tier: Tier) -> Result<Vec<Item>, StoreError> {
        let table = self.transaction.open_table(tables::of(tier)).map_err(|error| self.storage(error))?;
        let mut items = Vec::new();
        for stored in table.iter().map_err(|error| self.storage(error))? {
            let (id, stored) = stored.map_err(|error| self.storage(error))?;
            items.extend(self.decode(id.value(), stored.value()));
        }
        Ok(items)
    }

    /// Whether there is a mark of this name.
    pub(super) fn is_marked(&self, name: &str) -> Result<bool, StoreError> {
        let table = self.transaction.open_table(ABOUT).map_err(|error| self.storage(error))?;
        Ok(table.get(name).map_err(|error| self.storage(error))?.is_some())
    }

    /// An item of a list. One that can't be read is noted and left out.
    fn listed(&self, id: u64) -> Result<Option<Item>, StoreError> {
        match self.item(id) {
            Err(error @ StoreError::Damaged { .. }) => {
                self.note(error);
                Ok(None)
            }
            other => other,
        }
    }

    fn decode(&self, id: u64, stored: &[u8]) -> Option<Item> {
        let item = row::decode(stored);
        if item.is_none() {
            self.note(self.unreadable(id));
        }
        item
    }

    fn note(&self, error: StoreError) {
        self.damage.borrow_mut().get_or_insert(error);
    }

    fn unreadable(&self, id: u64) -> StoreError {
        self.damaged(format!("item {id} is not what was written"))
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { place: self.shared.place.clone(), reason }
    }

    fn storage(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::storage(&self.shared.place, error)
    }
}

/// How likely a pattern is to do what it should, by its uses: the mean of what they leave possible (Laplace's rule).
fn reliability(item: &Item) -> f64 {
    let Body::Pattern(pattern) = &item.content.body else { return 0.0 };
    (pattern.successes as f64 + 1.0) / (pattern.successes as f64 + pattern.failures as f64 + 2.0)
}
