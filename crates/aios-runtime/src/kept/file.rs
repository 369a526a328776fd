//! The file of one beginning, as docs/formats/prefix.md draws it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use aios_kernels::LANES;
use sha2::{Digest as _, Sha256};

/// Hash of what keys and values depend on besides the tokens.
pub type Key = [u8; 32];

/// How the file begins; the digit is the format's version.
const MAGIC: [u8; 8] = *b"aiosKV1\n";
/// What comes before the tokens: magic, key, number of tokens, numbers in a block.
const HEAD: usize = 8 + 32 + 4 + 4;
/// The hash behind everything else.
const HASH: usize = 32;
/// Longest beginning, in tokens, that a head is believed to have.
const MOST_TOKENS: u32 = 1 << 20;
/// Most numbers of a block: 16 tokens of a model with 256 layers of 16384 keys and as many values.
const MOST_NUMBERS: u32 = 1 << 27;

const SUFFIX: &str = "prefix";
const DRAFT: &str = "draft";

/// Why a file is of no use.
#[derive(Debug)]
pub enum Fault {
    /// It is not there any more.
    Gone,
    /// It is of another model or program.
    Stale,
    /// It is not what was written.
    Damaged(String),
    /// The system does not give it.
    Unreadable(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Fault::Gone,
            io::ErrorKind::UnexpectedEof => Fault::Damaged("it is too short".into()),
            _ => Fault::Unreadable(error),
        }
    }
}

struct Head {
    tokens: u32,
    /// Numbers in a block.
    block: u32,
}

impl Head {
    fn blocks(&self) -> usize {
        self.tokens as usize / LANES
    }

    /// Bytes of the whole file.
    fn size(&self) -> u64 {
        let blocks = self.blocks() as u64 * u64::from(self.block) * 2;
        (HEAD + HASH) as u64 + u64::from(self.tokens) * 4 + blocks
    }
}

/// Name of the file of a beginning.
pub fn name(key: Key, tokens: &[u32]) -> String {
    let mut hash = Sha256::new();
    hash.update(key);
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
    let digits: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.{SUFFIX}")
}

/// Whether a name is one of these files', complete or not.
pub fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == SUFFIX || extension == DRAFT)
}

/// Bytes of the file of a beginning.
pub fn size(tokens: &[u32], blocks: &[Arc<[u16]>]) -> u64 {
    (HEAD + HASH + size_of_val(tokens)) as u64 + blocks.iter().map(|block| size_of_val(&**block) as u64).sum::<u64>()
}

/// Marks the file as used now. What can't be marked is deleted sooner than need be, no more.
pub fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Writes a file, all of it or none, for its owner alone.
pub fn write(path: &Path, key: Key, tokens: &[u32], blocks: &[Arc<[u16]>]) -> io::Result<()> {
    let draft = path.with_extension(DRAFT);
    let written = write_draft(&draft, key, tokens, blocks).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
        return written;
    }
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_draft(draft: &Path, key: Key, tokens: &[u32], blocks: &[Arc<[u16]>]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    let number = |count: usize| u32::try_from(count).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    let (mut out, mut hash) = (BufWriter::with_capacity(1 << 16, file), Sha256::new());
    let mut put = |bytes: &[u8]| {
        hash.update(bytes);
        out.write_all(bytes)
    };
    put(&MAGIC)?;
    put(&key)?;
    put(&number(tokens.len())?.to_le_bytes())?;
    put(&number(blocks.first().map_or(0, |block| block.len()))?.to_le_bytes())?;
    put(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>())?;
    let mut bytes = Vec::new();
    for block in blocks {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|number| number.to_le_bytes()));
        put(&bytes)?;
    }
    out.write_all(&hash.finalize())?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The tokens of a file, which are believed until it is read.
pub fn tokens(path: &Path, key: Key) -> Result<Vec<u32>, Fault> {
    if path.extension().is_some_and(|extension| extension == DRAFT) {
        return Err(Fault::Damaged("it was never completed".into()));
    }
    let mut file = BufReader::new(File::open(path)?);
    let head = head(&mut file, key)?;
    let size = file.get_ref().metadata()?.len();
    if size != head.size() {
        return Err(Fault::Damaged(format!("it has {size} bytes of {}", head.size())));
    }
    let mut bytes = vec![0; head.tokens as usize * 4];
    file.read_exact(&mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)).collect())
}

fn head(file: &mut impl Read, key: Key) -> Result<Head, Fault> {
    let mut bytes = [0; HEAD];
    file.read_exact(&mut bytes)?;
    if bytes[..8] != MAGIC {
        return Err(Fault::Damaged("it does not begin as such a file does".into()));
    }
    if bytes[8..40] != key {
        return Err(Fault::Stale);
    }
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let head = Head { tokens: number(40), block: number(44) };
    let whole = (head.tokens as usize).is_multiple_of(LANES);
    if head.tokens == 0 || head.tokens > MOST_TOKENS || !whole || head.block > MOST_NUMBERS {
        return Err(Fault::Damaged(format!("{} tokens in blocks of {} numbers", head.tokens, head.block)));
    }
    Ok(head)
}

/// The blocks of `tokens`, which the file begins with; each must have `length` numbers. Reads all of the file for its hash.
pub fn read(path: &Path, key: Key, tokens: &[u32], length: usize) -> Result<Vec<Arc<[u16]>>, Fault> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let (mut file, mut hash) = (Hashing { file: BufReader::new(file), hash: Sha256::new() }, [0; HASH]);
    let head = head(&mut file, key)?;
    if size != head.size() || head.block as usize != length {
        return Err(Fault::Damaged(format!("it has {size} bytes of {}, in blocks of {}", head.size(), head.block)));
    }
    let mut bytes = vec![0; head.tokens as usize * 4];
    file.read_exact(&mut bytes)?;
    let found = bytes.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token));
    if tokens.len() > head.tokens as usize || !found.zip(tokens).all(|(found, token)| found == *token) {
        return Err(Fault::Damaged("its tokens changed".into()));
    }
    let mut blocks = Vec::with_capacity(tokens.len() / LANES);
    bytes.resize(length * 2, 0);
    for index in 0..head.blocks() {
        file.read_exact(&mut bytes)?;
        if index < tokens.len() / LANES {
            blocks.push(bytes.as_chunks().0.iter().map(|number| u16::from_le_bytes(*number)).collect());
        }
    }
    let computed = file.hash.finalize();
    file.file.get_ref().read_exact_at(&mut hash, size - HASH as u64)?;
    match computed[..] == hash {
        true => Ok(blocks),
        false => Err(Fault::Damaged("its hash is not that of its content".into())),
    }
}

/// Hashes what is read.
struct Hashing {
    file: BufReader<File>,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(bytes)?;
        self.hash.update(&bytes[..length]);
        Ok(length)
    }
}
