//! A batch of tokens, of one context or of several, on its way through the layers.

use aios_kernels::{
    Activations, Attention, Cache, LANES, Matrix, Rope, Sequence, Span, Team, add, add_bias, add_norm, attend, gather,
    geglu, matmul, norm_heads, rms_norm, scatter, swiglu,
};

use super::Weights;
use crate::engine::decoder::family::{Gate, Pairs};
use crate::engine::decoder::layer::Layer;
use crate::engine::threads::team;
use crate::engine::{Cancel, EngineError};

/// Tokens that go through the layers together. Cancelling takes effect after one layer of so many tokens; larger batches
/// gain little.
pub(super) const BATCH: usize = 128;

/// One context: its memory, and what is to be done with it.
pub(super) struct Context {
    /// Keys and values of its tokens.
    pub(super) cache: Cache,
    /// Tokens in the context.
    pub(super) history: Vec<u32>,
    /// The next ones.
    pub(super) tokens: Vec<u32>,
    /// How many of them have been through the layers.
    pub(super) done: usize,
    /// How many go next.
    pub(super) step: usize,
    /// After how many of the last ones logits are asked for.
    pub(super) outputs: usize,
    /// These logits, row after row.
    pub(super) logits: Vec<f32>,
    pub(super) cancel: Cancel,
    /// The batcher's number of what is to be done, and of the batch that the context was in last.
    pub(super) call: u64,
    pub(super) batch: u64,
}

impl Context {
    pub(super) fn new(weights: &Weights) -> Self {
        let parameters = &weights.parameters;
        let cache = Cache::new(parameters.layers, parameters.key_heads, parameters.head_size, parameters.context);
        let (history, tokens, logits, cancel) = (Vec::new(), Vec::new(), Vec::new(), Cancel::default());
        Self { cache, history, tokens, done: 0, step: 0, outputs: 0, logits, cancel, call: 0, batch: 0 }
    }

    /// Tokens that have not been through the layers.
    pub(super) fn left(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Position of the first token that goes next.
    fn first(&self) -> usize {
        self.history.len() + self.done
    }

    fn next(&self) -> &[u32] {
        &self.tokens[self.done..self.done + self.step]
    }

    /// Which of the tokens that go next have logits asked for.
    fn wanted(&self) -> std::ops::Range<usize> {
        let first = self.tokens.len() - self.outputs.min(self.tokens.len());
        first.saturating_sub(self.done).min(self.step)..self.step
    }
}

/// The memory to compute with, for one batch at a time; panel by panel.
pub(super) struct Pass {
    team: &'static Team,
    hidden: Vec<f32>,
    /// What a layer's part adds to the hidden values.
    change: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// One token's embedding.
    row: Vec<f32>,
    /// The head's products.
    head: Vec<f32>,
    /// One token's logits, filled up to whole panels.
    logits: Vec<f32>,
    /// Whose logits are asked for, after which token of the batch.
    outputs: Vec<(usize, usize)>,
    normed: Activations,
    joined: Activations,
    gated: Activations,
    rope: Rope,
    /// That of local layers.
    local_rope: Option<Rope>,
}

impl Pass {
    pub(super) fn new(weights: &Weights) -> Self {
        let parameters = &weights.parameters;
        let team = team();
        let queries = parameters.heads * parameters.head_size;
        let keys = parameters.key_heads * parameters.head_size;
        let room = |columns: usize| vec![0.0; columns * BATCH];
        let take_values = weights.take_values();
        let rope = match parameters.family.pairs {
            Pairs::Adjacent => Rope::adjacent,
            Pairs::Halves => Rope::halves,
        };
        let rounded = |columns: usize| {
            let activations = Activations::new(BATCH, columns, team.threads());
            if take_values { activations.keep_values() } else { activations }
        };
        Self {
            team,
            hidden: room(parameters.embedding),
            change: room(parameters.embedding),
            queries: room(queries),
            keys: room(keys),
            values: room(keys),
            mixed: room(queries),
            gate: room(parameters.feed_forward),
            up: room(parameters.feed_forward),
            row: vec![0.0; parameters.embedding],
            head: vec![0.0; weights.head.panels() * LANES * Activations::EXACT],
            logits: vec![0.0; weights.head.panels() * LANES],
            outputs: Vec::with_capacity(BATCH),
            normed: rounded(parameters.embedding),
            joined: rounded(queries),
            gated: rounded(parameters.feed_forward),
            rope: rope(weights.frequencies.clone()),
            local_rope: weights.local_frequencies.clone().map(rope),
        }
    }

