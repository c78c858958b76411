//! A file to its data set: preamble and file meta group are there or not (PS3.10, 7.1), elements are `dicom-object`'s.

use super::lengths;
use super::syntax::{Coding, Compression, Syntax};
use super::{damaged, truncated, unsupported};
use crate::image::RadiographError;
use crate::image::format::{DICOM_MAGIC as MAGIC, DICOM_PREAMBLE as PREAMBLE};
use dicom_core::value::Value;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::entries;
use flate2::read::DeflateDecoder;
use std::error::Error;
use std::io::Read;

/// Most bytes that a deflated data set may have: no radiograph's has more.
const MAX_INFLATED: u64 = 256 << 20;
/// (0002,0010) Transfer Syntax UID.
const TRANSFER_SYNTAX: u16 = 0x0010;

/// Elements that the greys follow from.
const NEEDED: [Tag; 22] = [
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PLANAR_CONFIGURATION,
    tags::NUMBER_OF_FRAMES,
    tags::RESCALE_SLOPE,
    tags::RESCALE_INTERCEPT,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::VOILUT_FUNCTION,
    tags::VOILUT_SEQUENCE,
    tags::MODALITY_LUT_SEQUENCE,
    tags::PRESENTATION_LUT_SHAPE,
    tags::PIXEL_PADDING_VALUE,
    tags::PATIENT_ORIENTATION,
    tags::PIXEL_ASPECT_RATIO,
    tags::PIXEL_DATA,
];

/// A data set, and how it was coded.
pub struct Object {
    elements: InMemDicomObject,
    /// How it was coded.
    pub syntax: Syntax,
}

