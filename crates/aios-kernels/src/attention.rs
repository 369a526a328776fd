//! Attention of new tokens to all tokens of their context.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::activations::Shared;
use crate::isa::Isa;
use crate::simd::{Simd, with_simd};
use crate::{Cache, LANES, Team};

/// Rows of queries computed together.
const ROWS: usize = 4;

/// Positions whose scores are held at a time: so many scores of a tile, and so many keys and values of a small head, stay
/// in the nearest cache, however long the context. Chunks begin at multiples of it, so that what a token gets does not
/// depend on the tokens it is computed with.
const CHUNK: usize = 256;

/// The score of a position that is not seen.
const UNSEEN: f32 = -1e30;

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

/// New tokens of a context.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Keys and values of all tokens, the new ones included.
    pub cache: &'a Cache,
    /// Position of the first new token.
    pub first: usize,
    /// Number of new tokens.
    pub tokens: usize,
}

/// Attention of a batch, which the new tokens of all `sequences` make up, one behind the other: `out` becomes, for each head
/// and token, the mean of the values it sees. `queries` and `out` lie panel by panel.
///
/// # Panics
/// Where the lengths don't fit each other.
pub fn attend<'a>(
    isa: Isa,
    team: &Team,
    attention: &Attention,
    layer: usize,
    sequences: impl Iterator<Item = Sequence<'a>> + Clone + Sync,
    queries: &[f32],
    out: &mut [f32],
) {
    let (mut batch, mut items) = (0, 0);
    for sequence in sequences.clone() {
        let Sequence { cache, first, tokens } = sequence;
        assert!(tokens > 0 && first + tokens <= cache.positions(), "positions {first} to {}", first + tokens);
        assert!(attention.heads.is_multiple_of(cache.key_heads()), "{} heads", attention.heads);
        batch += tokens;
        items += Tiles::of(attention, &sequence).count();
    }
    assert_eq!(out.len(), queries.len(), "as many results as queries");
    let results = Shared(out.as_mut_ptr());
    team.run(items, |item, _| {
        let (mut item, mut start) = (item, 0);
        for sequence in sequences.clone() {
            let tiles = Tiles::of(attention, &sequence);
            if item >= tiles.count() {
                item -= tiles.count();
                start += sequence.tokens;
                continue;
            }
            let head_size = sequence.cache.head_size();
            assert_eq!(queries.len(), attention.heads * batch * head_size, "queries of {batch} tokens");
            let (row, count) = tiles.tile(item);
            let (keys, values) = sequence.cache.head(layer, row.head / tiles.group);
            let (next, _) = tiles.tile((item + 1).min(tiles.count() - 1));
            let (next, _) = sequence.cache.head(layer, next.head / tiles.group);
            let tile = &Tile {
                row,
                first: sequence.first,
                single: sequence.tokens == 1,
                start,
                batch,
                head_size,
                scale: attention.scale,
                window: attention.window,
                keys,
                values,
                next,
                queries: queries.as_ptr(),
                out: results.get(),
            };
            // SAFETY: lengths were checked above; each item writes rows of its own; an Isa exists only where the CPU has
            // its instructions.
            return unsafe {
                match count {
                    1 => with_simd!(isa, tile_1(tile: &Tile)),
                    2 => with_simd!(isa, tile_2(tile: &Tile)),
                    3 => with_simd!(isa, tile_3(tile: &Tile)),
                    _ => with_simd!(isa, tile_4(tile: &Tile)),
                }
            };
        }
    });
}

/// A sequence's rows, [`ROWS`] at a time: of one token, heads that share keys, else neighbouring tokens of a head.
struct Tiles {
    tokens: usize,
    /// Query heads of a key head.
    group: usize,
    units: usize,
    per_unit: usize,
}

impl Tiles {
    fn of(attention: &Attention, sequence: &Sequence<'_>) -> Self {
        let (tokens, key_heads) = (sequence.tokens, sequence.cache.key_heads());
        let group = attention.heads / key_heads;
        let (units, rows) = if tokens == 1 { (key_heads, group) } else { (attention.heads, tokens) };
        Self { tokens, group, units, per_unit: rows.div_ceil(ROWS) }
    }

    fn count(&self) -> usize {
        self.units * self.per_unit
    }