    /// Runs each context's next tokens, at most [`BATCH`] together, through all layers, and appends the logits that are
    /// asked for. Stops where all of the contexts are cancelled.
    pub(super) fn run(&mut self, weights: &Weights, contexts: &mut [Context]) -> Result<(), EngineError> {
        let count = contexts.iter().map(|context| context.step).sum();
        self.embed(weights, contexts, count);
        for (index, layer) in weights.layers.iter().enumerate() {
            if contexts.iter().all(|context| context.cancel.is_cancelled()) {
                return Err(EngineError::Cancelled);
            }
            self.attention(weights, layer, index, contexts, count);
            self.feed_forward(weights, layer, count);
        }
        self.head(weights, contexts, count);
        Ok(())
    }

    fn embed(&mut self, weights: &Weights, contexts: &[Context], count: usize) {
        let hidden = &mut self.hidden[..self.row.len() * count];
        let scale = weights.parameters.embedding_scale;
        for (index, token) in contexts.iter().flat_map(Context::next).enumerate() {
            weights.embedding.row(*token as usize, &mut self.row);
            if scale != 1.0 {
                self.row.iter_mut().for_each(|value| *value *= scale);
            }
            scatter(&self.row, count, index, hidden);
        }
        for rope in [Some(&mut self.rope), self.local_rope.as_mut()].into_iter().flatten() {
            rope.set_positions(contexts.iter().flat_map(|context| context.first()..context.first() + context.step));
        }
    }

    fn attention(
        &mut self,
        weights: &Weights,
        layer: &Layer<Matrix, Vec<f32>>,
        index: usize,
        contexts: &mut [Context],
        count: usize,
    ) {
        let (isa, team, parameters) = (weights.isa, self.team, &weights.parameters);
        let window = parameters.local_at(index).map_or(usize::MAX, |local| local.window);
        self.project(weights, layer, index, count);
        let queries = out(&mut self.queries, &layer.query, count);
        let keys = out(&mut self.keys, &layer.key, count);
        let values = out(&mut self.values, &layer.value, count);
        let mut start = 0;
        for context in contexts.iter_mut() {
            let (first, span) = (context.first(), Span { start, tokens: context.step, batch: count });
            context.cache.store(isa, team, index, first, span, keys, values);
            start += context.step;
        }
        let attention = Attention { heads: parameters.heads, scale: parameters.attention_scale, window };
        let sequences = contexts.iter().map(|context| Sequence {
            cache: &context.cache,
            first: context.first(),
            tokens: context.step,
        });
        let mixed = &mut self.mixed[..queries.len()];
        attend(isa, team, &attention, index, sequences, queries, mixed);
        self.joined.fill(isa, team, count, |token, row| gather(mixed, count, token, row));
        let change = out(&mut self.change, &layer.attention_output, count);
        matmul(isa, team, [&layer.attention_output], &self.joined, [&mut *change]);
        self.join(weights, layer.post_norms.as_ref().map(|[attention, _]| &attention[..]), count);
    }

