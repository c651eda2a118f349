//! What a run is told as: JUnit for dashboards, JSON for programs, HTML and Markdown for people, text for the terminal.
//!
//! Everything is told from one [`Source`]: the fold of the run's events, what they were judged to mean, and the kept files.
//!
//! Invariants:
//! - pure: the same source always gives the same bytes; no clock, no file, no network;
//! - what was planned is told, with or without a result ([`view`] walks the plan); nothing planned is ever left out;
//! - green needs a reason: [`standing`] calls a case or stage passed only if it was seen to pass, whatever the rest says;
//! - guest text is capped, made visible ([`text`]) and escaped by the form's own rules before it is shown.
//!
//! What others must be able to check is signed ([`statement`]); what an auditor takes along is one file ([`archive`]).

pub mod archive;
pub mod baselines;
pub mod bundle;
pub mod files;
pub mod gate;
pub mod html;
pub mod human;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod plan;
pub mod rollout;
pub mod standing;
pub mod statement;
pub mod text;
pub mod view;

mod picture;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use view::Source;

use thiserror::Error;

/// The forms that `patchlab report --format` offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Junit,
    Html,
    Json,
    Markdown,
}

impl Format {
    /// The media type that the form is served as.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Junit => "application/xml; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }
}

/// A report could not be written. None of these depends on what a guest said.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("cannot write the JUnit report: {0}")]
    Junit(String),
    #[error("cannot write the HTML report: {0}")]
    Html(#[from] askama::Error),
    #[error("cannot write the JSON report: {0}")]
    Json(#[from] serde_json::Error),
}

/// The run in this form.
///
/// # Errors
/// See [`ReportError`].
pub fn render(format: Format, source: &Source<'_>) -> Result<String, ReportError> {
    match format {
        Format::Junit => junit::render(source),
        Format::Html => html::render(source),
        Format::Json => json::render(source),
        Format::Markdown => Ok(markdown::render(source)),
    }
}

/// Guest text as one line that a terminal can be given.
pub fn printable(text: &str) -> String {
    text::one_line(text, 300)
}
