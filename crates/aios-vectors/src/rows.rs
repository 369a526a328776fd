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

/// Bytes that come from memory together. Searches go from row to row without an order: rows begin there, so that no more is
/// read than they have, and scales and items lie by themselves, so close that most of them stay in the cache.
const LINE: usize = 64;

#[derive(Debug)]
struct Chunk {
    used: [u64; WORDS],
    /// The rows are behind the first few bytes, which are there so that a row begins where a line does.
    bytes: Box<[i8]>,
    skip: usize,
    scales: Box<[f32]>,
    ids: Box<[u64]>,
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

    fn row_mut(&mut self, slot: u32) -> &mut [i8] {
        let ((chunk, at), width) = (place(slot), self.width);
        let chunk = &mut self.chunks[chunk];
        &mut chunk.bytes[chunk.skip + at * width..][..width]
    }

    /// Puts a vector into a slot that is not used. Numbers that are not given are 0.
    pub(crate) fn insert(&mut self, slot: u32, id: u64, scale: f32, numbers: impl Iterator<Item = i8>) {
        let (index, at) = place(slot);
        while self.chunks.len() <= index {
            self.chunks.push(Chunk::new(self.width));
        }
        let chunk = &mut self.chunks[index];
        chunk.used[at / 64] |= 1 << (at % 64);
        (chunk.scales[at], chunk.ids[at]) = (scale, id);
        self.row_mut(slot).iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
        self.used += 1;
    }

    /// Takes a vector away; its bytes are overwritten.
    pub(crate) fn remove(&mut self, slot: u32) {
        let (index, at) = place(slot);
        let chunk = &mut self.chunks[index];
        chunk.used[at / 64] &= !(1 << (at % 64));
        (chunk.scales[at], chunk.ids[at]) = (0.0, 0);
        self.row_mut(slot).fill(0);
        self.used -= 1;
        while self.chunks.last().is_some_and(|chunk| chunk.used == [0; WORDS]) {
            self.chunks.pop();
        }
    }

    pub(crate) fn id(&self, slot: u32) -> u64 {
        let (chunk, at) = place(slot);
        self.chunks[chunk].ids[at]
    }

    pub(crate) fn scale(&self, slot: u32) -> f32 {
        let (chunk, at) = place(slot);
        self.chunks[chunk].scales[at]
    }

    pub(crate) fn numbers(&self, slot: u32) -> &[i8] {
        let (chunk, at) = place(slot);
        let chunk = &self.chunks[chunk];
        &chunk.bytes[chunk.skip + at * self.width..][..self.width]
    }

    /// Asks for the row of `slot`, which is read soon.
    pub(crate) fn ask(&self, slot: u32) {
        let (chunk, at) = place(slot);
        ask(self.numbers(slot));
        ask(&self.chunks[chunk].scales[at..][..1]);
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
    fn new(width: usize) -> Chunk {
        let bytes: Box<[i8]> = vec![0; CHUNK * width + LINE].into();
        let skip = bytes.as_ptr().align_offset(LINE).min(LINE);
        Chunk { used: [0; WORDS], bytes, skip, scales: vec![0.0; CHUNK].into(), ids: vec![0; CHUNK].into() }
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
