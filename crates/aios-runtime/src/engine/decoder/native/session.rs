//! One context of a model in panels.

use std::sync::Arc;

use aios_kernels::LANES;

use super::Model;
use super::pass::Context;
use crate::engine::{Cancel, EngineError, Session, check_tokens, common};

/// The tokens so far.
pub(super) struct NativeSession {
    model: Arc<Model>,
    /// Away while it is in a batch.
    context: Option<Context>,
}

impl NativeSession {
    pub(super) fn new(model: Arc<Model>) -> Self {
        let context = Some(Context::new(&model.weights));
        Self { model, context }
    }

    fn context(&self) -> &Context {
        self.context.as_ref().expect("invariant: a batch gives the context back")
    }
}

impl Session for NativeSession {
    fn len(&self) -> usize {
        self.context().history.len()
    }

    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<&[f32], EngineError> {
        let parameters = &self.model.weights.parameters;
        check_tokens(tokens, self.len(), parameters.context, parameters.vocabulary)?;
        let mut context = self.context.take().expect("invariant: a batch gives the context back");
        context.tokens.clear();
        context.tokens.extend_from_slice(tokens);
        context.logits.clear();
        (context.done, context.outputs, context.cancel) = (0, outputs, cancel.clone());
        let result = if tokens.is_empty() {
            Ok(())
        } else {
            let result;
            (context, result) = self.model.batcher.run(&self.model.weights, context);
            result
        };
        if result.is_ok() {
            context.history.extend_from_slice(tokens);
            if tokens.len() >= LANES {
                self.model.keep(&context);
            }
        }
        let context = self.context.insert(context);
        result.map(|()| &context.logits[..])
    }

    fn truncate(&mut self, len: usize) {
        if let Some(context) = &mut self.context {
            context.history.truncate(len);
        }
    }

    fn resume(&mut self, tokens: &[u32]) -> usize {
        let Some(context) = &mut self.context else { return 0 };
        let common = common(&context.history, tokens);
        if common < context.history.len() {
            // The answer to the last prompt, which may be a part of another one.
            self.model.keep(context);
            context.history.truncate(common);
        }
        let blocks = self.model.prefixes.find(tokens, common, context.cache.block_length());
        for (index, block) in blocks.iter().enumerate().skip(common / LANES) {
            context.cache.set_block(index, block);
            context.history.truncate(index * LANES);
            context.history.extend_from_slice(&tokens[index * LANES..][..LANES]);
        }
        context.history.len()
    }

    fn pin(&mut self, len: usize) {
        let Some(context) = &self.context else { return };
        let len = len.min(context.history.len());
        self.model.prefixes.pin(&context.history[..len], |block| context.cache.block(block));
    }
}
