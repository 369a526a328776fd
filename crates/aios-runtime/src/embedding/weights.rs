//! A safetensors file: a header in JSON, then the tensors' bytes. Read tensor by tensor, so that a load takes no more memory
//! than what it loads.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

/// Longest header that is believed.
const MOST_HEADER: u64 = 16 << 20;

/// An open file whose header was read.
pub struct Weights {
    file: File,
    tensors: HashMap<String, Info>,
    /// Where the tensors' bytes begin.
    start: u64,
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Info {
    fn dtype(&self) -> Option<(DType, u64)> {
        match self.dtype.as_str() {
            "F32" => Some((DType::F32, 4)),
            "F16" => Some((DType::F16, 2)),
            "BF16" => Some((DType::BF16, 2)),
            // Positions that some files bring along; nothing reads them.
            "I64" => Some((DType::I64, 8)),
            _ => None,
        }
    }

    fn count(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |count, &size| count.checked_mul(size as u64))
    }
}

impl Weights {
    /// Reads the header, and checks that the file holds what it says. The error is the reason alone.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let mut file = File::open(path).map_err(text)?;
        let size = file.metadata().map_err(text)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(text)?;
        let length = u64::from_le_bytes(length);
        if length > MOST_HEADER || length.saturating_add(8) > size {
            return Err(format!("its header would have {length} bytes"));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(text)?;
        let values: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|error| format!("its header is not JSON: {error}"))?;
        let (mut tensors, start) = (HashMap::new(), length + 8);
        for (name, value) in values.into_iter().filter(|(name, _)| name != "__metadata__") {
            let info: Info = serde_json::from_value(value).map_err(|error| format!("tensor {name}: {error}"))?;
            let Some((_, bytes)) = info.dtype() else {
                return Err(format!("tensor {name} has the type {}; F32, F16 and BF16 are supported", info.dtype));
            };
            let [begin, end] = info.data_offsets;
            let expected = info.count().and_then(|count| count.checked_mul(bytes));
            if begin > end || expected != Some(end - begin) || start.checked_add(end).is_none_or(|end| end > size) {
                return Err(format!("tensor {name}: bytes {begin} to {end} are not those of {:?}", info.shape));
            }
            tensors.insert(name, info);
        }
        Ok(Weights { file, tensors, start })
    }

    /// Bytes of all tensors, once they are computed with.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().filter_map(Info::count).fold(0, |sum, count| sum.saturating_add(count.saturating_mul(4)))
    }

    /// Reads the tensors, as 32-bit numbers.
    pub fn read(self) -> Result<HashMap<String, Tensor>, String> {
        let mut tensors = HashMap::new();
        for (name, info) in &self.tensors {
            let Some((dtype, _)) = info.dtype().filter(|(dtype, _)| dtype.is_float()) else { continue };
            let [begin, end] = info.data_offsets;
            let mut bytes = vec![0; (end - begin) as usize];
            let failed = |reason: String| format!("tensor {name}: {reason}");
            self.file.read_exact_at(&mut bytes, self.start + begin).map_err(|error| failed(error.to_string()))?;
            let tensor = Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(DType::F32))
                .map_err(|error| failed(error.to_string()))?;
            tensors.insert(name.clone(), tensor);
        }
        Ok(tensors)
    }
}
