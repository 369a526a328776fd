//! From a request that was let in to what goes over the wire: one object, or a stream of chunks.

mod frame;
mod logprobs;

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Json,
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event as ServerSentEvent, KeepAlive},
    },
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{error::ApiError, sampling::Delivery};
use crate::{
    generate::Piece,
    inference::{Completed, Event, Expected, FailedRun, Inference, Request, Run},
    tools::{CallReader, Part},
};
use frame::{Content, Frame};
use logprobs::Logprobs;

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

/// Runs a request and answers it. A client that goes away drops this future or its stream, and thereby the run.
pub async fn answer(
    inference: &Inference,
    request: Request,
    shape: Shape,
    id: String,
    delivery: Delivery,
) -> Result<Response, ApiError> {
    let calls = matches!(request.expected, Expected::Tools(_));
    let logprobs = request.logprobs.is_some();
    let (model, run) = inference.start(request).await?;
    let reader = Reader {
        calls: calls.then(|| CallReader::new(model.call_syntax())),
        logprobs: logprobs.then(|| Logprobs::new(shape, model.clone())),
    };
    let frame = Frame::new(shape, id, model);
    match delivery {
        Delivery::Whole => whole(frame, run, reader).await,
        Delivery::Stream { usage } => Ok(streamed(frame, run, reader, usage)),
    }
}

async fn whole(frame: Frame, mut run: Run, mut reader: Reader) -> Result<Response, ApiError> {
    let mut content = Content::default();
    let mut logprobs = Value::Null;
    loop {
        match run.next().await {
            Some(Event::Piece(piece)) => {
                if let Some(reader) = &mut reader.logprobs {
                    reader.join(&mut logprobs, &piece.tokens);
                }
                reader.parts(&piece).into_iter().for_each(|part| content.push(part));
            }
            Some(Event::Done(completed)) => {
                reader.rest().into_iter().for_each(|part| content.push(part));
                return Ok(Json(frame.object(&content, logprobs, &completed)).into_response());
            }
            Some(Event::Failed(reason)) => return Err(reason.into()),
            None => return Err(FailedRun::Cancelled.into()),
        }
    }
}

/// What an answer is read for.
struct Reader {
    calls: Option<CallReader>,
    logprobs: Option<Logprobs>,
}

impl Reader {
    fn parts(&mut self, piece: &Piece) -> Vec<Part> {
        match &mut self.calls {
            Some(calls) => calls.push(&piece.text),
            None => vec![Part::Text(piece.text.clone())],
        }
    }

    /// What was held back at the end.
    fn rest(&mut self) -> Option<Part> {
        self.calls.as_mut().and_then(CallReader::finish)
    }

    fn has_calls(&self) -> bool {
        self.calls.as_ref().is_some_and(|calls| calls.calls() > 0)
    }
}

struct Stream {
    frame: Frame,
    run: Run,
    reader: Reader,
    usage: bool,
    /// Events that are ready to be sent.
    ready: VecDeque<ServerSentEvent>,
    ended: bool,
}

fn streamed(frame: Frame, run: Run, reader: Reader, usage: bool) -> Response {
    let mut start = Stream { frame, run, reader, usage, ready: VecDeque::new(), ended: false };
    start.open();
    let events = stream::unfold(start, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl Stream {
    /// A chat's first chunk names the role. A text's has nothing to say.
    fn open(&mut self) {
        if self.frame.shape == Shape::Chat {
            let content = if self.reader.calls.is_some() { Value::Null } else { json!("") };
            self.chunk(json!({"role": "assistant", "content": content}), Value::Null);
        }
    }

    async fn next(&mut self) -> Option<ServerSentEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.run.next().await {
                Some(Event::Piece(piece)) => self.piece(&piece),
                Some(Event::Done(completed)) => self.close(&completed),
                Some(Event::Failed(reason)) => self.fail(reason),
                None => self.fail(FailedRun::Cancelled),
            }
        }
    }

    fn piece(&mut self, piece: &Piece) {
        let mut logprobs = self.reader.logprobs.as_mut().map_or(Value::Null, |reader| reader.of(&piece.tokens));
        let mut deltas: Vec<Value> = self.reader.parts(piece).into_iter().map(|part| self.frame.delta(part)).collect();
        if deltas.is_empty() && !piece.tokens.is_empty() {
            deltas.push(self.frame.nothing());
        }
        for delta in deltas {
            self.chunk(delta, logprobs.take());
        }
    }

    fn chunk(&mut self, delta: Value, logprobs: Value) {
        let chunk = self.frame.chunk(self.usage, delta, logprobs, None);
        self.ready.push_back(event(&chunk));
    }

    /// The chunk with the finish reason, the usage figures where they were asked for, and the end mark.
    fn close(&mut self, completed: &Completed) {
        if let Some(part) = self.reader.rest() {
            let delta = self.frame.delta(part);
            self.chunk(delta, Value::Null);
        }
        let finish = frame::finish_reason(completed, self.reader.has_calls());
        let mut last = self.frame.chunk(self.usage, self.frame.nothing(), Value::Null, Some(finish));
        if self.usage {
            self.ready.extend([event(&last), event(&self.frame.figures(completed))]);
        } else {
            last["timings"] = frame::timings(completed);
            self.ready.push_back(event(&last));
        }
        self.ready.push_back(ServerSentEvent::default().data("[DONE]"));
        self.ended = true;
    }

    fn fail(&mut self, reason: FailedRun) {
        self.ready.push_back(event(&ApiError::from(reason).body()));
        self.ended = true;
    }
}

fn event(data: &Value) -> ServerSentEvent {
    // JSON has no raw line breaks, so the text is one line, as the format wants it.
    ServerSentEvent::default().data(data.to_string())
}
