//! From the blocks of GGUF files to panels.
//!
//! The block formats are those of ggml (`ggml-quants.c`, `ggml-common.h`). Codes are moved four at a time, in words of four
//! bytes: a panel's bytes are those of the file in another order, so packing is as fast as memory allows.

use crate::matrix::{Format, Layout, Storage};
use crate::{BLOCK, LANES, float16};

/// The codes of 32 values and their numbers, half precision: see [`Layout`]. Byte `j` of word `i` belongs to value
/// `4 * i + j`.
#[derive(Default)]
struct Part {
    /// The lowest four bits: of the first 16 values in the lower halves of bytes, of the others in the upper ones.
    low: [u32; 4],
    /// The fifth bit of each value.
    fifth: u32,
    /// The fifth and sixth bit of each value, in the lowest bits of its byte.
    two: [u32; 8],
    /// All eight bits.
    whole: [u32; 8],
    numbers: [u16; 2],
}

/// Writes up to [`LANES`] rows into the numbers and codes of their panel, all of which must be zero.
pub(crate) fn panel(format: Format, rows: &[u8], row_bytes: usize, numbers: &mut [u8], codes: &mut [u8]) {
    let Storage::Codes(layout) = format.storage() else { return halves(rows, row_bytes, codes) };
    let mut panel = Panel { layout, rows, row_bytes, numbers, codes };
    match format {
        Format::Q4_0 => {
            panel.fill(1, |block: &[u8; 18], _| Part { low: words(block, 2), numbers: [half(block, 0), 0], ..zero() })
        }
        Format::Q4_1 => panel.fill(1, |block: &[u8; 20], _| Part {
            low: words(block, 4),
            numbers: [half(block, 0), half(block, 2)],
            ..zero()
        }),
        Format::Q5_0 => panel.fill(1, |block: &[u8; 22], _| Part {
            low: words(block, 6),
            fifth: words::<1>(block, 2)[0],
            numbers: [half(block, 0), 0],
            ..zero()
        }),
        Format::Q5_1 => panel.fill(1, |block: &[u8; 24], _| Part {
            low: words(block, 8),
            fifth: words::<1>(block, 4)[0],
            numbers: [half(block, 0), half(block, 2)],
            ..zero()
        }),
        Format::Q8_0 => panel.fill(1, |block: &[u8; 34], _| Part {
            whole: words::<8>(block, 2).map(|word| word ^ 0x8080_8080),
            numbers: [half(block, 0), 0],
            ..zero()
        }),
        Format::Q4K => panel.fill(8, |block: &[u8; 144], part| super_block(block, 16, None, part)),
        Format::Q5K => panel.fill(8, |block: &[u8; 176], part| super_block(block, 48, Some(16), part)),
        Format::Q6K => panel.fill(8, six_bits),
        Format::F16 | Format::Bf16 => unreachable!("invariant: {format:?} has no codes"),
    }
}

/// Writes up to [`LANES`] rows of 16-bit numbers into their panel.
fn halves(rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (number, column) in row.as_chunks::<2>().0.iter().zip(panel.as_chunks_mut::<{ 2 * LANES }>().0) {
            column[lane * 2..][..2].copy_from_slice(number);
        }
    }
}

fn zero() -> Part {
    Part::default()
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn words<const N: usize>(bytes: &[u8], at: usize) -> [u32; N] {
    let words = bytes[at..at + N * 4].as_chunks::<4>().0;
    std::array::from_fn(|index| u32::from_le_bytes(words[index]))
}

/// One of two sets of codes that share bytes: four bits of each, from bytes to halves as [`Part::low`] has them.
fn nibbles(shared: [u32; 8], upper: bool) -> [u32; 4] {
    let four = shared.map(|word| (if upper { word >> 4 } else { word }) & 0x0f0f_0f0f);
    std::array::from_fn(|index| four[index] | four[index + 4] << 4)
}

/// Q4_K and Q5_K: eight parts of 32 values with scales and minima of six bits each.
fn super_block(block: &[u8], low: usize, fifth: Option<usize>, part: usize) -> Part {
    let scale = float16::to_f32(half(block, 0));
    let minimum = float16::to_f32(half(block, 2));
    let packed = &block[4..16];
    let (factor, subtrahend) = match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (packed[part + 4] & 15 | packed[part - 4] >> 6 << 4, packed[part + 4] >> 4 | packed[part] >> 6 << 4),
    };
    let fifth = fifth.map_or(0, |at| {
        let bits = |index: usize| u32::from(block[at + index] >> part & 1) << index;
        (0..BLOCK).fold(0, |all, index| all | bits(index))
    });
    let numbers = [float16::from_f32(scale * f32::from(factor)), float16::from_f32(-minimum * f32::from(subtrahend))];
    Part { low: nibbles(words(block, low + part / 2 * 32), part % 2 == 1), fifth, numbers, ..zero() }
}

