//! The gRPC API, `aios.runtime.v1`. Its proto is its public description.

mod convert;

use std::{pin::Pin, sync::Arc};

use aios_api::runtime::v1::{
    CountTokensRequest, CountTokensResponse, EmbedRequest, EmbedResponse, InferRequest, InferResponse,
    ListModelsRequest, ListModelsResponse, LoadModelRequest, LoadModelResponse, StreamInferResponse,
    UnloadModelRequest, UnloadModelResponse,
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
    stream_infer_response,
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::inference::{Event, FailedRun, Inference, Run};

/// The service, for requests of at most `max_message` bytes.
pub fn service(inference: Arc<Inference>, max_message: usize) -> RuntimeServiceServer<impl RuntimeService> {
    RuntimeServiceServer::new(Service { inference }).max_decoding_message_size(max_message)
}

struct Service {
    inference: Arc<Inference>,
}

#[tonic::async_trait]
impl RuntimeService for Service {
    type StreamInferStream = Pin<Box<dyn Stream<Item = Result<StreamInferResponse, Status>> + Send>>;

    async fn load_model(&self, request: Request<LoadModelRequest>) -> Result<Response<LoadModelResponse>, Status> {
        let registry = &self.inference.registry;
        let id = request.into_inner().model;
        let model = registry.load_any(&id).await.map_err(convert::registry_status)?;
        let id = registry.resolve(&id).map_err(convert::registry_status)?;
        let model = convert::loaded(id, &model, registry.is_default(id));
        Ok(Response::new(LoadModelResponse { model: Some(model) }))
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        let model = request.into_inner().model;
        self.inference.registry.unload(&model).await.map_err(convert::registry_status)?;
        Ok(Response::new(UnloadModelResponse {}))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let registry = self.inference.registry.clone();
        let listed = tokio::task::spawn_blocking(move || registry.list()).await;
        let listed = listed.map_err(|error| Status::internal(error.to_string()))?;
        let models = listed.into_iter().map(convert::listed).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn infer(&self, request: Request<InferRequest>) -> Result<Response<InferResponse>, Status> {
        let request = convert::request(request.into_inner())?;
        let (model, mut run) = self.inference.start(request).await.map_err(convert::refusal_status)?;
        let mut text = String::new();
        loop {
            match run.next().await {
                Some(Event::Piece(piece)) => text.push_str(&piece.text),
                Some(Event::Done(completed)) => {
                    return Ok(Response::new(convert::response(&model.id, text, &completed)));
                }
                Some(Event::Failed(reason)) => return Err(convert::failure_status(reason)),
                None => return Err(convert::failure_status(FailedRun::Cancelled)),
            }
        }
    }

    async fn stream_infer(&self, request: Request<InferRequest>) -> Result<Response<Self::StreamInferStream>, Status> {
        let request = convert::request(request.into_inner())?;
        let (model, run) = self.inference.start(request).await.map_err(convert::refusal_status)?;
        // The stream holds the run: a call that is cancelled drops both.
        let events = stream::unfold(Some(run), move |run| {
            let model = model.clone();
            async move { Some(next_response(&model.id, run?).await) }
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let (model, texts) = convert::texts(request.into_inner())?;
        let made = self.inference.embedder.embed(&model, texts, None).await.map_err(convert::embedding_status)?;
        Ok(Response::new(convert::embeddings(made)))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> Result<Response<CountTokensResponse>, Status> {
        let request = convert::to_count(request.into_inner())?;
        let counted = self.inference.count(request).await.map_err(convert::refusal_status)?;
        Ok(Response::new(convert::counts(counted)))
    }
}

/// The next item of a stream, and the run unless that was the last item.
async fn next_response(model: &str, mut run: Run) -> (Result<StreamInferResponse, Status>, Option<Run>) {
    let item = |event| Ok(StreamInferResponse { event: Some(event) });
    match run.next().await {
        Some(Event::Piece(piece)) => (item(stream_infer_response::Event::Text(piece.text)), Some(run)),
        Some(Event::Done(completed)) => {
            (item(stream_infer_response::Event::Done(convert::done(model, &completed))), None)
        }
        Some(Event::Failed(reason)) => (Err(convert::failure_status(reason)), None),
        None => (Err(convert::failure_status(FailedRun::Cancelled)), None),
    }
}
