//! Vectors from the runtime's `Embed`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use aios_api::runtime::v1::{EmbedRequest, runtime_service_client::RuntimeServiceClient};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Handle};
use tonic::transport::{Channel, Endpoint};

use crate::{
    index::{EmbedError, Embedder},
    kind::Kind,
    store::{Embedded, Store, Write},
};

/// Time for one answer of the runtime: the first one loads the model.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Items that get their vectors at once.
const BATCH: usize = 32;
/// Most bytes of an item's words that are sent: the model reads a few hundred tokens and cuts off the rest.
const TEXT: usize = 8 << 10;

/// The runtime's model for embeddings, asked over its Unix socket.
pub struct RuntimeEmbedder {
    channel: Channel,
    runtime: Handle,
}

impl RuntimeEmbedder {
    /// The runtime at `socket`, which is connected to when it is asked, each time that it is not any more. Must be called
    /// in the context of an asynchronous runtime; vectors are asked for elsewhere, in threads that may block.
    pub fn new(socket: PathBuf) -> RuntimeEmbedder {
        let connector = tower::service_fn(move |_| {
            let path = socket.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is only a name: the connector goes to the socket.
        let channel =
            Endpoint::from_static("http://runtime").timeout(ANSWER_MAX).connect_with_connector_lazy(connector);
        RuntimeEmbedder { channel, runtime: Handle::current() }
    }
}

impl Embedder for RuntimeEmbedder {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut client = RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let request = EmbedRequest { model: String::new(), texts: texts.to_vec() };
        let answer = self.runtime.block_on(client.embed(request));
        let answer = answer.map_err(|status| EmbedError(status.message().to_owned()))?.into_inner();
        if answer.embeddings.len() != texts.len() {
            let found = answer.embeddings.len();
            return Err(EmbedError(format!("the runtime made {found} vectors of {} texts", texts.len())));
        }
        Ok(answer.embeddings.into_iter().map(|embedding| embedding.values).collect())
    }
}

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
