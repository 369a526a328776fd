//! Reading GGUF files, trusting nothing in them.
//!
//! The header is read and checked here before anything of it reaches the arithmetic: every count and length is compared
//! with what the file still holds and with a fixed bound before memory is taken for it, and every tensor must lie inside
//! the file. The format is described at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

pub mod header;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;

use self::header::Header;

/// Why a file can't be used: the file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct GgufError {
    /// File that was read.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A metadata value. Arrays of other types than these three are checked and passed over, as no key in use has one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer type.
    Unsigned(u64),
    /// Any signed integer type.
    Signed(i64),
    /// Both floating-point types.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// An array of texts.
    Strings(Vec<String>),
    /// An array of `i32` or `u32`; values beyond `i32` are refused.
    Integers(Vec<i32>),
    /// An array of `f32`.
    Floats(Vec<f32>),
    /// An array of any other type.
    Unused,
}

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Block format.
    pub dtype: GgmlDType,
    /// Dimensions, outermost first, which is the reverse of the file's order.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub start: u64,
    /// Length in bytes; `start + bytes` is inside the file.
    pub bytes: usize,
}

/// An open GGUF file whose header has been checked.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    size: u64,
    header: Header,
}

impl Gguf {
    /// Opens `path` and checks its header.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let fail = |reason: String| GgufError { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| fail(format!("can't be opened: {error}")))?;
        let metadata = file.metadata().map_err(|error| fail(format!("can't be examined: {error}")))?;
        if !metadata.is_file() {
            return Err(fail("is not a file; give the path of the .gguf file itself".to_owned()));
        }
        let size = metadata.len();
        let header = header::read(&mut &file, size).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file, size, header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file, at no particular place.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// An error about this file.
    pub fn error(&self, reason: impl Into<String>) -> GgufError {
        GgufError { path: self.path.clone(), reason: reason.into() }
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// The text under `key`; `None` where the key is absent.
    pub fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The count under `key`: a whole number from 0 to `u32::MAX`.
    pub fn count(&self, key: &str) -> Result<Option<usize>, GgufError> {
        self.typed(key, "a count", |value| match *value {
            Value::Unsigned(count) => u32::try_from(count).ok().map(|count| count as usize),
            Value::Signed(count) => u32::try_from(count).ok().map(|count| count as usize),
            _ => None,
        })
    }

    /// The finite number under `key`.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a finite number", |value| match *value {
            Value::Float(number) if number.is_finite() => Some(number),
            _ => None,
        })
    }

    /// The truth value under `key`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a truth value", |value| match *value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// The array of texts under `key`.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Strings(strings) => Some(strings.as_slice()),
            _ => None,
        })
    }

    /// The array of 32-bit integers under `key`.
    pub fn integers(&self, key: &str) -> Result<Option<&[i32]>, GgufError> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            Value::Integers(integers) => Some(integers.as_slice()),
            _ => None,
        })
    }

    /// The array of numbers under `key`.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.typed(key, "an array of 32-bit floating-point numbers", |value| match value {
            Value::Floats(floats) => Some(floats.as_slice()),
            _ => None,
        })
    }

    /// `found`, or the error that `key` is missing.
    pub fn require<T>(&self, key: &str, found: Option<T>) -> Result<T, GgufError> {
        found.ok_or_else(|| self.error(format!("metadata key {key} is missing")))
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &HashMap<String, TensorInfo> {
        &self.header.tensors
    }

    /// Where a tensor lies and what it is.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.header.tensors.get(name).ok_or_else(|| self.error(format!("tensor {name} is missing")))
    }

    /// Reads a tensor's blocks.
    pub fn read_tensor(&self, name: &str) -> Result<(&TensorInfo, Vec<u8>), GgufError> {
        let tensor = self.tensor(name)?;
        let mut blocks = vec![0; tensor.bytes];
        self.read_part(name, 0, &mut blocks)?;
        Ok((tensor, blocks))
    }

    /// Reads some of a tensor's bytes, from `offset` within it.
    pub fn read_part(&self, name: &str, offset: usize, bytes: &mut [u8]) -> Result<(), GgufError> {
        let tensor = self.tensor(name)?;
        assert!(offset + bytes.len() <= tensor.bytes, "bytes {offset} to {} of {name}", offset + bytes.len());
        self.file
            .read_exact_at(bytes, tensor.start + offset as u64)
            .map_err(|error| self.error(format!("tensor {name} can't be read: {error}")))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        match self.header.metadata.get(key) {
            None => Ok(None),
            Some(value) => {
                convert(value).map(Some).ok_or_else(|| self.error(format!("metadata key {key} is not {kind}")))
            }
        }
    }
}
