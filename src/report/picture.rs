//! Screenshots as `data:` addresses. QEMU gives PNG or, more often, PPM, which no browser shows: that becomes PNG here.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, Crc, write::ZlibEncoder};

/// The largest side in pixels that is believed.
const SIDE: usize = 8192;

/// The picture as a `data:` address of at most `cap` bytes; `None` when it is no picture, or a larger one.
pub fn data_uri(bytes: &[u8], cap: usize) -> Option<String> {
    let png = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") { bytes.to_vec() } else { png_of_ppm(bytes)? };
    let uri = format!("data:image/png;base64,{}", STANDARD.encode(png));
    (uri.len() <= cap).then_some(uri)
}

/// PNG (ISO/IEC 15948) from a binary PPM with 8 bits a channel.
fn png_of_ppm(bytes: &[u8]) -> Option<Vec<u8>> {
    let (fields, pixels) = ppm_header(bytes)?;
    let [width, height, depth] = fields;
    let row = width.checked_mul(3)?;
    if depth != 255 || width == 0 || height == 0 || width > SIDE || height > SIDE || pixels.len() < row.checked_mul(height)? {
        return None;
    }
    let mut lines = ZlibEncoder::new(Vec::new(), Compression::best());
    for line in pixels.chunks_exact(row).take(height) {
        // Each line begins with its filter: none.
        lines.write_all(&[0]).and_then(|()| lines.write_all(line)).ok()?;
    }
    let mut header = Vec::with_capacity(13);
    header.extend(u32::try_from(width).ok()?.to_be_bytes());
    header.extend(u32::try_from(height).ok()?.to_be_bytes());
    // 8 bits a channel, red-green-blue, and the only compression, filtering and order there are.
    header.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", lines.finish().ok()?), (b"IEND", Vec::new())] {
        png.extend(u32::try_from(data.len()).ok()?.to_be_bytes());
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(&data);
        png.extend(kind);
        png.extend(data);
        png.extend(crc.sum().to_be_bytes());
    }
    Some(png)
}

/// Width, height and greatest value of a `P6` file, and the bytes after them.
fn ppm_header(bytes: &[u8]) -> Option<([usize; 3], &[u8])> {
    let mut rest = bytes.strip_prefix(b"P6")?;
    let mut fields = [0; 3];
    for field in &mut fields {
        while let Some(first) = rest.first().filter(|first| first.is_ascii_whitespace() || **first == b'#') {
            let comment = *first == b'#';
            let skip = if comment { rest.iter().position(|byte| *byte == b'\n')? } else { 1 };
            rest = &rest[skip..];
        }
        let digits = rest.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
        *field = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        rest = &rest[digits..];
    }
    rest.first().filter(|byte| byte.is_ascii_whitespace())?;
    Some((fields, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ppm_becomes_png() {
        let png = png_of_ppm(b"P6\n# by QEMU\n2 1\n255\n\xff\0\0\0\0\xff").expect("a picture");
        assert_eq!(&png[..24], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01");
        assert!(png.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"), "the end chunk has its well-known checksum");
    }

    #[test]
    fn what_is_no_picture_gives_none() {
        for bytes in [
            &b""[..],
            b"P6",
            b"P6 1 1 255",
            b"P6 9 9 255\nshort",
            b"P6 99999999 1 255\n",
            b"P5 1 1 255\n0",
            b"<svg onload=x>",
            b"P6 1 1 65535\n000000",
        ] {
            assert_eq!(data_uri(bytes, 1 << 20), None, "{bytes:?}");
        }
        assert_eq!(data_uri(b"P6 1 1 255\nabc", 10), None, "over the cap");
    }
}
