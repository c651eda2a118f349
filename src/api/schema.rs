//! How the API's description writes what other rooms define.

use serde_json::json;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::runs::{Phase, VerdictText};
use crate::id::{Digest, Name};

macro_rules! texts {
    ($($(#[$about:meta])* $kind:ident => $build:expr;)*) => {$(
        $(#[$about])*
        pub struct $kind;

        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                $build(ObjectBuilder::new().schema_type(Type::String)).into()
            }
        }

        impl ToSchema for $kind {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).trim_end_matches("Text").into()
            }
        }
    )*};
}

texts! {
    /// [`Name`].
    NameText => |text: ObjectBuilder| text.pattern(Some(Name::PATTERN)).examples([json!("acme")]).build();
    /// [`Digest`].
    DigestText => |text: ObjectBuilder| text.pattern(Some(Digest::PATTERN)).build();
    /// [`crate::id::RunId`].
    RunText => |text: ObjectBuilder| text.format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build();
    /// [`jiff::Timestamp`].
    TimeText => |text: ObjectBuilder| text.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build();
}

/// `patchlab.run/v1`. Fields are only ever added.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "describes what crate::report::json writes; tests/serve.rs holds the two together")]
pub struct RunReport {
    /// `patchlab.run/v1`
    schema: String,
    #[schema(value_type = RunText)]
    run: (),
    state: Phase,
    patch: ReportedPatch,
    plan: ReportedPlan,
    #[schema(value_type = VerdictText)]
    verdict: (),
    /// Whether the run has ended. Where not, the verdict is inconclusive.
    finished: bool,
    /// The verdict's reason, for people.
    reason: String,
    by: String,
    #[schema(value_type = TimeText)]
    planned: (),
    #[schema(value_type = Option<TimeText>)]
    ended: (),
    /// Who called the run off and why.
    #[schema(required = false, nullable = false)]
    called_off: Option<ReportedCallOff>,
    /// Machines that are kept.
    kept: Vec<String>,
    cells: Vec<ReportedCell>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedPatch {
    #[schema(value_type = NameText)]
    id: (),
    #[schema(value_type = DigestText)]
    sha256: (),
    title: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedPlan {
    #[schema(value_type = DigestText)]
    digest: (),
    /// How many there are.
    cells: usize,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedCallOff {
    /// The lab itself where there is none.
    #[schema(required = false, nullable = false)]
    by: Option<String>,
    reason: String,
}

/// One line of the plan. It names a `build` or an `environment`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedCell {
    id: String,
    #[schema(value_type = NameText)]
    customer: (),
    #[schema(value_type = VerdictText)]
    verdict: (),
    finished: bool,
    machines: Vec<ReportedMachine>,
    stages: Vec<ReportedStage>,
    cases: Vec<ReportedCase>,
    findings: Vec<ReportedNews>,
    faults: Vec<ReportedNews>,
    notes: Vec<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedMachine {
    #[schema(value_type = NameText)]
    role: (),
    #[schema(value_type = NameText)]
    build: (),
    #[schema(value_type = NameText)]
    hardware: (),
    /// Whether the patch goes onto it.
    patched: bool,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedStage {
    stage: String,
    attempt: u32,
    #[schema(value_type = TimeText)]
    started: (),
    #[schema(value_type = Option<TimeText>)]
    ended: (),
    /// `passed`, `skipped`, `failed`; null while it runs or when its controller ended in the middle.
    #[schema(required = true)]
    outcome: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedCase {
    #[schema(value_type = NameText)]
    suite: (),
    #[schema(value_type = NameText)]
    case: (),
    #[schema(required = true)]
    baseline: Option<String>,
    #[schema(required = true)]
    patched: Option<String>,
    /// `unchanged`, `regression`, `fixed`, `pre-existing`, `changed-failure`, `flaky`, `new`, `missing`, `skipped`
    comparison: String,
    message: String,
}

/// A finding or a fault.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ReportedNews {
    code: String,
    message: String,
    /// The stage that it showed in, if it is about one.
    #[schema(required = true)]
    stage: Option<String>,
    /// `suite/case`, if it is about one.
    #[schema(required = true)]
    case: Option<String>,
}
