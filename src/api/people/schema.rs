//! How the API's description writes what people have said.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::LONGEST_TEXT;
use crate::api::decisions::DecisionReport;
use crate::api::schema::TimeText;
use crate::verdict::gate::Act;

/// Whether a character says nothing: white space and control characters.
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '\u{feff}'
}

/// Why somebody does something, in words.
pub struct ReasonText;

impl ReasonText {
    /// Something in it is not [blank](is_blank). What `\s` leaves out differs from dialect to dialect of regular expressions.
    const PATTERN: &str = r"[^\s\u0000-\u001f\u007f-\u009f\ufeff]";
}

impl PartialSchema for ReasonText {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(LONGEST_TEXT));
        text.pattern(Some(Self::PATTERN)).build().into()
    }
}

impl ToSchema for ReasonText {
    fn name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }
}

/// Something that a person did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ActReport {
    pub by: String,
    #[schema(value_type = TimeText)]
    pub at: Timestamp,
    /// Empty where none was given.
    pub reason: String,
}

impl From<Act> for ActReport {
    fn from(Act { by, at, reason }: Act) -> Self {
        Self { by, at, reason }
    }
}

/// What was put on record, and the decision that came of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is put together from values")]
pub struct Said {
    /// To take it back by.
    id: uuid::Uuid,
    decision: DecisionReport,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_blank_is_what_the_description_says() {
        let schema = serde_json::to_value(ReasonText::schema()).expect("JSON");
        let described = jsonschema::validator_for(&schema).expect("a schema");
        for c in ('\0'..'\u{3100}').chain(['\u{feff}', '\u{1f600}']) {
            assert_eq!(described.is_valid(&c.to_string().into()), !is_blank(c), "{:?}", c);
        }
        assert!(described.is_valid(&" it is known\n".into()) && !described.is_valid(&"".into()));
    }
}
