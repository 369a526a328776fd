//! Finding: patterns, and items by words and meaning.

use aios_api::memory::v1::{
    FindPatternRequest, FindPatternResponse, Hit, SearchBy, find_pattern_response::FoundPattern,
};
use tonic::Status;

use super::{
    Service,
    caller::{Action, Caller},
    convert::{self, to_wire},
    limit,
};
use crate::{
    index::Query,
    kind::{Indexing, Kind},
    limits,
    reuse::{self, Reuse},
};

/// Patterns of goals in other words that are looked at.
const PATTERNS: usize = 50;

/// What a search found.
pub(super) struct Hits {
    pub hits: Vec<Hit>,
    pub by: SearchBy,
    pub without_vector: u64,
}

/// The kinds that are asked for; all that the caller may read and that can be searched, where none are. Who may read none
/// is refused.
pub(super) fn readable(caller: &Caller, asked: &[i32]) -> Result<Vec<Kind>, Status> {
    if asked.is_empty() {
        let searched = Kind::ALL.into_iter().filter(|kind| kind.indexing() != Indexing::None);
        let readable: Vec<Kind> = searched.filter(|kind| caller.may(Action::Read, kind.name())).collect();
        if readable.is_empty() {
            caller.check(Action::Read, Kind::Knowledge)?;
        }
        return Ok(readable);
    }
    let kinds: Vec<Kind> = asked.iter().map(|kind| convert::kind(*kind)).collect::<Result<_, _>>()?;
    kinds.iter().try_for_each(|kind| caller.check(Action::Read, *kind))?;
    Ok(kinds)
}

impl Service {
    /// Items of these kinds that fit a query.
    pub(super) async fn search(&self, query: String, limit: usize, kinds: Vec<Kind>) -> Result<Hits, Status> {
        if self.store.options().index.is_none() {
            return Err(convert::status(crate::StoreError::NoIndex));
        }
        // Before a model works on it.
        limits::query("query", &query).map_err(|invalid| convert::status(invalid.into()))?;
        let vector = self.embed(query.clone()).await;
        let by = if vector.is_some() { SearchBy::MeaningAndWords } else { SearchBy::Words };
        let found = self.read(move |view| {
            let query = Query { text: &query, vector: vector.as_deref(), limit };
            let found = view.search(&query, &|kind| kinds.contains(&kind))?;
            Ok((found, view.unembedded_count()?))
        });
        let (found, without_vector) = found.await?;
        let hits = found.into_iter().map(|(item, found)| Hit { item: Some(to_wire(item)), score: found.score });
        Ok(Hits { hits: hits.collect(), by, without_vector })
    }

    /// The patterns that may be used for a goal, with its own values in their steps.
    pub(super) async fn patterns(&self, request: FindPatternRequest) -> Result<FindPatternResponse, Status> {
        let FindPatternRequest { goal, limit: asked } = request;
        limits::query("goal", &goal).map_err(|invalid| convert::status(invalid.into()))?;
        let vector = match &self.store.options().index {
            Some(_) => self.embed(goal.clone()).await,
            None => None,
        };
        let exact_only = vector.is_none();
        let found = self.read(move |view| {
            let near = match &vector {
                Some(vector) => view.nearest(vector, Kind::Pattern, PATTERNS)?,
                None => Vec::new(),
            };
            Ok(reuse::choose(&goal, view.patterns(&goal)?, near))
        });
        let patterns = found.await?.into_iter().take(limit(asked, 10, 100)).map(|reuse| {
            let Reuse { item, likeness: similarity, score } = reuse;
            FoundPattern { pattern: Some(to_wire(item)), similarity, score }
        });
        Ok(FindPatternResponse { patterns: patterns.collect(), exact_only })
    }

    /// The vector of a text; `None` where there is nothing to make it, or it does not answer.
    pub(super) async fn embed(&self, text: String) -> Option<Vec<f32>> {
        let embedder = self.embedder.clone()?;
        let made = tokio::task::spawn_blocking(move || embedder.embed(&[text])).await;
        match made {
            Ok(Ok(vectors)) => vectors.into_iter().next(),
            Ok(Err(error)) => {
                tracing::debug!(%error, "searching by words alone");
                None
            }
            Err(_) => None,
        }
    }

    /// Whether vectors are made now.
    pub(super) async fn embeds(&self) -> bool {
        let Some(embedder) = self.embedder.clone() else { return false };
        tokio::task::spawn_blocking(move || embedder.is_ready()).await.unwrap_or(false)
    }
}
