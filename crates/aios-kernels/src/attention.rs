//! Attention of new tokens to all tokens so far, and the cache of these.

use crate::activations::Shared;
use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{LANES, Team, float16};

/// Rows of queries computed together.
const ROWS: usize = 4;

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

    /// Stores the keys and values of `tokens` tokens that stand at `first` and after it. They lie panel by panel.
    ///
    /// # Panics
    /// Where there is no room for them, or they are not as many as the heads need.
    pub fn store(&mut self, layer: usize, first: usize, tokens: usize, keys: &[f32], values: &[f32]) {
        let head = self.head_size * tokens;
        assert!(first + tokens <= self.positions, "positions {first} to {}", first + tokens);
        assert!(keys.len() == self.key_heads * head && values.len() == keys.len(), "{} keys", keys.len());
        let size = self.head_size * self.positions;
        for key_head in 0..self.key_heads {
            let start = (layer * self.key_heads + key_head) * size;
            let cached_keys = &mut self.keys[start..start + size];
            let cached_values = &mut self.values[start..start + size];
            let keys = &keys[key_head * head..][..head];
            let values = &values[key_head * head..][..head];
            for (index, (keys, values)) in keys.chunks_exact(LANES).zip(values.chunks_exact(LANES)).enumerate() {
                let (column, position) = (index / tokens * LANES, first + index % tokens);
                let block = &mut cached_keys[position / LANES * LANES * self.head_size..];
                for (lane, key) in keys.iter().enumerate() {
                    block[(column + lane) * LANES + position % LANES] = float16::from_f32(*key);
                }
                let row = &mut cached_values[position * self.head_size + column..][..LANES];
                for (cached, value) in row.iter_mut().zip(values) {
                    *cached = float16::from_f32(*value);
                }
            }
        }
    }

    /// Where a head's keys and values begin.
    fn head(&self, layer: usize, key_head: usize) -> (*const u16, *const u16) {
        let start = (layer * self.key_heads + key_head) * self.head_size * self.positions;
        (self.keys[start..].as_ptr(), self.values[start..].as_ptr())
    }
}

/// What [`attend`] needs to know besides the numbers.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Heads of queries; each key head serves an equal number of neighbouring ones.
    pub heads: usize,
    /// What products of queries and keys are multiplied by.
    pub scale: f32,
    /// How many positions, its own included, a token sees; `usize::MAX` for all.
    pub window: usize,
}

/// Attention of `tokens` tokens, whose keys and values are in the cache at `first` and after it: `out` becomes, for each
/// head and token, the mean of the values it sees. `queries` and `out` lie panel by panel; `scores` is memory to work in.
///
/// # Panics
/// Where the lengths don't fit each other.
#[allow(clippy::too_many_arguments, reason = "operands of one operation")]
pub fn attend(
    isa: Isa,
    team: &Team,
    attention: &Attention,
    cache: &Cache,
    layer: usize,
    first: usize,
    tokens: usize,
    queries: &[f32],
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    assert!(tokens > 0 && first + tokens <= cache.positions, "positions {first} to {}", first + tokens);
    assert!(attention.heads.is_multiple_of(cache.key_heads), "{} heads", attention.heads);
    assert_eq!(queries.len(), attention.heads * tokens * cache.head_size, "queries of {tokens} tokens");
    assert_eq!(out.len(), queries.len(), "as many results as queries");
    let length = (first + tokens).next_multiple_of(LANES);
    if scores.len() < team.threads() * ROWS * length {
        scores.resize(team.threads() * ROWS * length, 0.0);
    }
    // One token's heads that share keys go together, else neighbouring tokens of a head.
    let group = attention.heads / cache.key_heads;
    let tiles = |rows: usize| rows.div_ceil(ROWS);
    let (units, per_unit) =
        if tokens == 1 { (cache.key_heads, tiles(group)) } else { (attention.heads, tiles(tokens)) };
    let scores = Shared(scores.as_mut_ptr());
    let out = Shared(out.as_mut_ptr());
    team.run(units * per_unit, |item, thread| {
        // The last tokens see the most: so they come first.
        let item = units * per_unit - 1 - item;
        let (unit, start) = (item / per_unit, item % per_unit * ROWS);
        let (row, count) = match tokens {
            1 => (Row { head: unit * group + start, token: 0 }, ROWS.min(group - start)),
            _ => (Row { head: unit, token: start }, ROWS.min(tokens - start)),
        };
        let (keys, values) = cache.head(layer, row.head / group);
        // SAFETY: each thread has scores of its own.
        let scores = unsafe { scores.get().add(thread * ROWS * length) };
        let tile = Tile {
            row,
            first,
            tokens,
            head_size: cache.head_size,
            scale: attention.scale,
            window: attention.window,
            keys,
            values,
            queries: queries.as_ptr(),
            scores,
            out: out.get(),
        };
        let tile = &tile;
        // SAFETY: lengths were checked above; each item writes rows of its own; an Isa exists only where the CPU has
        // its instructions.
        unsafe {
            match count {
                1 => with_simd!(isa, tile_1(tile: &Tile)),
                2 => with_simd!(isa, tile_2(tile: &Tile)),
                3 => with_simd!(isa, tile_3(tile: &Tile)),
                _ => with_simd!(isa, tile_4(tile: &Tile)),
            }
        }
    });
}

