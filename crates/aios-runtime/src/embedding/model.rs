//! An embedding model in the files of sentence-transformers: a BERT encoder, of whose last values the mean is taken.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use aios_models::manifest::EMBEDDING_FILE;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, de::DeserializeOwned};
use tokenizers::Tokenizer;

use super::{
    EmbedError, Input,
    bert::{Bert, Config},
    cache::{self, Cache, Key},
    weights::Weights,
};

/// What a tokenizer takes in memory, in sizes of its file.
const TOKENIZER_FACTOR: u64 = 24;

/// Word pieces that are computed together, what fills up shorter texts included: so what lies between the layers stays
/// below some 60 MB.
const BATCH_TOKENS: usize = 2048;

/// A model in memory.
pub struct EmbeddingModel {
    tokenizer: Tokenizer,
    bert: Bert,
    vocabulary: usize,
    dimensions: usize,
    /// Tokens of a text at most, those that mark its beginning and end included.
    longest: usize,
    /// What marks a text's beginning and end.
    ends: [u32; 2],
    size_bytes: u64,
    load_time: Duration,
    /// Goes with the model: another one in its place makes other vectors.
    cache: Cache,
}

/// What a model made of some inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// A vector of length 1 for each input.
    pub vectors: Vec<Vec<f32>>,
    /// Word pieces that were read, without those that mark beginning and end.
    pub tokens: usize,
    /// Those of inputs whose vectors were known.
    pub cached_tokens: usize,
}

/// Why a model can't be loaded.
#[derive(Debug, thiserror::Error)]
#[error("embedding model file {}: {reason}", path.display())]
pub struct EmbeddingLoadError {
    path: PathBuf,
    reason: String,
}

/// `sentence_bert_config.json`
#[derive(Deserialize)]
struct Sentences {
    max_seq_length: usize,
}

impl EmbeddingModel {
    /// Loads the model from its directory: `model.safetensors`, `config.json`, `tokenizer.json` and, where texts are to be
    /// shorter than the encoder allows, `sentence_bert_config.json`.
    pub fn load(dir: &Path) -> Result<Self, EmbeddingLoadError> {
        let started = Instant::now();
        let fault = |file: &str, reason: String| EmbeddingLoadError { path: dir.join(file), reason };
        let config: Config = read_json(&dir.join("config.json"))?;
        if let Some(reason) = config.fault() {
            return Err(fault("config.json", reason));
        }
        let sentences = dir.join("sentence_bert_config.json");
        let longest = match sentences.exists() {
            true => read_json::<Sentences>(&sentences)?.max_seq_length,
            false => config.max_position_embeddings,
        };
        let tokenizer = |reason: String| fault("tokenizer.json", reason);
        let mut pieces =
            Tokenizer::from_file(dir.join("tokenizer.json")).map_err(|error| tokenizer(error.to_string()))?;
        // Texts are cut and filled up here, by their batch.
        pieces.with_padding(None).with_truncation(None).map_err(|error| tokenizer(error.to_string()))?;
        if pieces.get_vocab_size(true) > config.vocab_size {
            let found = pieces.get_vocab_size(true);
            return Err(tokenizer(format!("it has {found} tokens, config.json {}", config.vocab_size)));
        }
        let empty = pieces.encode("", true).map_err(|error| tokenizer(error.to_string()))?;
        let ends = <[u32; 2]>::try_from(empty.get_ids())
            .map_err(|_| tokenizer("it does not put one token before and one behind a text".into()))?;
        let weights = |reason: String| fault(EMBEDDING_FILE, reason);
        let size_bytes = fs::metadata(dir.join(EMBEDDING_FILE)).map_err(|error| weights(error.to_string()))?.len();
        let tensors = Weights::open(&dir.join(EMBEDDING_FILE)).and_then(Weights::read).map_err(weights)?;
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let bert = Bert::load(&config, &tensors).map_err(|error| fault(EMBEDDING_FILE, error.to_string()))?;
        Ok(Self {
            tokenizer: pieces,
            bert,
            vocabulary: config.vocab_size,
            dimensions: config.hidden_size,
            longest: longest.clamp(3, config.max_position_embeddings),
            ends,
            size_bytes,
            load_time: started.elapsed(),
            cache: Cache::default(),
        })
    }

    /// The memory that the model in `dir` needs, in bytes: its weights, its tokenizer, the vectors that it keeps, and what lies
    /// between the layers of one batch.
    pub fn needs(dir: &Path) -> Result<u64, EmbeddingLoadError> {
        let config: Config = read_json(&dir.join("config.json"))?;
        let fault = |reason: String| EmbeddingLoadError { path: dir.join(EMBEDDING_FILE), reason };
        let weights = Weights::open(&dir.join(EMBEDDING_FILE)).map_err(fault)?.bytes();
        let tokenizer = fs::metadata(dir.join("tokenizer.json")).map_or(0, |file| file.len());
        let product = |factors: &[usize]| factors.iter().fold(4u64, |all, &factor| all.saturating_mul(factor as u64));
        let longest = config.max_position_embeddings.min(BATCH_TOKENS);
        let between = [
            product(&[BATCH_TOKENS, 8, config.hidden_size]),
            product(&[BATCH_TOKENS, 3, config.intermediate_size]),
            product(&[BATCH_TOKENS, 2, config.num_attention_heads, longest]),
        ];
        let vectors = product(&[cache::MOST, config.hidden_size]);
        let parts = [weights, tokenizer.saturating_mul(TOKENIZER_FACTOR), vectors];
        Ok(between.into_iter().chain(parts).fold(0, u64::saturating_add))
    }

