//! Inputs made on the spot.

use edge_runtime::image::GreyPlane;
use image::{GrayImage, ImageFormat, Luma};
use std::io::Cursor;

/// `image` as a PNG file.
pub fn png(image: &GrayImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("memory does not fail");
    bytes.into_inner()
}

/// A PNG file of 96×96 pixels with contrast.
pub fn ramp_png() -> Vec<u8> {
    png(&GrayImage::from_fn(96, 96, |x, y| Luma([(x * 2 + y / 2) as u8])))
}

/// A PNG whose header declares 30000×30000 pixels, with a right checksum.
pub fn bomb_png() -> Vec<u8> {
    let mut bytes = ramp_png();
    bytes[16..20].copy_from_slice(&30000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&30000u32.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The checksum of PNG chunks (ISO/IEC 15948, 5.5).
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = 0xFFFF_FFFFu32;
    for b in bytes {
        crc ^= u32::from(*b);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Random planes, the same each time.
pub fn random_planes(size: u32, count: usize) -> Vec<GreyPlane> {
    let mut x = 88_172_645_463_325_252u64;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as u8
    };
    (0..count).map(|_| GreyPlane::square(size, (0..size * size).map(|_| next()).collect())).collect()
}
