//! Why a file is no evidence: one code for each way to be wrong.

use thiserror::Error;

use crate::report::printable;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// A way to be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

reasons! {
    /// Larger than anything that is read.
    TooLarge = "too-large",
    /// Empty, or without the last line end.
    Truncated = "truncated",
    /// Bytes that are not UTF-8, in the file or in a payload.
    Encoding = "encoding",
    /// A line or payload that is not JSON.
    Json = "json",
    /// A key twice in one JSON object.
    DuplicateKey = "duplicate-key",
    /// JSON that is not a DSSE envelope with one signature, in patchlab's spelling.
    Envelope = "envelope",
    /// Payload or signature is not canonical standard base64.
    Base64 = "base64",
    /// The payload is declared to be something else than in-toto JSON.
    PayloadType = "payload-type",
    /// Signed by another key than the one given.
    UnknownKey = "unknown-key",
    /// The signature is not the key's for these bytes.
    Signature = "signature",
    /// Not an in-toto Statement v1.
    StatementType = "statement-type",
    /// Neither a test result nor a verification summary.
    PredicateType = "predicate-type",
    /// A field is missing or has another form than its type demands.
    Statement = "statement",
    /// No verification summary.
    NoSummary = "no-summary",
    /// More than one verification summary.
    SeveralSummaries = "several-summaries",
    /// The summary names a statement that is not in the file.
    MissingStatement = "missing-statement",
    /// A statement that the summary does not name, or one twice.
    AdditionalStatement = "additional-statement",
    /// The statements of the summary in another order.
    Order = "order",
    /// Not about the patch that was asked for, or not about one patch.
    Subject = "subject",
    /// A result that this patchlab does not know.
    UnknownResult = "unknown-result",
    /// The statements do not say the same.
    Contradiction = "contradiction",
    /// Judged against another policy.
    Policy = "policy",
    /// Judged by another plan.
    Plan = "plan",
    /// Simulated machines, where real ones are asked for.
    Simulated = "simulated",
    /// Older than allowed.
    Expired = "expired",
    /// From the future: a clock is wrong.
    Future = "future",
}

/// A file that is no evidence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {message}", reason.code())]
pub struct Refusal {
    pub reason: Reason,
    /// One line, fit for a terminal, whatever is in the file.
    pub message: String,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Self { reason, message: printable(message.as_ref()) }
    }

    /// With the line of the file that it is about.
    pub fn in_line(self, number: usize) -> Self {
        Self::new(self.reason, format!("line {number}: {}", self.message))
    }
}
