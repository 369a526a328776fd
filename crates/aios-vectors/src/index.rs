//! The index: what is searched.

use std::sync::{RwLock, RwLockReadGuard};

use redb::{ReadTransaction, WriteTransaction};

use crate::{
    batch::{Batch, Staged},
    error::{OpenError, PublishError, VectorError},
    flat::{self, Rooms, compute},
    graph::{Graph, Walks, search},
    load::load,
    nearest::{Nearest, Scored},
    quantize::{DIMENSIONS_MAX, Query},
    rows::Rows,
    state::{State, Way},
};

/// How an index is made and searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Numbers of each vector, 1 to 4096.
    pub dimensions: usize,
    /// So many vectors get a graph. With fewer, estimating all takes at most a tenth of a millisecond, less memory, and nothing
    /// is to be built; the time grows with their number, while that of the graph hardly does.
    pub graph_from: usize,
    /// How many near ones a search in the graph keeps track of: more find more of the nearest, and take longer. It is never
    /// less than one and a half times the number of hits that are asked for.
    pub breadth: usize,
}

impl Default for Options {
    /// For embeddings of all-MiniLM-L6-v2.
    fn default() -> Options {
        Options { dimensions: 384, graph_from: 50_000, breadth: 64 }
    }
}

/// What a search finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Number of the item.
    pub id: u64,
    /// Cosine of the angle between its vector and the query, from -1 to 1: 1 is the same direction. Exact to about 0.001.
    pub score: f32,
}

/// How large an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of vectors.
    pub vectors: usize,
    /// Number of vectors in the graph.
    pub linked: usize,
    /// Number of vectors that are to come into the graph: work for [`Batch::link`].
    pub to_link: usize,
}

/// The vectors in memory, for searches by any number of threads.
#[derive(Debug)]
pub struct Index {
    options: Options,
    state: RwLock<State>,
    rooms: Rooms,
    walks: Walks,
}

/// Of so many vectors, evenly spread, it is seen how many pass a filter.
const SAMPLE: u32 = 32;

impl Index {
    /// Reads what the transaction's tables hold. A database without the tables has no vectors.
    pub fn open(read: &ReadTransaction, options: Options) -> Result<Index, OpenError> {
        let mut index = Index::new(options)?;
        index.state = RwLock::new(load(read, options.dimensions)?);
        Ok(index)
    }

    /// The index of a database without the tables, as [`Index::open`] finds it there.
    pub fn new(options: Options) -> Result<Index, OpenError> {
        if !(1..=DIMENSIONS_MAX).contains(&options.dimensions) {
            return Err(OpenError::Options(options.dimensions));
        }
        let state = RwLock::new(State::new(Rows::new(options.dimensions), Graph::default(), 0));
        Ok(Index { options, state, rooms: Rooms::default(), walks: Walks::default() })
    }

    /// Begins changes that are to be written in this transaction. Batches follow each other: each one is committed and
    /// [published](Index::publish) before the next is finished.
    pub fn batch<'a>(&'a self, write: &'a WriteTransaction) -> Batch<'a> {
        Batch::new(self, write)
    }

    /// Makes searches see a batch, after its transaction was committed. Searches wait meanwhile: about a microsecond a
    /// vector, and a few times in the life of an index, when it has grown fourfold, for all of them.
    pub fn publish(&self, staged: Staged) -> Result<(), PublishError> {
        let mut state = self.state.write().expect("invariant: no thread panics while it changes the index");
        if staged.generation != state.generation + 1 {
            return Err(PublishError { staged: staged.generation, memory: state.generation });
        }
        state.apply(staged);
        if matches!(state.way, Way::Graph(_)) {
            self.rooms.clear();
        }
        Ok(())
    }

    /// The `k` vectors nearest to `query` among those whose items pass the filter, the nearest first.
    ///
    /// Of hundreds of copies of one vector, a search in the graph may miss some: they know each other and no way tells them
    /// apart. Other vectors are found beside them.
    ///
    /// The filter is asked about candidates, in no order and maybe twice. It must not call the index: a batch that waits to
    /// be published would never be.
    pub fn search(&self, query: &[f32], k: usize, filter: impl Fn(u64) -> bool) -> Result<Vec<Hit>, VectorError> {
        let query = Query::new(query, self.options.dimensions)?;
        let state = self.read();
        let rows = &state.rows;
        let k = k.min(rows.len());
        let found = match &state.way {
            _ if k == 0 => Vec::new(),
            Way::Flat(codes) => self.rooms.with(|room| flat::search(rows, codes, room, &query, k, &filter)),
            Way::Graph(_) if is_rare(rows, &filter) => exact(rows, rows.slots(), &query, k, &filter),
            Way::Graph(unlinked) => {
                let breadth = self.options.breadth.max(k + k / 2);
                let near = self.walks.with(|walk| search(&state.graph, rows, walk, &query, breadth, &filter));
                let slots = near.iter().map(|scored| scored.slot);
                let linked = exact(rows, slots, &query, k, &|_| true);
                let mut nearest = Nearest::new(k);
                linked.into_iter().for_each(|scored| nearest.push(scored));
                exact(rows, unlinked.iter().copied(), &query, k, &filter)
                    .into_iter()
                    .for_each(|scored| nearest.push(scored));
                // Where few pass, the graph's links may lead past them.
                if nearest.is_full() { nearest.into_sorted() } else { exact(rows, rows.slots(), &query, k, &filter) }
            }
        };
        let hit = |scored: Scored| Hit { id: rows.id(scored.slot), score: scored.score.clamp(-1.0, 1.0) };
        Ok(found.into_iter().map(hit).collect())
    }

    /// How large it is.
    pub fn stats(&self) -> Stats {
        let state = self.read();
        let to_link = if state.wants_graph(&self.options) { state.unlinked() } else { 0 };
        Stats { vectors: state.rows.len(), linked: state.graph.len(), to_link }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("invariant: no thread panics while it changes the index")
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.options.dimensions
    }

    pub(crate) fn walks(&self) -> &Walks {
        &self.walks
    }
}

/// Whether so few pass the filter that computing them is faster than to look for them in the graph.
fn is_rare(rows: &Rows, filter: &dyn Fn(u64) -> bool) -> bool {
    let slots = (0..SAMPLE).map(|number| (u64::from(rows.end()) * u64::from(number) / u64::from(SAMPLE)) as u32);
    slots.filter(|slot| rows.is_used(*slot) && filter(rows.id(*slot))).count() < 2
}

/// Computes all of `slots` that pass the filter.
fn exact(
    rows: &Rows,
    slots: impl Iterator<Item = u32>,
    query: &Query,
    k: usize,
    filter: &dyn Fn(u64) -> bool,
) -> Vec<Scored> {
    let slots: Vec<u32> = slots.filter(|slot| filter(rows.id(*slot))).collect();
    let mut nearest = Nearest::new(k);
    compute(rows, query, &slots, &mut nearest);
    nearest.into_sorted()
}