    /// Tokens of a text at most, those that mark its beginning and end included.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Size of the weights' file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Numbers in a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// Embeds each input; those that were embedded lately are not computed again. What is longer than the model reads is cut
    /// off at the end. Ends early once it is `cancelled`.
    pub fn embed(&self, inputs: &[Input], cancelled: &AtomicBool) -> Result<Made, EmbedError> {
        let texts = inputs.iter().enumerate().map(|(index, input)| self.tokens(index, input));
        let texts: Vec<Vec<u32>> = texts.collect::<Result<_, _>>()?;
        let keys: Vec<Key> = texts.iter().map(|text| cache::key(text)).collect();
        let mut known = self.cache.find(&keys);
        let read = |index: usize| texts[index].len() - self.ends.len();
        let tokens = (0..texts.len()).map(read).sum();
        let cached_tokens = (0..texts.len()).filter(|index| known.contains_key(&keys[*index])).map(read).sum();
        // Those of similar length go together, so that little is filled up; each once.
        let missing: HashMap<Key, usize> = (0..texts.len()).map(|index| (keys[index], index)).collect();
        let mut order: Vec<usize> =
            missing.into_iter().filter(|(key, _)| !known.contains_key(key)).map(|(_, index)| index).collect();
        order.sort_by_key(|&index| (texts[index].len(), index));
        let mut rest = &order[..];
        while let Some(count) = batch(rest, &texts) {
            if cancelled.load(Ordering::Relaxed) {
                return Err(EmbedError::Cancelled);
            }
            let (batch, later) = rest.split_at(count);
            let rows = batch.iter().map(|&index| texts[index].as_slice()).collect::<Vec<_>>();
            let sums = self.sums(&rows).map_err(|error| EmbedError::Failed(error.to_string()))?;
            for (&index, sum) in batch.iter().zip(sums) {
                let vector = normalized(sum)?;
                self.cache.keep(keys[index], &vector);
                known.insert(keys[index], vector);
            }
            rest = later;
        }
        let vectors = keys.iter().map(|key| known[key].clone()).collect();
        Ok(Made { vectors, tokens, cached_tokens })
    }

    /// Tokens of an input, its ends included.
    fn tokens(&self, index: usize, input: &Input) -> Result<Vec<u32>, EmbedError> {
        let encoded;
        let tokens = match input {
            Input::Text(text) => {
                let encode = self.tokenizer.encode_fast(text.as_str(), false);
                encoded = encode.map_err(|error| EmbedError::Failed(error.to_string()))?;
                encoded.get_ids()
            }
            Input::Tokens(tokens) => {
                if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.vocabulary) {
                    return Err(EmbedError::UnknownToken { input: index, token, vocabulary: self.vocabulary });
                }
                tokens
            }
        };
        let read = &tokens[..tokens.len().min(self.longest - self.ends.len())];
        Ok([&self.ends[..1], read, &self.ends[1..]].concat())
    }

    /// The sum of the last values of each text, whose direction is that of their mean.
    fn sums(&self, texts: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let (count, length) = (texts.len(), texts.iter().map(|tokens| tokens.len()).max().unwrap_or_default());
        let at = |text: &[u32], position: usize| text.get(position).copied();
        let places = || texts.iter().flat_map(|text| (0..length).map(move |position| at(text, position)));
        let ids: Vec<u32> = places().map(Option::unwrap_or_default).collect();
        let seen: Vec<f32> = places().map(|token| if token.is_some() { 1.0 } else { 0.0 }).collect();
        let ids = Tensor::from_vec(ids, (count, length), &Device::Cpu)?;
        let seen = Tensor::from_vec(seen, (count, length), &Device::Cpu)?;
        let values = self.bert.forward(&ids, &seen)?;
        values.broadcast_mul(&seen.unsqueeze(2)?)?.sum(1)?.to_vec2()
    }
}

/// How many of the texts, of which each is as long as the one before or longer, are computed together next.
fn batch(order: &[usize], texts: &[Vec<u32>]) -> Option<usize> {
    let fits = |(count, index): &(usize, &usize)| (count + 1) * texts[**index].len() <= BATCH_TOKENS;
    let count = order.iter().enumerate().take_while(fits).count();
    (!order.is_empty()).then_some(count.max(1))
}

fn normalized(mut vector: Vec<f32>) -> Result<Vec<f32>, EmbedError> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(EmbedError::Failed("the embedding is no direction: the model's file is damaged".into()));
    }
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    Ok(vector)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, EmbeddingLoadError> {
    let fault = |reason: String| EmbeddingLoadError { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|error| fault(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_no_more_tokens_than_they_may_and_at_least_one_text() {
        let texts: Vec<Vec<u32>> = [3, 3, 600, 1000, 5000].iter().map(|&length| vec![0; length]).collect();
        assert_eq!(batch(&[0, 1, 2, 3, 4], &texts), Some(3));
        assert_eq!(batch(&[3, 4], &texts), Some(1));
        assert_eq!(batch(&[4], &texts), Some(1));
        assert_eq!(batch(&[], &texts), None);
    }

    #[test]
    fn what_has_no_direction_is_an_error() {
        for broken in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert!(normalized(broken).is_err());
        }
        assert_eq!(normalized(vec![3.0, -4.0]).unwrap(), [0.6, -0.8]);
    }
}
