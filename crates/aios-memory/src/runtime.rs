//! What the memory asks of the runtime: vectors of texts, and how many tokens they have.

use std::{path::Path, time::Duration};

use aios_api::runtime::v1::{
    CountTokensRequest, EmbedRequest, ListModelsRequest, ModelKind, ModelState,
    runtime_service_client::RuntimeServiceClient,
};
use tokio::runtime::Handle;
use tonic::{Code, transport::Channel};

use crate::{
    assemble::{CountError, Counted, Tokenizer},
    index::{EmbedError, Embedder},
};

/// Time for one answer of the runtime: the first one loads the model.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The runtime, asked over its Unix socket.
pub struct Runtime {
    channel: Channel,
    executor: Handle,
}

impl Runtime {
    /// The runtime at `socket`, which is connected to when it is asked, each time that it is not any more. Must be called
    /// in the context of an asynchronous executor; the questions are asked elsewhere, in threads that may block.
    pub fn new(socket: &Path) -> Runtime {
        let channel = aios_service::dial_lazily(socket, ANSWER_MAX);
        Runtime { channel, executor: Handle::current() }
    }

    fn client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }
}

impl Embedder for Runtime {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let request = EmbedRequest { model: String::new(), texts: texts.to_vec() };
        let answer = self.executor.block_on(self.client().embed(request));
        let answer = answer.map_err(|status| EmbedError(status.message().to_owned()))?.into_inner();
        if answer.embeddings.len() != texts.len() {
            let found = answer.embeddings.len();
            return Err(EmbedError(format!("the runtime made {found} vectors of {} texts", texts.len())));
        }
        Ok(answer.embeddings.into_iter().map(|embedding| embedding.values).collect())
    }

    fn is_ready(&self) -> bool {
        let answer = self.executor.block_on(self.client().list_models(ListModelsRequest {}));
        let models = answer.map(|answer| answer.into_inner().models).unwrap_or_default();
        models.iter().any(|model| model.kind() == ModelKind::Embedding && model.state() != ModelState::Failed)
    }
}

impl Tokenizer for Runtime {
    fn count(&self, model: &str, texts: &[&str]) -> Result<Counted, CountError> {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        let request = CountTokensRequest { model: model.to_owned(), texts, conversation: None };
        let answer = self.executor.block_on(self.client().count_tokens(request)).map_err(|status| {
            let text = status.message().to_owned();
            if status.code() == Code::NotFound { CountError::NoModel(text) } else { CountError::Unavailable(text) }
        })?;
        let answer = answer.into_inner();
        Ok(Counted { model: answer.model, tokens: answer.texts.into_iter().map(|tokens| tokens as usize).collect() })
    }
}
