//! Quantized matrices, and those of 16-bit numbers, repacked for vector instructions.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::activations::Shared;
use crate::arena::{Arena, Region};
use crate::{BLOCK, LANES, Team, float16, pack};

/// Bytes of a file that are packed at a time: what was read is still in the cache then.
const PIECE: usize = 256 << 10;

/// A format of matrices in GGUF files.
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
    /// Half-precision numbers, in rows of a multiple of 32.
    F16,
    /// The upper halves of single-precision numbers, in rows of a multiple of 32.
    Bf16,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 10] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::F16,
        Self::Bf16,
    ];

    /// Values in a block of the file; where it has no blocks, what rows must be made of.
    pub fn block_values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::F16 | Self::Bf16 => BLOCK,
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
            Self::F16 | Self::Bf16 => 2 * BLOCK,
        }
    }

    pub(crate) fn storage(self) -> Storage {
        match self {
            Self::Q4_0 => Storage::Codes(Layout::U4),
            Self::Q4_1 | Self::Q4K => Storage::Codes(Layout::U4Minimum),
            Self::Q5_0 => Storage::Codes(Layout::U5),
            Self::Q5_1 | Self::Q5K => Storage::Codes(Layout::U5Minimum),
            Self::Q6K => Storage::Codes(Layout::U6),
            Self::Q8_0 => Storage::Codes(Layout::U8),
            Self::F16 => Storage::Halves(Half::Ieee),
            Self::Bf16 => Storage::Halves(Half::Upper),
        }
    }
}

/// What a panel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    /// Scales and codes.
    Codes(Layout),
    /// The values themselves: 16 rows of a column after the other.
    Halves(Half),
}

impl Storage {
    /// Bytes of scales in a block.
    const fn number_bytes(self) -> usize {
        match self {
            Self::Codes(layout) => layout.number_bytes(),
            Self::Halves(_) => 0,
        }
    }

    /// Bytes of codes, or of values, in a block.
    const fn code_bytes(self) -> usize {
        match self {
            Self::Codes(layout) => layout.code_bytes(),
            Self::Halves(_) => BLOCK * LANES * 2,
        }
    }
}

/// Numbers of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    /// Half precision (IEEE 754 binary16).
    Ieee,
    /// The upper half of single precision (bfloat16).
    Upper,
}

impl Half {
    fn to_f32(self, bits: u16) -> f32 {
        match self {
            Self::Ieee => float16::to_f32(bits),
            Self::Upper => float16::from_upper(bits),
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
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
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
        needed: usize,
    },
    /// The matrix is larger than any memory.
    #[error("{rows} rows of {columns} values are more than fits into memory")]
    TooLarge {
        /// Rows.
        rows: usize,
        /// Values of a row.
        columns: usize,
    },
}

/// A matrix that can be packed: its format and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    format: Format,
    rows: usize,
    columns: usize,
}

impl Shape {
    /// A matrix `(rows, columns)` of blocks of `format`, row by row.
    pub fn new(format: Format, rows: usize, columns: usize) -> Result<Self, PackError> {
        let block = format.block_values();
        if columns == 0 || !columns.is_multiple_of(block) {
            return Err(PackError::Columns { columns, block });
        }
        // Nothing that is computed of a shape is larger than four bytes a value of a matrix with some rows more.
        let values = rows.checked_add(LANES).and_then(|rows| rows.checked_mul(columns));
        match values.and_then(|values| values.checked_mul(4)).filter(|bytes| isize::try_from(*bytes).is_ok()) {
            Some(_) => Ok(Self { format, rows, columns }),
            None => Err(PackError::TooLarge { rows, columns }),
        }
    }

    /// Bytes of all blocks in the file.
    pub fn file_bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }

    /// Memory that the packed matrix takes, in bytes.
    pub fn bytes(&self) -> usize {
        Arena::room(self.panels() * self.panel_bytes())
    }

    fn row_bytes(&self) -> usize {
        self.columns / self.format.block_values() * self.format.block_bytes()
    }

    fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Where a panel's codes begin.
    fn codes_at(&self) -> usize {
        (self.columns / BLOCK * self.format.storage().number_bytes()).next_multiple_of(64)
    }

    fn panel_bytes(&self) -> usize {
        self.codes_at() + self.columns / BLOCK * self.format.storage().code_bytes()
    }
}

/// Packs matrices into one piece of memory, on all threads of a team.
pub struct Packer<'a> {
    team: &'a Team,
    arena: Arena,
    /// What was read and is to be packed, for each thread.
    pieces: Vec<Mutex<Vec<u8>>>,
}

impl<'a> Packer<'a> {
    /// Takes memory for matrices of [`bytes`](Shape::bytes) together.
    pub fn new(team: &'a Team, bytes: usize) -> io::Result<Self> {
        let pieces = (0..team.threads()).map(|_| Mutex::default()).collect();
        Ok(Self { team, arena: Arena::new(bytes)?, pieces })
    }

