//! The statements as they are written: in-toto Statement v1, its resource descriptors, and the two predicates.
//!
//! Fields that this patchlab does not know are skipped when read, as in-toto's parsing rules ask: they are signed like the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::Digest;

pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate type of what one suite gave on one cell.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// The predicate type of what the run's results mean together.
pub const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";

/// The minor version of SLSA whose form the summary has.
pub const SLSA_VERSION: &str = "1.1";
/// `verifiedLevels` of a pass: patchlab says nothing about how a patch was built.
pub const UNEVALUATED: &str = "SLSA_BUILD_LEVEL_UNEVALUATED";
/// `verifiedLevels` of what is no pass.
pub const FAILED: &str = "FAILED";
/// `verifiedLevels` besides `FAILED`, where the lab could not judge.
pub const INCONCLUSIVE: &str = "PATCHLAB_INCONCLUSIVE";
/// `verifiedLevels`, as the last: the machines were simulated. It takes the place of [`UNEVALUATED`].
pub const SIMULATED: &str = "PATCHLAB_SIMULATED";

/// What a statement's result says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    Passed,
    Warned,
    Failed,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Warned => "WARNED",
            Self::Failed => "FAILED",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Passed, Self::Warned, Self::Failed].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<P> {
    #[serde(rename = "_type")]
    pub form: String,
    pub subject: Vec<Descriptor>,
    pub predicate_type: String,
    pub predicate: P,
}

/// Something that a statement speaks of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

impl Descriptor {
    pub fn of_bytes(name: impl Into<String>, sha256: Digest) -> Self {
        Self { name: name.into(), digest: [("sha256".to_owned(), sha256.hex())].into(), ..Self::default() }
    }

    pub fn at(name: impl Into<String>, uri: impl Into<String>) -> Self {
        Self { name: name.into(), uri: uri.into(), ..Self::default() }
    }

    pub fn sha256(&self) -> Option<Digest> {
        self.digest.get("sha256").and_then(|hex| format!("sha256:{hex}").parse().ok())
    }
}

/// What one suite gave on one cell.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    pub result: String,
    pub configuration: Vec<Descriptor>,
    #[serde(flatten)]
    pub tests: Tests,
}

/// The names of tests by how they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tests {
    pub passed_tests: Vec<String>,
    pub warned_tests: Vec<String>,
    pub failed_tests: Vec<String>,
}

impl Tests {
    /// What they mean together. Nothing tested is no pass.
    pub fn outcome(&self) -> Outcome {
        match () {
            () if !self.failed_tests.is_empty() => Outcome::Failed,
            () if !self.warned_tests.is_empty() => Outcome::Warned,
            () if !self.passed_tests.is_empty() => Outcome::Passed,
            () => Outcome::Failed,
        }
    }
}

/// What the run's results mean together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub verifier: Verifier,
    pub time_verified: String,
    pub resource_uri: String,
    pub policy: Descriptor,
    pub input_attestations: Vec<Descriptor>,
    pub verification_result: String,
    pub verified_levels: Vec<String>,
    pub slsa_version: String,
}

/// Who judged.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verifier {
    pub id: String,
    pub version: BTreeMap<String, String>,
}
