//! How near vectors are to each other: products of rows of bytes, and estimates of many products from one bit a dimension.

use crate::LANES;
#[cfg(target_arch = "aarch64")]
use crate::aarch64;
use crate::isa::{Isa, Kind};
#[cfg(target_arch = "x86_64")]
use crate::x86;

/// Vectors whose codes of one bit a dimension lie together. Byte `column * GROUP + vector` of a group has the bits of the
/// dimensions from `column * 8` of `vector`, the first one lowest.
pub const GROUP: usize = 64;

/// The largest number in a [`Table`]: four of them still fit a byte.
pub const TABLE_MAX: u8 = 63;

/// What each combination of four bits adds to a sum.
pub type Table = [u8; 16];

/// Most tables that a [`Scan`] takes: their sum fits 16 bits.
const TABLES: usize = u16::MAX as usize / TABLE_MAX as usize;

/// The sum of the products of `a` and `b`.
///
/// # Panics
/// Where the lengths differ, or are not a multiple of [`LANES`].
pub fn dot(isa: Isa, a: &[i8], b: &[i8]) -> i32 {
    assert!(a.len() == b.len() && a.len().is_multiple_of(LANES), "rows of {} and {} numbers", a.len(), b.len());
    // SAFETY: an Isa exists only where the CPU has its instructions; both have `a.len()` numbers, a multiple of 16.
    unsafe {
        match isa.kind() {
            Kind::Portable => dot_portable(a, b),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => x86::dot_avx2(a.as_ptr(), b.as_ptr(), a.len()),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => x86::dot_avxvnni(a.as_ptr(), b.as_ptr(), a.len()),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => x86::dot_avx512(a.as_ptr(), b.as_ptr(), a.len()),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => aarch64::dot_neon(a.as_ptr(), b.as_ptr(), a.len()),
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod | Kind::I8mm => aarch64::dot_dotprod(a.as_ptr(), b.as_ptr(), a.len()),
        }
    }
}

fn dot_portable(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Asks for `row`, which is read soon, so that the reader need not wait for memory.
#[inline]
pub fn ask<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of_val(row).div_ceil(64) {
        x86::ask(row.as_ptr().cast::<u8>().wrapping_add(line * 64).cast());
    }
    #[cfg(target_arch = "aarch64")]
    for line in 0..size_of_val(row).div_ceil(64) {
        aarch64::ask(row.as_ptr().cast::<u8>().wrapping_add(line * 64).cast());
    }
}

/// A query as tables: the estimate of a vector is `factor * (slope * sum + offset)`, where `sum` adds up what its code
/// selects from each table, and `factor` is the vector's own.
#[derive(Debug)]
pub struct Scan {
    tables: Vec<Table>,
    slope: f32,
    offset: f32,
}

impl Scan {
    /// Two tables for each byte of a code, that of the lower four bits first.
    ///
    /// # Panics
    /// Where the tables are not a multiple of four (16 dimensions), too many for sums in 16 bits (4160 dimensions), or hold
    /// a number above [`TABLE_MAX`].
    pub fn new(tables: Vec<Table>, slope: f32, offset: f32) -> Self {
        assert!(tables.len().is_multiple_of(4) && tables.len() <= TABLES, "{} tables", tables.len());
        assert!(
            tables.as_flattened().iter().fold(0, |most, number| *number.max(&most)) <= TABLE_MAX,
            "a table with numbers above {TABLE_MAX}"
        );
        Self { tables, slope, offset }
    }

    /// Bytes of a group of codes.
    pub fn group_bytes(&self) -> usize {
        self.tables.len() / 2 * GROUP
    }

