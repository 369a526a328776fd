//! One context of a model in panels.

use std::sync::Arc;

use aios_kernels::{
    Activations, Attention, Cache, LANES, Matrix, Rope, Team, add, attend, gather, matmul, rms_norm, scatter, swiglu,
};

use super::{Layer, Weights};
use crate::engine::threads::team;
use crate::engine::{Cancel, EngineError, Session};

/// Tokens that go through the layers together. Cancelling takes effect after one layer of so many tokens; larger batches
/// gain little.
const BATCH: usize = 128;

/// The tokens so far and the memory to compute with.
pub(super) struct NativeSession {
    weights: Arc<Weights>,
    team: &'static Team,
    cache: Cache,
    length: usize,
    values: Values,
    logits: Vec<f32>,
}

/// What lies between the products, for a batch of tokens; panel by panel.
struct Values {
    hidden: Vec<f32>,
    /// What a layer's part adds to the hidden values.
    change: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    scores: Vec<f32>,
    /// The head's products for one token.
    head: Vec<f32>,
    /// One token's embedding.
    row: Vec<f32>,
    normed: Activations,
    joined: Activations,
    gated: Activations,
    rope: Rope,
}

impl NativeSession {
    pub(super) fn new(weights: Arc<Weights>) -> Self {
        let parameters = &weights.parameters;
        let team = team();
        let batch = BATCH.min(parameters.context);
        let queries = parameters.heads * parameters.head_size;
        let keys = parameters.key_heads * parameters.head_size;
        let room = |columns: usize| vec![0.0; columns * batch];
        let rounded = |columns: usize| Activations::new(batch, columns, team.threads());
        let values = Values {
            hidden: room(parameters.embedding),
            change: room(parameters.embedding),
            queries: room(queries),
            keys: room(keys),
            values: room(keys),
            mixed: room(queries),
            gate: room(parameters.feed_forward),
            up: room(parameters.feed_forward),
            scores: Vec::new(),
            head: vec![0.0; weights.head.panels() * LANES],
            row: vec![0.0; parameters.embedding],
            normed: rounded(parameters.embedding),
            joined: rounded(queries),
            gated: rounded(parameters.feed_forward),
            rope: Rope::adjacent(weights.frequencies.clone()),
        };
        let cache = Cache::new(parameters.layers, parameters.key_heads, parameters.head_size, parameters.context);
        Self { team, cache, length: 0, values, logits: Vec::new(), weights }
    }

