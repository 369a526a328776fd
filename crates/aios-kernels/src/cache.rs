//! The keys and values of a context's tokens.

use crate::activations::Shared;
use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{LANES, Team};

/// Keys and values of one context, half precision.
///
/// Keys of 16 positions lie together, `[layer][key head][position / 16][value][position % 16]`, so that a register holds
/// one value of 16 positions; values lie as they are, `[layer][key head][position][value]`.
#[derive(Debug)]
pub struct Cache {
    key_heads: usize,
    head_size: usize,
    positions: usize,
    keys: Vec<u16>,
    values: Vec<u16>,
}

/// The tokens of one context among those of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The number of the first one in the batch.
    pub start: usize,
    /// How many they are.
    pub tokens: usize,
    /// Tokens of the whole batch.
    pub batch: usize,
}

impl Cache {
    /// Room for `positions` tokens. The memory is taken from the system as it is written.
    ///
    /// # Panics
    /// Where the size of a head is not a multiple of [`LANES`].
    pub fn new(layers: usize, key_heads: usize, head_size: usize, positions: usize) -> Self {
        assert!(head_size.is_multiple_of(LANES), "heads of {head_size} values");
        let positions = positions.next_multiple_of(LANES);
        let length = layers * key_heads * head_size * positions;
        Self { key_heads, head_size, positions, keys: vec![0; length], values: vec![0; length] }
    }

    /// Positions there is room for.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Memory of all positions, in bytes.
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * 2
    }

    pub(crate) fn key_heads(&self) -> usize {
        self.key_heads
    }

    pub(crate) fn head_size(&self) -> usize {
        self.head_size
    }

    /// Stores the keys and values of some of a batch's tokens, which stand at position `first` and after it. Those of the
    /// whole batch lie panel by panel.
    ///
    /// # Panics
    /// Where there is no room for them, or they are not as many as the heads need.
    #[allow(clippy::too_many_arguments, reason = "operands of one operation")]
    pub fn store(
        &mut self,
        isa: Isa,
        team: &Team,
        layer: usize,
        first: usize,
        span: Span,
        keys: &[f32],
        values: &[f32],
    ) {
        let head = self.head_size * span.batch;
        assert!(first + span.tokens <= self.positions, "positions {first} to {}", first + span.tokens);
        assert!(span.start + span.tokens <= span.batch, "{span:?}");
        assert!(keys.len() == self.key_heads * head && values.len() == keys.len(), "{} keys", keys.len());
        let size = self.head_size * self.positions;
        let start = layer * self.key_heads * size;
        let all = start..start + self.key_heads * size;
        let (cached_keys, cached_values) = (&mut self.keys[all.clone()], &mut self.values[all]);
        let (cached_keys, cached_values) = (Shared(cached_keys.as_mut_ptr()), Shared(cached_values.as_mut_ptr()));
        let head_size = self.head_size;
        let work = |key_head: usize| {
            // SAFETY: the cache holds a layer's heads, each of which is one piece's alone; the rows hold as many; lengths
            // were checked.
            let rows = unsafe {
                &Rows {
                    head_size,
                    first,
                    span,
                    keys: keys.as_ptr().add(key_head * head),
                    values: values.as_ptr().add(key_head * head),
                    cached_keys: cached_keys.get().add(key_head * size),
                    cached_values: cached_values.get().add(key_head * size),
                }
            };
            // SAFETY: as above; an Isa exists only where the CPU has its instructions.
            unsafe { with_simd!(isa, write(rows: &Rows)) }
        };
        // One token is stored sooner than another thread is told about it.
        match span.tokens {
            1 => (0..self.key_heads).for_each(work),
            _ => team.run(self.key_heads, |key_head, _| work(key_head)),
        }
    }

    /// Numbers of [`LANES`] positions.
    pub fn block_length(&self) -> usize {
        self.keys.len() / self.positions * LANES * 2
    }

    /// The keys and values of all layers at positions `block * LANES` to `block * LANES + LANES - 1`.
    ///
    /// # Panics
    /// Where there are no such positions.
    pub fn block(&self, block: usize) -> Vec<u16> {
        let mut numbers = Vec::with_capacity(self.block_length());
        let (heads, place) = self.block_places(block);
        for head in heads {
            numbers.extend_from_slice(&self.keys[head + place.start..head + place.end]);
            numbers.extend_from_slice(&self.values[head + place.start..head + place.end]);
        }
        numbers
    }

    /// Puts back what [`block`](Self::block) gave, of this cache or of another of the same sizes.
    ///
    /// # Panics
    /// Where there are no such positions, or as many numbers are not a block.
    pub fn set_block(&mut self, block: usize, numbers: &[u16]) {
        assert_eq!(numbers.len(), self.block_length(), "numbers of a block");
        let (heads, place) = self.block_places(block);
        for (head, numbers) in heads.zip(numbers.chunks_exact(place.len() * 2)) {
            let (keys, values) = numbers.split_at(place.len());
            self.keys[head + place.start..head + place.end].copy_from_slice(keys);
            self.values[head + place.start..head + place.end].copy_from_slice(values);
        }
    }

    /// Where the heads of all layers begin, and where the block lies in each: keys and values alike.
    fn block_places(&self, block: usize) -> (impl Iterator<Item = usize> + use<>, std::ops::Range<usize>) {
        assert!((block + 1) * LANES <= self.positions, "block {block} of {} positions", self.positions);
        let length = LANES * self.head_size;
        ((0..self.keys.len()).step_by(self.positions * self.head_size), block * length..(block + 1) * length)
    }

    /// Where a head's keys and values begin.
    pub(crate) fn head(&self, layer: usize, key_head: usize) -> (*const u16, *const u16) {
        let start = (layer * self.key_heads + key_head) * self.head_size * self.positions;
        (self.keys[start..].as_ptr(), self.values[start..].as_ptr())
    }
}

