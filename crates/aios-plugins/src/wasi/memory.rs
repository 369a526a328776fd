//! A module's memory: every access is checked, and what is outside is `EFAULT`.

use super::abi::Errno;

/// Most pieces of one read or write.
const VECTORS_MAX: u32 = 1024;

/// The memory of a module.
pub(super) struct Memory<'a>(&'a mut [u8]);

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Memory<'a> {
        Memory(bytes)
    }

    /// The `length` bytes at `at`.
    pub(super) fn bytes(&self, at: u32, length: u32) -> Result<&[u8], Errno> {
        let at = at as usize;
        self.0.get(at..).and_then(|rest| rest.get(..length as usize)).ok_or(Errno::FAULT)
    }

    /// The same, to write to.
    pub(super) fn bytes_mut(&mut self, at: u32, length: u32) -> Result<&mut [u8], Errno> {
        let at = at as usize;
        self.0.get_mut(at..).and_then(|rest| rest.get_mut(..length as usize)).ok_or(Errno::FAULT)
    }

    fn array<const N: usize>(&self, at: u32) -> Result<[u8; N], Errno> {
        let bytes = self.0.get(at as usize..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().ok_or(Errno::FAULT)
    }

    pub(super) fn u16(&self, at: u32) -> Result<u16, Errno> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, at: u32) -> Result<u32, Errno> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, at: u32) -> Result<u64, Errno> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        self.bytes_mut(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: u32, value: u64) -> Result<(), Errno> {
        self.put(at, &value.to_le_bytes())
    }

    /// The pieces, as place and length, of a scattered read or write, all of them inside of the memory.
    pub(super) fn vectors(&self, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Errno> {
        if count > VECTORS_MAX {
            return Err(Errno::INVAL);
        }
        let piece = |index: u32| {
            let entry = at.checked_add(8 * index).ok_or(Errno::FAULT)?;
            let piece = (self.u32(entry)?, self.u32(entry.checked_add(4).ok_or(Errno::FAULT)?)?);
            self.bytes(piece.0, piece.1).map(|_| piece)
        };
        (0..count).map(piece).collect()
    }

    /// A path: text without a zero byte.
    pub(super) fn path(&self, at: u32, length: u32) -> Result<String, Errno> {
        if length > 4096 {
            return Err(Errno::NAMETOOLONG);
        }
        let text = std::str::from_utf8(self.bytes(at, length)?).map_err(|_| Errno::ILSEQ)?;
        if text.contains('\0') { Err(Errno::INVAL) } else { Ok(text.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_reached_however_it_is_written() {
        let mut bytes = [0; 16];
        let mut memory = Memory::new(&mut bytes);
        assert_eq!(memory.bytes(8, 8).map(<[u8]>::len), Ok(8));
        assert_eq!(memory.bytes(16, 0).map(<[u8]>::len), Ok(0));
        for (at, length) in [(8, 9), (17, 0), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            assert_eq!(memory.bytes(at, length), Err(Errno::FAULT), "{at} {length}");
            assert!(memory.bytes_mut(at, length).is_err());
        }
        for at in [13, 16, u32::MAX] {
            assert_eq!(memory.u32(at), Err(Errno::FAULT), "{at}");
            assert_eq!(memory.put_u32(at, 1), Err(Errno::FAULT), "{at}");
        }
        assert_eq!(memory.u64(8), Ok(0));
        assert_eq!(memory.vectors(0, 2), Ok(vec![(0, 0), (0, 0)]));
        assert_eq!(memory.vectors(0, 3), Err(Errno::FAULT));
        assert_eq!(memory.vectors(u32::MAX - 3, 1), Err(Errno::FAULT));
        assert_eq!(memory.vectors(0, u32::MAX), Err(Errno::INVAL));
    }
}
