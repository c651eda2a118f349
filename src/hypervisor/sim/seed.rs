//! The world's only randomness: a seed, mixed with what is being decided.
//!
//! Invariant: no stream of numbers. Each decision hashes the seed with its own name, so that it comes out the same in whatever
//! order concurrent machines ask.

use serde::{Deserialize, Serialize};

/// Where all chance in a simulated world comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// A number for the decision that these words name.
    pub fn number(self, words: &[&str]) -> u64 {
        let start = mix(self.0);
        words.iter().fold(start, |state, word| {
            let word = word.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
            mix(state ^ mix(word))
        })
    }

    /// Whether something that happens `percent` times in a hundred happens now.
    pub fn happens(self, percent: u8, words: &[&str]) -> bool {
        self.number(words) % 100 < u64::from(percent)
    }

    /// Text in the form of a random UUID, as the kernel gives each boot.
    pub fn boot_id(self, words: &[&str]) -> String {
        let (high, low) = (self.number(words), mix(self.number(words)));
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// One step of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_depends_on_the_seed_and_its_words_alone() {
        let seed = Seed(7);
        assert_eq!(seed.number(&["a", "b"]), Seed(7).number(&["a", "b"]));
        for other in [Seed(8).number(&["a", "b"]), seed.number(&["b", "a"]), seed.number(&["ab"]), seed.number(&["a", "b", ""])] {
            assert_ne!(seed.number(&["a", "b"]), other);
        }
    }

    #[test]
    fn chances_come_out_near_their_percentage() {
        let hits = |percent| (0..2000).filter(|n| Seed(1).happens(percent, &[&n.to_string()])).count();
        assert_eq!((hits(0), hits(100)), (0, 2000));
        assert!((500..700).contains(&hits(30)), "{}", hits(30));
    }

    #[test]
    fn boot_ids_look_like_the_kernels() {
        let id = Seed(1).boot_id(&["a"]);
        assert!(uuid::Uuid::try_parse(&id).is_ok_and(|id| id.get_version_num() == 4), "{id}");
    }
}
