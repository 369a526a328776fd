//! Fills a budget of tokens with what memory found: the best of each kind, in an order that stays, never over the budget.
//!
//! [`assemble`] is a pure function of its arguments. The same candidates in another order give the same context.
//!
//! # Layout
//!
//! ```text
//! [knowledge]
//! - (2 d ago, manual:nginx) Reload nginx with `nginx -s reload`.
//! [operational]
//! - (untrusted, 3 min ago, log:sshd) Failed password for root from 10.0.0.7
//!   Connection closed [cut]
//! ```
//!
//! Sections come in the order of [`Kind::LAYOUT`], pieces in a section from old to new. What changes least is first, so
//! that a prefix cache keeps it, and what happened last stands next to the question. Every further line of a piece is
//! indented by two spaces: no text can begin a section or a piece of its own, nor say that it is trusted.

mod cut;
mod duplicate;
mod layout;
mod score;
mod select;

use std::{collections::BTreeMap, ops::Range, time::Duration};

pub use self::select::assemble;

/// Says how many tokens a text has.
///
/// Nothing is assumed of it: a joined text may have more tokens than its parts, or fewer. To have what stands around the
/// context in the prompt counted too, let `count` put the text between it, and add to the budget what that has alone.
pub trait TokenCounter {
    /// Tokens of `text`.
    fn count(&self, text: &str) -> usize;
}

impl<F: Fn(&str) -> usize> TokenCounter for F {
    fn count(&self, text: &str) -> usize {
        self(text)
    }
}

/// Which part of memory a piece is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Events and metrics of the last hours.
    Operational,
    /// Goals, tasks, tool calls and decisions of the last weeks.
    Working,
    /// Procedures, incidents and changes of the configuration.
    LongTerm,
    /// What was added to be known.
    Knowledge,
}

impl Kind {
    /// All of them, in the order of a context's sections.
    pub const LAYOUT: [Kind; 4] = [Kind::Knowledge, Kind::LongTerm, Kind::Working, Kind::Operational];

    /// Heading of its section, without brackets.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Operational => "operational",
            Kind::Working => "working",
            Kind::LongTerm => "long-term",
            Kind::Knowledge => "knowledge",
        }
    }
}

/// Something that may go into the prompt. `P` is whatever else the caller has to know of the text, and comes back with the
/// piece that is made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<P> {
    /// Part of memory it is from.
    pub kind: Kind,
    /// Number of the item in that part.
    pub id: u64,
    /// The text itself.
    pub text: String,
    /// How near it is to what is asked, from 0 to 1; what is outside counts as the nearer end, NaN as 0.
    pub relevance: f64,
    /// When it was recorded, in milliseconds since 1970.
    pub time: i64,
    /// Where it comes from, in a few words: they stand before the text. What is longer than 48 characters is cut.
    pub source: String,
    /// Whether the text may be believed. `false` is said in the prompt, and with the piece.
    pub trusted: bool,
    /// Passed through.
    pub provenance: P,
}

/// How a context is filled. [`Options::new`] has the documented values.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Most tokens of the whole text, headings included.
    pub budget: usize,
    /// The time that ages are counted from, in milliseconds since 1970.
    pub now: i64,
    /// What relevance weighs in the score, beside `1 - relevance_weight` of recency.
    pub relevance_weight: f64,
    /// By kind: the age at which recency is one half.
    pub half_life: ByKind<Duration>,
    /// By kind: part of the budget that it gets where it has something to say, before all compete for what is left.
    pub share: ByKind<f64>,
    /// From which likeness on (Jaccard index of their runs of three words) the lower scored of two texts is left out.
    pub duplicate: f64,
    /// Least tokens of a piece that is not whole: below, a beginning says too little.
    pub least_cut: usize,
}

/// A value for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByKind<T> {
    /// For [`Kind::Operational`].
    pub operational: T,
    /// For [`Kind::Working`].
    pub working: T,
    /// For [`Kind::LongTerm`].
    pub long_term: T,
    /// For [`Kind::Knowledge`].
    pub knowledge: T,
}

impl<T: Copy> ByKind<T> {
    /// The value for `kind`.
    pub fn of(&self, kind: Kind) -> T {
        match kind {
            Kind::Operational => self.operational,
            Kind::Working => self.working,
            Kind::LongTerm => self.long_term,
            Kind::Knowledge => self.knowledge,
        }
    }
}

impl Options {
    /// The documented weights, for a context of at most `budget` tokens at the time `now`, in milliseconds since 1970.
    pub fn new(budget: usize, now: i64) -> Options {
        const HOUR: u64 = 3600;
        Options {
            budget,
            now,
            relevance_weight: 0.7,
            half_life: ByKind {
                operational: Duration::from_secs(HOUR),
                working: Duration::from_secs(24 * HOUR),
                long_term: Duration::from_secs(30 * 24 * HOUR),
                knowledge: Duration::from_secs(365 * 24 * HOUR),
            },
            share: ByKind { operational: 0.15, working: 0.15, long_term: 0.15, knowledge: 0.15 },
            duplicate: 0.8,
            least_cut: 24,
        }
    }
}

/// What goes into the prompt, and what does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Context<P> {
    /// The text, laid out as the module says; empty where nothing fits.
    pub text: String,
    /// Tokens of `text` as the counter counted them, never more than the budget; 0 where it is empty.
    pub tokens: usize,
    /// What `text` is made of, in its order.
    pub pieces: Vec<Piece<P>>,
    /// The other candidates, the best first.
    pub left_out: Vec<LeftOut>,
}

/// A piece of a context.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece<P> {
    /// Part of memory it is from.
    pub kind: Kind,
    /// Number of the item in that part.
    pub id: u64,
    /// Bytes of the context's text that come from the item: source and text, headings not.
    pub range: Range<usize>,
    /// Whether only the beginning of the text is there.
    pub is_cut: bool,
    /// Weighted relevance and recency, from 0 to 1.
    pub score: f64,
    /// Whether the text may be believed.
    pub trusted: bool,
    /// As the candidate had it.
    pub provenance: P,
}

/// A candidate that is not in the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Part of memory it is from.
    pub kind: Kind,
    /// Number of the item in that part.
    pub id: u64,
    /// Why it is not there.
    pub reason: Reason,
}

/// Why a candidate is not in a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There was no room for it beside better ones.
    NoRoom,
    /// It says what another one says.
    SameAs {
        /// Part of memory that the other one is from.
        kind: Kind,
        /// Its number there.
        id: u64,
    },
    /// It has no text.
    Empty,
}

impl<P> Context<P> {
    /// How many of each kind were left out.
    pub fn left_out_of(&self) -> BTreeMap<Kind, usize> {
        self.left_out.iter().fold(BTreeMap::new(), |mut counts, left| {
            *counts.entry(left.kind).or_default() += 1;
            counts
        })
    }

    /// Whether any of the text may not be believed.
    pub fn is_tainted(&self) -> bool {
        self.pieces.iter().any(|piece| !piece.trusted)
    }
}
