//! Newtypes for everything that is named or addressed: parsed once at the edge, valid ever after.
//!
//! Invariant: a value of one of these types is well formed; nothing inside the lab checks it again.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

/// What was wrong with a text that should have been an identifier.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected {expected}, found {found:?}")]
pub struct BadId {
    pub expected: &'static str,
    pub found: String,
}

pub(crate) const NAME_RULE: &str =
    "a name of lower-case letters, digits, '-', '.' and '_', starting with a letter or digit, at most 64 long";
const DIGEST_RULE: &str = "\"sha256:\" and 64 lower-case hexadecimal digits";
const RUN_RULE: &str = "a run id (a UUID) or a unique start of one";

/// A name in the catalog: of an image, build, hardware profile, customer, patch, suite or case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The pattern that the JSON Schemas carry for names.
    pub const PATTERN: &'static str = "^[a-z0-9][a-z0-9._-]{0,63}$";

    /// A name that is written in the source.
    pub(crate) fn constant(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_ok(), "{name:?} is no name");
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = (1..=64).contains(&text.len())
            && text.bytes().next().is_some_and(letter)
            && text.bytes().all(|c| letter(c) || matches!(c, b'-' | b'.' | b'_'));
        if good { Ok(Self(text.into())) } else { Err(BadId { expected: NAME_RULE, found: text.to_owned() }) }
    }
}

const PREFIX: &str = "sha256:";

/// The sha256 of some contents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub const PATTERN: &'static str = "^sha256:[0-9a-f]{64}$";

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The digest of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a value's JSON. Struct fields are written in their order and maps in the libraries' key order, so equal
    /// values of one type have equal digests.
    ///
    /// # Panics
    /// Never for the lab's own types: their keys are texts and none of their `Serialize` fails.
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut feed = Feed(Sha256::new());
        serde_json::to_writer(&mut feed, value).expect("the lab's types always serialize");
        Self(feed.0.finalize().into())
    }

    /// The 64 digits without the prefix, as file names carry them.
    pub fn hex(&self) -> String {
        self.to_string().split_off(PREFIX.len())
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

/// Takes bytes into a digest as they come: what is large is never held as text.
struct Feed(Sha256);

impl std::io::Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FromStr for Digest {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { expected: DIGEST_RULE, found: text.to_owned() };
        let hex = text.strip_prefix(PREFIX).filter(|hex| hex.len() == 64 && hex.is_ascii()).ok_or_else(bad)?;
        if !hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; PREFIX.len() + 64];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// One execution of a plan. Ordered by the time it was made (UUID version 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id from a moment (milliseconds since 1970) and randomness. Both come from the caller, so that pure code and the
    /// simulator stay repeatable.
    pub fn from_parts(unix_millis: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid())
    }
}

impl FromStr for RunId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::try_parse(text).map(Self).map_err(|_| BadId { expected: RUN_RULE, found: text.to_owned() })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One cell of a plan, named for what it is: `acme.web@virtio-bios`. Unique within its plan, usable as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(Arc<str>);

impl CellId {
    pub fn new(customer: &Name, build: &Name, hardware: &Name) -> Self {
        Self(format!("{customer}.{build}@{hardware}").into())
    }

    /// Of an environment at a patch level: hardware profiles and patched roles joined by `+`.
    pub fn of_level(customer: &Name, environment: &Name, hardware: &str, level: &str) -> Self {
        Self(format!("{customer}.{environment}@{hardware}:{level}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CellId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { expected: "a cell id such as acme.web@virtio-bios or acme.office@virtio-bios:server", found: text.to_owned() };
        let (owner, place) = text.split_once('@').ok_or_else(bad)?;
        let (hardware, level) = place.split_once(':').map_or((place, None), |(hardware, level)| (hardware, Some(level)));
        let names = |text: &str| text.split('+').all(|name| name.parse::<Name>().is_ok());
        let hardware_fits = if level.is_some() { names(hardware) } else { hardware.parse::<Name>().is_ok() };
        let known = owner.contains('.') && owner.parse::<Name2>().is_ok() && hardware_fits && level.is_none_or(names);
        if known { Ok(Self(text.into())) } else { Err(bad()) }
    }
}

/// Two names joined by a dot, only ever parsed on the way into a [`CellId`].
struct Name2;

impl FromStr for Name2 {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let halves = text.match_indices('.').any(|(at, _)| text[..at].parse::<Name>().is_ok() && text[at + 1..].parse::<Name>().is_ok());
        if halves { Ok(Self) } else { Err(BadId { expected: NAME_RULE, found: text.to_owned() }) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! text_in_serde {
    ($($kind:ty),*) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

text_in_serde!(Name, Digest, RunId, CellId);

impl JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Name::PATTERN, "description": NAME_RULE })
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Digest::PATTERN, "description": DIGEST_RULE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_birth() {
        for good in ["a", "acme", "deb12-web", "lib_x.2", "0day"] {
            assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "é", "..", &"a".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn digests_survive_text_and_refuse_all_else() {
        let digest = Digest::of("abc");
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let hex = digest.hex();
        for bad in [
            hex.clone(),
            format!("md5:{hex}"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:+{}", &hex[1..]),
            format!("sha256:é{}", &hex[2..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn cell_ids_read_back() {
        let name = |text: &str| text.parse::<Name>().expect("a good name");
        let id = CellId::new(&name("acme"), &name("web"), &name("virtio-bios"));
        assert_eq!(id.as_str(), "acme.web@virtio-bios");
        assert_eq!(id.as_str().parse(), Ok(id));
        let level = CellId::of_level(&name("acme"), &name("office"), "bios+uefi", "server");
        assert_eq!(level.as_str(), "acme.office@bios+uefi:server");
        assert_eq!(level.as_str().parse(), Ok(level));
        for bad in ["", "acme", "acme@x", "acme.web", "../x.y@z", "a.b@c/d", "a.b@c+d", "a.b@c:", "a.b@:d", "a.b@c:d:e"] {
            assert!(bad.parse::<CellId>().is_err(), "{bad:?} should be refused");
        }
    }
}