    /// The first row of a tile, and how many it has. The last tokens see the most: so they come first.
    fn tile(&self, index: usize) -> (Row, usize) {
        let index = self.count() - 1 - index;
        let (unit, start) = (index / self.per_unit, index % self.per_unit * ROWS);
        match self.tokens {
            1 => (Row { head: unit * self.group + start, token: 0 }, ROWS.min(self.group - start)),
            tokens => (Row { head: unit, token: start }, ROWS.min(tokens - start)),
        }
    }
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
    /// Position of the sequence's first token.
    first: usize,
    /// Whether the rows are heads of one token.
    single: bool,
    /// The number of the sequence's first token in the batch.
    start: usize,
    /// Tokens of the batch.
    batch: usize,
    head_size: usize,
    scale: f32,
    window: usize,
    keys: *const u16,
    values: *const u16,
    /// The keys of the tile behind this one.
    next: *const u16,
    queries: *const f32,
    out: *mut f32,
}

impl Tile {
    fn row(&self, index: usize) -> Row {
        match self.single {
            true => Row { head: self.row.head + index, token: 0 },
            false => Row { head: self.row.head, token: self.row.token + index },
        }
    }

    /// Where value `column` of a row lies.
    fn at(&self, row: Row, column: usize) -> usize {
        ((row.head * self.head_size + column) / LANES * self.batch + self.start + row.token) * LANES + column % LANES
    }

    /// The positions a row sees.
    fn seen(&self, row: Row) -> Range<usize> {
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

/// The scores of a tile's rows at the positions of a chunk.
type Scores<const M: usize> = [[f32; CHUNK]; M];

/// What changes from chunk to chunk: the rows so far are multiplied by `before`, and with the new ones by `after`.
struct Factors<const M: usize> {
    before: [f32; M],
    after: [f32; M],
    /// The keys that are needed after this chunk's values.
    next: *const u16,
}

/// The softmax of all scores in one pass: what was summed up with a smaller largest score is scaled down to the new one.
///
/// # Safety
/// The instructions of `S` are enabled; the tile's pointers are good for the `M` rows and all positions they see.
#[inline(always)]
unsafe fn compute<S: Simd, const M: usize>(tile: &Tile) {
    let start = tile.seen(tile.row(0)).start / LANES * LANES;
    let end = tile.seen(tile.row(M - 1)).end;
    let mut scores = MaybeUninit::<Scores<M>>::uninit();
    let scores = scores.as_mut_ptr();
    let (mut largest, mut sums) = ([UNSEEN; M], [0.0; M]);
    let mut at = start;
    while at < end {
        let chunk = at..((at / CHUNK + 1) * CHUNK).min(end);
        let next = match chunk.end == end {
            true => tile.next.wrapping_add(start * tile.head_size),
            false => tile.keys.wrapping_add(chunk.end * tile.head_size),
        };
        let mut factors = Factors { before: [1.0; M], after: [1.0; M], next };
        // SAFETY: passed on; a row has scores for all positions of a chunk, whose number is rounded up to whole registers.
        unsafe {
            let highest = products::<S, M>(tile, chunk.clone(), scores);
            for m in 0..M {
                let before = largest[m];
                largest[m] = before.max(S::largest(highest[m]));
                factors.before[m] = S::first(S::exp(S::splat(before - largest[m])));
                let row = scores.cast::<f32>().add(m * CHUNK);
                let mut sum = S::splat(0.0);
                for lane in (0..chunk.len()).step_by(LANES) {
                    // A position that is not seen counts e^-87, which is lost in any sum with one that is.
                    let power = S::exp(S::sub(S::load(row.add(lane)), S::splat(largest[m])));
                    S::store(row.add(lane), power);
                    sum = S::add(sum, power);
                }
                sums[m] = sums[m] * factors.before[m] + S::sum(sum);
                if chunk.end == end {
                    factors.after[m] = 1.0 / sums[m];
                }
            }
            means::<S, M>(tile, chunk.clone(), at == start, scores, &factors);
        }
        at = chunk.end;
    }
}

/// Writes the products of queries and keys, and returns the largest of each row, lane by lane.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn products<S: Simd, const M: usize>(tile: &Tile, chunk: Range<usize>, scores: *mut Scores<M>) -> [S::Lanes; M] {
    // SAFETY: passed on.
    unsafe {
        let mut largest = [S::splat(UNSEEN); M];
        let queries: [*const f32; M] = std::array::from_fn(|m| tile.queries.add(tile.at(tile.row(m), 0)));
        let mut block = chunk.start;
        while block < chunk.end {
            // Sums of two blocks run side by side where there are registers for them: each addition waits for the last one.
            let step = if S::MANY && block + LANES < chunk.end {
                let sums = block_products::<S, M, 2>(tile, &queries, block);
                largest = note::<S, M>(tile, &chunk, block, sums[0], largest, scores);
                largest = note::<S, M>(tile, &chunk, block + LANES, sums[1], largest, scores);
                2
            } else {
                let [sums] = block_products::<S, M, 1>(tile, &queries, block);
                largest = note::<S, M>(tile, &chunk, block, sums, largest, scores);
                1
            };
            block += step * LANES;
        }
        largest
    }
}

/// The products of `M` queries with the keys of `B` blocks of positions from `block` on.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn block_products<S: Simd, const M: usize, const B: usize>(
    tile: &Tile,
    queries: &[*const f32; M],
    block: usize,
) -> [[S::Lanes; M]; B] {
    let size = tile.head_size;
    // SAFETY: passed on.
    unsafe {
        let (keys, values) = (tile.keys.add(block * size), tile.values.add(block * size));
        let mut sums = [[S::splat(0.0); M]; B];
        for column in 0..size {
            let key: [S::Lanes; B] = std::array::from_fn(|b| {
                let at = (b * size + column) * LANES;
                // Two columns share a cache line. The values of these positions are needed next.
                if column % 2 == 0 {
                    S::ask(values.wrapping_add(at));
                }
                S::load_half(keys.add(at))
            });
            let at = column / LANES * LANES * tile.batch + column % LANES;
            for m in 0..M {
                let query = S::splat(*queries[m].add(at));
                for b in 0..B {
                    sums[b][m] = S::fma(key[b], query, sums[b][m]);
                }
            }
        }
        sums
    }
}