/// One head's keys and values of some tokens, and where they go.
struct Rows {
    head_size: usize,
    first: usize,
    span: Span,
    keys: *const f32,
    values: *const f32,
    cached_keys: *mut u16,
    cached_values: *mut u16,
}

/// # Safety
/// The instructions of `S` are enabled; the pointers are good for the head's tokens and positions.
#[inline(always)]
unsafe fn write<S: Simd>(rows: &Rows) {
    let Span { start, tokens, batch } = rows.span;
    for column in (0..rows.head_size).step_by(LANES) {
        for token in 0..tokens {
            let (from, position) = ((column * batch) + (start + token) * LANES, rows.first + token);
            let mut key = [0; LANES];
            // SAFETY: the caller vouches for the pointers; a position's block of keys has 16 of them for each value.
            unsafe {
                S::store_half(key.as_mut_ptr(), S::load(rows.keys.add(from)));
                let block = rows.cached_keys.add(position / LANES * LANES * rows.head_size);
                for (lane, key) in key.into_iter().enumerate() {
                    block.add((column + lane) * LANES + position % LANES).write(key);
                }
                let value = S::load(rows.values.add(from));
                S::store_half(rows.cached_values.add(position * rows.head_size + column), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_was_stored_at_its_positions() {
        let (team, isa) = (Team::new(1), Isa::detect());
        let fill = |tokens: usize, seed: usize| -> Vec<f32> {
            (0..tokens * 2 * 32).map(|index| ((index * 7 + seed) % 1000) as f32).collect()
        };
        let caches = [(0, 40), (3, 40)].map(|(seed, tokens)| {
            let mut cache = Cache::new(2, 2, 32, 100);
            for layer in 0..2 {
                let (keys, values) = (fill(tokens, seed + layer), fill(tokens, seed + layer + 500));
                cache.store(isa, &team, layer, 0, Span { start: 0, tokens, batch: tokens }, &keys, &values);
            }
            cache
        });
        let [first, mut second] = caches;
        assert_ne!(first.block(1), second.block(1));
        let others = [second.block(0), second.block(2)];
        second.set_block(1, &first.block(1));
        assert_eq!(first.block(1), second.block(1));
        assert_eq!(others, [second.block(0), second.block(2)]);
        assert_eq!(first.block(1).len(), first.block_length());
    }
}