    /// Queries, keys and values of the hidden values, as attention takes them.
    fn project(&mut self, weights: &Weights, layer: &Layer<Matrix, Vec<f32>>, index: usize, count: usize) {
        let (isa, team, parameters) = (weights.isa, self.team, &weights.parameters);
        let hidden = &self.hidden[..parameters.embedding * count];
        self.normed.fill(isa, team, count, |token, row| {
            rms_norm(isa, hidden, count, token, &layer.attention_norm, parameters.norm_epsilon, row);
        });
        let queries = out(&mut self.queries, &layer.query, count);
        let keys = out(&mut self.keys, &layer.key, count);
        let values = out(&mut self.values, &layer.value, count);
        let matrices = [&layer.query, &layer.key, &layer.value];
        matmul(isa, team, matrices, &self.normed, [&mut *queries, &mut *keys, &mut *values]);
        if let Some([query, key, value]) = &layer.biases {
            add_bias(queries, count, query);
            add_bias(keys, count, key);
            add_bias(values, count, value);
        }
        if let Some([query, key]) = &layer.head_norms {
            norm_heads(isa, team, queries, count, query, parameters.norm_epsilon);
            norm_heads(isa, team, keys, count, key, parameters.norm_epsilon);
        }
        let local = self.local_rope.as_ref().filter(|_| parameters.local_at(index).is_some());
        let rope = local.unwrap_or(&self.rope);
        rope.apply(isa, team, queries);
        rope.apply(isa, team, keys);
    }

    fn feed_forward(&mut self, weights: &Weights, layer: &Layer<Matrix, Vec<f32>>, count: usize) {
        let (isa, team, parameters) = (weights.isa, self.team, &weights.parameters);
        let hidden = &self.hidden[..parameters.embedding * count];
        self.normed.fill(isa, team, count, |token, row| {
            rms_norm(isa, hidden, count, token, &layer.feed_forward_norm, parameters.norm_epsilon, row);
        });
        let gate = out(&mut self.gate, &layer.gate, count);
        let up = out(&mut self.up, &layer.up, count);
        matmul(isa, team, [&layer.gate, &layer.up], &self.normed, [&mut *gate, &mut *up]);
        match parameters.family.gate {
            Gate::Silu => self.gated.fill(isa, team, count, |token, row| swiglu(isa, gate, up, count, token, row)),
            Gate::Gelu => self.gated.fill(isa, team, count, |token, row| geglu(isa, gate, up, count, token, row)),
        }
        let change = out(&mut self.change, &layer.down, count);
        matmul(isa, team, [&layer.down], &self.gated, [&mut *change]);
        self.join(weights, layer.post_norms.as_ref().map(|[_, feed_forward]| &feed_forward[..]), count);
    }

    /// Adds what a layer's part has made to the hidden values, normed where there is a `norm`.
    fn join(&mut self, weights: &Weights, norm: Option<&[f32]>, count: usize) {
        let parameters = &weights.parameters;
        let hidden = &mut self.hidden[..parameters.embedding * count];
        let change = &self.change[..hidden.len()];
        match norm {
            None => add(hidden, change),
            Some(weight) => {
                add_norm(weights.isa, self.team, hidden, change, count, weight, parameters.norm_epsilon);
            }
        }
    }

    fn head(&mut self, weights: &Weights, contexts: &mut [Context], count: usize) {
        let (isa, team, parameters) = (weights.isa, self.team, &weights.parameters);
        let hidden = &self.hidden[..parameters.embedding * count];
        self.outputs.clear();
        let mut start = 0;
        for (index, context) in contexts.iter().enumerate() {
            self.outputs.extend(context.wanted().map(|token| (index, start + token)));
            start += context.step;
        }
        for outputs in self.outputs.chunks(Activations::EXACT) {
            self.normed.fill_exact(isa, outputs.len(), |output, row| {
                let (_, token) = outputs[output];
                rms_norm(isa, hidden, count, token, &weights.norm, parameters.norm_epsilon, row);
            });
            let products = out(&mut self.head, &weights.head, outputs.len());
            matmul(isa, team, [&*weights.head], &self.normed, [&mut *products]);
            for (output, (context, _)) in outputs.iter().enumerate() {
                // The products of one token lie as they are, without those of others between them.
                let logits = if outputs.len() == 1 {
                    &*products
                } else {
                    gather(products, outputs.len(), output, &mut self.logits);
                    &self.logits
                };
                contexts[*context].logits.extend_from_slice(&logits[..parameters.vocabulary]);
            }
        }
    }
}

/// As much of `values` as the products of `count` tokens with `matrix` take.
fn out<'a>(values: &'a mut [f32], matrix: &Matrix, count: usize) -> &'a mut [f32] {
    &mut values[..matrix.panels() * LANES * count]
}
