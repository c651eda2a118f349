//! Holds a tree to the JSON Schema of its kind and says each difference in the words of the file: unknown and missing keys, wrong
//! types, words outside a choice, numbers out of range.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::diagnostic::{Diagnostic, did_you_mean, nearest, one_of};
use super::schema::Kind;
use super::source::Source;
use super::tree::{Tree, join};
use crate::id::{NAME_RULE, Name};

/// Every structural mistake of a file.
pub fn check(source: &Source, kind: Kind) -> Vec<Diagnostic> {
    let Some(validator) = kind.validator() else {
        return vec![Diagnostic::error(&source.file, format!("the schema of {kind:?} files is broken")).hint("this is a bug in patchlab")];
    };
    let instance = source.tree.json();
    let errors: Vec<_> = validator.iter_errors(&instance).collect();
    let mut diagnostics: Vec<_> = errors.iter().flat_map(|error| explain(source, kind.schema(), error, &errors)).collect();
    diagnostics.dedup();
    diagnostics
}

fn explain(source: &Source, schema: &Value, error: &ValidationError<'_>, all: &[ValidationError<'_>]) -> Vec<Diagnostic> {
    let pointer = error.instance_path().as_str();
    let (at, path) = source.tree.follow(pointer);
    let rule = parent(error.schema_path().as_str()).and_then(|parent| schema.pointer(parent)).unwrap_or(schema);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|key| unknown_key(source, at, &path, key, rule)).collect()
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let misspelt = all.iter().any(|other| {
                let same = other.instance_path().as_str() == pointer;
                matches!(other.kind(), ValidationErrorKind::AdditionalProperties { unexpected }
                    if same && unexpected.iter().any(|unknown| nearest(unknown, keys(rule)) == Some(key)))
            });
            if misspelt { Vec::new() } else { vec![missing_key(source, schema, at, &path, key, rule)] }
        }
        _ => vec![wrong_value(source, schema, at, &path, rule, error)],
    }
}

fn unknown_key(source: &Source, table: &Tree, path: &str, key: &str, rule: &Value) -> Diagnostic {
    let span = table.entry(key).map_or(&table.span, |entry| &entry.key_span);
    let place = source.place(span);
    let free = keys(rule).filter(|known| table.entry(known).is_none());
    // A table of people's own names allows whatever is one.
    if let Some(pattern) = rule.get("patternProperties").and_then(Value::as_object).and_then(|patterns| patterns.keys().next()) {
        let rule = if pattern == Name::PATTERN { NAME_RULE.to_owned() } else { format!("a key that matches {pattern}") };
        return Diagnostic::error(&source.file, format!("{key:?} is not a name")).at(place).key(join(path, key)).expected(rule);
    }
    Diagnostic::error(&source.file, format!("unknown key {key:?}"))
        .at(place)
        .key(join(path, key))
        .expected(one_of(keys(rule)))
        .hint("remove it")
        .hint_if(did_you_mean(key, free))
}

fn missing_key(source: &Source, schema: &Value, table: &Tree, path: &str, key: &str, rule: &Value) -> Diagnostic {
    let property = rule.pointer(&format!("/properties/{key}")).unwrap_or(&Value::Null);
    let about = property.get("description").and_then(Value::as_str).and_then(|text| text.lines().next());
    let owner = if path.is_empty() { "the file".to_owned() } else { path.to_owned() };
    Diagnostic::error(&source.file, format!("{owner} lacks the key {key:?}"))
        .at(source.place(&table.span))
        .key(join(path, key))
        .expected(expectation(schema, property))
        .hint_if(about.map(|about| format!("{key} is: {}", lower_first(about.trim_end_matches('.')))))
}

fn wrong_value(source: &Source, schema: &Value, at: &Tree, path: &str, rule: &Value, error: &ValidationError<'_>) -> Diagnostic {
    let problem = match error.kind() {
        ValidationErrorKind::Type { .. } => "is of the wrong type",
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => "is not one of its possible values",
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::ExclusiveMinimum { .. } => "is too small",
        ValidationErrorKind::Maximum { .. } | ValidationErrorKind::ExclusiveMaximum { .. } => "is too large",
        ValidationErrorKind::MinItems { .. } => "is too short a list",
        ValidationErrorKind::MaxItems { .. } => "is too long a list",
        ValidationErrorKind::MinLength { .. } => "is too short a text",
        ValidationErrorKind::MaxLength { .. } => "is too long a text",
        ValidationErrorKind::UniqueItems => "has an entry twice",
        ValidationErrorKind::Pattern { .. } => "has the wrong form",
        _ => "has an impossible value",
    };
    let choice = rule.get("enum").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let hint = match (at.text(), rule.get("type").and_then(Value::as_str)) {
        (Some(text), Some("string")) => did_you_mean(text, choice.iter().filter_map(Value::as_str)),
        (Some(_), Some("array")) => Some("put it in brackets".to_owned()),
        (None, Some("array")) if !at.entries().is_empty() => Some(format!("write [[{path}]] in place of [{path}], once for each")),
        (Some(_), Some("integer" | "boolean")) => Some("write it without quotation marks".to_owned()),
        (None, Some("string")) if at.items().is_empty() && at.entries().is_empty() => Some("put it in quotation marks".to_owned()),
        _ => None,
    };
    source.error(at, path, format!("{path} {problem}")).found(at.describe()).expected(expectation(schema, rule)).hint_if(hint)
}

/// What a rule of the schema allows, in words.
fn expectation(schema: &Value, rule: &Value) -> String {
    if let Some(target) = rule.get("$ref").and_then(Value::as_str).and_then(|at| schema.pointer(at.trim_start_matches('#'))) {
        return expectation(schema, target);
    }
    if let Some(choice) = rule.get("enum").and_then(Value::as_array) {
        return one_of(choice.iter().filter_map(Value::as_str));
    }
    let number = |key| rule.get(key).and_then(Value::as_i64);
    let about = rule.get("description").and_then(Value::as_str).and_then(|text| text.lines().next());
    match rule.get("type").and_then(Value::as_str) {
        Some("string") => match (rule.get("pattern").and_then(Value::as_str), about) {
            (Some(_), Some(about)) if about.starts_with("A ") || about.starts_with("a ") || about.starts_with('"') => {
                lower_first(about.trim_end_matches('.'))
            }
            (Some(pattern), Some(about)) => format!("{} (a text that matches {pattern})", lower_first(about.trim_end_matches('.'))),
            (Some(pattern), None) => format!("a text that matches {pattern}"),
            (None, _) if number("minLength").is_some_and(|least| least > 0) => "a text that is not empty".to_owned(),
            (None, _) => "a text".to_owned(),
        },
        Some("integer") => match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            (Some(least), None) => format!("a whole number, at least {least}"),
            _ => "a whole number".to_owned(),
        },
        Some("boolean") => "true or false".to_owned(),
        Some("array") => {
            let each = rule.get("items").map_or_else(String::new, |item| format!(", each {}", expectation(schema, item)));
            match number("minItems").filter(|least| *least > 0) {
                Some(least) => format!("a list of at least {least}{each}"),
                None => format!("a list{each}"),
            }
        }
        Some("object") => "a table".to_owned(),
        _ => "another value".to_owned(),
    }
}

fn keys(rule: &Value) -> impl Iterator<Item = &str> {
    rule.get("properties").and_then(Value::as_object).into_iter().flat_map(|properties| properties.keys().map(String::as_str))
}

fn parent(pointer: &str) -> Option<&str> {
    pointer.rfind('/').map(|at| &pointer[..at])
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
