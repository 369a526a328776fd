//! One bit a dimension of each vector, from which its cosine to a query is estimated.
//!
//! A vector is the centre `c` of all vectors and a difference `d` from it; its code has the signs of `d`. The cosine to a
//! query `q` is `c·q + d·q`, and `d·q` is estimated as `factor * (signs·q)` with `factor = d·d / |d|₁`, which is exact for
//! `q = d`. The error of other queries is spread about 0 with a deviation of about `0.6 * factor`: for differences whose
//! numbers are normally distributed, `sqrt(1 - 2/pi)`. (Estimator of Gao and Long's RaBitQ, without a rotation: the dimensions of
//! text embeddings carry about the same each.)

use aios_kernels::{GROUP, Scan, TABLE_MAX, Table};

use crate::{
    quantize::Query,
    rows::{CHUNK, Rows, place},
};

/// By how many factors an estimate is raised: two deviations, so about one in 40 of the nearest ones would be estimated too
/// low if its estimate had to reach the last one's cosine; most are far above. More takes longer.
const MARGIN: f32 = 1.2;

/// The centre is computed again when there are so many times as many vectors as the last time.
const RECENTRE: usize = 4;

/// The codes of all rows.
#[derive(Debug)]
pub(crate) struct Codes {
    centre: Vec<f32>,
    /// Number of vectors that the centre is that of.
    centred: usize,
    chunks: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    /// Not a number where there is no vector: such an estimate is above nothing.
    factors: Box<[f32]>,
    codes: Box<[u8]>,
}

impl Codes {
    pub(crate) fn new(rows: &Rows) -> Codes {
        let mut codes = Codes { centre: centre(rows), centred: rows.len(), chunks: Vec::new() };
        rows.slots().for_each(|slot| codes.insert(rows, slot));
        codes
    }

    /// Whether there are so many more vectors than when they were made, that others would be better.
    pub(crate) fn are_old(&self, rows: &Rows) -> bool {
        rows.len() > CHUNK / RECENTRE && rows.len() / RECENTRE > self.centred
    }

    /// Adds the code of a row.
    pub(crate) fn insert(&mut self, rows: &Rows, slot: u32) {
        let (index, at) = place(slot);
        while self.chunks.len() <= index {
            self.chunks.push(Chunk::new(rows.width()));
        }
        let chunk = &mut self.chunks[index];
        let group = &mut chunk.codes[at / GROUP * GROUP * rows.width() / 8..];
        let scale = rows.scale(slot);
        // Eight sums, so that no addition waits for the one before.
        let [mut squares, mut sums] = [[0.0f32; 8]; 2];
        let eights = rows.numbers(slot).chunks_exact(8).zip(self.centre.chunks_exact(8));
        for (column, (numbers, centre)) in eights.enumerate() {
            let mut code = 0;
            for bit in 0..8 {
                let difference = f32::from(numbers[bit]) * scale - centre[bit];
                squares[bit] += difference * difference;
                sums[bit] += difference.abs();
                code |= u8::from(difference > 0.0) << bit;
            }
            group[column * GROUP + at % GROUP] = code;
        }
        let (square, sum) = (squares.iter().sum::<f32>(), sums.iter().sum::<f32>());
        chunk.factors[at] = if sum > 0.0 { square / sum } else { 0.0 };
    }

    /// Takes the code of a row away.
    pub(crate) fn remove(&mut self, rows: &Rows, slot: u32) {
        let (index, at) = place(slot);
        if let Some(chunk) = self.chunks.get_mut(index) {
            chunk.factors[at] = f32::NAN;
            let group = &mut chunk.codes[at / GROUP * GROUP * rows.width() / 8..];
            (0..rows.width() / 8).for_each(|column| group[column * GROUP + at % GROUP] = 0);
        }
    }

    /// Drops what lies behind the last row.
    pub(crate) fn truncate(&mut self, rows: &Rows) {
        self.chunks.truncate(rows.end() as usize / CHUNK);
    }

    /// Estimates the cosine of each row to the query, by slot, so that few are too low; and the largest of each group. Those
    /// of slots without a vector are not numbers.
    pub(crate) fn estimate(&self, query: &Query, rows: &Rows, estimates: &mut Vec<f32>, largest: &mut Vec<f32>) {
        let scan = scan(query);
        estimates.resize(self.chunks.len() * CHUNK, 0.0);
        largest.resize(estimates.len() / GROUP, 0.0);
        let out = estimates.chunks_exact_mut(CHUNK).zip(largest.chunks_exact_mut(CHUNK / GROUP));
        for (chunk, (estimates, largest)) in self.chunks.iter().zip(out) {
            scan.run(rows.isa(), &chunk.codes, &chunk.factors, estimates, largest);
        }
    }

    /// What an estimate lacks to the cosine: the product with the centre, which is the same for all.
    pub(crate) fn common(&self, query: &Query) -> f32 {
        self.centre.iter().zip(&query.values).map(|(centre, value)| centre * value).sum()
    }
}

impl Chunk {
    fn new(width: usize) -> Chunk {
        Chunk { factors: vec![f32::NAN; CHUNK].into(), codes: vec![0; CHUNK * width / 8].into() }
    }
}

/// The mean of all rows.
fn centre(rows: &Rows) -> Vec<f32> {
    let mut sums = vec![0.0f64; rows.width()];
    for slot in rows.slots() {
        let scale = f64::from(rows.scale(slot));
        for (sum, number) in sums.iter_mut().zip(rows.numbers(slot)) {
            *sum += scale * f64::from(*number);
        }
    }
    sums.into_iter().map(|sum| (sum / rows.len().max(1) as f64) as f32).collect()
}

/// The query as tables of what four signs add to their product with it.
fn scan(query: &Query) -> Scan {
    let lowest = |four: &[f32]| four.iter().map(|value| value.min(0.0)).sum::<f32>();
    let range = |four: &[f32]| four.iter().map(|value| value.abs()).sum::<f32>();
    let fours = query.values.chunks_exact(4);
    let step = fours.clone().map(range).fold(f32::MIN_POSITIVE, f32::max) / f32::from(TABLE_MAX);
    let table = |four: &[f32]| -> Table {
        let mut chosen = [-lowest(four); 16];
        for bits in 1..16usize {
            chosen[bits] = chosen[bits & (bits - 1)] + four[bits.trailing_zeros() as usize];
        }
        chosen.map(|chosen| (chosen / step + 0.5).clamp(0.0, f32::from(TABLE_MAX)) as u8)
    };
    // Signs are 1 where a bit is set, and -1 elsewhere: twice what the bits choose, less everything.
    let offset = 2.0 * fours.clone().map(lowest).sum::<f32>() - query.values.iter().sum::<f32>();
    Scan::new(fours.map(table).collect(), 2.0 * step, offset + MARGIN)
}
