//! The index of the service: words by BM25, meaning by vectors, both in the memory's own file.
//!
//! What was found by words and what was found by vectors becomes one ranking (docs/recall.md). The words' index is read
//! from its tables; the vectors are in memory besides, so a change of them is seen by searches when its transaction is on
//! the disk, and is read from there whenever the file is opened.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use aios_recall::{
    fuse::{self, Fused, Method},
    text::{TextError, TextIndex},
};
use aios_vectors::{BatchError, OpenError, Options};
use redb::{ReadTransaction, WriteTransaction};
use sha2::{Digest as _, Sha256};

use crate::index::{AfterCommit, Change, Found, Index, Query};

/// Version of what is indexed, and how.
const FORMAT: &str = "aios-memory index 2";
/// What the words' tables begin with.
const WORDS: &str = "words";
/// What of the score words decide where there are vectors, too; from 0 to 1.
const WEIGHT_OF_WORDS: f64 = 0.2;
/// Least number of items that each of both searches gives to the ranking. Beyond it they give twice what is asked for.
const DEPTH: usize = 100;
/// Texts that share no word and whose vectors have a smaller cosine have nothing to do with each other.
const RELATED: f64 = 0.1;
/// Vectors that come into the graph at once. Other writers wait meanwhile: some 60 ms where there are 100,000, some tenths of a
/// second among a million.
const LINKS: usize = 256;

/// Words and vectors. Clones are the same index; it belongs to one store.
#[derive(Clone, Debug)]
pub struct HybridIndex {
    version: u64,
    options: Options,
    words: TextIndex,
    /// None until a vector comes.
    vectors: Arc<RwLock<Option<Arc<aios_vectors::Index>>>>,
}

impl HybridIndex {
    /// An index of vectors that the model `model` makes, whatever their length. A file with the vectors of another model
    /// gets new ones.
    pub fn new(model: &str) -> HybridIndex {
        HybridIndex::with_graph_from(model, Options::default().graph_from)
    }

    /// Like [`HybridIndex::new`], where so many vectors get a graph.
    pub fn with_graph_from(model: &str, graph_from: usize) -> HybridIndex {
        let hash = Sha256::digest(format!("{FORMAT}\0{model}").as_bytes());
        let version = hash.first_chunk().expect("invariant: SHA-256 has 32 bytes");
        HybridIndex {
            version: u64::from_le_bytes(*version),
            options: Options { graph_from, ..Options::default() },
            words: TextIndex::new(WORDS),
            vectors: Arc::default(),
        }
    }

    /// How many vectors there are, in the graph and waiting for it; `None` before the first one.
    pub fn vectors(&self) -> Option<aios_vectors::Stats> {
        self.current().map(|index| index.stats())
    }

    fn current(&self) -> Option<Arc<aios_vectors::Index>> {
        self.vectors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, index: Option<Arc<aios_vectors::Index>>) {
        *self.vectors.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// What the tables hold; `None` where there are none.
    fn load(&self, transaction: &ReadTransaction) -> Result<Option<aios_vectors::Index>, redb::Error> {
        let loaded = match aios_vectors::Index::open(transaction, self.options) {
            Err(OpenError::Dimensions { found, .. }) => {
                let dimensions = usize::try_from(found).unwrap_or(usize::MAX);
                aios_vectors::Index::open(transaction, Options { dimensions, ..self.options })
            }
            loaded => loaded,
        };
        let index = loaded.map_err(open_error)?;
        Ok((index.stats().vectors > 0).then_some(index))
    }

    /// Writes vectors, and takes away those of items that are named without one.
    fn change_vectors(
        &self,
        transaction: &WriteTransaction,
        changes: &[(u64, Option<&[f32]>)],
    ) -> Result<AfterCommit, redb::Error> {
        let first = changes.iter().find_map(|(_, vector)| *vector);
        let index = match (self.current(), first) {
            (Some(index), _) => index,
            (None, None) => return Ok(None),
            (None, Some(vector)) => {
                let options = Options { dimensions: vector.len(), ..self.options };
                // A file may have the tables of vectors that are all gone.
                aios_vectors::clear(transaction)?;
                match aios_vectors::Index::new(options) {
                    Ok(index) => Arc::new(index),
                    Err(error) => {
                        tracing::warn!(%error, "items are found by their words alone");
                        return Ok(None);
                    }
                }
            }
        };
        let mut batch = index.batch(transaction);
        for (id, vector) in changes {
            match vector {
                None => batch.remove(*id),
                Some(vector) => {
                    if let Err(error) = batch.insert(*id, vector) {
                        tracing::warn!(id, %error, "the item is found by its words alone");
                    }
                }
            }
        }
        let staged = batch.finish().map_err(batch_error)?;
        Ok(Some(self.publish(index, staged)))
    }

    /// What makes searches see a batch.
    fn publish(
        &self,
        index: Arc<aios_vectors::Index>,
        staged: aios_vectors::Staged,
    ) -> Box<dyn FnOnce() -> Result<(), redb::Error>> {
        let shared = self.clone();
        Box::new(move || {
            index.publish(staged).map_err(other)?;
            shared.set(Some(index));
            Ok(())
        })
    }
}

impl Index for HybridIndex {
    fn version(&self) -> u64 {
        self.version
    }