    /// Packs a matrix whose blocks `read(offset, bytes)` gives, from several threads at a time: those that lie at `offset`
    /// of its file, counted from its own first one.
    ///
    /// # Panics
    /// Where there is no more room for it.
    pub fn pack<E: Send>(
        &self,
        shape: Shape,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Matrix, E> {
        let mut bytes = self.arena.take(shape.panels() * shape.panel_bytes());
        let (row_bytes, panel_bytes, codes_at) = (shape.row_bytes(), shape.panel_bytes(), shape.codes_at());
        let step = (PIECE / (LANES * row_bytes)).max(1);
        let memory = Shared(bytes.as_mut_ptr());
        let failed = Mutex::new(None);
        self.team.run(shape.panels().div_ceil(step), |piece, thread| {
            let mut blocks = self.pieces[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let (first, end) = (piece * step, ((piece + 1) * step).min(shape.panels()));
            let (start, rows) = (first * LANES, (end * LANES).min(shape.rows) - first * LANES);
            blocks.resize(rows * row_bytes, 0);
            if let Err(error) = read(start * row_bytes, &mut blocks) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
            // SAFETY: the region has all panels, and these are this piece's alone.
            let panels = unsafe {
                std::slice::from_raw_parts_mut(memory.get().add(first * panel_bytes), (end - first) * panel_bytes)
            };
            for (panel, rows) in panels.chunks_exact_mut(panel_bytes).zip(blocks.chunks(LANES * row_bytes)) {
                let (numbers, codes) = panel.split_at_mut(codes_at);
                pack::panel(shape.format, rows, row_bytes, numbers, codes);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Matrix { shape, bytes }),
        }
    }
}

/// A matrix `(rows, columns)` in panels of [`LANES`] rows, the last one filled up with zeros.
///
/// A panel is its scales, filled up to 64 bytes, then its codes: block after block of [`BLOCK`] columns. A matrix of 16-bit
/// numbers has these in place of codes, and no scales.
pub struct Matrix {
    shape: Shape,
    bytes: Region,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { format, rows, columns } = self.shape;
        write!(formatter, "Matrix({format:?} {rows}x{columns})")
    }
}

impl Matrix {
    /// Packs `blocks`, a tensor of a GGUF file as it lies there, into memory of its own.
    pub fn pack(format: Format, rows: usize, columns: usize, blocks: &[u8]) -> Result<Self, PackError> {
        let shape = Shape::new(format, rows, columns)?;
        let (found, needed) = (blocks.len(), shape.file_bytes());
        if found != needed {
            return Err(PackError::Length { rows, columns, found, needed });
        }
        let team = Team::new(1);
        let packer = Packer::new(&team, shape.bytes()).map_err(|_| PackError::TooLarge { rows, columns })?;
        let packed = packer.pack(shape, |offset, bytes| {
            bytes.copy_from_slice(&blocks[offset..offset + bytes.len()]);
            Ok::<(), std::convert::Infallible>(())
        });
        match packed {
            Ok(matrix) => Ok(matrix),
            Err(never) => match never {},
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.shape.columns
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.shape.panels()
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.bytes()
    }

    /// Row `row` as numbers; `out` has as many as there are columns.
    ///
    /// # Panics
    /// Where there is no such row, or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows() && out.len() == self.columns(), "row {row} of {self:?} into {} values", out.len());
        let panel = row / LANES;
        let (numbers, codes) = self.parts(panel..panel + 1).next().expect("invariant: there is such a panel");
        let layout = match self.storage() {
            Storage::Codes(layout) => layout,
            Storage::Halves(half) => {
                for (out, column) in out.iter_mut().zip(codes.chunks_exact(LANES * 2)) {
                    let at = row % LANES * 2;
                    *out = half.to_f32(u16::from_le_bytes([column[at], column[at + 1]]));
                }
                return;
            }
        };
        let number = |block: usize, which: usize| {
            let at = block * layout.number_bytes() + (which * LANES + row % LANES) * 2;
            float16::to_f32(u16::from_le_bytes([numbers[at], numbers[at + 1]]))
        };
        let mut expanded = [0; LANES * BLOCK];
        for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let codes = &codes[block * layout.code_bytes()..][..layout.code_bytes()];
            pack::expand(layout, codes, &mut expanded);
            for (column, out) in out.iter_mut().enumerate() {
                let code = f32::from(expanded[column / 4 * 64 + row % LANES * 4 + column % 4]);
                *out = match layout.offset() {
                    None => number(block, 0) * code + number(block, 1),
                    Some(offset) => {
                        let half = if layout.numbers() == 2 { column / (BLOCK / 2) } else { 0 };
                        number(block, half) * (code - f32::from(1u16 << offset))
                    }
                };
            }
        }
    }

    /// Whether products are with values that activations [keep](crate::Activations::keep_values), not with their codes.
    pub fn takes_values(&self) -> bool {
        matches!(self.storage(), Storage::Halves(_))
    }

    pub(crate) fn storage(&self) -> Storage {
        self.shape.format.storage()
    }

    /// The numbers and the codes of some panels.
    pub(crate) fn parts(&self, panels: Range<usize>) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (bytes, codes_at) = (self.shape.panel_bytes(), self.shape.codes_at());
        let panels = &self.bytes.as_slice()[panels.start * bytes..panels.end * bytes];
        panels.chunks_exact(bytes.max(1)).map(move |panel| panel.split_at(codes_at))
    }
}
