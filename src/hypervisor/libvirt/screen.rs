//! The screen's picture: QEMU gives PPM, browsers want PNG. Pure.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// The largest picture taken, in pixels: the guest chooses its screen's size.
const MOST: u64 = 64 << 20;

/// A PNG of a binary PPM (`P6`, one byte a channel), or `None` when the bytes are not one.
pub fn png_of_ppm(ppm: &[u8]) -> Option<Vec<u8>> {
    let mut rest = ppm.strip_prefix(b"P6")?;
    let width = number(&mut rest)?;
    let height = number(&mut rest)?;
    let most = number(&mut rest)?;
    let pixels = rest.get(1..)?;
    let row = usize::try_from(width).ok()?.checked_mul(3)?;
    let size = row.checked_mul(usize::try_from(height).ok()?)?;
    if most != 255 || size == 0 || u64::from(width) * u64::from(height) > MOST || pixels.len() < size {
        return None;
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    for line in pixels[..size].chunks(row) {
        packed.write_all(&[0]).and_then(|()| packed.write_all(line)).ok()?;
    }
    let mut header = Vec::with_capacity(13);
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    // Eight bits a channel, red-green-blue, and the only compression, filter and interlace methods that need no word.
    header.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, b"IHDR", &header)?;
    chunk(&mut png, b"IDAT", &packed.finish().ok()?)?;
    chunk(&mut png, b"IEND", &[])?;
    Some(png)
}

/// Takes white space, comments and a decimal number from the front.
fn number(rest: &mut &[u8]) -> Option<u32> {
    loop {
        match rest.first()? {
            b'#' => *rest = rest.get(rest.iter().position(|byte| *byte == b'\n')?..)?,
            byte if byte.is_ascii_whitespace() => *rest = &rest[1..],
            _ => break,
        }
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// One chunk of a PNG (ISO/IEC 15948, 5.3): length, kind, data, CRC of kind and data.
fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) -> Option<()> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    png.extend(u32::try_from(data.len()).ok()?.to_be_bytes());
    png.extend(kind);
    png.extend(data);
    png.extend(crc.sum().to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_picture_keeps_its_pixels() {
        let png = png_of_ppm(b"P6\n# by hand\n2 1\n255\nabcdef").expect("a picture");
        assert_eq!(&png[..16], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
        assert_eq!(&png[16..24], [0, 0, 0, 2, 0, 0, 0, 1]);
        let length = u32::from_be_bytes(png[33..37].try_into().expect("four bytes")) as usize;
        let mut pixels = Vec::new();
        flate2::read::ZlibDecoder::new(&png[41..41 + length]).read_to_end(&mut pixels).expect("packed");
        assert_eq!(pixels, b"\0abcdef");
        assert!(png.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            &b""[..],
            b"P6",
            b"P5\n1 1\n255\nabc",
            b"P6\n2 2\n255\nabc",
            b"P6\n0 0\n255\n",
            b"P6\n1 1\n65535\nabcdef",
            b"P6\n99999 99999\n255\n",
        ] {
            assert_eq!(png_of_ppm(bad), None);
        }
    }
}
