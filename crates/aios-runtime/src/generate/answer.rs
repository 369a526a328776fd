//! The way of an answer's text: tokens, whole characters, without stop sequences, to the receiver.

use std::ops::ControlFlow;

use super::{GenerateError, GenerateRequest, TokenLogprob, stop::StopMatcher};
use crate::{model::LoadedModel, tokenizer::StreamDecoder};

/// A part of an answer, as it becomes known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Whole characters.
    pub text: String,
    /// The tokens that the text came from, where they were asked for. A token whose text is held back comes with the piece
    /// that brings it; one of a stop sequence does not come at all.
    pub tokens: Vec<TokenLogprob>,
}

/// Whether the answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Continues,
    Stopped,
}

pub(super) struct Answer<'a> {
    model: &'a LoadedModel,
    decoder: StreamDecoder,
    stop: StopMatcher,
    /// Tokens whose text was not handed out yet.
    held: Vec<TokenLogprob>,
    on_piece: &'a mut dyn FnMut(Piece) -> ControlFlow<()>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(
        model: &'a LoadedModel,
        request: &GenerateRequest,
        on_piece: &'a mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Self {
        let decoder = match request.guidance {
            // A form says itself what it begins with.
            Some(_) => StreamDecoder::default(),
            None => StreamDecoder::behind(&model.tokenizer, request.prompt_tokens.last().copied()),
        };
        let (stop, held) = (StopMatcher::new(&request.stop), Vec::new());
        Self { model, decoder, stop, held, on_piece }
    }

    pub(super) fn push(&mut self, token: u32, logprob: Option<TokenLogprob>) -> Result<Turn, GenerateError> {
        self.held.extend(logprob);
        let mut text = String::new();
        self.decoder.push(&self.model.tokenizer, token, &mut text);
        self.text(&text)
    }

    /// Hands out what was held back.
    pub(super) fn finish(&mut self) -> Result<(), GenerateError> {
        let mut text = String::new();
        self.decoder.finish(&mut text);
        if self.text(&text)? == Turn::Continues {
            let text = self.stop.finish();
            let tokens = std::mem::take(&mut self.held);
            if !text.is_empty() || !tokens.is_empty() {
                self.emit(Piece { text, tokens })?;
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Turn, GenerateError> {
        let text = self.stop.push(text);
        if !text.is_empty() {
            let tokens = std::mem::take(&mut self.held);
            self.emit(Piece { text, tokens })?;
        }
        Ok(if self.stop.is_stopped() { Turn::Stopped } else { Turn::Continues })
    }

    fn emit(&mut self, piece: Piece) -> Result<(), GenerateError> {
        match (self.on_piece)(piece) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GenerateError::Cancelled),
        }
    }
}
