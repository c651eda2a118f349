//! Whom the lab tells of final decisions: `[[webhook]]` in `patchlab.toml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::Span;
use crate::id::Name;

/// Somebody who is told of each decision that becomes final, by a POST that is signed as Standard Webhooks asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Webhook {
    /// What metrics and the outbox call it. Under a new name it is told nothing of what was waiting under the old one.
    pub name: Name,
    /// Where it listens. Redirects are not followed.
    #[schemars(regex(pattern = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$"))]
    pub url: String,
    /// The file with the secret that it is signed with, `whsec_` and base64; several, a line each, all sign. Relative to the state folder.
    #[schemars(length(min = 1))]
    pub secret_file: String,
    /// Whose decisions; those of all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub customers: Vec<Name>,
    /// A PEM file of the certificates to trust instead of the public ones. Relative to the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub certificate_file: Option<String>,
    /// How long one delivery may take as a whole, at most `"60s"`.
    #[serde(default = "fifteen_seconds")]
    pub timeout: Span,
    /// How long after the decision a delivery is still tried.
    #[serde(default = "three_days")]
    pub give_up_after: Span,
}

const fn fifteen_seconds() -> Span {
    Span::secs(15)
}

const fn three_days() -> Span {
    Span::secs(3 * 24 * 3600)
}

impl Webhook {
    /// Whether it is told of this customer's decisions.
    pub fn hears_of(&self, customer: &Name) -> bool {
        self.customers.is_empty() || self.customers.contains(customer)
    }
}
