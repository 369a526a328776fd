//! From the blocks of GGUF files to codes, and from codes to their places in a panel.
//!
//! The block formats are those of ggml (`ggml-quants.c`, `ggml-common.h`).

use crate::matrix::{Format, Layout};
use crate::{BLOCK, LANES, float16};

/// The codes of 32 values and their numbers, half precision: see [`Layout`].
pub(crate) struct Codes {
    pub(crate) codes: [u8; BLOCK],
    pub(crate) numbers: [u16; 2],
}

/// Hands each 32 values of `row` to `each`, with their index.
pub(crate) fn decode_row(format: Format, row: &[u8], mut each: impl FnMut(usize, Codes)) {
    for (block, bytes) in row.chunks_exact(format.block_bytes()).enumerate() {
        match format {
            Format::Q4_0 => each(block, Codes { codes: nibbles(&bytes[2..]), numbers: [half(bytes, 0), 0] }),
            Format::Q4_1 => {
                each(block, Codes { codes: nibbles(&bytes[4..]), numbers: [half(bytes, 0), half(bytes, 2)] })
            }
            Format::Q5_0 => {
                each(
                    block,
                    Codes { codes: fifth_bit(nibbles(&bytes[6..]), &bytes[2..6]), numbers: [half(bytes, 0), 0] },
                );
            }
            Format::Q5_1 => {
                let codes = fifth_bit(nibbles(&bytes[8..]), &bytes[4..8]);
                each(block, Codes { codes, numbers: [half(bytes, 0), half(bytes, 2)] });
            }
            Format::Q8_0 => {
                let codes = std::array::from_fn(|index| bytes[2 + index] ^ 0x80);
                each(block, Codes { codes, numbers: [half(bytes, 0), 0] });
            }
            Format::Q4K => super_block(bytes, &bytes[16..], None, |part, codes| each(block * 8 + part, codes)),
            Format::Q5K => {
                super_block(bytes, &bytes[48..], Some(&bytes[16..48]), |part, codes| each(block * 8 + part, codes))
            }
            Format::Q6K => six_bits(bytes, |part, codes| each(block * 8 + part, codes)),
        }
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The lower halves of 16 bytes, then their upper ones.
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|index| if index < 16 { bytes[index] & 15 } else { bytes[index - 16] >> 4 })
}

fn fifth_bit(mut codes: [u8; BLOCK], bits: &[u8]) -> [u8; BLOCK] {
    for (index, code) in codes.iter_mut().enumerate() {
        *code |= (bits[index / 8] >> (index % 8) & 1) << 4;
    }
    codes
}

/// Q4_K and Q5_K: eight parts of 32 values with scales and minima of six bits each.
fn super_block(bytes: &[u8], low: &[u8], fifth: Option<&[u8]>, mut each: impl FnMut(usize, Codes)) {
    let scale = float16::to_f32(half(bytes, 0));
    let minimum = float16::to_f32(half(bytes, 2));
    let packed = &bytes[4..16];
    for part in 0..8 {
        let (factor, subtrahend) = match part {
            0..4 => (packed[part] & 63, packed[part + 4] & 63),
            _ => (packed[part + 4] & 15 | packed[part - 4] >> 6 << 4, packed[part + 4] >> 4 | packed[part] >> 6 << 4),
        };
        let codes = std::array::from_fn(|index| {
            let byte = low[part / 2 * 32 + index];
            let code = if part % 2 == 0 { byte & 15 } else { byte >> 4 };
            code | fifth.map_or(0, |fifth| (fifth[index] >> part & 1) << 4)
        });
        let numbers =
            [float16::from_f32(scale * f32::from(factor)), float16::from_f32(-minimum * f32::from(subtrahend))];
        each(part, Codes { codes, numbers });
    }
}

/// Q6_K: two halves of 128 values, in each of which four parts share bytes.
fn six_bits(bytes: &[u8], mut each: impl FnMut(usize, Codes)) {
    let scale = float16::to_f32(half(bytes, 208));
    for part in 0..8 {
        let (which, quarter) = (part / 4, part % 4);
        let low = &bytes[which * 64 + quarter % 2 * 32..][..32];
        let high = &bytes[128 + which * 32..][..32];
        let codes = std::array::from_fn(|index| {
            let four = if quarter < 2 { low[index] & 15 } else { low[index] >> 4 };
            four | (high[index] >> (2 * quarter) & 3) << 4
        });
        let number = |half: usize| {
            let factor = bytes[192 + which * 8 + quarter * 2 + half] as i8;
            float16::from_f32(scale * f32::from(factor))
        };
        each(part, Codes { codes, numbers: [number(0), number(1)] });
    }
}

/// Writes row `lane` of a block.
pub(crate) fn place(layout: Layout, lane: usize, decoded: &Codes, numbers: &mut [u8], codes: &mut [u8]) {
    for (which, number) in decoded.numbers.iter().take(layout.numbers()).enumerate() {
        numbers[(which * LANES + lane) * 2..][..2].copy_from_slice(&number.to_le_bytes());
    }
    let line = |codes: &mut [u8], line: usize, bytes: [u8; 4]| {
        codes[line * 64 + lane * 4..][..4].copy_from_slice(&bytes);
    };
    let quads = decoded.codes.as_chunks::<4>().0;
    if layout == Layout::U8 {
        for (index, quad) in quads.iter().enumerate() {
            line(codes, index, *quad);
        }
        return;
    }
    for (index, (low, high)) in quads[..4].iter().zip(&quads[4..]).enumerate() {
        line(codes, index, std::array::from_fn(|column| low[column] & 15 | high[column] << 4));
    }
    match layout {
        Layout::U5 | Layout::U5Minimum => {
            for (index, quad) in quads.iter().enumerate() {
                let bits = (0..4).fold(0, |bits, column| bits | (quad[column] >> 4) << column);
                codes[256 + index * 8 + lane / 2] |= bits << (lane % 2 * 4);
            }
        }
        Layout::U6 => {
            for (index, four) in quads.chunks_exact(4).enumerate() {
                let bits =
                    |column: usize| (0..4).fold(0, |bits, quad: usize| bits | (four[quad][column] >> 4) << (quad * 2));
                line(codes, 4 + index, std::array::from_fn(bits));
            }
        }
        Layout::U4 | Layout::U4Minimum | Layout::U8 => {}
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
