//! Huffman codes and bits of entropy-coded data (T.81, annexes C and F.2.2).

use super::JpegError;

/// Bits that one look-up tells.
const LOOKUP_BITS: u32 = 9;

/// A Huffman table.
#[derive(Clone)]
pub struct Table {
    /// For the next bits: the symbol, and the length of its code; 0 where it is longer.
    lookup: Box<[(u8, u8); 1 << LOOKUP_BITS]>,
    /// For each length, one past its last code, and what to add to a code for its index; none where there is no code.
    lengths: [Option<(u32, i32)>; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Builds a table from the numbers of codes of each length, and their symbols.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Table, JpegError> {
        let wrong = || JpegError::damaged("a Huffman table is impossible");
        let mut table =
            Table { lookup: Box::new([(0, 0); 1 << LOOKUP_BITS]), lengths: [None; 17], symbols: symbols.to_vec() };
        let mut code = 0u32;
        let mut index = 0usize;
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            let end = code + count;
            if end > 1 << length {
                return Err(wrong());
            }
            if count > 0 {
                table.lengths[length as usize] = Some((end, index as i32 - code as i32));
            }
            for code in code..end {
                let symbol = *symbols.get(index).ok_or_else(wrong)?;
                index += 1;
                if length <= LOOKUP_BITS {
                    let free = LOOKUP_BITS - length;
                    let first = (code << free) as usize;
                    table.lookup[first..first + (1 << free)].fill((symbol, length as u8));
                }
            }
            code = end << 1;
        }
        Ok(table)
    }
}

/// Bits of the entropy-coded data between two markers.
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// Next byte to take.
    at: usize,
    /// Bits that are taken and not used, the next one highest.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// The bits from `at` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, count: 0 }
    }

    /// Takes bytes up to a marker, or to the end.
    #[inline]
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF), _) | (None, _) => return,
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn drop_bits(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// The next `count` bits, at most 16.
    #[inline]
    pub fn take(&mut self, count: u32) -> Result<u32, JpegError> {
        if count == 0 {
            return Ok(0);
        }
        if self.count < count {
            self.fill();
            if self.count < count {
                return Err(JpegError::Truncated);
            }
        }
        let bits = (self.buffer >> (64 - count)) as u32;
        self.drop_bits(count);
        Ok(bits)
    }

    /// The next symbol.
    #[inline]
    pub fn symbol(&mut self, table: &Table) -> Result<u8, JpegError> {
        if self.count < 16 {
            self.fill();
        }
        let (symbol, length) = table.lookup[(self.buffer >> (64 - LOOKUP_BITS)) as usize];
        let length = u32::from(length);
        if length > 0 && length <= self.count {
            self.drop_bits(length);
            return Ok(symbol);
        }
        self.long_symbol(table)
    }

    fn long_symbol(&mut self, table: &Table) -> Result<u8, JpegError> {
        for length in 1..=16u32 {
            if length > self.count {
                return Err(JpegError::Truncated);
            }
            let code = (self.buffer >> (64 - length)) as u32;
            if let Some((end, offset)) = table.lengths[length as usize]
                && code < end
                && let Some(symbol) = table.symbols.get((code as i32 + offset) as usize)
            {
                self.drop_bits(length);
                return Ok(*symbol);
            }
        }
        Err(JpegError::damaged("a code that is in no table"))
    }

    /// The next `count` bits as a difference (T.81, F.2.2.1, EXTEND).
    #[inline]
    pub fn difference(&mut self, count: u32) -> Result<i32, JpegError> {
        if count == 0 {
            return Ok(0);
        }
        let bits = self.take(count)? as i32;
        Ok(if bits < 1 << (count - 1) { bits - (1 << count) + 1 } else { bits })
    }

    /// Ends at a byte's end, where a marker must follow; gives the place of the marker's first byte. Encoders fill the
    /// last byte with ones (T.81, F.1.2.3), some with zeros; a mixture is data.
    pub fn end(mut self) -> Result<usize, JpegError> {
        self.fill();
        let padding = if self.count == 0 { 0 } else { self.buffer >> (64 - self.count) };
        let ones = (1u64 << self.count.min(63)) - 1;
        if self.count >= 8 || (padding != 0 && padding != ones) {
            return Err(JpegError::damaged("data are left over when its picture is whole"));
        }
        match self.bytes.get(self.at) {
            Some(_) => Ok(self.at),
            None => Err(JpegError::Truncated),
        }
    }
}
