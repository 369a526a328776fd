//! Products of matrices with activations.

use crate::activations::Shared;
use crate::isa::Kind;
use crate::matrix::{Layout, Storage};
use crate::{Activations, Isa, LANES, Matrix, Team, halves, portable};

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
    /// Blocks of codes, or the values themselves.
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
    /// `[token][column]`; dangling where no matrix takes them.
    pub(crate) values: *const f32,
}

/// Calls `$body::<L>($arguments)`, or `$body::<L, $more>($arguments)`, with the number of `$layout` in [`Layout::ALL`] as
/// `L`: so each layout has code of its own.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! with_layout {
    ($layout:expr, $body:ident $(::<$more:ty>)? ($($argument:expr),*)) => {
        match $layout {
            Layout::U4 => $body::<{ Layout::U4 as usize } $(, $more)?>($($argument),*),
            Layout::U4Minimum => $body::<{ Layout::U4Minimum as usize } $(, $more)?>($($argument),*),
            Layout::U5 => $body::<{ Layout::U5 as usize } $(, $more)?>($($argument),*),
            Layout::U5Minimum => $body::<{ Layout::U5Minimum as usize } $(, $more)?>($($argument),*),
            Layout::U6 => $body::<{ Layout::U6 as usize } $(, $more)?>($($argument),*),
            Layout::U8 => $body::<{ Layout::U8 as usize } $(, $more)?>($($argument),*),
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use with_layout;

/// Multiplies several matrices with the same activations: `outs[i]` becomes the products with `matrices[i]`, panel by
/// panel (see the [crate's](crate) layout of values). All panels are shared out among the team's threads.
///
/// # Panics
/// Where a matrix has not as many columns as the activations, or takes values that these have not kept, or an output is not
/// as long as its panels need.
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
            let kept = activations.values().is_some() || !matrix.takes_values();
            assert!(kept, "{matrix:?} takes values that the activations have not kept");
            assert_eq!(out.len(), matrix.panels() * tokens * LANES, "output of {matrix:?} for {tokens} tokens");
            Shared(out.as_mut_ptr())
        }
    });
    let panels: [usize; N] = matrices.map(Matrix::panels);
    team.divide(panels.iter().sum(), |range, _| {
        let operands = Operands {
            tokens,
            columns: activations.columns(),
            codes: activations.codes.as_ptr(),
            terms: activations.terms.as_ptr(),
            values: activations.values().map_or(std::ptr::dangling(), <[f32]>::as_ptr),
        };
        // The range counts the panels of all matrices.
        let mut first = 0;
        for ((matrix, out), panels) in matrices.iter().zip(&outs).zip(panels) {
            let own = range.start.clamp(first, first + panels)..range.end.clamp(first, first + panels);
            let own = own.start - first..own.end - first;
            for (index, (numbers, codes)) in own.clone().zip(matrix.parts(own)) {
                // SAFETY: the output has room for all panels, and this one is this piece's alone.
                let out = unsafe { out.get().add(index * tokens * LANES) };
                let panel = Panel { numbers: numbers.as_ptr(), codes: codes.as_ptr(), out };
                // SAFETY: the panel has all blocks of its matrix, the activations have as many columns, and values where
                // the matrix takes them.
                unsafe {
                    match (matrix.storage(), exact) {
                        (Storage::Halves(half), _) => halves::panel(isa, half, panel, &operands),
                        (Storage::Codes(layout), false) => quantized(isa, layout, panel, &operands),
                        (Storage::Codes(layout), true) => in_two_parts(isa, layout, panel, &operands),
                    }
                }
            }
            first += panels;
        }
    });
}

/// One panel's products with all tokens.
///
/// # Safety
/// The operands are as [`Panel`] and [`Operands`] say.
unsafe fn quantized(isa: Isa, layout: Layout, panel: Panel, operands: &Operands) {
    // SAFETY: an Isa exists only where the CPU has its instructions; the rest is passed on.
    unsafe {
        match isa.kind() {
            Kind::Portable => portable::panel(layout, panel, operands),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => crate::x86::panel_avx2(layout, panel, operands),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => crate::x86::panel_avxvnni(layout, panel, operands),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => crate::x86::panel_avx512(layout, panel, operands),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => crate::aarch64::panel_neon(layout, panel, operands),
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod => crate::aarch64::panel_dotprod(layout, panel, operands),
            #[cfg(target_arch = "aarch64")]
            Kind::I8mm => crate::aarch64::panel_i8mm(layout, panel, operands),
        }
    }
}

