//! Contexts: what matters for a question, within a budget of tokens.
//!
//! ```text
//!  the goal at work ─┐
//!  what fits the query ─▶ gather: candidates ─▶ fill (aios-recall) ─▶ text
//!  what happened lately ─┘                          │ counts each piece, and the whole
//!                                                    ▼
//!                                        Tokenizer: the model that will read it
//! ```

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use aios_policy::Origin;
use aios_recall::context::{self, Candidate, Context, Kind as Section};

use crate::{
    error::StoreError,
    index::Query,
    item::{Item, Severity},
    kind::{Kind, Tier},
    store::{Events, View},
};

/// Items that a search gives to a context. Few budgets hold as many.
const FOUND: usize = 200;
/// Latest events, of this severity or worse, that are considered whatever the query.
const EVENTS: (usize, Severity) = (20, Severity::Warning);
/// Latest tasks, calls and decisions of the goal at work.
const OF_GOAL: usize = 100;
/// What a search scores below this fits far worse than its best.
const LEAST: f64 = 0.15;

/// Counts tokens as models do. It blocks; it is called where that is allowed.
pub trait Tokenizer: Send + Sync + 'static {
    /// Tokens of each text alone, by the model of this id; empty: the default one.
    fn count(&self, model: &str, texts: &[&str]) -> Result<Counted, CountError>;
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Id of the model, never `default`.
    pub model: String,
    /// For each text, in their order.
    pub tokens: Vec<usize>,
}

/// Why nothing was counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// There is no such model, or it is not loaded.
    #[error("no context without a tokenizer: {0}")]
    NoModel(String),
    /// Whoever counts can't do it now.
    #[error("no context while nobody counts its tokens: {0}")]
    Unavailable(String),
}

/// What a context is for.
pub(crate) struct Wanted {
    pub query: String,
    /// The query's, where there is one.
    pub vector: Option<Vec<f32>>,
    /// Items of these kinds alone.
    pub kinds: Vec<Kind>,
    /// The goal at work; 0: none.
    pub goal: u64,
}

/// An item that was considered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About {
    pub id: u64,
    pub tier: Tier,
    pub origins: BTreeSet<Origin>,
}

/// What could be in a context.
pub(crate) struct Gathered {
    pub candidates: Vec<Candidate<About>>,
    /// What a search found, and what has too little to do with the query.
    pub irrelevant: Vec<About>,
}

/// Reads what could be in a context. Only what is of `trusted` origins alone may be believed.
pub(crate) fn gather(view: &View<'_>, wanted: &Wanted, trusted: &BTreeSet<Origin>) -> Result<Gathered, StoreError> {
    let wants = |kind: Kind| wanted.kinds.contains(&kind);
    let mut found: BTreeMap<u64, (Item, f64)> = BTreeMap::new();
    let mut irrelevant = Vec::new();
    let query = Query { text: &wanted.query, vector: wanted.vector.as_deref(), limit: FOUND };
    for (item, hit) in view.search(&query, &wants)? {
        if !hit.is_related || hit.score < LEAST {
            irrelevant.push(item);
        } else {
            found.insert(item.id, (item, hit.score));
        }
    }
    if wants(Kind::Event) {
        let latest = Events { limit: EVENTS.0, severity: Some(EVENTS.1), ..Events::default() };
        for event in view.events(&latest)? {
            found.entry(event.id).or_insert((event, 0.0));
        }
    }
    if wanted.goal != 0 {
        let goal = view.item_of(Kind::Goal, wanted.goal)?;
        let parts = view.latest_of_goal(goal.id, OF_GOAL, &wants)?;
        for item in parts.into_iter().chain(Some(goal).filter(|_| wants(Kind::Goal))) {
            found.insert(item.id, (item, 1.0));
        }
    }
    irrelevant.retain(|item| !found.contains_key(&item.id));
    let candidates = found.into_values().map(|(item, relevance)| candidate(item, relevance, trusted));
    Ok(Gathered { candidates: candidates.collect(), irrelevant: irrelevant.into_iter().map(about).collect() })
}

fn about(item: Item) -> About {
    About { id: item.id, tier: item.tier, origins: item.content.provenance.origins }
}

fn candidate(item: Item, relevance: f64, trusted: &BTreeSet<Origin>) -> Candidate<About> {
    let provenance = &item.content.provenance;
    let source = if provenance.source.is_empty() { &provenance.agent } else { &provenance.source };
    Candidate {
        kind: section(&item),
        id: item.id,
        text: item.content.body.told(),
        relevance,
        time: item.updated,
        source: format!("{} {source}", item.kind().name()),
        trusted: provenance.origins.is_subset(trusted),
        provenance: about(item),
    }
}

fn section(item: &Item) -> Section {
    match (item.kind(), item.tier) {
        (Kind::Knowledge, _) => Section::Knowledge,
        (_, Tier::Operational) => Section::Operational,
        (_, Tier::Working) => Section::Working,
        (_, Tier::LongTerm) => Section::LongTerm,
    }
}

/// A context, and the model whose tokens were counted.
pub(crate) struct Filled {
    pub context: Context<About>,
    pub model: String,
    /// Tokens of each piece, in their order.
    pub tokens: Vec<usize>,
}

/// Fills `budget` tokens of `model` with the best of the candidates, at the time `now`.
pub(crate) fn fill(
    candidates: &[Candidate<About>],
    tokenizer: &dyn Tokenizer,
    model: &str,
    budget: usize,
    now: i64,
) -> Result<Filled, CountError> {
    let model = tokenizer.count(model, &[])?.model;
    let counter = Counter { tokenizer, model: &model, known: RefCell::default(), failed: RefCell::default() };
    let context = context::assemble(candidates, &|text: &str| counter.count(text), &context::Options::new(budget, now));
    let tokens = context.pieces.iter().map(|piece| counter.count(&context.text[piece.range.clone()])).collect();
    match counter.failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(Filled { context, model, tokens }),
    }
}

/// Asks for each text once, and for none after a failure.
struct Counter<'a> {
    tokenizer: &'a dyn Tokenizer,
    model: &'a str,
    known: RefCell<HashMap<String, usize>>,
    failed: RefCell<Option<CountError>>,
}

impl Counter<'_> {
    fn count(&self, text: &str) -> usize {
        if self.failed.borrow().is_some() {
            return usize::MAX;
        }
        if let Some(tokens) = self.known.borrow().get(text) {
            return *tokens;
        }
        let counted = self.tokenizer.count(self.model, &[text]).and_then(|counted| {
            let missing = || CountError::Unavailable("the runtime counted no text of one".into());
            counted.tokens.first().copied().ok_or_else(missing)
        });
        match counted {
            Ok(tokens) => {
                self.known.borrow_mut().insert(text.to_owned(), tokens);
                tokens
            }
            Err(error) => {
                *self.failed.borrow_mut() = Some(error);
                usize::MAX
            }
        }
    }
}
