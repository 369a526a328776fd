//! Products of matrices with activations.

use crate::activations::Shared;
use crate::isa::Kind;
use crate::{Activations, Isa, LANES, Matrix, Team, portable};

/// What a block of activations adds to a product besides its codes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Terms {
    /// What a code stands for.
    pub(crate) scale: f32,
    /// `scale` times the sum of the codes: what a minimum is multiplied by.
    pub(crate) weighted: f32,
    /// The sums of the first and the second 16 codes, negated: what an offset is multiplied by.
    pub(crate) negated: [i32; 2],
}

/// A panel of a matrix and where its products go.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    /// Blocks of half-precision numbers.
    pub(crate) numbers: *const u8,
    /// Blocks of codes.
    pub(crate) codes: *const u8,
    /// [`LANES`] numbers for each token.
    pub(crate) out: *mut f32,
}

/// The activations of all tokens.
pub(crate) struct Operands {
    pub(crate) tokens: usize,
    pub(crate) columns: usize,
    /// `[token][column]`
    pub(crate) codes: *const i8,
    /// `[token][block]`
    pub(crate) terms: *const Terms,
}

/// Multiplies several matrices with the same activations: `outs[i]` becomes the products with `matrices[i]`, panel by
/// panel (see the [crate's](crate) layout of values). All panels are shared out among the team's threads.
///
/// # Panics
/// Where a matrix has not as many columns as the activations, or an output is not as long as its panels need.
pub fn matmul<const N: usize>(
    isa: Isa,
    team: &Team,
    matrices: [&Matrix; N],
    activations: &Activations,
    outs: [&mut [f32]; N],
) {
    let (tokens, exact) = (activations.tokens(), activations.exact);
    let outs = std::array::from_fn::<_, N, _>({
        let mut outs = outs.into_iter();
        move |index| {
            let out = outs.next().expect("invariant: there is an output for each matrix");
            let matrix = matrices[index];
            assert_eq!(matrix.columns(), activations.columns(), "columns of {matrix:?} and of the activations");
            assert_eq!(out.len(), matrix.panels() * tokens * LANES, "output of {matrix:?} for {tokens} tokens");
            Shared(out.as_mut_ptr())
        }
    });
    let panels: [usize; N] = matrices.map(Matrix::panels);
    team.divide(panels.iter().sum(), |range, _| {
        let operands = Operands {
            tokens: if exact { 2 * tokens } else { tokens },
            columns: activations.columns(),
            codes: activations.codes.as_ptr(),
            terms: activations.terms.as_ptr(),
        };
        // The range counts the panels of all matrices.
        let mut first = 0;
        for ((matrix, out), panels) in matrices.iter().zip(&outs).zip(panels) {
            let own = range.start.clamp(first, first + panels)..range.end.clamp(first, first + panels);
            for index in own.start - first..own.end - first {
                let (numbers, codes) = matrix.panel(index).split_at(matrix.codes_at());
                // SAFETY: the output has room for all panels, and this one is this piece's alone.
                let out = unsafe { out.get().add(index * tokens * LANES) };
                let mut parts = [[0.0; LANES]; 2 * Activations::EXACT];
                let written = if exact { parts.as_mut_ptr().cast() } else { out };
                let panel = Panel { numbers: numbers.as_ptr(), codes: codes.as_ptr(), out: written };
                // SAFETY: the panel has all blocks of its matrix, the activations have as many columns, and an Isa exists
                // only where the CPU has its instructions.
                unsafe {
                    match isa.kind() {
                        Kind::Portable => portable::panel(matrix.layout(), panel, &operands),
                        #[cfg(target_arch = "x86_64")]
                        Kind::Avx2 => crate::x86::panel_avx2(matrix.layout(), panel, &operands),
                        #[cfg(target_arch = "x86_64")]
                        Kind::Avx512 => crate::x86::panel_avx512(matrix.layout(), panel, &operands),
                        #[cfg(target_arch = "aarch64")]
                        Kind::Neon => crate::aarch64::panel_neon(matrix.layout(), panel, &operands),
                        #[cfg(target_arch = "aarch64")]
                        Kind::Dotprod => crate::aarch64::panel_dotprod(matrix.layout(), panel, &operands),
                    }
                }
                if exact {
                    for (token, [first, second]) in parts.as_chunks().0.iter().take(tokens).enumerate() {
                        let sum = std::array::from_fn(|lane| first[lane] + second[lane]);
                        // SAFETY: a panel has 16 results for each token.
                        unsafe { out.add(token * LANES).cast::<[f32; LANES]>().write(sum) };
                    }
                }
            }
            first += panels;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCK, Format, PackError};
    use candle_core::Device;
    use candle_core::quantized::{GgmlDType, QStorage, QTensor};
    use proptest::prelude::*;

    fn dtype(format: Format) -> GgmlDType {
        match format {
            Format::Q4_0 => GgmlDType::Q4_0,
            Format::Q4_1 => GgmlDType::Q4_1,
            Format::Q5_0 => GgmlDType::Q5_0,
            Format::Q5_1 => GgmlDType::Q5_1,
            Format::Q8_0 => GgmlDType::Q8_0,
            Format::Q4K => GgmlDType::Q4K,
            Format::Q5K => GgmlDType::Q5K,
            Format::Q6K => GgmlDType::Q6K,
        }
    }

    /// Where a block's half-precision numbers lie.
    fn halves(format: Format) -> &'static [usize] {
        match format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
            Format::Q6K => &[208],
        }
    }

    /// Random blocks: any codes, numbers of a moderate size.
    fn blocks(format: Format, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u32
        };
        let count = rows * columns / format.block_values();
        let mut bytes: Vec<u8> = (0..count * format.block_bytes()).map(|_| random() as u8).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in halves(format) {
                let number = crate::float16::from_f32((random() % 2000) as f32 / 1e5 - 0.01);
                block[*at..at + 2].copy_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// The matrix in full precision, as candle reads the same blocks.
    fn reference(format: Format, rows: usize, columns: usize, blocks: &[u8]) -> Vec<f32> {
        let storage = QStorage::from_data(blocks.into(), &Device::Cpu, dtype(format)).unwrap();
        let tensor = QTensor::new(storage, (rows, columns)).unwrap();
        tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn activations(isa: Isa, team: &Team, tokens: usize, columns: usize, seed: u64) -> Activations {
        let mut activations = Activations::new(tokens, columns, team.threads());
        activations.fill(isa, team, tokens, |token, row| {
            for (column, value) in row.iter_mut().enumerate() {
                *value =
                    ((seed % 1000) as f32 + (token * columns + column) as f32 * 0.618).sin() * (1 + column % 7) as f32;
            }
        });
        activations
    }

    /// The product in double precision, and how large a sum could have become.
    fn expected(weights: &[f32], activations: &Activations, row: usize, token: usize) -> (f64, f64) {
        let columns = activations.columns();
        let mut sum = (0.0, 0.0);
        for column in 0..columns {
            let terms = activations.terms[(token * columns + column) / BLOCK];
            let value = f64::from(activations.codes[token * columns + column]) * f64::from(terms.scale);
            let product = f64::from(weights[row * columns + column]) * value;
            sum = (sum.0 + product, sum.1 + product.abs());
        }
        sum
    }

    fn check(format: Format, rows: usize, columns: usize, tokens: usize, threads: usize, seed: u64) {
        let bytes = blocks(format, rows, columns, seed);
        let weights = reference(format, rows, columns, &bytes);
        let matrix = Matrix::pack(format, rows, columns, &bytes).unwrap();
        // Packing rounds products of two scales, here up to 0.01 * 128, to half precision: by 2^-11 at most, times a code.
        let rounding = if format.block_values() == 256 { 33.0 / 2048.0 } else { 1e-6 };
        let mut unpacked = vec![0.0; rows * columns];
        for (index, row) in unpacked.chunks_exact_mut(columns).enumerate() {
            matrix.row(index, row);
        }
        for (index, (value, weight)) in unpacked.iter().zip(&weights).enumerate() {
            assert!((value - weight).abs() <= rounding, "{format:?} value {index}: {value} {weight}");
        }
        let team = Team::new(threads);
        for isa in Isa::available() {
            let activations = activations(isa, &team, tokens, columns, seed);
            let mut out = vec![f32::NAN; matrix.panels() * tokens * LANES];
            matmul(isa, &team, [&matrix], &activations, [&mut out]);
            for (index, value) in out.iter().enumerate() {
                let (row, token) = (index / LANES / tokens * LANES + index % LANES, index / LANES % tokens);
                if row >= rows {
                    assert_eq!(*value, 0.0, "what fills up the last panel");
                    continue;
                }
                let (sum, size) = expected(&unpacked, &activations, row, token);
                let error = (f64::from(*value) - sum).abs();
                assert!(
                    error <= 1e-5 * size.max(1.0) * columns as f64 / 32.0,
                    "{format:?} {} row {row} token {token}: {value} {sum}",
                    isa.name()
                );
            }
        }
    }

    #[test]
    fn products_of_each_format_are_those_of_the_expanded_matrix() {
        for format in Format::ALL {
            check(format, 48, 512, 9, 2, 77);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn products_of_any_shape_are_right(
            format in prop::sample::select(Format::ALL.to_vec()),
            rows in 1usize..70, blocks in 1usize..5, tokens in 1usize..20, threads in 1usize..4, seed: u64,
        ) {
            check(format, rows, blocks * format.block_values(), tokens, threads, seed);
        }
    }

    #[test]
    fn the_largest_codes_and_activations_do_not_overflow() {
        for format in Format::ALL {
            let columns = format.block_values();
            let mut bytes = vec![0xff; columns / format.block_values() * format.block_bytes() * 16];
            if format == Format::Q8_0 {
                bytes.fill(0x80);
            }
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for at in halves(format) {
                    block[*at..at + 2].copy_from_slice(&0x3c00u16.to_le_bytes());
                }
            }
            let weights = reference(format, 16, columns, &bytes);
            let matrix = Matrix::pack(format, 16, columns, &bytes).unwrap();
            let team = Team::new(1);
            for isa in Isa::available() {
                for sign in [1.0, -1.0] {
                    let mut activations = Activations::new(1, columns, 1);
                    activations.fill(isa, &team, 1, |_, row| row.fill(sign));
                    let mut out = [0.0; 16];
                    matmul(isa, &team, [&matrix], &activations, [&mut out]);
                    let (sum, size) = expected(&weights, &activations, 5, 0);
                    assert!(
                        (f64::from(out[5]) - sum).abs() <= 1e-3 * size,
                        "{format:?} {}: {} {sum}",
                        isa.name(),
                        out[5]
                    );
                }
            }
        }
    }

    #[test]
    fn several_matrices_take_the_same_activations() {
        let team = Team::new(2);
        let isa = Isa::detect();
        let [first, second] = [48, 32]
            .map(|rows| Matrix::pack(Format::Q4_1, rows, 64, &blocks(Format::Q4_1, rows, 64, rows as u64)).unwrap());
        let activations = activations(isa, &team, 3, 64, 1);
        let (mut a, mut b, mut c) = (vec![0.0; 144], vec![0.0; 96], vec![0.0; 96]);
        matmul(isa, &team, [&first, &second], &activations, [&mut a, &mut b]);
        matmul(isa, &team, [&second], &activations, [&mut c]);
        assert_eq!(b, c);
        assert!(a.iter().any(|value| *value != 0.0));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert_eq!(
            Matrix::pack(Format::Q4_1, 1, 48, &[0; 30]).unwrap_err(),
            PackError::Columns { columns: 48, block: 32 }
        );
        assert_eq!(Matrix::pack(Format::Q4K, 1, 0, &[]).unwrap_err(), PackError::Columns { columns: 0, block: 256 });
        let short = Matrix::pack(Format::Q8_0, 2, 32, &[0; 67]).unwrap_err();
        assert_eq!(short, PackError::Length { rows: 2, columns: 32, found: 67, needed: 68 });
    }

    #[test]
    fn exact_rows_give_products_of_fifteen_bits_whatever_their_number() {
        let (team, columns, rows) = (Team::new(2), 96, 40);
        let bytes = blocks(Format::Q8_0, rows, columns, 5);
        let weights = reference(Format::Q8_0, rows, columns, &bytes);
        let matrix = Matrix::pack(Format::Q8_0, rows, columns, &bytes).unwrap();
        let value =
            |token: usize, column: usize| ((token * 97 + column) as f32 * 0.618).sin() * (1 + column % 7) as f32;
        for isa in Isa::available() {
            let products = |tokens: std::ops::Range<usize>| {
                let mut activations = Activations::new(1, columns, 2);
                activations.fill_exact(isa, tokens.len(), |token, row| {
                    row.iter_mut().enumerate().for_each(|(column, out)| *out = value(tokens.start + token, column));
                });
                let mut out = vec![f32::NAN; matrix.panels() * LANES * tokens.len()];
                matmul(isa, &team, [&matrix], &activations, [&mut out]);
                out
            };
            let together = products(0..Activations::EXACT);
            for token in 0..Activations::EXACT {
                let alone = products(token..token + 1);
                for row in 0..rows {
                    let product =
                        |column: usize| f64::from(weights[row * columns + column]) * f64::from(value(token, column));
                    let (sum, size) = (0..columns)
                        .fold((0.0, 0.0), |(sum, size), column| (sum + product(column), size + product(column).abs()));
                    let found = alone[row];
                    assert!((f64::from(found) - sum).abs() < 1e-4 * size, "{} row {row}: {found} {sum}", isa.name());
                    let at = (row / LANES * Activations::EXACT + token) * LANES + row % LANES;
                    assert_eq!(together[at].to_bits(), found.to_bits(), "{} row {row} token {token}", isa.name());
                }
            }
        }
    }
}