/// One panel's products with tokens whose codes and their remainders lie as two rows each.
///
/// # Safety
/// As for [`quantized`]; there are at most [`Activations::EXACT`] tokens.
unsafe fn in_two_parts(isa: Isa, layout: Layout, panel: Panel, operands: &Operands) {
    let mut parts = [[0.0; LANES]; 2 * Activations::EXACT];
    let both = Panel { out: parts.as_mut_ptr().cast(), ..panel };
    // SAFETY: there is room for the results of two rows for each token; the rest is passed on.
    unsafe { quantized(isa, layout, both, &Operands { tokens: 2 * operands.tokens, ..*operands }) };
    for (token, [first, second]) in parts.as_chunks().0.iter().take(operands.tokens).enumerate() {
        let sum = std::array::from_fn(|lane| first[lane] + second[lane]);
        // SAFETY: a panel has 16 results for each token.
        unsafe { panel.out.add(token * LANES).cast::<[f32; LANES]>().write(sum) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCK, Format, PackError};
    use proptest::prelude::*;

    /// Where a block's 16-bit numbers lie.
    fn numbers(format: Format) -> Vec<usize> {
        match format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => vec![0],
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => vec![0, 2],
            Format::Q6K => vec![208],
            Format::F16 | Format::Bf16 => (0..64).step_by(2).collect(),
        }
    }

    fn number(format: Format, value: f32) -> [u8; 2] {
        match format {
            Format::Bf16 => ((value.to_bits() >> 16) as u16).to_le_bytes(),
            _ => crate::float16::from_f32(value).to_le_bytes(),
        }
    }

    /// A sequence without a pattern (xorshift).
    fn random(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u32
        }
    }

    /// Random blocks: any codes, numbers of a moderate size.
    fn blocks(format: Format, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
        let mut random = random(seed);
        let count = rows * columns / format.block_values();
        let mut bytes: Vec<u8> = (0..count * format.block_bytes()).map(|_| random() as u8).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in numbers(format) {
                block[at..at + 2].copy_from_slice(&number(format, (random() % 2000) as f32 / 1e5 - 0.01));
            }
        }
        bytes
    }

    /// A packed matrix, and all its values.
    fn pack(format: Format, rows: usize, columns: usize, blocks: &[u8]) -> (Matrix, Vec<f32>) {
        let matrix = Matrix::pack(format, rows, columns, blocks).unwrap();
        let mut values = vec![0.0; rows * columns];
        values.chunks_exact_mut(columns).enumerate().for_each(|(row, out)| matrix.row(row, out));
        (matrix, values)
    }

    #[cfg(target_arch = "x86_64")]
    fn assert_same_as_candle(format: Format, rows: usize, columns: usize, blocks: &[u8], values: &[f32]) {
        use candle_core::Device;
        use candle_core::quantized::{GgmlDType, QStorage, QTensor};
        let dtype = match format {
            Format::Q4_0 => GgmlDType::Q4_0,
            Format::Q4_1 => GgmlDType::Q4_1,
            Format::Q5_0 => GgmlDType::Q5_0,
            Format::Q5_1 => GgmlDType::Q5_1,
            Format::Q8_0 => GgmlDType::Q8_0,
            Format::Q4K => GgmlDType::Q4K,
            Format::Q5K => GgmlDType::Q5K,
            Format::Q6K => GgmlDType::Q6K,
            Format::F16 => GgmlDType::F16,
            Format::Bf16 => GgmlDType::BF16,
        };
        let storage = QStorage::from_data(blocks.into(), &Device::Cpu, dtype).unwrap();
        let tensor = QTensor::new(storage, (rows, columns)).unwrap().dequantize(&Device::Cpu).unwrap();
        let expected: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        // Packing rounds products of two scales, here up to 0.01 * 128, to half precision: by 2^-11 at most, times a code.
        let rounding = if format.block_values() == 256 { 33.0 / 2048.0 } else { 1e-6 };
        for (index, (value, expected)) in values.iter().zip(&expected).enumerate() {
            assert!((value - expected).abs() <= rounding, "{format:?} value {index}: {value} {expected}");
        }
    }

    fn activations(isa: Isa, team: &Team, tokens: usize, columns: usize, seed: u64) -> Activations {
        let mut activations = Activations::new(tokens, columns, team.threads()).keep_values();
        activations.fill(isa, team, tokens, |token, row| {
            for (column, value) in row.iter_mut().enumerate() {
                *value =
                    ((seed % 1000) as f32 + (token * columns + column) as f32 * 0.618).sin() * (1 + column % 7) as f32;
            }
        });
        activations
    }

    /// The product in double precision, and how large a sum could have become.
    fn expected(matrix: &Matrix, weights: &[f32], activations: &Activations, row: usize, token: usize) -> (f64, f64) {
        let columns = activations.columns();
        let mut sum = (0.0, 0.0);
        for column in 0..columns {
            let terms = activations.terms[(token * columns + column) / BLOCK];
            let value = match activations.values().filter(|_| matrix.takes_values()) {
                Some(values) => f64::from(values[token * columns + column]),
                None => f64::from(activations.codes[token * columns + column]) * f64::from(terms.scale),
            };
            let product = f64::from(weights[row * columns + column]) * value;
            sum = (sum.0 + product, sum.1 + product.abs());
        }
        sum
    }

    fn check(format: Format, rows: usize, columns: usize, tokens: usize, threads: usize, seed: u64) {
        let bytes = blocks(format, rows, columns, seed);
        let (matrix, weights) = pack(format, rows, columns, &bytes);
        #[cfg(target_arch = "x86_64")]
        assert_same_as_candle(format, rows, columns, &bytes, &weights);
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
                let (sum, size) = expected(&matrix, &weights, &activations, row, token);
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
                for at in numbers(format) {
                    block[at..at + 2].copy_from_slice(&number(format, 1.0));
                }
            }
            let (matrix, weights) = pack(format, 16, columns, &bytes);
            let team = Team::new(1);
            for isa in Isa::available() {
                for sign in [1.0, -1.0] {
                    let mut activations = Activations::new(1, columns, 1).keep_values();
                    activations.fill(isa, &team, 1, |_, row| row.fill(sign));
                    let mut out = [0.0; 16];
                    matmul(isa, &team, [&matrix], &activations, [&mut out]);
                    let (sum, size) = expected(&matrix, &weights, &activations, 5, 0);
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

    /// Rows where a panel ends, or nearly.
    const ROWS: [usize; 8] = [1, 2, 15, 16, 17, 31, 32, 33];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn hostile_numbers_of_any_shape_stay_in_their_rows_and_tokens(
            format in prop::sample::select(Format::ALL.to_vec()),
            rows in prop_oneof![prop::sample::select(ROWS.to_vec()), 1usize..80],
            blocks in 1usize..6, tokens in prop_oneof![1usize..10, 1usize..40], threads in 1usize..4,
            hostile_row: prop::sample::Index, hostile_token: prop::sample::Index,
            value in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e-42]), seed: u64,
        ) {
            let (row, token) = (hostile_row.index(rows), hostile_token.index(tokens));
            check_hostile(format, (rows, blocks * format.block_values(), tokens), threads, (row, token), value, seed);
        }
    }

    /// One row of any bytes at all, one token of which a value is extreme: all other products are as ever.
    fn check_hostile(
        format: Format,
        (rows, columns, tokens): (usize, usize, usize),
        threads: usize,
        hostile: (usize, usize),
        value: f32,
        seed: u64,
    ) {
        let mut bytes = blocks(format, rows, columns, seed);
        let row_bytes = bytes.len() / rows;
        let mut random = random(seed.rotate_left(17));
        bytes[hostile.0 * row_bytes..][..row_bytes].fill_with(|| random() as u8);
        let (matrix, weights) = pack(format, rows, columns, &bytes);
        let team = Team::new(threads);
        for isa in Isa::available() {
            let mut activations = Activations::new(tokens, columns, threads).keep_values();
            activations.fill(isa, &team, tokens, |token, row| {
                row.iter_mut().enumerate().for_each(|(column, out)| *out = ((token + column) as f32 * 0.618).sin());
                if token == hostile.1 {
                    row[seed as usize % columns] = value;
                }
            });
            let mut out = vec![0.0; matrix.panels() * tokens * LANES];
            matmul(isa, &team, [&matrix], &activations, [&mut out]);
            for (index, found) in out.iter().enumerate() {
                let (row, token) = (index / LANES / tokens * LANES + index % LANES, index / LANES % tokens);
                if row >= rows || row == hostile.0 || token == hostile.1 {
                    continue;
                }
                let (sum, size) = expected(&matrix, &weights, &activations, row, token);
                let error = (f64::from(*found) - sum).abs();
                let bound = 1e-5 * size.max(1.0) * columns as f64 / 32.0;
                assert!(error <= bound, "{format:?} {isa} row {row} token {token}: {found} {sum}");
            }
            activations.fill_exact(isa, 1, |_, row| row.fill(value));
            matmul(isa, &team, [&matrix], &activations, [&mut out[..matrix.panels() * LANES]]);
        }
    }

    #[test]
    #[should_panic(expected = "takes values that the activations have not kept")]
    fn activations_without_their_values_are_refused() {
        let matrix = Matrix::pack(Format::F16, 16, 32, &[0; 1024]).unwrap();
        let (team, isa) = (Team::new(1), Isa::detect());
        let mut activations = Activations::new(1, 32, 1);
        activations.fill(isa, &team, 1, |_, row| row.fill(1.0));
        matmul(isa, &team, [&matrix], &activations, [&mut [0.0; 16]]);
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

    /// A token's products in a batch, by their bits, are those that it has alone.
    fn assert_same_in_company(
        isa: Isa,
        matrix: &Matrix,
        products: impl Fn(std::ops::Range<usize>) -> Vec<f32>,
        tokens: usize,
    ) -> Vec<Vec<f32>> {
        let together = products(0..tokens);
        let alone: Vec<_> = (0..tokens).map(|token| products(token..token + 1)).collect();
        for (token, alone) in alone.iter().enumerate() {
            for (row, found) in alone.iter().enumerate() {
                let at = (row / LANES * tokens + token) * LANES + row % LANES;
                assert_eq!(together[at].to_bits(), found.to_bits(), "{matrix:?} {isa} row {row} token {token}");
            }
        }
        alone
    }

    #[test]
    fn a_token_has_the_same_products_in_any_company_and_exact_ones_are_exact() {
        let (team, columns, rows) = (Team::new(2), 256, 20);
        let value =
            |token: usize, column: usize| ((token * 97 + column) as f32 * 0.618).sin() * (1 + column % 7) as f32;
        for format in Format::ALL {
            let (matrix, weights) = pack(format, rows, columns, &blocks(format, rows, columns, 5));
            for isa in Isa::available() {
                let products = |exact: bool, tokens: std::ops::Range<usize>| {
                    let mut activations = Activations::new(20, columns, 2).keep_values();
                    let fill = |token: usize, row: &mut [f32]| {
                        row.iter_mut().enumerate().for_each(|(column, out)| *out = value(tokens.start + token, column));
                    };
                    if exact {
                        activations.fill_exact(isa, tokens.len(), fill);
                    } else {
                        activations.fill(isa, &team, tokens.len(), fill);
                    }
                    let mut out = vec![f32::NAN; matrix.panels() * LANES * tokens.len()];
                    matmul(isa, &team, [&matrix], &activations, [&mut out]);
                    out
                };
                assert_same_in_company(isa, &matrix, |tokens| products(false, tokens), 11);
                let exact = assert_same_in_company(isa, &matrix, |tokens| products(true, tokens), Activations::EXACT);
                for (token, found) in exact.iter().enumerate() {
                    for (row, found) in found[..rows].iter().enumerate() {
                        let weights = weights[row * columns..][..columns].iter().enumerate();
                        let products = weights.map(|(column, weight)| f64::from(weight * value(token, column)));
                        let (sum, size) =
                            products.fold((0.0, 0.0), |(sum, size), product| (sum + product, size + product.abs()));
                        let error = (f64::from(*found) - sum).abs();
                        assert!(error < 1e-4 * size, "{format:?} {isa} row {row}: {found} {sum}");
                    }
                }
            }
        }
    }
}
