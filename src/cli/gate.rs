//! `patchlab gate`, `waive`, `waivers`, `approve`, `reject`, `revoke`.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::args::{Answer, Approve, Expiry, Format, GateVerb, Reject, Revoke, Waive, Waivers};
use super::client::Client;
use super::context::Context;
use super::error::{Exit, Failure};
use super::person::user;
use super::{print, print_ansi, word};
use crate::catalog::Catalog;
use crate::catalog::text::Span;
use crate::id::{Digest, Name};
use crate::lab::gate::{Gate, WaiverView, Yes};
use crate::lab::patches::StoredPatch;
use crate::plan::PlannedPatch;
use crate::report;
use crate::verdict::gate::{Decision, Status, Waiver, WaiverRecord};

/// How often the journal is looked at while somebody waits: another process may write to it.
const INTERVAL: Duration = Duration::from_millis(500);

/// Nobody waits longer.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// When somebody has waited long enough.
pub fn end_of(wait: Option<Span>) -> Instant {
    Instant::now() + wait.map_or(Duration::ZERO, |wait| wait.0.min(A_YEAR))
}

impl From<Status> for Exit {
    fn from(status: Status) -> Self {
        match status {
            Status::Approved | Status::ApprovedWithWaivers => Self::Pass,
            Status::Rejected | Status::Superseded => Self::Fail,
            Status::Inconclusive | Status::Expired => Self::Inconclusive,
            Status::Pending => Self::Undecided,
        }
    }
}

/// Says whether the patch may go to the customer. The exit code is the decision's.
pub async fn gate(context: &Context, verb: &GateVerb) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return word::gate(context, client, verb);
    }
    let patch = context.patch(&verb.patch)?;
    let journal = context.journal().await?;
    let gate = context.gate(journal.clone())?;
    if let Some(as_of) = verb.as_of {
        return tell(&gate.replay(patch.sha256, &verb.customer, as_of).await?, &verb.answer);
    }
    let end = end_of(verb.wait);
    let (patch, mut catalog) = (patch.planned(), context.catalog()?);
    loop {
        require(context, &gate, &patch, &verb.customer, &catalog).await?;
        let head = journal.head().await?;
        let decision = gate.settle(patch.sha256, &verb.customer, Timestamp::now()).await?;
        if decision.status != Status::Pending || Instant::now() >= end {
            return tell(&decision, &verb.answer);
        }
        loop {
            tokio::time::sleep(INTERVAL.min(end.saturating_duration_since(Instant::now()))).await;
            let due = decision.until.is_some_and(|until| until <= Timestamp::now());
            if due || Instant::now() >= end || journal.head().await? != head {
                break;
            }
        }
        // What is asked for may have become more while somebody waited.
        catalog = context.catalog_again()?;
    }
}

async fn require(context: &Context, gate: &Gate, patch: &PlannedPatch, customer: &Name, catalog: &Catalog) -> Result<(), Failure> {
    let images = context.sealed(catalog)?;
    Ok(context.require(gate, patch, customer, (catalog, &images), &user()).await?)
}

/// Holds the patch to what policy, builds and images are now: nobody decides by what they were.
async fn require_now(context: &Context, gate: &Gate, patch: &StoredPatch, customer: &Name) -> Result<(), Failure> {
    require(context, gate, &patch.planned(), customer, &context.catalog()?).await
}

pub fn tell(decision: &Decision, answer: &Answer) -> Result<Exit, Failure> {
    match answer.format {
        Format::Human => print_ansi(&report::gate::human(decision).ansi())?,
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(decision).map_err(Failure::lab)?))?,
    }
    Ok(decision.status.into())
}

/// What was done is told; whether the gate is open now, the decision says.
pub fn done(decision: &Decision, answer: &Answer) -> Result<Exit, Failure> {
    tell(decision, answer).map(|_| Exit::Pass)
}