/// Writes the scores of a block, and returns the largest of each row so far, lane by lane.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn note<S: Simd, const M: usize>(
    tile: &Tile,
    chunk: &Range<usize>,
    block: usize,
    sums: [S::Lanes; M],
    mut largest: [S::Lanes; M],
    scores: *mut Scores<M>,
) -> [S::Lanes; M] {
    // SAFETY: passed on.
    unsafe {
        for m in 0..M {
            let seen = tile.seen(tile.row(m));
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
            S::store(scores.cast::<f32>().add(m * CHUNK + block - chunk.start), sum);
            largest[m] = S::max(largest[m], sum);
        }
        largest
    }
}

/// Adds the values of a chunk to each row's mean, weighted by its scores; the `first` chunk begins it.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn means<S: Simd, const M: usize>(
    tile: &Tile,
    chunk: Range<usize>,
    first: bool,
    scores: *const Scores<M>,
    factors: &Factors<M>,
) {
    let (size, mut column) = (tile.head_size, 0);
    // SAFETY: passed on.
    unsafe {
        // Some panels of values at a time, so that sums stay in registers.
        while column < size {
            let left = (size - column) / LANES;
            let panels = if S::MANY && left >= 4 {
                panel_means::<S, M, 4>(tile, &chunk, column, first, scores, factors);
                4
            } else if left >= 2 {
                panel_means::<S, M, 2>(tile, &chunk, column, first, scores, factors);
                2
            } else {
                panel_means::<S, M, 1>(tile, &chunk, column, first, scores, factors);
                1
            };
            column += panels * LANES;
        }
    }
}

/// [`means`] of the `P` panels of values that begin at `column`.
///
/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn panel_means<S: Simd, const M: usize, const P: usize>(
    tile: &Tile,
    chunk: &Range<usize>,
    column: usize,
    first: bool,
    scores: *const Scores<M>,
    factors: &Factors<M>,
) {
    let (size, scores) = (tile.head_size, scores.cast::<f32>());
    // SAFETY: passed on.
    unsafe {
        let out = |m: usize, panel: usize| tile.out.add(tile.at(tile.row(m), column + panel * LANES));
        let mut sums = [[S::splat(0.0); P]; M];
        if !first {
            for (m, sums) in sums.iter_mut().enumerate() {
                let before = S::splat(factors.before[m]);
                for (panel, sum) in sums.iter_mut().enumerate() {
                    *sum = S::mul(S::load(out(m, panel)), before);
                }
            }
        }
        for position in chunk.clone() {
            let values = tile.values.add(position * size + column);
            let next = factors.next.wrapping_add((position - chunk.start) * size + column);
            let values: [S::Lanes; P] = std::array::from_fn(|panel| {
                // Two panels share a cache line.
                if panel % 2 == 0 {
                    S::ask(next.wrapping_add(panel * LANES));
                }
                S::load_half(values.add(panel * LANES))
            });
            for (m, sums) in sums.iter_mut().enumerate() {
                let weight = S::splat(*scores.add(m * CHUNK + position - chunk.start));
                for (sum, values) in sums.iter_mut().zip(values) {
                    *sum = S::fma(weight, values, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            let after = S::splat(factors.after[m]);
            for (panel, sum) in sums.into_iter().enumerate() {
                S::store(out(m, panel), S::mul(sum, after));
            }
        }
    }
}

#[cfg(test)]
mod tests;
