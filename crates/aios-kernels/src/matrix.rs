//! Quantized matrices, repacked for vector instructions.

use std::fmt;

use crate::aligned::AlignedBytes;
use crate::pack;
use crate::{BLOCK, LANES, float16};

/// A block format of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 4 bits and a scale per 32 values.
    Q4_0,
    /// 4 bits, a scale and a minimum per 32 values.
    Q4_1,
    /// 5 bits and a scale per 32 values.
    Q5_0,
    /// 5 bits, a scale and a minimum per 32 values.
    Q5_1,
    /// 8 bits and a scale per 32 values.
    Q8_0,
    /// 4 bits; scales and minima of 32 values share a scale per 256.
    Q4K,
    /// 5 bits; scales and minima of 32 values share a scale per 256.
    Q5K,
    /// 6 bits; scales of 16 values share a scale per 256.
    Q6K,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 8] =
        [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// Values in a block of the file.
    pub fn block_values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block of the file.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::Q4_0 => Layout::U4,
            Self::Q4_1 | Self::Q4K => Layout::U4Minimum,
            Self::Q5_0 => Layout::U5,
            Self::Q5_1 | Self::Q5K => Layout::U5Minimum,
            Self::Q6K => Layout::U6,
            Self::Q8_0 => Layout::U8,
        }
    }
}

/// How codes and scales lie in a panel. A code is an unsigned number below `2^bits`; a value is
/// `scale * (code - offset)`, or with a minimum `scale * code + minimum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    U4,
    U4Minimum,
    U5,
    U5Minimum,
    /// Two scales per block: one for each half.
    U6,
    U8,
}

impl Layout {
    /// All layouts, each at its own number: code that is compiled for each of them takes that number.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const ALL: [Self; 6] = [Self::U4, Self::U4Minimum, Self::U5, Self::U5Minimum, Self::U6, Self::U8];

    /// Bytes of codes in a block: 32 columns of 16 rows.
    ///
    /// Codes come in eight quads of four columns; a quad has byte `lane * 4 + column`. The low four bits of quad `i` and
    /// of quad `i + 4` share bytes, those of `i + 4` in the upper half. A fifth bit is in a bit mask of 64 bits per quad
    /// behind them, a fifth and sixth in bits `2 * (quad % 4)` of 64 bytes per four quads. Eight bits are a byte each.
    pub(crate) const fn code_bytes(self) -> usize {
        match self {
            Self::U4 | Self::U4Minimum => 256,
            Self::U5 | Self::U5Minimum => 256 + 64,
            Self::U6 => 256 + 128,
            Self::U8 => 512,
        }
    }

    /// Half-precision numbers per row in a block: scales, then minima or the scales of the second half.
    pub(crate) const fn numbers(self) -> usize {
        match self {
            Self::U4 | Self::U5 | Self::U8 => 1,
            Self::U4Minimum | Self::U5Minimum | Self::U6 => 2,
        }
    }

    /// Power of two of the code that stands for zero; `None` where there is a minimum instead.
    pub(crate) const fn offset(self) -> Option<u32> {
        match self {
            Self::U4Minimum | Self::U5Minimum => None,
            Self::U4 => Some(3),
            Self::U5 => Some(4),
            Self::U6 => Some(5),
            Self::U8 => Some(7),
        }
    }

    /// Bytes of a block's scales.
    pub(crate) const fn number_bytes(self) -> usize {
        self.numbers() * LANES * 2
    }
}

/// Why blocks can't be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The rows are not made of whole blocks.
    #[error("rows of {columns} values are not made of whole blocks of {block}")]
    Columns {
        /// Values of a row.
        columns: usize,
        /// Values of a block.
        block: usize,
    },
    /// There are more or fewer bytes than the shape needs.
    #[error("{found} bytes where {rows} rows of {columns} values need {needed}")]
    Length {
        /// Rows.
        rows: usize,
        /// Values of a row.
        columns: usize,
        /// Bytes that were given.
        found: usize,
        /// Bytes that the shape needs.
        needed: u128,
    },
}

/// A matrix `(rows, columns)` in panels of [`LANES`] rows, the last one filled up with zeros.
///
/// A panel is its scales, filled up to 64 bytes, then its codes: block after block of [`BLOCK`] columns.
pub struct Matrix {
    rows: usize,
    columns: usize,
    layout: Layout,
    bytes: AlignedBytes,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Matrix({:?} {}x{})", self.layout, self.rows, self.columns)
    }
}

impl Matrix {
    /// Packs `blocks`, a tensor of a GGUF file as it lies there.
    pub fn pack(format: Format, rows: usize, columns: usize, blocks: &[u8]) -> Result<Self, PackError> {
        let block = format.block_values();
        if columns == 0 || !columns.is_multiple_of(block) {
            return Err(PackError::Columns { columns, block });
        }
        let row_bytes = columns / block * format.block_bytes();
        let needed = rows as u128 * row_bytes as u128;
        if needed != blocks.len() as u128 {
            return Err(PackError::Length { rows, columns, found: blocks.len(), needed });
        }
        let layout = format.layout();
        let mut matrix = Self { rows, columns, layout, bytes: AlignedBytes::default() };
        matrix.bytes = AlignedBytes::zeroed(matrix.panels() * matrix.panel_bytes());
        let panel_bytes = matrix.panel_bytes();
        let codes_at = matrix.codes_at();
        for (panel, rows) in
            matrix.bytes.as_mut_slice().chunks_exact_mut(panel_bytes).zip(blocks.chunks(LANES * row_bytes))
        {
            let (numbers, codes) = panel.split_at_mut(codes_at);
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                pack::decode_row(format, row, |index, decoded| {
                    let numbers = &mut numbers[index * layout.number_bytes()..][..layout.number_bytes()];
                    let codes = &mut codes[index * layout.code_bytes()..][..layout.code_bytes()];
                    pack::place(layout, lane, &decoded, numbers, codes);
                });
            }
        }
        Ok(matrix)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// Row `row` as numbers; `out` has as many as there are columns.
    ///
    /// # Panics
    /// Where there is no such row, or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.columns, "row {row} of {self:?} into {} values", out.len());
        let (numbers, codes) = self.panel(row / LANES).split_at(self.codes_at());
        let number = |block: usize, which: usize| {
            let at = block * self.layout.number_bytes() + (which * LANES + row % LANES) * 2;
            float16::to_f32(u16::from_le_bytes([numbers[at], numbers[at + 1]]))
        };
        let mut expanded = [0; LANES * BLOCK];
        for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let codes = &codes[block * self.layout.code_bytes()..][..self.layout.code_bytes()];
            pack::expand(self.layout, codes, &mut expanded);
            for (column, out) in out.iter_mut().enumerate() {
                let code = f32::from(expanded[column / 4 * 64 + row % LANES * 4 + column % 4]);
                *out = match self.layout.offset() {
                    None => number(block, 0) * code + number(block, 1),
                    Some(offset) => {
                        let half = if self.layout.numbers() == 2 { column / (BLOCK / 2) } else { 0 };
                        number(block, half) * (code - f32::from(1u16 << offset))
                    }
                };
            }
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Where a panel's codes begin.
    pub(crate) fn codes_at(&self) -> usize {
        (self.columns / BLOCK * self.layout.number_bytes()).next_multiple_of(64)
    }

    pub(crate) fn panel_bytes(&self) -> usize {
        self.codes_at() + self.columns / BLOCK * self.layout.code_bytes()
    }

    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        &self.bytes.as_slice()[panel * self.panel_bytes()..][..self.panel_bytes()]
    }
}
