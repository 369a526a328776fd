//! The header: magic, counts, metadata, tensor directory.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::{TensorInfo, Value};

const MAGIC: &[u8; 4] = b"GGUF";
/// The largest known vocabularies with their merges need about 20 MiB; a header beyond this bound is an attack or no GGUF.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Large models have about 100 metadata keys and 2,000 tensors.
const MAX_ENTRIES: u64 = 1 << 16;
/// Four times the merges of the largest known vocabulary.
const MAX_ARRAY_ELEMENTS: u64 = 1 << 21;
/// Arrays of arrays deeper than this have no use in any model.
const MAX_ARRAY_DEPTH: usize = 2;
/// `GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
/// `GGUF_METADATA_VALUE_TYPE_UINT32`.
const U32: u32 = 4;

/// What the header says.
#[derive(Debug)]
pub struct Header {
    /// The metadata.
    pub metadata: HashMap<String, Value>,
    /// Where the metadata entries lie, one after the other.
    pub entries: Range<u64>,
    /// Number of metadata entries.
    pub entry_count: u64,
    /// Where the value of `general.file_type` lies: 4 bytes.
    pub file_type_at: Option<u64>,
    /// What tensors begin at a multiple of.
    pub alignment: u64,
    /// The tensor directory.
    pub tensors: HashMap<String, TensorInfo>,
}

/// Reads and checks the header of a file of `size` bytes. The error is the reason alone.
pub fn read(reader: &mut dyn Read, size: u64) -> Result<Header, String> {
    let mut input =
        Input { reader: BufReader::with_capacity(1 << 16, reader), position: 0, end: size.min(MAX_HEADER_BYTES) };
    let magic: [u8; 4] = input.bytes().map_err(|_| format!("is not a GGUF file: it has only {size} bytes"))?;
    if &magic != MAGIC {
        return Err(format!("is not a GGUF file: it begins with {:?}, not \"GGUF\"", magic.escape_ascii().to_string()));
    }
    match input.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => {
            return Err("is a big-endian GGUF file; only little-endian ones are supported".to_owned());
        }
        version => return Err(format!("has GGUF version {version}; versions 2 and 3 are supported")),
    }
    let tensor_count = input.u64()?;
    let entry_count = input.u64()?;
    // The smallest tensor entry has 24 bytes, the smallest metadata entry 13.
    input.check_count("tensors", tensor_count, MAX_ENTRIES, 24)?;
    input.check_count("metadata entries", entry_count, MAX_ENTRIES, 13)?;

    let mut metadata = HashMap::new();
    let mut file_type_at = None;
    let first_entry = input.position;
    for _ in 0..entry_count {
        let key = input.string()?;
        let value_type = input.u32()?;
        if key == "general.file_type" && value_type == U32 {
            file_type_at = Some(input.position);
        }
        let value = value(&mut input, value_type).map_err(|reason| format!("metadata key {key:?}: {reason}"))?;
        if metadata.contains_key(&key) {
            return Err(format!("metadata key {key:?} occurs twice"));
        }
        metadata.insert(key, value);
    }
    let (entries, alignment) = (first_entry..input.position, alignment(&metadata)?);
    let tensors = directory(&mut input, tensor_count, alignment, size)?;
    Ok(Header { metadata, entries, entry_count, file_type_at, alignment, tensors })
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64, String> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::Unsigned(alignment)) if alignment.is_power_of_two() && (8..=65536).contains(&alignment) => {
            Ok(alignment)
        }
        Some(other) => Err(format!("general.alignment is {other:?}, not a power of two from 8 to 65536")),
    }
}

fn directory(
    input: &mut Input<'_>,
    count: u64,
    alignment: u64,
    size: u64,
) -> Result<HashMap<String, TensorInfo>, String> {
    let mut tensors = HashMap::new();
    for _ in 0..count {
        let name = input.string()?;
        let tensor = tensor_entry(input, alignment).map_err(|reason| format!("tensor {name:?}: {reason}"))?;
        if tensors.contains_key(&name) {
            return Err(format!("tensor {name:?} occurs twice"));
        }
        tensors.insert(name, tensor);
    }
    // Offsets count from the first aligned byte after the header.
    let data_start = input.position.next_multiple_of(alignment);
    for (name, tensor) in &mut tensors {
        let end = data_start.checked_add(tensor.start).and_then(|start| start.checked_add(tensor.bytes as u64));
        if end.is_none_or(|end| end > size) {
            return Err(format!(
                "tensor {name:?} needs {} bytes at offset {}, beyond the end of the file ({size} bytes); it was cut short or damaged",
                tensor.bytes, tensor.start,
            ));
        }
        tensor.start += data_start;
    }
    Ok(tensors)
}

/// One entry of the directory, with `start` still counted from the start of the data.
fn tensor_entry(input: &mut Input<'_>, alignment: u64) -> Result<TensorInfo, String> {
    let rank = input.u32()?;
    if !(1..=MAX_DIMENSIONS).contains(&rank) {
        return Err(format!("has {rank} dimensions; 1 to {MAX_DIMENSIONS} are possible"));
    }
    let mut shape = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        let dimension = input.u64()?;
        match usize::try_from(dimension) {
            Ok(dimension) if dimension > 0 => shape.push(dimension),
            _ => return Err(format!("has a dimension of {dimension}")),
        }
    }
    shape.reverse();
    let dtype = block_format(input.u32()?)?;
    let start = input.u64()?;
    if !start.is_multiple_of(alignment) {
        return Err(format!("begins at offset {start}, which is no multiple of the alignment {alignment}"));
    }
    let row = shape.last().copied().unwrap_or(0);
    if !row.is_multiple_of(dtype.block_size()) {
        return Err(format!(
            "has rows of {row} values, which is no multiple of the {} in a {dtype:?} block",
            dtype.block_size()
        ));
    }
    let bytes = shape
        .iter()
        .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
        .and_then(|elements| (elements / dtype.block_size()).checked_mul(dtype.type_size()))
        .ok_or_else(|| format!("has impossible dimensions {shape:?}"))?;
    Ok(TensorInfo { dtype, shape, start, bytes })
}

