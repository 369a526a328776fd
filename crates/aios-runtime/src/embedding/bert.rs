//! The encoder of BERT, as the files of `transformers` name its tensors.

use candle_core::{D, Result, Tensor};
use candle_nn::{
    Embedding, LayerNorm, Linear, Module, VarBuilder, embedding, layer_norm, linear, ops::softmax_last_dim,
};
use serde::Deserialize;

/// What is added to the scores of what only fills up a batch: it counts nothing then.
const UNSEEN: f64 = -1e9;

/// `config.json`
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub hidden_act: String,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub layer_norm_eps: f64,
    pub model_type: String,
    pub position_embedding_type: Option<String>,
}

impl Config {
    /// What of it is not supported, or can't be.
    pub fn fault(&self) -> Option<String> {
        let positions = self.position_embedding_type.as_deref().unwrap_or("absolute");
        if self.model_type != "bert" {
            return Some(format!("model_type {:?} is not supported; supported is \"bert\"", self.model_type));
        }
        if self.hidden_act != "gelu" || positions != "absolute" {
            return Some(format!("hidden_act {:?} with {positions:?} positions is not supported", self.hidden_act));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) || self.max_position_embeddings < 3 {
            return Some(format!("{heads} heads of {hidden} values, {} positions", self.max_position_embeddings));
        }
        None
    }
}

pub struct Bert {
    words: Embedding,
    /// The embedding of each position, and that of the first type of text, which is the only one.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl Bert {
    pub fn load(config: &Config, tensors: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, epsilon) = (config.hidden_size, config.layer_norm_eps);
        let embeddings = tensors.pp("embeddings");
        let positions = embeddings.pp("position_embeddings").get((config.max_position_embeddings, hidden), "weight")?;
        let types = embeddings.pp("token_type_embeddings").get((config.type_vocab_size, hidden), "weight")?;
        Ok(Self {
            words: embedding(config.vocab_size, hidden, embeddings.pp("word_embeddings"))?,
            positions: positions.broadcast_add(&types.get(0)?)?,
            norm: layer_norm(hidden, epsilon, embeddings.pp("LayerNorm"))?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(config, &tensors.pp(format!("encoder.layer.{index}"))))
                .collect::<Result<_>>()?,
        })
    }

    /// The last layer's values `(text, position, hidden)` of token ids `(text, position)`. `seen` has 1 for what belongs to
    /// a text and 0 for what fills it up.
    pub fn forward(&self, ids: &Tensor, seen: &Tensor) -> Result<Tensor> {
        let positions = self.positions.narrow(0, 0, ids.dim(1)?)?;
        let mut values = self.norm.forward(&self.words.forward(ids)?.broadcast_add(&positions)?)?;
        let mask = seen.affine(-UNSEEN, UNSEEN)?.unsqueeze(1)?.unsqueeze(1)?;
        for layer in &self.layers {
            values = layer.forward(&values, &mask)?;
        }
        Ok(values)
    }
}

impl Layer {
    fn load(config: &Config, tensors: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, wide, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = tensors.pp("attention");
        let heads = attention.pp("self");
        Ok(Self {
            query: linear(hidden, hidden, heads.pp("query"))?,
            key: linear(hidden, hidden, heads.pp("key"))?,
            value: linear(hidden, hidden, heads.pp("value"))?,
            attention_output: linear(hidden, hidden, attention.pp("output.dense"))?,
            attention_norm: layer_norm(hidden, epsilon, attention.pp("output.LayerNorm"))?,
            intermediate: linear(hidden, wide, tensors.pp("intermediate.dense"))?,
            output: linear(wide, hidden, tensors.pp("output.dense"))?,
            norm: layer_norm(hidden, epsilon, tensors.pp("output.LayerNorm"))?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, values: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (texts, length, hidden) = values.dims3()?;
        let size = hidden / self.heads;
        let heads = |linear: &Linear| -> Result<Tensor> {
            linear.forward(values)?.reshape((texts, length, self.heads, size))?.transpose(1, 2)?.contiguous()
        };
        let scores = heads(&self.query)?.matmul(&heads(&self.key)?.transpose(D::Minus2, D::Minus1)?)?;
        let scores = scores.affine((size as f64).powf(-0.5), 0.0)?.broadcast_add(mask)?;
        let mixed = softmax_last_dim(&scores)?.matmul(&heads(&self.value)?)?;
        let mixed = mixed.transpose(1, 2)?.reshape((texts, length, hidden))?;
        let values = self.attention_norm.forward(&(self.attention_output.forward(&mixed)? + values)?)?;
        let wide = self.intermediate.forward(&values)?.gelu_erf()?;
        self.norm.forward(&(self.output.forward(&wide)? + values)?)
    }
}