/// Q6_K: two halves of 128 values, in each of which four parts share bytes.
fn six_bits(block: &[u8; 210], part: usize) -> Part {
    let scale = float16::to_f32(half(block, 208));
    let (which, quarter) = (part / 4, part % 4);
    let low = words(block, which * 64 + quarter % 2 * 32);
    let high = words::<8>(block, 128 + which * 32);
    let number = |half: usize| {
        let factor = block[192 + which * 8 + quarter * 2 + half] as i8;
        float16::from_f32(scale * f32::from(factor))
    };
    Part {
        low: nibbles(low, quarter >= 2),
        two: high.map(|word| word >> (2 * quarter) & 0x0303_0303),
        numbers: [number(0), number(1)],
        ..zero()
    }
}

/// Rows of a file and the panel that they become.
struct Panel<'a> {
    layout: Layout,
    rows: &'a [u8],
    row_bytes: usize,
    numbers: &'a mut [u8],
    codes: &'a mut [u8],
}

impl Panel<'_> {
    /// Fills the panel with what `read(block, part)` makes of the `parts` parts of each block of `BYTES` bytes.
    #[inline(always)]
    fn fill<const BYTES: usize>(&mut self, parts: usize, read: impl Fn(&[u8; BYTES], usize) -> Part) {
        let layout = self.layout;
        let numbers = self.numbers.chunks_exact_mut(layout.number_bytes());
        let codes = self.codes.chunks_exact_mut(layout.code_bytes());
        for (index, (numbers, codes)) in numbers.zip(codes).take(self.row_bytes / BYTES * parts).enumerate() {
            let (block, part) = (index / parts, index % parts);
            for (lane, row) in self.rows.chunks_exact(self.row_bytes).enumerate() {
                let bytes = row[block * BYTES..].first_chunk().expect("invariant: a row is whole blocks");
                place(layout, lane, &read(bytes, part), numbers, codes);
            }
        }
    }
}

/// Writes row `lane` of a block.
#[inline(always)]
fn place(layout: Layout, lane: usize, part: &Part, numbers: &mut [u8], codes: &mut [u8]) {
    for (which, number) in part.numbers.iter().take(layout.numbers()).enumerate() {
        numbers[(which * LANES + lane) * 2..][..2].copy_from_slice(&number.to_le_bytes());
    }
    let (low, high) = codes.split_at_mut(if layout == Layout::U8 { 512 } else { 256 });
    if layout == Layout::U8 {
        return lines(low, lane, &part.whole);
    }
    lines(low, lane, &part.low);
    match layout {
        Layout::U5 | Layout::U5Minimum => {
            for (quad, bits) in high.chunks_exact_mut(8).enumerate() {
                bits[lane / 2] |= ((part.fifth >> (quad * 4) & 15) << (lane % 2 * 4)) as u8;
            }
        }
        Layout::U6 => {
            let four = |quads: &[u32]| quads[0] | quads[1] << 2 | quads[2] << 4 | quads[3] << 6;
            lines(high, lane, &[four(&part.two[..4]), four(&part.two[4..])]);
        }
        Layout::U4 | Layout::U4Minimum | Layout::U8 => {}
    }
}

/// Writes a word into each line of 64 bytes.
#[inline(always)]
fn lines(bytes: &mut [u8], lane: usize, words: &[u32]) {
    for (line, word) in bytes.as_chunks_mut::<64>().0.iter_mut().zip(words) {
        line[lane * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
}

/// The codes of a block, a byte each, quad after quad.
#[inline(always)]
pub(crate) fn expand(layout: Layout, codes: &[u8], out: &mut [u8; LANES * BLOCK]) {
    if layout == Layout::U8 {
        out.copy_from_slice(&codes[..512]);
        return;
    }
    let (low, high) = out.split_at_mut(256);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&codes[..256]) {
        *low = byte & 15;
        *high = byte >> 4;
    }
    match layout {
        Layout::U5 | Layout::U5Minimum => {
            for (index, out) in out.iter_mut().enumerate() {
                *out |= (codes[256 + index / 8] >> (index % 8) & 1) << 4;
            }
        }
        Layout::U6 => {
            for (quad, out) in out.chunks_exact_mut(64).enumerate() {
                for (out, byte) in out.iter_mut().zip(&codes[256 + quad / 4 * 64..][..64]) {
                    *out |= (byte >> (quad % 4 * 2) & 3) << 4;
                }
            }
        }
        Layout::U4 | Layout::U4Minimum | Layout::U8 => {}
    }
}