    fn begin(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        // The words' tables come with their writer, those of the vectors with the first vector.
        self.words.writer(transaction).map(drop).map_err(text_error)
    }

    fn open(&self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        self.set(None);
        self.set(self.load(transaction)?.map(Arc::new));
        Ok(())
    }

    fn clear(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        self.words.erase(transaction).map_err(text_error)?;
        aios_vectors::clear(transaction)?;
        self.begin(transaction)
    }

    fn apply(&self, transaction: &WriteTransaction, changes: &[Change]) -> Result<AfterCommit, redb::Error> {
        let mut vectors: Vec<(u64, Option<&[f32]>)> = Vec::new();
        let mut writer = self.words.writer(transaction).map_err(text_error)?;
        for change in changes {
            match change {
                Change::Words { id, text, before } => {
                    writer.insert(*id, text).map_err(text_error)?;
                    if before.is_some() {
                        vectors.push((*id, None));
                    }
                }
                Change::Vector { id, vector } => vectors.push((*id, Some(vector))),
                Change::Removed { id, .. } => {
                    writer.remove(*id).map_err(text_error)?;
                    vectors.push((*id, None));
                }
            }
        }
        drop(writer);
        if vectors.is_empty() { Ok(None) } else { self.change_vectors(transaction, &vectors) }
    }

    fn has_work(&self) -> bool {
        self.vectors().is_some_and(|stats| stats.to_link > 0)
    }

    fn work(&self, transaction: &WriteTransaction) -> Result<AfterCommit, redb::Error> {
        let Some(index) = self.current().filter(|index| index.stats().to_link > 0) else { return Ok(None) };
        let mut batch = index.batch(transaction);
        batch.link(LINKS);
        let staged = batch.finish().map_err(batch_error)?;
        Ok(Some(self.publish(index, staged)))
    }

    fn search(
        &self,
        transaction: &ReadTransaction,
        query: &Query<'_>,
        accept: &dyn Fn(u64) -> bool,
    ) -> Result<Vec<Found>, redb::Error> {
        let depth = query.limit.saturating_mul(2).max(DEPTH);
        let words = self.words.search(transaction, query.text, depth, accept).map_err(text_error)?;
        let words: Vec<(u64, f64)> = words.into_iter().map(|hit| (hit.id, hit.score)).collect();
        let near = query.vector.map(|vector| self.nearest(vector, depth, accept)).unwrap_or_default();
        let near: Vec<(u64, f64)> = near.into_iter().map(|found| (found.id, found.score)).collect();
        // Words alone decide all of the score where there is nothing else.
        let method = Method::WeightedSum { words: if near.is_empty() { 1.0 } else { WEIGHT_OF_WORDS } };
        let related = near.iter().filter(|(_, cosine)| *cosine >= RELATED).chain(&words);
        let related: HashSet<u64> = related.map(|(id, _)| *id).collect();
        let fused = fuse::fuse(&near, &words, method).into_iter().take(query.limit);
        let found = |Fused { id, score }: Fused| Found { id, score, is_related: related.contains(&id) };
        Ok(fused.map(found).collect())
    }

    fn nearest(&self, vector: &[f32], limit: usize, accept: &dyn Fn(u64) -> bool) -> Vec<Found> {
        let Some(index) = self.current() else { return Vec::new() };
        let found = |id, score| Found { id, score, is_related: score >= RELATED };
        match index.search(vector, limit, accept) {
            Ok(hits) => hits.into_iter().map(|hit| found(hit.id, hit.score.into())).collect(),
            Err(error) => {
                tracing::warn!(%error, "searching by words alone");
                Vec::new()
            }
        }
    }

    fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error> {
        self.words.copy(from, to).map_err(text_error)?;
        aios_vectors::copy(from, to)
    }
}

/// An error that opening the file again may end: what is in memory is read anew then.
fn other(error: impl std::error::Error + Send + Sync + 'static) -> redb::Error {
    redb::Error::Io(std::io::Error::other(error))
}

fn text_error(error: TextError) -> redb::Error {
    match error {
        TextError::Storage { cause, .. } => cause,
        TextError::Damaged { .. } => redb::Error::Corrupted(error.to_string()),
    }
}

fn open_error(error: OpenError) -> redb::Error {
    match error {
        OpenError::Storage(cause) => *cause,
        OpenError::Damaged { .. } => redb::Error::Corrupted(error.to_string()),
        OpenError::Options(_) | OpenError::Format { .. } | OpenError::Dimensions { .. } => other(error),
    }
}

fn batch_error(error: BatchError) -> redb::Error {
    match error {
        BatchError::Storage(cause) => *cause,
        BatchError::Damaged { .. } => redb::Error::Corrupted(error.to_string()),
        BatchError::Behind { .. } | BatchError::Full => other(error),
    }
}
