//! Block formats: how people call them, and which of them are slow here.

use aios_kernels::Format;
use candle_core::quantized::GgmlDType;

use crate::gguf::Gguf;

/// Architectures that the runtime has an engine for, as `general.architecture` names them: those that the kernels compute,
/// then those of [`BY_CANDLE`].
pub const ARCHITECTURES: [&str; 7] = ["llama", "qwen2", "qwen3", "gemma3", "glm4", "phi2", "phi3"];

/// Architectures that candle computes, whatever the format.
pub const BY_CANDLE: [&str; 3] = ["glm4", "phi2", "phi3"];

/// Formats that a model can be converted to. All of them have kernels.
pub const TARGETS: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// The kernels' name of a format; `None` for those that they don't know.
pub fn kernel(dtype: GgmlDType) -> Option<Format> {
    match dtype {
        GgmlDType::Q4_0 => Some(Format::Q4_0),
        GgmlDType::Q4_1 => Some(Format::Q4_1),
        GgmlDType::Q5_0 => Some(Format::Q5_0),
        GgmlDType::Q5_1 => Some(Format::Q5_1),
        GgmlDType::Q8_0 => Some(Format::Q8_0),
        GgmlDType::Q4K => Some(Format::Q4K),
        GgmlDType::Q5K => Some(Format::Q5K),
        GgmlDType::Q6K => Some(Format::Q6K),
        GgmlDType::F16 => Some(Format::F16),
        GgmlDType::BF16 => Some(Format::Bf16),
        _ => None,
    }
}

/// The name of a format as files and people have it.
pub fn name(dtype: GgmlDType) -> &'static str {
    match dtype {
        GgmlDType::F32 => "F32",
        GgmlDType::F16 => "F16",
        GgmlDType::BF16 => "BF16",
        GgmlDType::Q4_0 => "Q4_0",
        GgmlDType::Q4_1 => "Q4_1",
        GgmlDType::Q5_0 => "Q5_0",
        GgmlDType::Q5_1 => "Q5_1",
        GgmlDType::Q8_0 => "Q8_0",
        GgmlDType::Q8_1 => "Q8_1",
        GgmlDType::Q2K => "Q2_K",
        GgmlDType::Q3K => "Q3_K",
        GgmlDType::Q4K => "Q4_K",
        GgmlDType::Q5K => "Q5_K",
        GgmlDType::Q6K => "Q6_K",
        GgmlDType::Q8K => "Q8_K",
    }
}

/// The format of [`TARGETS`] with that name, whatever its case.
pub fn target(text: &str) -> Option<GgmlDType> {
    TARGETS.into_iter().find(|&dtype| name(dtype).eq_ignore_ascii_case(text))
}

/// The matrices of a model in one format.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Format.
    pub dtype: GgmlDType,
    /// Matrices in it.
    pub matrices: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The formats of a model's matrices, the one with most bytes first.
pub fn shares(gguf: &Gguf) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for tensor in gguf.tensors().values().filter(|tensor| tensor.shape.len() > 1) {
        let bytes = tensor.bytes as u64;
        match shares.iter_mut().find(|share| share.dtype == tensor.dtype) {
            Some(share) => {
                share.matrices += 1;
                share.bytes += bytes;
            }
            None => shares.push(Share { dtype: tensor.dtype, matrices: 1, bytes }),
        }
    }
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(name(a.dtype).cmp(name(b.dtype))));
    shares
}

/// What computes a model: the kernels, or candle with the reason.
///
/// One matrix that the kernels don't know makes all of the model candle's.
pub fn obstacle(gguf: &Gguf) -> Option<String> {
    if let Some(architecture) = by_candle(gguf) {
        return Some(format!("there are no kernels for the architecture {architecture:?}"));
    }
    let matrices = gguf.tensors().iter().filter(|(_, tensor)| tensor.shape.len() == 2);
    let mut obstacles: Vec<String> = matrices
        .filter_map(|(tensor_name, tensor)| match kernel(tensor.dtype) {
            None => Some(format!("matrix {tensor_name} is in {}, which has no kernel", name(tensor.dtype))),
            Some(format) if !tensor.shape[1].is_multiple_of(format.block_values()) => Some(format!(
                "matrix {tensor_name} has rows of {} values, no multiple of {}",
                tensor.shape[1],
                format.block_values()
            )),
            Some(_) => None,
        })
        .collect();
    obstacles.sort();
    obstacles.into_iter().next()
}

/// The architecture of a file, if it is one of [`BY_CANDLE`].
pub fn by_candle(gguf: &Gguf) -> Option<&str> {
    gguf.string("general.architecture").ok().flatten().filter(|architecture| BY_CANDLE.contains(architecture))
}

/// What an operator should know before using this file: a list of sentences, none of them an error.
pub fn advice(gguf: &Gguf) -> Vec<String> {
    let mut advice = Vec::new();
    let architecture = gguf.string("general.architecture").ok().flatten().unwrap_or("unknown");
    if !ARCHITECTURES.contains(&architecture) {
        advice.push(format!(
            "the runtime has no engine for the architecture {architecture:?} (it has one for {})",
            ARCHITECTURES.join(", ")
        ));
    }
    if gguf.string("tokenizer.chat_template").ok().flatten().is_none() {
        advice.push("there is no chat template in it: it can continue a text, and answers no chat requests".to_owned());
    }
    if by_candle(gguf).is_some() {
        advice.push(format!(
            "there are no kernels for the architecture {architecture:?}, and so candle computes this model, several times \
             slower, and anew from the beginning where a context is cut back"
        ));
    } else if let Some(obstacle) = obstacle(gguf) {
        let then = match architecture {
            "llama" => "and so candle computes this model, several times slower",
            _ => "and models of this architecture are computed by kernels alone",
        };
        advice.push(format!(
            "{obstacle}, {then}: use a file in Q4_1, Q8_0 or Q4_K, or make one with `aios model convert --format q8_0`"
        ));
    }
    advice
}
