//! Waivers: what is waived for whom, by whom, and until when.

use askama::Template;
use jiff::Timestamp;

use crate::lab::gate::WaiverView;
use crate::report::html::Sign;
use crate::report::text;
use crate::verdict::gate::{WaiverRecord, same_person};

use super::frame::Frame;
use super::gate::{Badge, moment};

#[derive(Template)]
#[template(path = "waivers.html", config = "src/web/askama.toml")]
pub struct WaiversPage {
    pub frame: Frame,
    /// Those that count, those that wait for a consent, those that count no more.
    pub active: Vec<WaiverLine>,
    pub proposed: Vec<WaiverLine>,
    pub ended: Vec<WaiverLine>,
    /// Ended ones that are not listed.
    pub more: usize,
}

/// Ended waivers that are listed.
const ENDED: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    /// Waits for a second person.
    Proposed,
    Revoked,
    Expired,
    /// The policy does not let it count.
    Void,
}

pub struct WaiverLine {
    pub id: String,
    pub standing: Standing,
    pub badge: Badge,
    pub patch: String,
    pub short: String,
    pub customer: String,
    pub case: String,
    pub hardware: String,
    pub fingerprint: String,
    pub reason: String,
    pub ends: String,
    /// Who did what, in order.
    pub acts: Vec<String>,
    /// Why it does not count, where that is not plain.
    pub why_not: Option<String>,
    /// Whether the person who looks may be the second one.
    pub may_consent: bool,
}

impl WaiverLine {
    /// `void`: why it does not count, if it does not.
    pub fn of(record: &WaiverRecord, void: Option<&str>, viewer: &str, now: Timestamp) -> Self {
        let waiver = &record.waiver;
        let standing = match record {
            WaiverRecord { revoked: Some(_), .. } => Standing::Revoked,
            _ if waiver.expires <= now => Standing::Expired,
            WaiverRecord { consented: None, .. } => Standing::Proposed,
            _ if void.is_some() => Standing::Void,
            _ => Standing::Active,
        };
        let acts =
            [(Some(&record.proposed), "Proposed"), (record.consented.as_ref(), "Consented to"), (record.revoked.as_ref(), "Revoked")];
        let told = acts.into_iter().filter_map(|(act, word)| {
            let act = act?;
            let why = if act.reason.is_empty() { String::new() } else { format!(": {}", text::one_line(&act.reason, 200)) };
            Some(format!("{word} by {}, {}{why}", text::one_line(&act.by, 80), text::moment(act.at)))
        });
        Self {
            id: record.id.to_string(),
            standing,
            badge: badge(standing),
            patch: waiver.patch.to_string(),
            short: waiver.patch.short(),
            customer: waiver.customer.to_string(),
            case: text::one_line(&waiver.case, 140),
            hardware: waiver.hardware.as_ref().map_or_else(|| "all hardware".to_owned(), ToString::to_string),
            fingerprint: waiver.fingerprint.short(),
            reason: text::one_line(&waiver.reason, 400),
            ends: moment(now, waiver.expires),
            acts: told.collect(),
            why_not: void.filter(|_| standing == Standing::Void).map(str::to_owned),
            may_consent: standing == Standing::Proposed && !same_person(&record.proposed.by, viewer),
        }
    }

    pub fn open(&self) -> bool {
        matches!(self.standing, Standing::Active | Standing::Proposed | Standing::Void)
    }
}

const fn badge(standing: Standing) -> Badge {
    let (sign, shape, word) = match standing {
        Standing::Active => (Sign::Good, "≈", "in force"),
        Standing::Proposed => (Sign::Open, "…", "waits for a second person"),
        Standing::Revoked => (Sign::Quiet, "✕", "revoked"),
        Standing::Expired => (Sign::Quiet, "!", "expired"),
        Standing::Void => (Sign::Odd, "?", "counts for nothing"),
    };
    Badge { sign, shape, word }
}

impl WaiversPage {
    /// The nearest end first; of the ended ones the last to end.
    pub fn of(frame: Frame, views: &[WaiverView], viewer: &str, now: Timestamp) -> Self {
        let mut sorted: Vec<_> = views.iter().collect();
        sorted.sort_by_key(|view| view.record.waiver.expires);
        let mut page = Self { frame, active: Vec::new(), proposed: Vec::new(), ended: Vec::new(), more: 0 };
        for view in sorted {
            let line = WaiverLine::of(&view.record, view.void, viewer, now);
            match line.standing {
                Standing::Active | Standing::Void => page.active.push(line),
                Standing::Proposed => page.proposed.push(line),
                Standing::Revoked | Standing::Expired => page.ended.push(line),
            }
        }
        page.ended.reverse();
        page.more = page.ended.len().saturating_sub(ENDED);
        page.ended.truncate(ENDED);
        page
    }
}
