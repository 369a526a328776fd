//! Architectures that candle computes with layers of its own, slowly, but for a context at a time without fault.
//!
//! candle keeps the keys and values inside of its models, gives logits after the last token alone, and can't shorten a
//! context. So each session has a clone of the model, of which all but the cache is shared; tokens whose logits are wanted
//! go in one by one; and a context that was shortened is computed anew.

mod architecture;

use std::io::{BufReader, Seek, SeekFrom};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_glm4, quantized_phi, quantized_phi3};

use super::pool_guard::{PoolGuard, has_block_products};
use super::{Cancel, Engine, EngineError, EngineInfo, Session, check_tokens, common};
use crate::gguf::Gguf;
pub(super) use architecture::Architecture;

/// Tokens that go through the layers together. Cancelling takes effect between so many.
const BATCH: usize = 64;

/// A model of candle's and its cache.
trait Model: Send + Sync {
    /// Logits after the last of `tokens`, the first of which stands at `position`.
    fn forward(&mut self, tokens: &Tensor, position: usize) -> candle_core::Result<Tensor>;

    /// The same weights with the same cache.
    fn copy(&self) -> Box<dyn Model>;
}

macro_rules! model {
    ($module:ident) => {
        impl Model for $module::ModelWeights {
            fn forward(&mut self, tokens: &Tensor, position: usize) -> candle_core::Result<Tensor> {
                $module::ModelWeights::forward(self, tokens, position)
            }

            fn copy(&self) -> Box<dyn Model> {
                Box::new(self.clone())
            }
        }
    };
}

model!(quantized_glm4);
model!(quantized_phi);
model!(quantized_phi3);

struct Candle {
    info: EngineInfo,
    /// Has never seen a token.
    unused: Arc<dyn Model>,
}

/// Loads `gguf`, for contexts of at most `context` tokens.
pub(super) fn load(gguf: &Gguf, architecture: Architecture, context: usize) -> Result<Box<dyn Engine>, EngineError> {
    let sizes = architecture.check(gguf)?;
    if !has_block_products() {
        let reason = "is computed by candle, which needs a processor with dot-product instructions (dotprod)";
        return Err(gguf.error(reason).into());
    }
    if context == 0 {
        return Err(gguf.error("can't be loaded with a context of 0 tokens").into());
    }
    let context = context.min(sizes.context);
    let _guard = PoolGuard;
    let mut file = BufReader::new(gguf.file());
    let unreadable = |error: std::io::Error| gguf.error(format!("can't be read: {error}"));
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut content = Content::read(&mut file)?;
    // candle makes its tables and caches as long as this says.
    content.metadata.insert(architecture.key("context_length"), Value::U32(context as u32));
    let device = Device::Cpu;
    let unused: Arc<dyn Model> = match architecture {
        Architecture::Glm4 => {
            Arc::new(quantized_glm4::ModelWeights::from_gguf(content, &mut file, &device, candle_core::DType::F32)?)
        }
        Architecture::Phi2 => Arc::new(quantized_phi::ModelWeights::from_gguf(content, &mut file, &device)?),
        Architecture::Phi3 => Arc::new(quantized_phi3::ModelWeights::from_gguf(false, content, &mut file, &device)?),
    };
    let weights = gguf.tensors().values().map(|tensor| tensor.shape.iter().product::<usize>() as u64);
    let info = EngineInfo {
        architecture: architecture.name().to_owned(),
        arithmetic: "candle",
        parameters: weights.sum(),
        vocabulary: sizes.vocabulary,
        context_length: context,
    };
    Ok(Box::new(Candle { info, unused }))
}

impl Engine for Candle {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let (vocabulary, context) = (self.info.vocabulary, self.info.context_length);
        let (unused, model) = (Arc::clone(&self.unused), self.unused.copy());
        Ok(Box::new(CandleSession {
            vocabulary,
            context,
            unused,
            model,
            history: Vec::new(),
            fresh: true,
            logits: Vec::new(),
        }))
    }
}

/// One context.
struct CandleSession {
    vocabulary: usize,
    context: usize,
    unused: Arc<dyn Model>,
    model: Box<dyn Model>,
    /// The tokens so far.
    history: Vec<u32>,
    /// Whether the model's cache is that of `history`.
    fresh: bool,
    logits: Vec<f32>,
}

impl CandleSession {
    /// Computes `tokens` from `position` on, with logits after the last `outputs` of them.
    fn compute(&mut self, tokens: &[u32], position: usize, outputs: usize, cancel: &Cancel) -> Result<(), EngineError> {
        // The first logits come with all tokens before them.
        let together = tokens.len() - outputs.saturating_sub(1);
        let single = tokens[together..].chunks(1);
        let (mut position, first) = (position, position + together);
        for batch in tokens[..together].chunks(BATCH).chain(single) {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let input = Tensor::new(batch, &Device::Cpu)?.unsqueeze(0)?;
            let logits = self.model.forward(&input, position)?;
            position += batch.len();
            if outputs > 0 && position >= first {
                self.logits.extend(logits.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(())
    }

    /// Brings the model's cache to `history`, then goes on with `tokens`.
    fn advance(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<(), EngineError> {
        if !self.fresh {
            self.model = self.unused.copy();
            let history = std::mem::take(&mut self.history);
            let result = self.compute(&history, 0, 0, cancel);
            self.history = history;
            result?;
        }
        self.compute(tokens, self.history.len(), outputs, cancel)
    }
}

impl Session for CandleSession {
    fn len(&self) -> usize {
        self.history.len()
    }

    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<&[f32], EngineError> {
        check_tokens(tokens, self.history.len(), self.context, self.vocabulary)?;
        self.logits.clear();
        let _guard = PoolGuard;
        let result = self.advance(tokens, outputs.min(tokens.len()), cancel);
        // What failed half way has left tokens in the cache.
        self.fresh = result.is_ok();
        result?;
        self.history.extend_from_slice(tokens);
        Ok(&self.logits)
    }

    fn resume(&mut self, tokens: &[u32]) -> usize {
        if !self.fresh || common(&self.history, tokens) < self.history.len() {
            self.truncate(0);
        }
        self.history.len()
    }

    fn truncates_for_free(&self) -> bool {
        false
    }

    fn truncate(&mut self, len: usize) {
        if len < self.history.len() {
            self.history.truncate(len);
            self.fresh = false;
        }
        if self.history.is_empty() && !self.fresh {
            self.model = self.unused.copy();
            self.fresh = true;
        }
    }
}