/// Where the file meta group ends, and the transfer syntax that it names. Its declared length is not believed.
fn meta(bytes: &[u8], mut at: usize) -> (usize, Option<String>) {
    let mut syntax = None;
    while let Some([0x02, 0x00, e0, e1, v0, v1, l0, l1]) = bytes.get(at..).and_then(|b| b.first_chunk::<8>()) {
        let is_long = matches!(&[*v0, *v1], b"OB" | b"OW" | b"OF" | b"SQ" | b"UT" | b"UN");
        let (start, length) = match bytes.get(at + 8..at + 12) {
            Some([a, b, c, d]) if is_long => (at + 12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
            _ => (at + 8, usize::from(u16::from_le_bytes([*l0, *l1]))),
        };
        let Some(value) = bytes.get(start..start.saturating_add(length)) else { break };
        if u16::from_le_bytes([*e0, *e1]) == TRANSFER_SYNTAX {
            let text = String::from_utf8_lossy(value);
            syntax = Some(text.trim_matches(['\0', ' ']).to_owned());
        }
        at = start + length;
    }
    (at, syntax)
}

/// How elements are coded where no file meta group says it, from the first of them.
fn guess(data: &[u8]) -> Coding {
    match data.first_chunk::<6>() {
        Some([0x00, _, ..]) => Coding::ExplicitBig,
        Some([_, _, _, _, a, b]) if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Coding::ExplicitLittle,
        _ => Coding::ImplicitLittle,
    }
}

impl Object {
    /// Reads the file `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Object, RadiographError> {
        let start = match bytes.get(PREAMBLE..) {
            Some(rest) if rest.starts_with(MAGIC) => PREAMBLE + MAGIC.len(),
            _ if bytes.starts_with(MAGIC) => MAGIC.len(),
            _ => 0,
        };
        let (end, named) = meta(bytes, start);
        let data = bytes.get(end..).unwrap_or_default();
        let mut syntax = match named {
            Some(uid) => Syntax::find(&uid).map_err(unsupported)?,
            None => Syntax { coding: guess(data), compression: Compression::None },
        };
        let elements = match syntax.coding {
            Coding::Deflated => {
                let mut inflated = Vec::new();
                let bounded = DeflateDecoder::new(data).take(MAX_INFLATED + 1).read_to_end(&mut inflated);
                bounded.map_err(|e| match e.kind() {
                    std::io::ErrorKind::UnexpectedEof => truncated(),
                    _ => damaged("what was deflated cannot be inflated"),
                })?;
                if inflated.len() as u64 > MAX_INFLATED {
                    return Err(damaged("its data set is larger than any radiograph's"));
                }
                syntax.coding = Coding::ExplicitLittle;
                parse(&inflated, Coding::ExplicitLittle)?
            }
            coding => parse(data, coding)?,
        };
        let object = Object { elements, syntax };
        let lost_type = |tag: &&Tag| object.element(**tag).is_some_and(|e| e.vr() == VR::UN);
        match NEEDED.iter().find(lost_type) {
            Some(_) => Err(unsupported("a DICOM whose elements lost their types (UN)")),
            None => Ok(object),
        }
    }

    /// The elements.
    pub fn into_elements(self) -> InMemDicomObject {
        self.elements
    }

    /// The element `tag`, unless it is absent or empty.
    fn element(&self, tag: Tag) -> Option<&InMemElement> {
        self.elements.element_opt(tag).ok().flatten()
    }

    /// The first number of `tag`.
    pub fn int(&self, tag: Tag) -> Option<i64> {
        self.element(tag)?.to_int::<i64>().ok()
    }

    /// The numbers of `tag`; none if one of them is none.
    pub fn floats(&self, tag: Tag) -> Vec<f64> {
        self.numbers(tag).unwrap_or_default()
    }

    /// The numbers of `tag`; refused if it has a value, and not of numbers alone.
    pub fn numbers(&self, tag: Tag) -> Result<Vec<f64>, RadiographError> {
        let Some(element) = self.element(tag) else { return Ok(vec![]) };
        let is_empty = element.to_bytes().is_ok_and(|bytes| bytes.iter().all(|b| matches!(b, b' ' | 0)));
        if is_empty && element.vr() == VR::DS {
            return Ok(vec![]);
        }
        let numbers = element.to_multi_float64().ok().filter(|numbers| numbers.iter().all(|n| n.is_finite()));
        numbers.ok_or_else(|| damaged("a number that makes its greys cannot be read"))
    }

    /// The words of `tag`, in capitals.
    pub fn words(&self, tag: Tag) -> Vec<String> {
        let words = self.element(tag).and_then(|e| e.to_multi_str().ok()).unwrap_or_default();
        words.iter().map(|w| w.trim_matches(['\0', ' ']).to_uppercase()).collect()
    }

    /// The first word of `tag`, in capitals; none if it is empty.
    pub fn word(&self, tag: Tag) -> Option<String> {
        self.words(tag).into_iter().next().filter(|w| !w.is_empty())
    }

    /// The items of the sequence `tag`.
    pub fn items(&self, tag: Tag) -> Vec<Object> {
        let items = self.element(tag).and_then(|e| e.value().items()).unwrap_or_default();
        items.iter().map(|elements| Object { elements: elements.clone(), syntax: self.syntax }).collect()
    }

    /// The bytes of `tag`, words of 16 bits little endian.
    pub fn bytes(&self, tag: Tag) -> Option<Vec<u8>> {
        Some(self.element(tag)?.to_bytes().ok()?.into_owned())
    }

    /// The fragments of compressed pixels, one behind the other (PS3.5, A.4); refused if they are of several frames.
    pub fn fragments(&self, tag: Tag) -> Result<Vec<u8>, RadiographError> {
        let Some(Value::PixelSequence(sequence)) = self.element(tag).map(|e| e.value()) else {
            return Err(damaged("it holds no picture"));
        };
        let begins_stream = |f: &&Vec<u8>| f.starts_with(&[0xFF, 0xD8]) || f.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]);
        let streams = sequence.fragments().iter().filter(begins_stream).count();
        match streams > 1 || sequence.offset_table().len() > 1 {
            true => Err(unsupported("a DICOM of several frames")),
            false => Ok(sequence.fragments().concat()),
        }
    }
}

fn parse(data: &[u8], coding: Coding) -> Result<InMemDicomObject, RadiographError> {
    lengths::check(data, coding)?;
    let syntax = match coding {
        Coding::ImplicitLittle => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        Coding::ExplicitLittle | Coding::Deflated => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        Coding::ExplicitBig => entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
    };
    InMemDicomObject::read_dataset_with_ts(data, &syntax).map_err(|e| match ends_early(&e) {
        true => truncated(),
        // Words of the parser could repeat values of the file, which are a patient's.
        false => damaged("its elements cannot be read"),
    })
}

/// True if a reader met the end of the file.
fn ends_early(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = e.source();
    }
    false
}
