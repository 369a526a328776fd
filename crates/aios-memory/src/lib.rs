//! The memory of a device: what happened, what is being done, what was learned.
//!
//! [`Store`] keeps it in one file with three tiers (docs/memory.md has what they are for, docs/formats/memory.md every
//! byte). [`server::Server`] serves it over gRPC, and [`daemon::run`] is the process around that. What searches is given to both: an
//! [`Index`], of which [`HybridIndex`] is the one of the service, and an [`Embedder`] that makes vectors.

#![forbid(unsafe_code)]

mod assemble;
pub mod daemon;
mod embed;
mod error;
mod grpc;
mod hybrid;
mod index;
pub mod item;
mod kind;
pub mod limits;
mod repair;
mod reuse;
mod row;
mod runtime;
mod schema;
pub mod server;
mod store;
mod tables;
mod told;

pub use assemble::{CountError, Counted, Tokenizer};
pub use error::StoreError;
pub use grpc::convert::{kind_name, tier_name, told};
pub use hybrid::HybridIndex;
pub use index::{AfterCommit, Change, EmbedError, Embedder, Found, Index, Query, SharedIndex};
pub use item::{Body, Content, Item, Metric, Provenance};
pub use kind::{Indexing, Kind, Tier};
pub use limits::Invalid;
pub use repair::{Repaired, repair};
pub use runtime::Runtime;
pub use store::{
    Aged, Changed, Clock, Done, Embedded, Events, GoalUpdate, KindTotal, Observer, Options, Reply, Selector, State,
    Store, View, Write,
};
