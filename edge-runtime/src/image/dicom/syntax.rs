//! Transfer syntaxes: how a data set and its pixels are coded (PS3.5, Annex A; names of PS3.6).

/// How the elements of a data set are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Without types, little endian.
    ImplicitLittle,
    /// With types, little endian.
    ExplicitLittle,
    /// With types, big endian (retired).
    ExplicitBig,
    /// With types, little endian, and all of it deflated.
    Deflated,
}

/// How pixels are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Run lengths.
    Rle,
    /// JPEG: baseline, extended or lossless.
    Jpeg,
    /// JPEG-LS.
    JpegLs,
    /// JPEG 2000.
    Jpeg2000,
}

/// A transfer syntax that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    /// The elements.
    pub coding: Coding,
    /// The pixels.
    pub compression: Compression,
}

const fn explicit(compression: Compression) -> Syntax {
    Syntax { coding: Coding::ExplicitLittle, compression }
}

const fn plain(coding: Coding) -> Syntax {
    Syntax { coding, compression: Compression::None }
}

/// Those that are read, by the end of their UID behind `1.2.840.10008.1.2`.
const READ: [(&str, Syntax); 13] = [
    ("", plain(Coding::ImplicitLittle)),
    (".1", plain(Coding::ExplicitLittle)),
    (".1.99", plain(Coding::Deflated)),
    (".2", plain(Coding::ExplicitBig)),
    (".5", explicit(Compression::Rle)),
    (".4.50", explicit(Compression::Jpeg)),
    (".4.51", explicit(Compression::Jpeg)),
    (".4.57", explicit(Compression::Jpeg)),
    (".4.70", explicit(Compression::Jpeg)),
    (".4.80", explicit(Compression::JpegLs)),
    (".4.81", explicit(Compression::JpegLs)),
    (".4.90", explicit(Compression::Jpeg2000)),
    (".4.91", explicit(Compression::Jpeg2000)),
];

/// Those that are refused by name: a beginning of the UID's end, and what it is.
const REFUSED: [(&str, &str); 8] = [
    (".1.98", "a DICOM of encapsulated uncompressed pixels"),
    (".4.92", "a DICOM of multi-component JPEG 2000"),
    (".4.93", "a DICOM of multi-component JPEG 2000"),
    (".4.94", "a DICOM whose pixels lie on a server (JPIP)"),
    (".4.95", "a DICOM whose pixels lie on a server (JPIP)"),
    (".4.10", "a DICOM video (MPEG)"),
    (".4.11", "a DICOM of JPEG XL"),
    (".4.20", "a DICOM of high-throughput JPEG 2000"),
];

impl Syntax {
    /// The syntax with the UID `uid`; else what it is, for a sentence.
    pub fn find(uid: &str) -> Result<Syntax, &'static str> {
        let Some(end) = uid.strip_prefix("1.2.840.10008.1.2") else { return Err("a DICOM of a private coding") };
        if let Some((_, syntax)) = READ.iter().find(|(known, _)| *known == end) {
            return Ok(*syntax);
        }
        let refused = REFUSED.iter().find(|(known, _)| end.starts_with(known));
        Err(refused.map_or("a DICOM of a coding that is retired or newer than this program", |(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntaxes_are_found_by_their_uid() {
        assert_eq!(Syntax::find("1.2.840.10008.1.2"), Ok(plain(Coding::ImplicitLittle)));
        assert_eq!(Syntax::find("1.2.840.10008.1.2.4.70"), Ok(explicit(Compression::Jpeg)));
        assert!(Syntax::find("1.2.840.10008.1.2.4.201").is_err_and(|name| name.contains("high-throughput")));
        assert!(Syntax::find("1.2.840.10008.1.2.4.103").is_err_and(|name| name.contains("MPEG")));
        assert!(Syntax::find("1.2.840.113619.5.2").is_err_and(|name| name.contains("private")));
    }
}
