//! From a request that was let in to what goes over the wire: one object, or a stream of chunks.

use std::{convert::Infallible, sync::Arc, time::Duration, time::SystemTime};

use axum::{
    Json,
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event as ServerSentEvent, KeepAlive},
    },
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{error::ApiError, models::unix_time, sampling::Delivery};
use crate::{
    generate::Finish,
    inference::{Completed, Event, FailedRun, Inference, Request, Run},
    registry::{Resident, millis},
};

/// Names the build that answered: the same request with the same seed gives the same text on the same build.
const FINGERPRINT: &str = concat!("aios-", env!("CARGO_PKG_VERSION"));

/// A stream that is silent for so long (in the queue, in a long prefill) sends a comment, lest something on the way
/// takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Which of the API's two object families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `chat.completion`, `chat.completion.chunk`
    Chat,
    /// `text_completion`
    Text,
}

/// What all objects of one answer have in common.
struct Frame {
    shape: Shape,
    id: String,
    created: u64,
    model: Arc<Resident>,
}

/// Runs a request and answers it. A client that goes away drops this future or its stream, and thereby the run.
pub async fn answer(
    inference: &Inference,
    request: Request,
    shape: Shape,
    id: String,
    delivery: Delivery,
) -> Result<Response, ApiError> {
    let (model, run) = inference.start(request).await?;
    let frame = Frame { shape, id, created: unix_time(SystemTime::now()), model };
    match delivery {
        Delivery::Whole => whole(frame, run).await,
        Delivery::Stream { usage } => Ok(streamed(frame, run, usage)),
    }
}

async fn whole(frame: Frame, mut run: Run) -> Result<Response, ApiError> {
    let mut text = String::new();
    loop {
        match run.next().await {
            Some(Event::Text(piece)) => text.push_str(&piece),
            Some(Event::Done(completed)) => return Ok(Json(frame.object(&text, &completed)).into_response()),
            Some(Event::Failed(reason)) => return Err(reason.into()),
            None => return Err(FailedRun::Cancelled.into()),
        }
    }
}

/// Where a stream stands.
enum Stage {
    Opening,
    Running,
    Ending(Vec<ServerSentEvent>),
}

struct Stream {
    frame: Frame,
    run: Run,
    usage: bool,
    stage: Stage,
}

fn streamed(frame: Frame, run: Run, usage: bool) -> Response {
    let start = Stream { frame, run, usage, stage: Stage::Opening };
    let events = stream::unfold(start, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl Stream {
    async fn next(&mut self) -> Option<ServerSentEvent> {
        if let Stage::Opening = self.stage {
            self.stage = Stage::Running;
            // A chat's first chunk names the role. A text's has nothing to say.
            if self.frame.shape == Shape::Chat {
                let delta = json!({"role": "assistant", "content": ""});
                return Some(event(&self.frame.chunk(self.usage, Some(delta), None)));
            }
        }
        if let Stage::Ending(rest) = &mut self.stage {
            return if rest.is_empty() { None } else { Some(rest.remove(0)) };
        }
        let mut last = match self.run.next().await {
            Some(Event::Text(text)) => {
                let delta = self.frame.delta(&text);
                return Some(event(&self.frame.chunk(self.usage, Some(delta), None)));
            }
            Some(Event::Done(completed)) => self.closing(&completed),
            Some(Event::Failed(reason)) => vec![event(&ApiError::from(reason).body())],
            None => vec![event(&ApiError::from(FailedRun::Cancelled).body())],
        };
        let first = last.remove(0);
        self.stage = Stage::Ending(last);
        Some(first)
    }

    /// The chunk with the finish reason, the usage figures where they were asked for, and the end mark.
    fn closing(&self, completed: &Completed) -> Vec<ServerSentEvent> {
        let frame = &self.frame;
        let mut finish = frame.chunk(self.usage, None, Some(completed));
        let mut events = Vec::with_capacity(3);
        if self.usage {
            let mut figures = frame.envelope(frame.chunk_kind());
            figures["choices"] = json!([]);
            figures["usage"] = usage(completed);
            figures["timings"] = timings(completed);
            events.extend([event(&finish), event(&figures)]);
        } else {
            finish["timings"] = timings(completed);
            events.push(event(&finish));
        }
        events.push(ServerSentEvent::default().data("[DONE]"));
        events
    }
}

impl Frame {
    fn envelope(&self, kind: &str) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model.id,
            "system_fingerprint": FINGERPRINT,
        })
    }

    fn chunk_kind(&self) -> &'static str {
        match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        }
    }

    fn delta(&self, text: &str) -> Value {
        match self.shape {
            Shape::Chat => json!({"content": text}),
            Shape::Text => json!(text),
        }
    }

    /// One chunk: a piece of the answer, or (with `completed`) its end.
    fn chunk(&self, usage: bool, delta: Option<Value>, completed: Option<&Completed>) -> Value {
        let finish = completed.map(finish_reason);
        let choice = match self.shape {
            Shape::Chat => {
                let delta = delta.unwrap_or_else(|| json!({}));
                json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish})
            }
            Shape::Text => {
                let text = delta.unwrap_or_else(|| json!(""));
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish})
            }
        };
        let mut chunk = self.envelope(self.chunk_kind());
        chunk["choices"] = json!([choice]);
        if usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The whole answer.
    fn object(&self, text: &str, completed: &Completed) -> Value {
        let finish = finish_reason(completed);
        let (kind, choice) = match self.shape {
            Shape::Chat => {
                let message = json!({"role": "assistant", "content": text, "refusal": null});
                let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish});
                ("chat.completion", choice)
            }
            Shape::Text => {
                let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish});
                ("text_completion", choice)
            }
        };
        let mut object = self.envelope(kind);
        object["choices"] = json!([choice]);
        object["usage"] = usage(completed);
        object["timings"] = timings(completed);
        object
    }
}

fn event(data: &Value) -> ServerSentEvent {
    // JSON has no raw line breaks, so the text is one line, as the format wants it.
    ServerSentEvent::default().data(data.to_string())
}

fn finish_reason(completed: &Completed) -> &'static str {
    match completed.generated.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

fn usage(completed: &Completed) -> Value {
    let (prompt, completion) = (completed.generated.prompt_tokens, completed.generated.completion_tokens);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": completed.generated.cached_tokens},
    })
}

fn timings(completed: &Completed) -> Value {
    let generated = &completed.generated;
    json!({
        "queue_ms": millis(completed.queue_time),
        "prompt_n": generated.prompt_tokens,
        "cache_n": generated.cached_tokens,
        "prompt_ms": millis(generated.prompt_time),
        "predicted_n": generated.completion_tokens,
        "predicted_ms": millis(generated.predict_time),
    })
}