    /// Runs one batch behind the first `start` tokens. Its hidden values stay where they are.
    fn batch(&mut self, tokens: &[u32], start: usize, cancel: &Cancel) -> Result<(), EngineError> {
        let count = tokens.len();
        let values = &mut self.values;
        let hidden = &mut values.hidden[..values.row.len() * count];
        for (index, &token) in tokens.iter().enumerate() {
            self.weights.embedding.row(token as usize, &mut values.row);
            scatter(&values.row, count, index, hidden);
        }
        values.rope.set_positions(start, count);
        let weights = Arc::clone(&self.weights);
        for (index, layer) in weights.layers.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            self.attention(layer, index, start, count);
            self.feed_forward(layer, count);
        }
        Ok(())
    }

    fn attention(&mut self, layer: &Layer<Matrix, Vec<f32>>, index: usize, start: usize, count: usize) {
        let (isa, team, parameters) = (self.weights.isa, self.team, &self.weights.parameters);
        let values = &mut self.values;
        let hidden = &mut values.hidden[..parameters.embedding * count];
        values.normed.fill(isa, team, count, |token, row| {
            rms_norm(isa, hidden, count, token, &layer.attention_norm, parameters.norm_epsilon, row);
        });
        let queries = out(&mut values.queries, &layer.query, count);
        let keys = out(&mut values.keys, &layer.key, count);
        let new_values = out(&mut values.values, &layer.value, count);
        let matrices = [&layer.query, &layer.key, &layer.value];
        matmul(isa, team, matrices, &values.normed, [&mut *queries, &mut *keys, &mut *new_values]);
        values.rope.apply(isa, team, queries);
        values.rope.apply(isa, team, keys);
        self.cache.store(index, start, count, keys, new_values);
        let attention =
            Attention { heads: parameters.heads, scale: (parameters.head_size as f32).powf(-0.5), window: usize::MAX };
        let mixed = &mut values.mixed[..queries.len()];
        attend(isa, team, &attention, &self.cache, index, start, count, queries, &mut values.scores, mixed);
        values.joined.fill(isa, team, count, |token, row| gather(mixed, count, token, row));
        let change = out(&mut values.change, &layer.attention_output, count);
        matmul(isa, team, [&layer.attention_output], &values.joined, [&mut *change]);
        add(hidden, change);
    }

    fn feed_forward(&mut self, layer: &Layer<Matrix, Vec<f32>>, count: usize) {
        let (isa, team, parameters) = (self.weights.isa, self.team, &self.weights.parameters);
        let values = &mut self.values;
        let hidden = &mut values.hidden[..parameters.embedding * count];
        values.normed.fill(isa, team, count, |token, row| {
            rms_norm(isa, hidden, count, token, &layer.feed_forward_norm, parameters.norm_epsilon, row);
        });
        let gate = out(&mut values.gate, &layer.gate, count);
        let up = out(&mut values.up, &layer.up, count);
        matmul(isa, team, [&layer.gate, &layer.up], &values.normed, [&mut *gate, &mut *up]);
        values.gated.fill(isa, team, count, |token, row| swiglu(isa, gate, up, count, token, row));
        let change = out(&mut values.change, &layer.down, count);
        matmul(isa, team, [&layer.down], &values.gated, [&mut *change]);
        add(hidden, change);
    }

    /// Appends the logits after each of the last `outputs` of the `count` tokens of a batch.
    fn head(&mut self, count: usize, outputs: usize) {
        let (isa, team, weights) = (self.weights.isa, self.team, &self.weights);
        let values = &mut self.values;
        let hidden = &values.hidden[..weights.parameters.embedding * count];
        for token in count - outputs..count {
            values.normed.fill_exact(isa, |row| {
                rms_norm(isa, hidden, count, token, &weights.norm, weights.parameters.norm_epsilon, row);
            });
            matmul(isa, team, [&*weights.head], &values.normed, [&mut values.head]);
            self.logits.extend_from_slice(&values.head[..weights.parameters.vocabulary]);
        }
    }
}

/// As much of `values` as the products of `count` tokens with `matrix` take.
fn out<'a>(values: &'a mut [f32], matrix: &Matrix, count: usize) -> &'a mut [f32] {
    &mut values[..matrix.panels() * LANES * count]
}

impl Session for NativeSession {
    fn len(&self) -> usize {
        self.length
    }

    fn forward(&mut self, tokens: &[u32], outputs: usize, cancel: &Cancel) -> Result<&[f32], EngineError> {
        let (context, vocabulary) = (self.weights.parameters.context, self.weights.parameters.vocabulary);
        let needed = self.length.saturating_add(tokens.len());
        if needed > context {
            return Err(EngineError::ContextFull { capacity: context, needed });
        }
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(EngineError::Compute(format!("token {token} is not one of the model's {vocabulary}")));
        }
        let mut start = self.length;
        let first_output = needed - outputs.min(tokens.len());
        self.logits.clear();
        for batch in tokens.chunks(BATCH) {
            self.batch(batch, start, cancel)?;
            start += batch.len();
            self.head(batch.len(), batch.len().min(start.saturating_sub(first_output)));
        }
        self.length = start;
        Ok(&self.logits)
    }

    fn truncate(&mut self, len: usize) {
        self.length = self.length.min(len);
    }
}
