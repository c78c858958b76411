//! Convolution 3×3 with fewer products: Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray 2016), in integers and
//! exact.
//!
//! Four outputs of a tile, which are 36 products by definition, are 16 products of a transformed window and transformed
//! weights. Weights are transformed four times as large, so that nothing is halved; a sum of products of 16-bit numbers
//! is then four times the convolution's sum, exactly, and the result is the definition's bit for bit. It pays where
//! products of bytes are not faster than those of 16-bit numbers: without VNNI.

use crate::{NR, Requantise, Scaling};

/// Rows and columns of a transformed tile, which lies over 4×4 pixels of the input and gives 2×2 of the output.
pub const TILE_SIDE: usize = 4;

/// Products that a transformed tile is, for each channel and output channel.
pub const TILE_ELEMENTS: usize = TILE_SIDE * TILE_SIDE;

/// Input channels are a multiple of this.
pub const CHANNELS: usize = 16;

/// Weights as [`Winograd`] takes them: `[element of the tile][panel][channels / 2][NR][2]`, filled up with zeros.
pub struct Transformed {
    /// Transformed weights, four times as large as Lavin and Gray's: at most 9 · 128.
    pub codes: Vec<CacheLine>,
    /// Input channels.
    pub channels: usize,
    /// Output channels, without those that fill the last panel.
    pub columns: usize,
    /// For each output channel of all panels.
    pub scaling: Scaling,
}

/// A cache line of transformed weights, so that no load of them touches two.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct CacheLine(pub [i16; CACHE_LINE_I16]);

/// Numbers in a [`CacheLine`].
pub const CACHE_LINE_I16: usize = 32;

impl Transformed {
    /// True if sums over `channels` input channels stay inside 32 bits four times as large, whatever codes and weights
    /// are.
    pub fn fits(channels: usize) -> bool {
        channels > 0 && channels.is_multiple_of(CHANNELS) && channels <= i32::MAX as usize / (4 * 9 * 255 * 128)
    }

    /// Transforms `codes`, `[columns][3][3][channels]`.
    ///
    /// # Panics
    /// If [`Transformed::fits`] does not hold, or `codes` has another length.
    pub fn new(codes: &[i8], columns: usize, channels: usize, mut scaling: Scaling) -> Transformed {
        assert!(Transformed::fits(channels) && codes.len() == columns * 9 * channels);
        scaling.fill_up();
        let panel = channels * NR;
        let element = columns.next_multiple_of(NR) * channels;
        let mut to = vec![CacheLine([0; CACHE_LINE_I16]); TILE_ELEMENTS * element / CACHE_LINE_I16];
        for (column, weights) in codes.chunks_exact(9 * channels).enumerate() {
            for channel in 0..channels {
                let g: [[i16; 3]; 3] =
                    std::array::from_fn(|y| std::array::from_fn(|x| weights[(y * 3 + x) * channels + channel].into()));
                let at = column / NR * panel + channel / 2 * 2 * NR + column % NR * 2 + channel % 2;
                for (y, row) in by_columns(g.map(by_rows)).into_iter().enumerate() {
                    for (x, code) in row.into_iter().enumerate() {
                        let at = (y * TILE_SIDE + x) * element + at;
                        to[at / CACHE_LINE_I16].0[at % CACHE_LINE_I16] = code;
                    }
                }
            }
        }
        Transformed { codes: to, channels, columns, scaling }
    }
}

/// Twice `G · g` of Lavin and Gray.
fn by_rows([a, b, c]: [i16; 3]) -> [i16; TILE_SIDE] {
    [2 * a, a + b + c, a - b + c, 2 * c]
}

fn by_columns(g: [[i16; TILE_SIDE]; 3]) -> [[i16; TILE_SIDE]; TILE_SIDE] {
    let columns: [[i16; TILE_SIDE]; TILE_SIDE] = std::array::from_fn(|x| by_rows(g.map(|row| row[x])));
    std::array::from_fn(|y| std::array::from_fn(|x| columns[x][y]))
}

/// A convolution 3×3 without strides or holes, over an input that has its border already.
pub struct Winograd<'a> {
    /// `[2 · tile rows + 2][2 · tile columns + 2][channels]` codes.
    pub input: &'a [u8],
    /// Tiles in a row.
    pub tile_columns: usize,
    /// Weights.
    pub weights: &'a Transformed,
    /// How sums become codes.
    pub requantise: Requantise<'a>,
    /// Columns of the output: those of the tiles, or one less.
    pub out_width: usize,
    /// Codes from one pixel of the output to the next, at least `weights.columns`.
    pub out_pixel_stride: usize,
}

// What kernels ask; only x86-64 has one.
#[cfg(target_arch = "x86_64")]
impl Winograd<'_> {
    /// Codes from one row of the input to the next.
    pub(crate) fn line(&self) -> usize {
        (2 * self.tile_columns + 2) * self.weights.channels
    }

    /// Checks what every kernel relies on; gives the number of pixel rows in `out`, which begins with tile row `first`.
    pub(crate) fn check(&self, first: usize, out: &[u8]) -> usize {
        let w = self.weights;
        let filled = self.weights.columns.next_multiple_of(NR);
        assert!(
            w.columns > 0
                && w.codes.len() * CACHE_LINE_I16 == TILE_ELEMENTS * filled * w.channels
                && Transformed::fits(w.channels)
        );
        assert!(self.requantise.bias.len() >= filled && self.requantise.multiplier.len() >= filled);
        assert!(
            self.out_pixel_stride >= w.columns && self.out_width > 0 && self.out_width.div_ceil(2) == self.tile_columns
        );
        let rows = (out.len() + self.out_pixel_stride - w.columns) / (self.out_width * self.out_pixel_stride);
        assert!(rows == 0 || self.input.len() >= (2 * (first + rows.div_ceil(2)) + 2) * self.line());
        rows
    }
}
