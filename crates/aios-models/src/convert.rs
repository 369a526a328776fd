//! The same model in another format, written tensor by tensor, so that memory holds some rows of one matrix at a time.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};

use candle_core::{
    Device,
    quantized::{GgmlDType, QStorage, QTensor},
};

use crate::gguf::{Gguf, GgufError, TensorInfo, header};

/// Values that are in memory at once: 4 MiB of them, and their blocks.
const VALUES_AT_ONCE: usize = 1 << 20;

/// Why a model was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source can't be read.
    #[error("model file {0}")]
    Source(GgufError),
    /// The target can't be written.
    #[error(transparent)]
    Target(#[from] io::Error),
    /// The arithmetic failed.
    #[error("quantization: {0}")]
    Quantize(#[from] candle_core::Error),
}

// Not as a source: the text has all of it.
impl From<GgufError> for ConvertError {
    fn from(error: GgufError) -> Self {
        Self::Source(error)
    }
}

/// What becomes of a model's tensors.
pub struct Plan<'a> {
    gguf: &'a Gguf,
    /// Name, what it is now, its new format, and where it will lie, counted from the first of them.
    tensors: Vec<(&'a str, &'a TensorInfo, GgmlDType, u64)>,
    data: u64,
    file_type: Option<u32>,
}

impl<'a> Plan<'a> {
    /// All matrices in `format`; those whose rows are no multiple of its blocks in Q8_0, or as they are. Vectors stay as
    /// they are: they are small, and the result depends on each of their values.
    pub fn new(gguf: &'a Gguf, format: GgmlDType) -> Plan<'a> {
        let mut sources: Vec<_> = gguf.tensors().iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        sources.sort_by_key(|(_, tensor)| tensor.start);
        let mut data = 0;
        let mut tensors = Vec::with_capacity(sources.len());
        for (name, tensor) in sources {
            let fits = |format: &GgmlDType| columns(tensor).is_multiple_of(format.block_size());
            let matrix = tensor.shape.len() > 1 && name != "rope_freqs.weight";
            let target = [format, GgmlDType::Q8_0].into_iter().find(|format| matrix && fits(format));
            let target = target.unwrap_or(tensor.dtype);
            tensors.push((name, tensor, target, data));
            data += (bytes(tensor, target) as u64).next_multiple_of(gguf.header().alignment);
        }
        Plan { gguf, tensors, data, file_type: file_type(format) }
    }

    /// About the size of the new file.
    pub fn size(&self) -> u64 {
        let header = self.gguf.header();
        header.entries.end + self.data + self.tensors.len() as u64 * 128
    }

    /// Matrices that will not be in `format`.
    pub fn exceptions(&self, format: GgmlDType) -> usize {
        self.tensors.iter().filter(|(_, tensor, target, _)| tensor.shape.len() > 1 && *target != format).count()
    }

    /// Writes the new file.
    pub fn write(&self, out: &mut impl Write) -> Result<(), ConvertError> {
        let header = self.header()?;
        out.write_all(&header)?;
        let alignment = self.gguf.header().alignment;
        pad(out, header.len() as u64, alignment)?;
        for &(name, tensor, target, _) in &self.tensors {
            self.tensor(name, tensor, target, out)?;
            pad(out, bytes(tensor, target) as u64, alignment)?;
        }
        Ok(())
    }

    fn header(&self) -> Result<Vec<u8>, ConvertError> {
        let source = self.gguf.header();
        let mut entries = Vec::new();
        let mut file = self.gguf.file();
        file.seek(SeekFrom::Start(source.entries.start))?;
        let length = source.entries.end - source.entries.start;
        file.take(length).read_to_end(&mut entries)?;
        if let (Some(at), Some(file_type)) = (source.file_type_at, self.file_type) {
            let at = (at - source.entries.start) as usize;
            entries[at..at + 4].copy_from_slice(&file_type.to_le_bytes());
        }
        let mut text = b"GGUF".to_vec();
        text.extend(3u32.to_le_bytes());
        text.extend((self.tensors.len() as u64).to_le_bytes());
        text.extend(source.entry_count.to_le_bytes());
        text.extend(entries);
        for (name, tensor, target, place) in &self.tensors {
            text.extend((name.len() as u64).to_le_bytes());
            text.extend(name.as_bytes());
            text.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|&size| text.extend((size as u64).to_le_bytes()));
            let code =
                header::format_code(*target).expect("invariant: it was read from a file, or is one of the targets");
            text.extend(code.to_le_bytes());
            text.extend(place.to_le_bytes());
        }
        Ok(text)
    }

    fn tensor(
        &self,
        name: &str,
        tensor: &TensorInfo,
        target: GgmlDType,
        out: &mut impl Write,
    ) -> Result<(), ConvertError> {
        let columns = columns(tensor);
        let rows: usize = tensor.shape[..tensor.shape.len() - 1].iter().product();
        let row_bytes = tensor.bytes / rows.max(1);
        let at_once = (VALUES_AT_ONCE / columns.max(1)).max(1);
        let mut row = 0;
        while row < rows {
            let count = at_once.min(rows - row);
            let mut blocks = vec![0; count * row_bytes];
            let start = tensor.start + (row * row_bytes) as u64;
            let failed = |error| self.gguf.error(format!("tensor {name} can't be read: {error}"));
            self.gguf.file().read_exact_at(&mut blocks, start).map_err(failed)?;
            if target == tensor.dtype {
                out.write_all(&blocks)?;
            } else {
                let storage = QStorage::from_data(blocks.into(), &Device::Cpu, tensor.dtype)?;
                let values = QTensor::new(storage, (count, columns))?.dequantize(&Device::Cpu)?;
                out.write_all(&QTensor::quantize(&values, target)?.data()?)?;
            }
            row += count;
        }
        Ok(())
    }
}

fn columns(tensor: &TensorInfo) -> usize {
    tensor.shape.last().copied().unwrap_or(0)
}

fn bytes(tensor: &TensorInfo, format: GgmlDType) -> usize {
    tensor.shape.iter().product::<usize>() / format.block_size() * format.type_size()
}

fn pad(out: &mut impl Write, length: u64, alignment: u64) -> io::Result<()> {
    let padding = length.next_multiple_of(alignment) - length;
    out.write_all(&vec![0; padding as usize])
}

/// `general.file_type`, as `llama.cpp` numbers the formats.
fn file_type(format: GgmlDType) -> Option<u32> {
    match format {
        GgmlDType::Q4_0 => Some(2),
        GgmlDType::Q4_1 => Some(3),
        GgmlDType::Q8_0 => Some(7),
        GgmlDType::Q5_0 => Some(8),
        GgmlDType::Q5_1 => Some(9),
        GgmlDType::Q4K => Some(15),
        GgmlDType::Q5K => Some(17),
        GgmlDType::Q6K => Some(18),
        _ => None,
    }
}
