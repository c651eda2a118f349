//! Reads what a server answers that may be newer: fields that are not known here are passed over, wherever they are. Words that are not
//! known, such as another status, are still an error.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// The value that a JSON text tells.
///
/// # Errors
/// When it is not one of these.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    T::deserialize(Lenient(serde_json::from_str(text)?))
}

struct Lenient(Value);

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Lenient))),
            Value::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Lenient(value)))))
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, known: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(mut fields) => {
                fields.retain(|name, _| known.contains(&name.as_str()));
                Self(Value::Object(fields)).deserialize_any(visitor)
            }
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Self(value)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        Yes,
        Perhaps(u8),
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Inner {
        word: Word,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Outer {
        one: Inner,
        #[serde(default)]
        all_of: Vec<Inner>,
        by_name: BTreeMap<String, u32>,
        maybe: Option<Inner>,
        pair: (bool, Box<Inner>),
    }

    #[test]
    fn what_is_added_is_passed_over_and_other_words_are_not() {
        let yes = || Inner { word: Word::Yes };
        let text = |word: &str| {
            format!(
                "{{\"one\":{{\"word\":{word},\"more\":{{}}}},\"more\":[1],\"all-of\":[{{\"word\":\"yes\",\"more\":null}}],\
                 \"by-name\":{{\"any\":1}},\"maybe\":null,\"pair\":[true,{{\"more\":0,\"word\":{{\"perhaps\":3}}}}]}}"
            )
        };
        let read = |word: &str| super::read::<Outer>(&text(word));
        let (by_name, maybe) = ([("any".to_owned(), 1)].into(), None);
        let pair = (true, Box::new(Inner { word: Word::Perhaps(3) }));
        assert_eq!(read("\"yes\"").expect("readable"), Outer { one: yes(), all_of: vec![yes()], by_name, maybe, pair });
        for word in ["\"no\"", "1", "null", "{}", "[\"yes\"]"] {
            assert!(read(word).is_err(), "{word}");
        }
        assert!(super::read::<Inner>("{\"more\":1}").is_err(), "what is not said is not made up");
        assert!(super::read::<Inner>("{\"word\":\"yes\"").is_err());
    }
}
