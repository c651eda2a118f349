//! Durations and sizes as people write them in TOML: `"90s"`, `"5m"`, `"2GiB"`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written `"90s"`, `"5m"`, `"1h 30m"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

/// A number of bytes, written `"768MiB"`, `"2GiB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    pub const fn mib(mib: u64) -> Self {
        Self(mib * 1024 * 1024)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| format!("expected a duration such as \"90s\" or \"5m\", found {text:?}"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = text.ends_with('B');
        let size = text.parse::<bytesize::ByteSize>().ok().filter(|_| units);
        size.map(|size| Self(size.0)).ok_or_else(|| format!("expected a size such as \"768MiB\" or \"2GiB\", found {text:?}"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A type that is written as text: in TOML, in JSON, and in the schemas by a pattern.
macro_rules! as_text {
    ($kind:ty, $pattern:literal, $description:literal) => {
        impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

        impl JsonSchema for $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

pub(crate) use as_text;

as_text!(Span, "^[0-9]+ ?(ms|s|m|h|d)( ?[0-9]+ ?(ms|s|m|h|d))*$", "A duration such as \"90s\" or \"5m\".");
as_text!(Size, "^[0-9]+ ?(B|[KMGT]i?B)$", "A size such as \"768MiB\" or \"2GiB\".");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_back() {
        for text in ["90s", "5m", "1h 30m", "250ms"] {
            let span: Span = text.parse().expect("a duration");
            assert_eq!(span.to_string().parse::<Span>(), Ok(span), "{text}");
        }
        for (text, bytes, shown) in
            [("2GiB", 2 << 30, "2GiB"), ("768MiB", 768 << 20, "768MiB"), ("1000B", 1000, "1000B"), ("1.5GiB", 1536 << 20, "1536MiB")]
        {
            let size: Size = text.parse().expect("a size");
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "90", "soon", "-1s", "2G", "GiB", "99999999999999999999s"] {
            assert!(bad.parse::<Span>().is_err() && bad.parse::<Size>().is_err(), "{bad:?} should be refused");
        }
    }
}
