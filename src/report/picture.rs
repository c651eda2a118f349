//! Screenshots as `data:` addresses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The picture, a PNG, as a `data:` address of at most `cap` bytes; `None` when it is none, or a larger one.
pub fn data_uri(bytes: &[u8], cap: usize) -> Option<String> {
    let uri = bytes.starts_with(b"\x89PNG\r\n\x1a\n").then(|| format!("data:image/png;base64,{}", STANDARD.encode(bytes)))?;
    (uri.len() <= cap).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_small_picture_is_shown() {
        let png = b"\x89PNG\r\n\x1a\nrest";
        assert_eq!(data_uri(png, 100).as_deref(), Some("data:image/png;base64,iVBORw0KGgpyZXN0"));
        assert_eq!(data_uri(png, 20), None, "over the cap");
        for bytes in [&b""[..], b"\x89PNG", b"<svg onload=x>"] {
            assert_eq!(data_uri(bytes, 100), None, "{bytes:?}");
        }
    }
}