/// What a proposal names.
pub struct Given<'a> {
    pub patch: &'a str,
    pub customer: &'a Name,
    pub case: &'a str,
    pub fingerprint: &'a str,
    pub expires: Expiry,
    pub reason: &'a str,
}

impl<'a> Given<'a> {
    pub fn of(verb: &'a Waive) -> Result<Self, Failure> {
        let Waive { patch, customer, case, fingerprint, hardware: _, expires, reason, consent: _, answer: _ } = verb;
        match (patch, customer, case, fingerprint, expires, reason) {
            (Some(patch), Some(customer), Some(case), Some(fingerprint), Some(expires), Some(reason)) => {
                Ok(Self { patch, customer, case, fingerprint, expires: *expires, reason })
            }
            _ => Err(Failure::usage("name the patch and give --customer, --case, --fingerprint, --expires and --reason")),
        }
    }
}

/// Proposes to waive a finding, or consents to such a proposal.
pub async fn waive(context: &Context, verb: &Waive) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return word::waive(context, &client, verb);
    }
    let gate = context.gate(context.journal().await?)?;
    let now = Timestamp::now();
    if let Some(id) = verb.consent {
        let (patch, customer) = gate.about(id).await?;
        require_now(context, &gate, &context.stored(&patch.to_string())?, &customer).await?;
        return done(&gate.consent(id, &user(), now).await?, &verb.answer);
    }
    let Given { patch, customer, case, fingerprint, expires, reason } = Given::of(verb)?;
    let patch = context.patch(patch)?;
    require_now(context, &gate, &patch, customer).await?;
    let decision = gate.settle(patch.sha256, customer, now).await?;
    let waiver = Waiver {
        patch: patch.sha256,
        customer: customer.clone(),
        case: case.to_owned(),
        hardware: verb.hardware.clone(),
        fingerprint: whole(fingerprint, case, &decision)?,
        expires: ends(expires, &decision, now)?,
        reason: reason.to_owned(),
    };
    proposed(&gate.propose(Uuid::now_v7(), waiver, &user(), now).await?, &verb.answer)
}

/// When a waiver ends that is proposed now.
pub fn ends(expires: Expiry, decision: &Decision, now: Timestamp) -> Result<Timestamp, Failure> {
    match expires {
        Expiry::At(at) => Ok(at),
        Expiry::In(span) => {
            let within = SignedDuration::try_from(span.0).map_err(Failure::usage)?;
            decision.as_of.max(now).checked_add(within).map_err(Failure::usage)
        }
    }
}

pub fn proposed(record: &WaiverRecord, answer: &Answer) -> Result<Exit, Failure> {
    match answer.format {
        Format::Human => {
            print(&format!("proposed {}\nit counts once another person consents: patchlab waive --consent {}\n", record.id, record.id))?
        }
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(record).map_err(Failure::lab)?))?,
    }
    Ok(Exit::Pass)
}

/// The fingerprint that a text is the start of, among those of this case's findings.
pub fn whole(start: &str, case: &str, decision: &Decision) -> Result<Digest, Failure> {
    if let Ok(digest) = start.parse() {
        return Ok(digest);
    }
    let findings = || decision.requirements.iter().flat_map(|one| &one.findings).filter(|finding| finding.subject() == case);
    let hex = start.strip_prefix("sha256:").unwrap_or(start);
    let mut meant: Vec<Digest> = findings().map(|one| one.fingerprint).filter(|one| hex.len() >= 6 && one.hex().starts_with(hex)).collect();
    meant.sort();
    meant.dedup();
    match meant.as_slice() {
        [one] => Ok(*one),
        _ => {
            let known: Vec<_> = findings().map(|one| one.fingerprint.short()).collect();
            let known = if known.is_empty() { "there is none".to_owned() } else { format!("it is one of {}", known.join(", ")) };
            Err(Failure::usage(format!("{start:?} is no fingerprint of a finding about {case}: {known}")))
        }
    }
}

