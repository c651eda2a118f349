//! Hardware addresses and the head of an Ethernet frame.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{BadId, Digest};

/// Destination, source and type.
pub const HEADER: usize = 14;
/// The longest frame that is switched: a jumbo frame of 9000 bytes with room for tags, as hardware switches have it.
pub const LONGEST: usize = 9216;

const RULE: &str = "a hardware address such as 52:54:00:12:34:56";

/// The hardware address of a NIC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// An address of the range that QEMU uses, always the same for the same place.
    pub fn of(place: &str) -> Self {
        let [a, b, c, ..] = Digest::of(place).bytes();
        Self([0x52, 0x54, 0x00, a, b, c])
    }

    /// Whether it means many: broadcast or multicast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

/// The destination and the source of a frame, unless it is too short to have them.
pub fn ends(frame: &[u8]) -> Option<(Mac, Mac)> {
    let head = frame.first_chunk::<HEADER>()?;
    let (to, rest) = head.split_first_chunk::<6>()?;
    Some((Mac(*to), Mac(*rest.first_chunk::<6>()?)))
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Mac {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { expected: RULE, found: text.to_owned() };
        let mut parts = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit())).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_none() { Ok(Self(bytes)) } else { Err(bad()) }
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_text_and_refuse_all_else() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("52:54:00:12:34:AB".parse(), Ok(mac));
        for bad in
            ["", "52:54:00:12:34", "52:54:00:12:34:ab:cd", "52-54-00-12-34-ab", "5:54:00:12:34:ab", "+5:54:00:12:34:ab", "é:54:00:12:34:ab"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn a_frame_too_short_has_no_ends() {
        assert_eq!(ends(&[0; HEADER - 1]), None);
        let frame: Vec<u8> = (0..20).collect();
        assert_eq!(ends(&frame), Some((Mac([0, 1, 2, 3, 4, 5]), Mac([6, 7, 8, 9, 10, 11]))));
    }
}
