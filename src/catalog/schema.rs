//! The JSON Schema of each file kind, made from the types.
//!
//! They have two readers: editors (through the `#:schema` line that each shipped file opens with) and the loader, which reports
//! every structural mistake of a file from them. TOML has no null and editors show enums best as plain lists, so both are
//! brought to that form here.

use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use super::build::{Build, Customer};
use super::environment::Environment;
use super::hardware::Hardware;
use super::image::Image;
use super::patch::Patch;
use super::settings::Settings;
use super::suite::Suite;

/// Where the checked-in schemas are, from the top of the repository.
pub const FOLDER: &str = "src/catalog/schemas";

/// A kind of file that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Image,
    Hardware,
    Customer,
    Build,
    Environment,
    Suite,
    Patch,
    Settings,
}

impl Kind {
    pub const ALL: [Self; 8] =
        [Self::Image, Self::Hardware, Self::Customer, Self::Build, Self::Environment, Self::Suite, Self::Patch, Self::Settings];

    /// The name of its schema's file.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Image => "image.schema.json",
            Self::Hardware => "hardware.schema.json",
            Self::Customer => "customer.schema.json",
            Self::Build => "build.schema.json",
            Self::Environment => "environment.schema.json",
            Self::Suite => "suite.schema.json",
            Self::Patch => "patch.schema.json",
            Self::Settings => "patchlab.schema.json",
        }
    }

    /// Its schema.
    pub fn schema(self) -> &'static Value {
        static SCHEMAS: LazyLock<[Value; 8]> = LazyLock::new(|| {
            [
                of::<Image>(),
                of::<Hardware>(),
                of::<Customer>(),
                of::<Build>(),
                of::<Environment>(),
                of::<Suite>(),
                of::<Patch>(),
                of::<Settings>(),
            ]
        });
        &SCHEMAS[self as usize]
    }

    /// The validator of its schema. `None` is a mistake in a type's schema attributes, which a test holds impossible.
    pub(super) fn validator(self) -> Option<&'static Validator> {
        static VALIDATORS: LazyLock<[Option<Validator>; 8]> =
            LazyLock::new(|| Kind::ALL.map(|kind| jsonschema::validator_for(kind.schema()).ok()));
        VALIDATORS[self as usize].as_ref()
    }
}

/// Every schema: file name and text, as they are checked in.
pub fn all() -> Vec<(&'static str, String)> {
    Kind::ALL.iter().map(|kind| (kind.file_name(), format!("{:#}\n", kind.schema()))).collect()
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(plain));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Drops null, and writes a choice among texts as an `enum`.
fn plain(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
    if let Some(words) = object.get("oneOf").and_then(Value::as_array).and_then(|choices| choice_of_texts(choices)) {
        object.remove("oneOf");
        let about: Vec<_> = words.iter().filter_map(|(word, about)| about.as_ref().map(|about| format!("{word}: {about}"))).collect();
        let own = object.get("description").and_then(Value::as_str).map(str::to_owned);
        let description: Vec<_> = own.into_iter().chain(about).collect();
        object.insert("description".to_owned(), description.join("\n").into());
        object.insert("type".to_owned(), "string".into());
        object.insert("enum".to_owned(), words.into_iter().map(|(word, _)| Value::from(word)).collect());
    }
}

/// The words of a `oneOf` that only chooses among texts, each with what is said about it.
fn choice_of_texts(choices: &[Value]) -> Option<Vec<(String, Option<String>)>> {
    let mut words = Vec::new();
    for choice in choices {
        let choice: &Map<_, _> = choice.as_object()?;
        let about = choice.get("description").and_then(Value::as_str).map(str::to_owned);
        match (choice.get("const"), choice.get("enum")) {
            (Some(Value::String(word)), None) => words.push((word.clone(), about)),
            (None, Some(Value::Array(list))) => {
                for word in list {
                    words.push((word.as_str()?.to_owned(), None));
                }
            }
            _ => return None,
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_validator() {
        for kind in Kind::ALL {
            if let Err(error) = jsonschema::validator_for(kind.schema()) {
                panic!("{kind:?}: {error}");
            }
            assert!(!kind.schema().to_string().contains("null"), "{kind:?} speaks of null, which TOML does not have");
        }
    }

    #[test]
    fn the_checked_in_schemas_are_current() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
        for (name, text) in all() {
            let checked_in = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(
                checked_in == text,
                "{FOLDER}/{name} is stale; refresh it with `patchlab check --write-schemas {FOLDER}` and commit it"
            );
        }
    }
}