    /// The estimates of all vectors of `codes`, and the largest one of each group.
    ///
    /// # Panics
    /// Where the lengths don't fit each other.
    pub fn run(&self, isa: Isa, codes: &[u8], factors: &[f32], estimates: &mut [f32], largest: &mut [f32]) {
        let groups = largest.len();
        assert!(
            codes.len() == groups * self.group_bytes()
                && factors.len() == groups * GROUP
                && estimates.len() == groups * GROUP,
            "{} bytes of codes, {} factors and {} estimates of {groups} groups",
            codes.len(),
            factors.len(),
            estimates.len()
        );
        let scanned = Scanned { scan: self, codes, factors, estimates, largest };
        // SAFETY: an Isa exists only where the CPU has its instructions; the lengths were checked.
        unsafe {
            match isa.kind() {
                Kind::Portable => scanned.run::<Portable>(),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 | Kind::AvxVnni => x86::scan_avx2(scanned),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => x86::scan_avx512(scanned),
                #[cfg(target_arch = "aarch64")]
                Kind::Neon | Kind::Dotprod | Kind::I8mm => aarch64::scan_neon(scanned),
            }
        }
    }
}

/// Sums of tables' numbers, for a group of vectors.
pub(crate) trait Sums {
    /// # Safety
    /// The instructions are enabled; `tables` are a multiple of four, and `codes` has a column for each two of them.
    unsafe fn sums(tables: &[Table], codes: &[u8], sums: &mut [u16; GROUP]);

    /// `factor * (slope * sum + offset)` of each vector, and the largest of these, those that are no numbers left out. Product
    /// and sum are rounded one by one, so that all instruction sets find the same bits.
    ///
    /// # Safety
    /// The instructions are enabled.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "one number of each array at a time is what a compiler vectorizes")]
    unsafe fn estimates(
        sums: &[u16; GROUP],
        factors: &[f32; GROUP],
        slope: f32,
        offset: f32,
        estimates: &mut [f32; GROUP],
    ) -> f32 {
        let mut most = [f32::NEG_INFINITY; LANES];
        for part in 0..GROUP / LANES {
            for lane in 0..LANES {
                let at = part * LANES + lane;
                let estimate = factors[at] * (slope * f32::from(sums[at]) + offset);
                estimates[at] = estimate;
                most[lane] = if estimate > most[lane] { estimate } else { most[lane] };
            }
        }
        most.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The operands of [`Scan::run`], with their lengths checked.
pub(crate) struct Scanned<'a> {
    scan: &'a Scan,
    codes: &'a [u8],
    factors: &'a [f32],
    estimates: &'a mut [f32],
    largest: &'a mut [f32],
}

impl Scanned<'_> {
    /// # Safety
    /// The instructions of `S` are enabled.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Sums>(self) {
        let Scan { tables, slope, offset } = self.scan;
        let groups = self.codes.chunks_exact(self.scan.group_bytes());
        let (factors, _) = self.factors.as_chunks::<GROUP>();
        let (estimates, _) = self.estimates.as_chunks_mut::<GROUP>();
        let mut sums = [0; GROUP];
        for (((codes, factors), estimates), largest) in groups.zip(factors).zip(estimates).zip(self.largest) {
            // SAFETY: a group has a column for each two tables, and the caller enables the instructions.
            unsafe { S::sums(tables, codes, &mut sums) };
            // SAFETY: the caller enables the instructions.
            *largest = unsafe { S::estimates(&sums, factors, *slope, *offset, estimates) };
        }
    }
}

struct Portable;

