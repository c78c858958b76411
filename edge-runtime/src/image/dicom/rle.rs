//! Run-length encoding of DICOM (PS3.5, Annex G).

/// Why a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RleError {
    /// It ends early.
    Truncated,
    /// It makes no sense.
    Damaged(&'static str),
}

/// Bytes of the header: the number of segments and 15 offsets.
const HEADER: usize = 64;

/// The `planes` byte planes of a frame, most significant first, each of `length` bytes.
pub fn decode(bytes: &[u8], planes: usize, length: usize) -> Result<Vec<Vec<u8>>, RleError> {
    let (header, _) = bytes.split_at_checked(HEADER).ok_or(RleError::Truncated)?;
    let words: Vec<usize> = header.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b) as usize).collect();
    if words[0] != planes {
        return Err(RleError::Damaged("it has another number of segments than its samples have bytes"));
    }
    let segment = |i: usize| {
        let start = words[1 + i];
        let end = if i + 1 < planes { words[2 + i] } else { bytes.len() };
        let data = bytes.get(start..end).filter(|_| start >= HEADER).ok_or(RleError::Truncated)?;
        unpack(data, length)
    };
    (0..planes).map(segment).collect()
}

/// One segment, of which at most a byte of padding may be left over (G.3.1).
fn unpack(mut data: &[u8], length: usize) -> Result<Vec<u8>, RleError> {
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let (head, rest) = data.split_first().ok_or(RleError::Truncated)?;
        let count = match *head {
            literal @ 0..=127 => {
                let count = usize::from(literal) + 1;
                let (run, rest) = rest.split_at_checked(count).ok_or(RleError::Truncated)?;
                out.extend_from_slice(run);
                data = rest;
                count
            }
            128 => {
                data = rest;
                0
            }
            repeat => {
                let count = 257 - usize::from(repeat);
                let (value, rest) = rest.split_first().ok_or(RleError::Truncated)?;
                out.resize(out.len() + count, *value);
                data = rest;
                count
            }
        };
        if out.len() > length && count > 0 {
            return Err(RleError::Damaged("a run is longer than its picture"));
        }
    }
    // Some writers close with a run of nothing.
    let is_padding = data.iter().all(|b| *b == 0 || *b == 128) && data.len() <= 2;
    if is_padding { Ok(out) } else { Err(RleError::Damaged("data are left over behind its last sample")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segment: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = 1;
        bytes[4] = HEADER as u8;
        bytes.extend(segment);
        bytes
    }

    #[test]
    fn runs_and_literals_are_unpacked_whole_or_refused() {
        let packed = [2, 7, 8, 9, 254, 5, 0];
        assert_eq!(decode(&frame(&packed), 1, 6), Ok(vec![vec![7, 8, 9, 5, 5, 5]]));
        assert_eq!(decode(&frame(&packed[..5]), 1, 6), Err(RleError::Truncated));
        assert!(matches!(decode(&frame(&packed), 1, 5), Err(RleError::Damaged(_))));
        assert!(matches!(decode(&frame(&packed), 1, 3), Err(RleError::Damaged(_))));
        assert!(matches!(decode(&frame(&packed), 2, 6), Err(RleError::Damaged(_))));
        assert_eq!(decode(&packed, 1, 6), Err(RleError::Truncated));
    }
}
