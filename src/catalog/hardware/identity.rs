//! Who a machine says it is (SMBIOS, the system's table).

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Who a machine says it is. What is left out is QEMU's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Smbios {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<SmbiosText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<SmbiosText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SmbiosText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<SmbiosText>,
    /// A UUID such as "4c4c4544-0050-4810-8034-b7c04f4a5931". All machines of the profile have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    pub uuid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<SmbiosText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<SmbiosText>,
}

impl Smbios {
    /// Each text that is set, by libvirt's and the catalog's name of it.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &SmbiosText)> {
        [
            ("manufacturer", &self.manufacturer),
            ("product", &self.product),
            ("version", &self.version),
            ("serial", &self.serial),
            ("sku", &self.sku),
            ("family", &self.family),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text.as_ref()?)))
    }
}

/// A text that SMBIOS can carry: 1 to 64 printable ASCII characters, no space at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmbiosText(String);

impl SmbiosText {
    const PATTERN: &'static str = "^[!-~]([ -~]{0,62}[!-~])?$";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SmbiosText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = (1..=64).contains(&text.len()) && text.bytes().all(|c| matches!(c, b' '..=b'~')) && text.trim() == text;
        let bad = || format!("expected 1 to 64 printable ASCII characters without spaces at either end, found {text:?}");
        good.then(|| Self(text.to_owned())).ok_or_else(bad)
    }
}

impl fmt::Display for SmbiosText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SmbiosText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SmbiosText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SmbiosText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SmbiosText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": Self::PATTERN,
            "description": "A text of 1 to 64 printable ASCII characters without spaces at either end.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_smbios_can_carry() {
        let long = "x".repeat(64);
        for good in ["x", "Dell Inc.", "a,b=<c>&\"'", long.as_str()] {
            assert_eq!(good.parse::<SmbiosText>().map(|text| text.to_string()), Ok(good.to_owned()));
        }
        let longer = "x".repeat(65);
        for bad in ["", " ", " x", "x ", "a\tb", "é", "a\nb", "\u{0}", longer.as_str()] {
            assert!(bad.parse::<SmbiosText>().is_err(), "{bad:?}");
        }
    }
}
