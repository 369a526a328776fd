//! Vectors in memory, by slot.

use aios_kernels::{Isa, ask, dot};

use crate::quantize::{Query, width};

/// Slots that are allocated together: small enough that room which is not used does not count, and a multiple of the
/// kernels' groups.
pub(crate) const CHUNK: usize = 1024;

/// Slots that there can be. Each takes a few hundred bytes, so memory ends before.
pub(crate) const SLOTS_MAX: u32 = 1 << 26;

const WORDS: usize = CHUNK / 64;

/// The vectors, each in a slot. A slot is a small number, unlike the number of the item that the vector belongs to.
#[derive(Debug)]
pub(crate) struct Rows {
    width: usize,
    used: usize,
    chunks: Vec<Chunk>,
    isa: Isa,
}

/// Bytes behind the numbers of a row: its scale and its item. Searches go from row to row without an order, and what lies
/// together comes from memory together.
const TAIL: usize = 4 + 8;

#[derive(Debug)]
struct Chunk {
    used: [u64; WORDS],
    rows: Box<[i8]>,
}

impl Rows {
    pub(crate) fn new(dimensions: usize) -> Rows {
        Rows { width: width(dimensions), used: 0, chunks: Vec::new(), isa: Isa::detect() }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of vectors.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Number of numbers of each.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// All slots are below this, which is a multiple of [`CHUNK`].
    pub(crate) fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    pub(crate) fn is_used(&self, slot: u32) -> bool {
        let (chunk, at) = place(slot);
        self.chunks.get(chunk).is_some_and(|chunk| chunk.used[at / 64] >> (at % 64) & 1 == 1)
    }

    /// The slots of all vectors.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.bits(|word| word)
    }

    /// Slots without a vector: first those between others, then those behind all others.
    pub(crate) fn free(&self) -> impl Iterator<Item = u32> {
        self.bits(|word| !word).chain(self.end()..SLOTS_MAX)
    }

    fn bits(&self, of: impl Fn(u64) -> u64 + Copy) -> impl Iterator<Item = u32> {
        let words = self.chunks.iter().flat_map(|chunk| chunk.used);
        words.enumerate().flat_map(move |(number, word)| ones(of(word)).map(move |bit| number as u32 * 64 + bit))
    }

    /// Bytes of a row.
    fn stride(&self) -> usize {
        self.width + TAIL
    }

    fn row(&self, slot: u32) -> &[i8] {
        let (chunk, at) = place(slot);
        &self.chunks[chunk].rows[at * self.stride()..][..self.stride()]
    }

    fn row_mut(&mut self, slot: u32) -> &mut [i8] {
        let ((chunk, at), stride) = (place(slot), self.stride());
        &mut self.chunks[chunk].rows[at * stride..][..stride]
    }

    /// Bytes of a row's tail.
    fn tail<const BYTES: usize>(&self, slot: u32, from: usize) -> [u8; BYTES] {
        let tail = &self.row(slot)[self.width + from..][..BYTES];
        std::array::from_fn(|at| tail[at].cast_unsigned())
    }

    /// Puts a vector into a slot that is not used. Numbers that are not given are 0.
    pub(crate) fn insert(&mut self, slot: u32, id: u64, scale: f32, numbers: impl Iterator<Item = i8>) {
        let (index, at) = place(slot);
        while self.chunks.len() <= index {
            self.chunks.push(Chunk::new(self.stride()));
        }
        self.chunks[index].used[at / 64] |= 1 << (at % 64);
        let width = self.width;
        let (row, tail) = self.row_mut(slot).split_at_mut(width);
        row.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
        let bytes = scale.to_le_bytes().into_iter().chain(id.to_le_bytes());
        tail.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte.cast_signed());
        self.used += 1;
    }

    /// Takes a vector away; its bytes are overwritten.
    pub(crate) fn remove(&mut self, slot: u32) {
        let (index, at) = place(slot);
        self.chunks[index].used[at / 64] &= !(1 << (at % 64));
        self.row_mut(slot).fill(0);
        self.used -= 1;
        while self.chunks.last().is_some_and(|chunk| chunk.used == [0; WORDS]) {
            self.chunks.pop();
        }
    }

    pub(crate) fn id(&self, slot: u32) -> u64 {
        u64::from_le_bytes(self.tail(slot, 4))
    }

    pub(crate) fn scale(&self, slot: u32) -> f32 {
        f32::from_le_bytes(self.tail(slot, 0))
    }

    pub(crate) fn numbers(&self, slot: u32) -> &[i8] {
        &self.row(slot)[..self.width]
    }

    /// Asks for the row of `slot`, which is read soon.
    pub(crate) fn ask(&self, slot: u32) {
        ask(self.row(slot));
    }

    /// Cosine of the angle between two vectors.
    pub(crate) fn between(&self, a: u32, b: u32) -> f32 {
        dot(self.isa, self.numbers(a), self.numbers(b)) as f32 * (self.scale(a) * self.scale(b))
    }

    /// Cosine of the angle between a vector and the query, as exact as the vector is.
    pub(crate) fn exactly(&self, query: &Query, slot: u32) -> f32 {
        let numbers = self.numbers(slot);
        let high = dot(self.isa, &query.high, numbers) as f32 * query.high_scale;
        let low = dot(self.isa, &query.low, numbers) as f32 * query.low_scale;
        (high + low) * self.scale(slot)
    }

    /// The same with the query rounded to bytes.
    pub(crate) fn roughly(&self, query: &Query, slot: u32) -> f32 {
        dot(self.isa, &query.high, self.numbers(slot)) as f32 * (query.high_scale * self.scale(slot))
    }
}

impl Chunk {
    fn new(stride: usize) -> Chunk {
        Chunk { used: [0; WORDS], rows: vec![0; CHUNK * stride].into() }
    }
}

/// Chunk of a slot, and the place in it.
pub(crate) fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

/// Positions of the bits that are set.
fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_memory_is_given_back() {
        let mut rows = Rows::new(3);
        for slot in 0..2 * CHUNK as u32 {
            rows.insert(slot, u64::from(slot) + 7, 1.0, [1, 2, 3].into_iter());
        }
        assert_eq!((rows.len(), rows.end(), rows.free().next()), (2048, 2048, Some(2048)));
        rows.remove(70);
        assert_eq!((rows.len(), rows.free().next(), rows.is_used(70)), (2047, Some(70), false));
        assert_eq!(rows.numbers(70), [0; 16]);
        assert_eq!((rows.id(71), &rows.numbers(71)[..4]), (78, &[1, 2, 3, 0][..]));
        (1..CHUNK as u32 * 2).filter(|slot| *slot != 70).for_each(|slot| rows.remove(slot));
        assert_eq!((rows.len(), rows.end(), rows.slots().collect::<Vec<_>>()), (1, 1024, vec![0]));
        rows.remove(0);
        assert_eq!((rows.len(), rows.end(), rows.is_used(0)), (0, 0, false));
    }
}