/// A waiver, and why it does not count.
pub struct Shown {
    pub record: WaiverRecord,
    pub void: Option<String>,
}

/// Lists the waivers.
pub async fn waivers(context: &Context, verb: &Waivers) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return word::waivers(context, &client, verb);
    }
    let gate = context.gate(context.journal().await?)?;
    let patch = verb.patch.as_ref().map(|patch| context.patch(patch)).transpose()?;
    let views = gate.waivers(patch.map(|patch| patch.sha256), verb.customer.as_ref(), Timestamp::now()).await?;
    let shown = views.into_iter().map(|WaiverView { record, void }| Shown { record, void: void.map(str::to_owned) });
    list(&shown.collect::<Vec<_>>(), &verb.answer)
}

pub fn list(waivers: &[Shown], answer: &Answer) -> Result<Exit, Failure> {
    match answer.format {
        Format::Human if waivers.is_empty() => print("no waivers\n")?,
        Format::Human => waivers.iter().try_for_each(|shown| print(&line(shown)))?,
        Format::Json => {
            let rows = waivers.iter().map(|shown| json!({ "waiver": shown.record, "counts": shown.void.is_none(), "why-not": shown.void }));
            print(&format!("{:#}\n", serde_json::Value::from_iter(rows)))?;
        }
    }
    Ok(Exit::Pass)
}

fn line(shown: &Shown) -> String {
    let WaiverRecord { id, waiver, proposed, consented, .. } = &shown.record;
    let hardware = waiver.hardware.as_ref().map_or_else(|| "all hardware".to_owned(), ToString::to_string);
    let by = consented.as_ref().map_or_else(|| proposed.by.clone(), |act| format!("{} and {}", proposed.by, act.by));
    let state = shown.void.as_deref().map_or_else(|| "counts".to_owned(), report::printable);
    format!(
        "{id}  {} for {}: {} on {hardware}, until {}, by {by}: {state}\n    {}\n",
        waiver.patch.short(),
        waiver.customer,
        report::printable(&waiver.case),
        waiver.expires,
        report::printable(&waiver.reason)
    )
}

/// Approves.
pub async fn approve(context: &Context, verb: &Approve) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return word::approve(context, &client, verb);
    }
    let patch = context.patch(&verb.patch)?;
    let gate = context.gate(context.journal().await?)?;
    require_now(context, &gate, &patch, &verb.customer).await?;
    let yes = Yes { revision: verb.revision, role: verb.role, by: &user(), comment: verb.comment.as_deref().unwrap_or_default() };
    done(&gate.approve(Uuid::now_v7(), patch.sha256, &verb.customer, &yes, Timestamp::now()).await?, &verb.answer)
}

/// Rejects.
pub async fn reject(context: &Context, verb: &Reject) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return word::reject(context, &client, verb);
    }
    let patch = context.patch(&verb.patch)?;
    let gate = context.gate(context.journal().await?)?;
    done(&gate.reject(Uuid::now_v7(), patch.sha256, &verb.customer, &user(), &verb.reason, Timestamp::now()).await?, &verb.answer)
}

/// Takes back a waiver, an approval or a rejection. What comes of it is decided by what is asked for now, or not at all.
pub async fn revoke(context: &Context, verb: &Revoke) -> Result<Exit, Failure> {
    if let Some(client) = Client::find(context)? {
        return word::revoke(&client, verb);
    }
    let gate = context.gate(context.journal().await?)?;
    let (patch, customer) = gate.revoke(verb.id, &user(), &verb.reason, Timestamp::now()).await?;
    let decided = async {
        require_now(context, &gate, &context.stored(&patch.to_string())?, &customer).await?;
        Ok::<_, Failure>(gate.settle(patch, &customer, Timestamp::now()).await?)
    };
    let decision = decided.await.inspect_err(|_| super::say(format_args!("{} is taken back, and there is no decision now", verb.id)))?;
    done(&decision, &verb.answer)
}
