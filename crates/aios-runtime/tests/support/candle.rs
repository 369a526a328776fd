//! candle's own implementation of the `llama` architecture, to compare with.

use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

pub fn read<R: Read + Seek>(file: &mut R) -> ModelWeights {
    let content = Content::read(file).unwrap();
    ModelWeights::from_gguf(content, file, &Device::Cpu).unwrap()
}

/// Logits after the last of `tokens`, the first of which stands at `position`.
pub fn logits(model: &mut ModelWeights, tokens: &[u32], position: usize) -> Vec<f32> {
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    model.forward(&input, position).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
