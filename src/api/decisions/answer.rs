//! A decision as it is sent.

use std::sync::atomic::AtomicU64;

use axum::body::Bytes;
use axum::http::HeaderValue;
use jiff::Timestamp;

use crate::api::Problem;
use crate::id::Digest;
use crate::verdict::gate::{Decision, Status, was_ahead};

pub struct Answer {
    pub status: Status,
    pub body: Bytes,
    pub tag: HeaderValue,
    until: Option<Timestamp>,
    /// When it was made.
    made: Timestamp,
    /// The entry up to which the journal was read for it.
    pub(super) read: u64,
    /// The catalog that it was made with.
    pub(super) generation: u64,
    /// Which request it was given to last.
    pub(super) used: AtomicU64,
}

impl Answer {
    pub(super) fn of(decision: &Decision, made: Timestamp, read: u64, generation: u64) -> Result<Self, Problem> {
        let what = Digest::of_json(&Decision { as_of: Timestamp::UNIX_EPOCH, ..decision.clone() });
        let tag = format!("\"{}-{}\"", decision.revision, what.hex().get(..32).unwrap_or_default());
        Ok(Self {
            status: decision.status,
            body: serde_json::to_vec(decision).map_err(Problem::fault)?.into(),
            tag: HeaderValue::from_str(&tag).map_err(Problem::fault)?,
            until: decision.until,
            made,
            read,
            generation,
            used: AtomicU64::default(),
        })
    }

    /// Whether the time alone leaves it as it is.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        !self.was_ahead(now) && self.until.is_none_or(|until| now < until)
    }

    /// Whether the clock was put back since it was made.
    pub(super) fn was_ahead(&self, now: Timestamp) -> bool {
        was_ahead(self.made, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_until_its_end_and_not_before_it_was_made() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).expect("a moment");
        let answer = Answer {
            status: Status::Approved,
            body: Bytes::new(),
            tag: HeaderValue::from_static("\"1-0\""),
            until: Some(at(100)),
            made: at(0),
            read: 1,
            generation: 1,
            used: AtomicU64::default(),
        };
        for (now, holds) in [(0, true), (99, true), (100, false), (-300, true), (-301, false)] {
            assert_eq!(answer.holds(at(now)), holds, "{now}");
        }
    }
}