/// The number of a format in the tensor directory; `None` for formats that files don't have.
pub fn format_code(format: GgmlDType) -> Option<u32> {
    (0..=30).find(|&code| block_format(code) == Ok(format))
}

fn block_format(code: u32) -> Result<GgmlDType, String> {
    Ok(match code {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => {
            return Err(format!(
                "has format {code}; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K"
            ));
        }
    })
}

fn value(input: &mut Input<'_>, value_type: u32) -> Result<Value, String> {
    Ok(match value_type {
        0 => Value::Unsigned(u64::from(u8::from_le_bytes(input.bytes()?))),
        1 => Value::Signed(i64::from(i8::from_le_bytes(input.bytes()?))),
        2 => Value::Unsigned(u64::from(u16::from_le_bytes(input.bytes()?))),
        3 => Value::Signed(i64::from(i16::from_le_bytes(input.bytes()?))),
        4 => Value::Unsigned(u64::from(input.u32()?)),
        5 => Value::Signed(i64::from(i32::from_le_bytes(input.bytes()?))),
        6 => Value::Float(f64::from(f32::from_le_bytes(input.bytes()?))),
        7 => match input.bytes::<1>()? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => return Err(format!("{other} is no truth value")),
        },
        8 => Value::String(input.string()?),
        9 => array(input, 0)?,
        10 => Value::Unsigned(input.u64()?),
        11 => Value::Signed(i64::from_le_bytes(input.bytes()?)),
        12 => Value::Float(f64::from_le_bytes(input.bytes()?)),
        other => return Err(format!("has unknown type {other}")),
    })
}

fn array(input: &mut Input<'_>, depth: usize) -> Result<Value, String> {
    let element_type = input.u32()?;
    let count = input.u64()?;
    let element_bytes = match element_type {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        8 => 8,
        9 => 12,
        other => return Err(format!("is an array of unknown type {other}")),
    };
    input.check_count("array elements", count, MAX_ARRAY_ELEMENTS, element_bytes)?;
    Ok(match element_type {
        4 => Value::Integers(
            (0..count)
                .map(|_| i32::try_from(input.u32()?).map_err(|_| "holds a number beyond 2147483647".to_owned()))
                .collect::<Result<_, _>>()?,
        ),
        5 => {
            Value::Integers((0..count).map(|_| Ok(i32::from_le_bytes(input.bytes()?))).collect::<Result<_, String>>()?)
        }
        6 => Value::Floats((0..count).map(|_| Ok(f32::from_le_bytes(input.bytes()?))).collect::<Result<_, String>>()?),
        8 => Value::Strings((0..count).map(|_| input.string()).collect::<Result<_, _>>()?),
        9 if depth == MAX_ARRAY_DEPTH => return Err("nests arrays too deep".to_owned()),
        9 => {
            for _ in 0..count {
                array(input, depth + 1)?;
            }
            Value::Unused
        }
        _ => {
            input.skip(count * element_bytes)?;
            Value::Unused
        }
    })
}

/// The bytes of the header, with the bound that none of its lengths may exceed.
struct Input<'a> {
    reader: BufReader<&'a mut dyn Read>,
    position: u64,
    end: u64,
}

impl Input<'_> {
    fn remaining(&self) -> u64 {
        self.end - self.position
    }

    fn take(&mut self, length: u64) -> Result<(), String> {
        if length > self.remaining() {
            return Err(format!(
                "the header needs {length} bytes at offset {}, only {} are left; the file was cut short or damaged",
                self.position,
                self.remaining(),
            ));
        }
        self.position += length;
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        self.take(buffer.len() as u64)?;
        self.reader.read_exact(buffer).map_err(|error| format!("can't be read: {error}"))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A text. Bytes that are no UTF-8 are replaced: some vocabularies hold such tokens.
    fn string(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        if length > self.remaining() {
            return Err(format!(
                "a text of {length} bytes is longer than the {} that are left of the header",
                self.remaining()
            ));
        }
        self.take(length)?;
        // Grows with what is really there: the length alone justifies no memory.
        let mut bytes = Vec::with_capacity(length.min(1 << 12) as usize);
        match self.reader.by_ref().take(length).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 == length => {}
            Ok(_) => return Err("the file became shorter while it was read".to_owned()),
            Err(error) => return Err(format!("can't be read: {error}")),
        }
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn skip(&mut self, length: u64) -> Result<(), String> {
        self.take(length)?;
        let skipped = std::io::copy(&mut self.reader.by_ref().take(length), &mut std::io::sink());
        match skipped {
            Ok(skipped) if skipped == length => Ok(()),
            Ok(_) => Err("the file became shorter while it was read".to_owned()),
            Err(error) => Err(format!("can't be read: {error}")),
        }
    }

    fn check_count(&self, what: &str, count: u64, limit: u64, smallest: u64) -> Result<(), String> {
        if count > limit {
            return Err(format!("claims {count} {what}; at most {limit} are accepted"));
        }
        if count * smallest > self.remaining() {
            return Err(format!("claims {count} {what}, more than its remaining {} bytes can hold", self.remaining()));
        }
        Ok(())
    }
}
