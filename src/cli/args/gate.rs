//! The verbs of the gate.

use std::str::FromStr;

use clap::Args;
use jiff::Timestamp;
use uuid::Uuid;

use super::Answer;
use crate::catalog::policy::Role;
use crate::catalog::text::Span;
use crate::id::Name;

#[derive(Debug, Args)]
pub struct GateVerb {
    /// A folder with a patch.toml, a patch id or a digest.
    pub patch: String,
    #[arg(long, value_name = "NAME")]
    pub customer: Name,
    /// Wait at most so long while the decision is pending.
    #[arg(long, value_name = "DURATION", conflicts_with = "as_of")]
    pub wait: Option<Span>,
    /// The decision as it was at this moment, for example 2026-11-22T03:00:00Z. Nothing is put on record.
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<Timestamp>,
    #[command(flatten)]
    pub answer: Answer,
}

/// When a waiver ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    At(Timestamp),
    In(Span),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = || text.parse().map(Self::At).map_err(|_| format!("expected 7d or 2026-11-30T12:00:00Z, found {text:?}"));
        text.parse().map(Self::In).or_else(|_| at())
    }
}

#[derive(Debug, Args)]
pub struct Waive {
    /// A folder with a patch.toml, a patch id or a digest.
    #[arg(required_unless_present = "consent", requires_all = ["customer", "case", "fingerprint", "expires", "reason"])]
    pub patch: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub customer: Option<Name>,
    /// SUITE/CASE, or the code of a finding about a stage.
    #[arg(long, value_name = "CASE")]
    pub case: Option<String>,
    /// The finding's fingerprint or its start, as `patchlab gate` shows it.
    #[arg(long, value_name = "DIGEST")]
    pub fingerprint: Option<String>,
    /// On this hardware profile alone.
    #[arg(long, value_name = "NAME")]
    pub hardware: Option<Name>,
    /// When it ends: 7d, or 2026-11-30T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Expiry>,
    /// Why the patch may go all the same.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Consent to this waiver, which somebody else has proposed.
    #[arg(long, value_name = "ID", conflicts_with_all = ["patch", "customer", "case", "fingerprint", "hardware", "expires", "reason"])]
    pub consent: Option<Uuid>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Waivers {
    /// Of this patch: a folder with a patch.toml, a patch id or a digest.
    #[arg(long)]
    pub patch: Option<String>,
    /// For this customer.
    #[arg(long, value_name = "NAME")]
    pub customer: Option<Name>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Approve {
    /// A folder with a patch.toml, a patch id or a digest.
    pub patch: String,
    #[arg(long, value_name = "NAME")]
    pub customer: Name,
    /// The revision that you have looked at [default: the newest].
    #[arg(long, value_name = "N")]
    pub revision: Option<u32>,
    /// The role that you approve in; leave it out where a server is asked, which goes by your token.
    #[arg(long, default_value = "approver")]
    pub role: Role,
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Reject {
    /// A folder with a patch.toml, a patch id or a digest.
    pub patch: String,
    #[arg(long, value_name = "NAME")]
    pub customer: Name,
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// The id of a waiver, an approval or a rejection.
    pub id: Uuid,
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub answer: Answer,
}
