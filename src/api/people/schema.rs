//! How the API's description writes what people have said.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::decisions::DecisionReport;
use crate::api::schema::TimeText;
use crate::verdict::gate::Act;

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
