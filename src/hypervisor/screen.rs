//! The screen's picture: QEMU gives PNG or, where it is older or built without, PPM; browsers want PNG. Pure.

use png::{BitDepth, ColorType, Encoder};

/// The largest picture taken, in pixels: the guest chooses its screen's size.
const MOST: u64 = 64 << 20;

/// The picture as PNG; `None` when it is in neither form.
pub fn png(picture: Vec<u8>) -> Option<Vec<u8>> {
    if picture.starts_with(b"\x89PNG\r\n\x1a\n") { Some(picture) } else { png_of_ppm(&picture) }
}

/// A PNG of a binary PPM (`P6`, one byte a channel), or `None` when the bytes are not one.
fn png_of_ppm(ppm: &[u8]) -> Option<Vec<u8>> {
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
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels[..size]).and_then(|()| writer.finish()).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_keeps_its_pixels() {
        let made = png_of_ppm(b"P6\n# by hand\n2 1\n255\nabcdef").expect("a picture");
        let mut reader = png::Decoder::new(std::io::Cursor::new(made)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let frame = reader.next_frame(&mut pixels).expect("a picture");
        assert_eq!((frame.width, frame.height, pixels.as_slice()), (2, 1, &b"abcdef"[..]));
    }

    #[test]
    fn a_png_stays_as_it_is() {
        let made = png(b"P6 1 1 255\nabc".to_vec()).expect("a picture");
        assert_eq!(png(made.clone()), Some(made));
        assert_eq!(png(b"<svg>".to_vec()), None);
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
