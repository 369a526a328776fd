//! One partition in the table.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 128;

/// Longest name in UTF-16 units.
const NAME_UNITS: usize = 36;

/// A GUID in the byte order of the table (first three fields little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

/// A partition's entry, byte for byte as it is in the table, so that what we don't know survives.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: [u8; ENTRY_BYTES],
    name: String,
}

impl Guid {
    /// A random GUID (version 4). Works before the kernel's generator is seeded: it must be unique, not secret.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom(&mut bytes[..], GetRandomFlags::INSECURE)?;
        bytes[7] = (bytes[7] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Ok(Guid(bytes))
    }
}

impl Entry {
    /// A partition from sector `first` to `last`, both included.
    pub fn new(kind: Guid, id: Guid, first: u64, last: u64, name: &str) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&kind.0);
        bytes[16..32].copy_from_slice(&id.0);
        bytes[32..40].copy_from_slice(&first.to_le_bytes());
        bytes[40..48].copy_from_slice(&last.to_le_bytes());
        for (unit, at) in name.encode_utf16().take(NAME_UNITS).zip((56..).step_by(2)) {
            bytes[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        Self::from_bytes(&bytes)
    }

    /// Takes an entry's bytes; fewer than [`ENTRY_BYTES`] are filled with zeros.
    pub fn from_bytes(from: &[u8]) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = *from;
        }
        let units = bytes[56..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        Entry { bytes, name: String::from_utf16_lossy(&units) }
    }

    /// As it is in the table.
    pub fn bytes(&self) -> &[u8; ENTRY_BYTES] {
        &self.bytes
    }

    /// Whether the entry describes a partition.
    pub fn is_used(&self) -> bool {
        self.bytes[..16] != [0; 16]
    }

    /// Type of the partition.
    pub fn kind(&self) -> Guid {
        Guid(std::array::from_fn(|i| self.bytes[i]))
    }

    /// First sector.
    pub fn first(&self) -> u64 {
        self.u64_at(32)
    }

    /// Last sector, included.
    pub fn last(&self) -> u64 {
        self.u64_at(40)
    }

    /// Length in sectors.
    pub fn sectors(&self) -> u64 {
        (self.last() - self.first()).saturating_add(1)
    }

    /// Name (`PARTLABEL`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether attribute `bit` is set; bits 48 to 63 belong to the partition's type.
    pub fn attribute(&self, bit: u32) -> bool {
        self.u64_at(48) & (1 << bit) != 0
    }

    /// The same partition with attribute `bit` set or cleared.
    pub fn with_attribute(mut self, bit: u32, set: bool) -> Self {
        let bits = self.u64_at(48) & !(1 << bit) | u64::from(set) << bit;
        self.bytes[48..56].copy_from_slice(&bits.to_le_bytes());
        self
    }

    /// The same partition ending at another sector.
    pub fn ending_at(mut self, last: u64) -> Self {
        self.bytes[40..48].copy_from_slice(&last.to_le_bytes());
        self
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.bytes[at + i]))
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}..={}", self.name, self.first(), self.last())
    }
}