/// A head's query of a token.
#[derive(Clone, Copy)]
struct Row {
    head: usize,
    token: usize,
}

/// Some rows: of one token and neighbouring heads with the same keys, or of one head and neighbouring tokens.
struct Tile {
    row: Row,
    first: usize,
    tokens: usize,
    head_size: usize,
    scale: f32,
    window: usize,
    keys: *const u16,
    values: *const u16,
    queries: *const f32,
    scores: *mut f32,
    out: *mut f32,
}

impl Tile {
    fn row(&self, index: usize) -> Row {
        match self.tokens {
            1 => Row { head: self.row.head + index, token: 0 },
            _ => Row { head: self.row.head, token: self.row.token + index },
        }
    }

    /// Where value `column` of a row lies.
    fn at(&self, row: Row, column: usize) -> usize {
        ((row.head * self.head_size + column) / LANES * self.tokens + row.token) * LANES + column % LANES
    }

    /// The positions a row sees.
    fn seen(&self, row: Row) -> std::ops::Range<usize> {
        let end = self.first + row.token + 1;
        end.saturating_sub(self.window)..end
    }
}

macro_rules! tiles {
    ($($name:ident = $rows:literal),*) => {
        $(
            #[inline(always)]
            unsafe fn $name<S: Simd>(tile: &Tile) {
                // SAFETY: passed on.
                unsafe { compute::<S, $rows>(tile) }
            }
        )*
    };
}
tiles!(tile_1 = 1, tile_2 = 2, tile_3 = 3, tile_4 = 4);

/// # Safety
/// The instructions of `S` are enabled; the tile's pointers are good for the `M` rows and all positions they see.
#[inline(always)]
unsafe fn compute<S: Simd, const M: usize>(tile: &Tile) {
    let start = tile.seen(tile.row(0)).start / LANES * LANES;
    let end = tile.seen(tile.row(M - 1)).end.next_multiple_of(LANES);
    let length = end - start;
    // SAFETY: the scores have room for M rows of all positions; passed on.
    unsafe {
        let largest = products::<S, M>(tile, start, end);
        let mut inverses = [0.0; M];
        for m in 0..M {
            let scores = tile.scores.add(m * length);
            let largest = S::splat(S::largest(largest[m]));
            let mut sum = S::splat(0.0);
            for at in (0..length).step_by(LANES) {
                let power = S::exp(S::sub(S::load(scores.add(at)), largest));
                S::store(scores.add(at), power);
                sum = S::add(sum, power);
            }
            // A position that is not seen counts e^-87, which is lost in any sum with one that is.
            inverses[m] = 1.0 / S::sum(sum);
        }
        means::<S, M>(tile, start, end, &inverses);
    }
}

/// Writes the products of queries and keys, and returns the largest of each row, lane by lane.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn products<S: Simd, const M: usize>(tile: &Tile, start: usize, end: usize) -> [S::Lanes; M] {
    const UNSEEN: f32 = -1e30;
    let size = tile.head_size;
    // SAFETY: passed on.
    unsafe {
        let mut largest = [S::splat(UNSEEN); M];
        let queries: [*const f32; M] = std::array::from_fn(|m| tile.queries.add(tile.at(tile.row(m), 0)));
        for block in (start..end).step_by(LANES) {
            let keys = tile.keys.add(block * size);
            let mut sums = [S::splat(0.0); M];
            for column in 0..size {
                let key = S::load_half(keys.add(column * LANES));
                let at = column / LANES * LANES * tile.tokens + column % LANES;
                for m in 0..M {
                    sums[m] = S::fma(key, S::splat(*queries[m].add(at)), sums[m]);
                }
            }
            for m in 0..M {
                let seen = tile.seen(tile.row(m));
                let scores = tile.scores.add(m * (end - start) + block - start);
                let mut sum = S::mul(sums[m], S::splat(tile.scale));
                if seen.start > block || seen.end < block + LANES {
                    let mut lanes = S::to_array(sum);
                    for (lane, score) in lanes.iter_mut().enumerate() {
                        if !seen.contains(&(block + lane)) {
                            *score = UNSEEN;
                        }
                    }
                    sum = S::load(lanes.as_ptr());
                }
                S::store(scores, sum);
                largest[m] = S::max(largest[m], sum);
            }
        }
        largest
    }
}

