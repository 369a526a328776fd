//! One partition in the table.

use std::fmt;
use std::io;
use std::str::FromStr;

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

/// Bytes of the table in the order in which a GUID is written.
const WRITTEN_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, at) in WRITTEN_ORDER.iter().enumerate() {
            let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{:02x}", self.0[*at])?;
        }
        Ok(())
    }
}

/// Text that is no GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a GUID: write for example 0fc63daf-8483-4772-8e79-3d69d8477de4")]
pub struct GuidError(String);

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let error = || GuidError(text.to_owned());
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = u128::from_str_radix(&digits, 16).map_err(|_| error())?;
        let mut bytes = [0; 16];
        for (byte, at) in number.to_be_bytes().into_iter().zip(WRITTEN_ORDER) {
            bytes[at] = byte;
        }
        let guid = Guid(bytes);
        // What it is written as decides about the places of the dashes, too.
        if guid.to_string().eq_ignore_ascii_case(text) { Ok(guid) } else { Err(error()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_other_tools_write_it() {
        let esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid: Guid = esp.parse().unwrap();
        assert_eq!(guid.0[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(guid.to_string(), esp);
        assert_eq!(esp.to_uppercase().parse(), Ok(guid));
        for bad in ["", "c12a7328", "c12a7328f81f11d2ba4b00a0c93ec93b", "+12a7328-f81f-11d2-ba4b-00a0c93ec93b"] {
            assert!(bad.parse::<Guid>().is_err(), "{bad}");
        }
    }
}
