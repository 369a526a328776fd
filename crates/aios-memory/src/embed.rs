//! Vectors for items that have none yet.

use std::sync::Arc;

use crate::{
    index::{EmbedError, Embedder},
    kind::Kind,
    store::{Embedded, Store, Write},
};

/// Items that get their vectors at once.
const BATCH: usize = 32;
/// Most bytes of an item's words that are sent: the model reads a few hundred tokens and cuts off the rest.
const TEXT: usize = 8 << 10;

/// Gives vectors to some of the items that wait for one. Returns how many it gave.
pub(crate) fn embed_waiting(store: &Store, embedder: &Arc<dyn Embedder>) -> Result<usize, EmbedError> {
    let waiting = store.read(|view| view.unembedded(BATCH)).map_err(|error| EmbedError(error.to_string()))?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let texts: Vec<String> = waiting.iter().map(|item| beginning(&item.content.body.text())).collect();
    let vectors = embedder.embed(&texts)?;
    debug_assert!(waiting.iter().all(|item| item.kind() != Kind::AgentState));
    let stamp = |(item, vector): (crate::Item, Vec<f32>)| Embedded { id: item.id, updated: item.updated, vector };
    let embedded: Vec<Embedded> = waiting.into_iter().zip(vectors).map(stamp).collect();
    let count = embedded.len();
    store.write(Write::Vectors(embedded)).map_err(|error| EmbedError(error.to_string()))?;
    Ok(count)
}

/// The first bytes of a text, in whole characters.
fn beginning(text: &str) -> String {
    let end = (0..=text.len().min(TEXT)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}