/// Writes each row's mean of the values, weighted by its scores.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn means<S: Simd, const M: usize>(tile: &Tile, start: usize, end: usize, inverses: &[f32; M]) {
    let size = tile.head_size;
    let seen = tile.seen(tile.row(0)).start..tile.seen(tile.row(M - 1)).end;
    // SAFETY: passed on. Two panels of values at a time, so that sums stay in registers.
    unsafe {
        let mut column = 0;
        while column < size {
            let two = column + LANES < size;
            let mut sums = [[S::splat(0.0); 2]; M];
            for position in seen.clone() {
                let values = tile.values.add(position * size + column);
                let first = S::load_half(values);
                let second = if two { S::load_half(values.add(LANES)) } else { first };
                for (m, sums) in sums.iter_mut().enumerate() {
                    let weight = S::splat(*tile.scores.add(m * (end - start) + position - start));
                    *sums = [S::fma(weight, first, sums[0]), S::fma(weight, second, sums[1])];
                }
            }
            for m in 0..M {
                let inverse = S::splat(inverses[m]);
                let out = tile.out.add(tile.at(tile.row(m), column));
                S::store(out, S::mul(sums[m][0], inverse));
                if two {
                    S::store(out.add(LANES * tile.tokens), S::mul(sums[m][1], inverse));
                }
            }
            column += 2 * LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(seed: usize) -> f32 {
        ((seed * 7919 + 13) as f32 * 0.37).sin()
    }

    /// As one would write it down, in double precision.
    fn reference(
        attention: &Attention,
        key_heads: usize,
        size: usize,
        position: usize,
        head: usize,
        query: &[f32],
    ) -> Vec<f64> {
        let key_head = head / (attention.heads / key_heads);
        let first = (position + 1).saturating_sub(attention.window);
        let half = |value: f32| f64::from(float16::to_f32(float16::from_f32(value)));
        let key = |at: usize, column: usize| half(number(key_head * 1_000_003 + at * 1009 + column));
        let value = |at: usize, column: usize| half(number(key_head * 1_000_003 + at * 1009 + column + 500));
        let scores: Vec<f64> = (first..=position)
            .map(|at| {
                let product: f64 = (0..size).map(|column| f64::from(query[column]) * key(at, column)).sum();
                (product * f64::from(attention.scale)).exp()
            })
            .collect();
        let total: f64 = scores.iter().sum();
        (0..size)
            .map(|column| scores.iter().enumerate().map(|(at, score)| score / total * value(first + at, column)).sum())
            .collect()
    }

    /// Panel by panel: value `column` of `token`.
    fn panels(columns: usize, tokens: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        (0..columns * tokens)
            .map(|index| value(index / LANES % tokens, index / LANES / tokens * LANES + index % LANES))
            .collect()
    }

    fn check(isa: Isa, heads: usize, key_heads: usize, size: usize, window: usize, steps: &[usize]) {
        let team = Team::new(2);
        let attention = Attention { heads, scale: 0.3, window };
        let mut cache = Cache::new(2, key_heads, size, steps.iter().sum());
        let mut scores = Vec::new();
        let mut first = 0;
        for &tokens in steps {
            let stored = |offset: usize| {
                panels(key_heads * size, tokens, |token, column| {
                    number(column / size * 1_000_003 + (first + token) * 1009 + column % size + offset)
                })
            };
            cache.store(1, first, tokens, &stored(0), &stored(500));
            let query = |token: usize, column: usize| number((first + token) * 31 + column * 17 + 5);
            let queries = panels(heads * size, tokens, query);
            let mut out = vec![f32::NAN; queries.len()];
            attend(isa, &team, &attention, &cache, 1, first, tokens, &queries, &mut scores, &mut out);
            for token in 0..tokens {
                for head in 0..heads {
                    let row: Vec<f32> = (0..size).map(|column| query(token, head * size + column)).collect();
                    let expected = reference(&attention, key_heads, size, first + token, head, &row);
                    for (column, expected) in expected.iter().enumerate() {
                        let column = head * size + column;
                        let found = out[(column / LANES * tokens + token) * LANES + column % LANES];
                        let error = (f64::from(found) - expected).abs();
                        assert!(
                            error < 2e-5,
                            "{} position {} head {head}: {found} {expected}",
                            isa.name(),
                            first + token
                        );
                    }
                }
            }
            first += tokens;
        }
    }

    #[test]
    fn attention_is_the_weighted_mean_of_what_is_seen() {
        for isa in Isa::available() {
            check(isa, 9, 3, 64, usize::MAX, &[37, 1, 1, 16, 5, 1]);
            check(isa, 4, 1, 48, usize::MAX, &[1, 1, 3, 30]);
            check(isa, 2, 2, 16, usize::MAX, &[20, 1]);
            check(isa, 14, 2, 32, usize::MAX, &[5, 1, 1]);
        }
    }

    #[test]
    fn a_window_hides_what_is_further_away() {
        for isa in Isa::available() {
            for window in [1, 7, 16, 33] {
                check(isa, 4, 2, 32, window, &[40, 1, 1, 9, 1]);
            }
        }
    }
}