impl Sums for Portable {
    #[inline(always)]
    unsafe fn sums(tables: &[Table], codes: &[u8], sums: &mut [u16; GROUP]) {
        sums.fill(0);
        for (tables, column) in tables.chunks_exact(2).zip(codes.chunks_exact(GROUP)) {
            for (sum, code) in sums.iter_mut().zip(column) {
                *sum += u16::from(tables[0][usize::from(code & 15)]) + u16::from(tables[1][usize::from(code >> 4)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn products_are_exact_on_all_instruction_sets(
            pairs in prop::collection::vec(any::<(i8, i8)>(), 0..40).prop_map(|pairs| pairs.repeat(16))
        ) {
            let (a, b): (Vec<i8>, Vec<i8>) = pairs.into_iter().unzip();
            let expected: i64 = a.iter().zip(&b).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
            for isa in Isa::available() {
                prop_assert_eq!(i64::from(dot(isa, &a, &b)), expected, "{}", isa);
            }
        }

        #[test]
        fn estimates_are_those_of_the_definition_on_all_instruction_sets(
            columns in (1usize..30).prop_map(|pairs| pairs * 2), groups in 1usize..4, seed: u64, slope in -2.0f32..2.0,
            offset in -99.0f32..99.0,
        ) {
            check_scan(columns, groups, seed, slope, offset)?;
        }
    }

    fn check_scan(columns: usize, groups: usize, seed: u64, slope: f32, offset: f32) -> Result<(), TestCaseError> {
        let byte = |index: usize| (seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        let tables: Vec<Table> = (0..columns * 2)
            .map(|table| std::array::from_fn(|entry| byte(table * 16 + entry) % (TABLE_MAX + 1)))
            .collect();
        let codes: Vec<u8> = (0..groups * columns * GROUP).map(|index| byte(index + 1_000_000)).collect();
        // As of a vector that is not there, one in ten is no number.
        let factor = |byte: u8| if byte < 26 { f32::NAN } else { f32::from(byte) / 77.0 - 1.0 };
        let factors: Vec<f32> = (0..groups * GROUP).map(|index| factor(byte(index))).collect();
        let expected: Vec<f32> = (0..groups * GROUP)
            .map(|vector| {
                let sum: u32 = (0..columns * 8 / 4)
                    .map(|table| {
                        let byte = codes[(vector / GROUP * columns + table / 2) * GROUP + vector % GROUP];
                        u32::from(tables[table][usize::from(byte >> (table % 2 * 4) & 15)])
                    })
                    .sum();
                factors[vector] * (slope * sum as f32 + offset)
            })
            .collect();
        let scan = Scan::new(tables, slope, offset);
        for isa in Isa::available() {
            let mut estimates = vec![0.0; groups * GROUP];
            let mut largest = vec![0.0; groups];
            scan.run(isa, &codes, &factors, &mut estimates, &mut largest);
            let bits = |numbers: &[f32]| {
                numbers.iter().map(|number| if number.is_nan() { 0 } else { number.to_bits() }).collect::<Vec<_>>()
            };
            prop_assert_eq!(bits(&estimates), bits(&expected), "{}", isa);
            for (largest, group) in largest.iter().zip(expected.chunks(GROUP)) {
                prop_assert_eq!(*largest, group.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{}", isa);
            }
        }
        Ok(())
    }

    #[test]
    fn the_largest_products_and_sums_do_not_overflow() {
        let lowest = vec![i8::MIN; 4160];
        let tables = vec![[TABLE_MAX; 16]; TABLES / 4 * 4];
        let scan = Scan::new(tables, 1.0, 0.0);
        let codes = vec![0xff; scan.group_bytes()];
        for isa in Isa::available() {
            assert_eq!(dot(isa, &lowest, &lowest), 4160 << 14, "{isa}");
            assert_eq!(dot(isa, &lowest, &vec![i8::MAX; 4160]), -128 * 127 * 4160, "{isa}");
            let (mut estimates, mut largest) = ([0.0; GROUP], [0.0]);
            scan.run(isa, &codes, &[1.0; GROUP], &mut estimates, &mut largest);
            assert_eq!(largest, [(TABLES / 4 * 4 * usize::from(TABLE_MAX)) as f32], "{isa}");
            assert_eq!(estimates, [largest[0]; GROUP], "{isa}");
        }
    }

    #[test]
    #[should_panic(expected = "rows of 16 and 32 numbers")]
    fn rows_of_other_lengths_are_refused() {
        dot(Isa::detect(), &[0; 16], &[0; 32]);
    }
}
