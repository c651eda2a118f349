//! `patchlab gate`, `waive`, `waivers`, `approve`, `reject` and `revoke` by way of a running server. Who says something there is who the
//! token was made for.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Approve, GateVerb, Reject, Revoke, Waive, Waivers};
use super::client::{Client, Refused, encoded};
use super::context::Context;
use super::error::{Exit, Failure};
use super::gate::{Given, Shown, done, end_of, ends, list, proposed, tell, whole};
use super::remote::candidate;
use crate::catalog::policy::Role;
use crate::id::Name;
use crate::verdict::gate::{Act, Decision, Status, Waiver, WaiverRecord};

/// How long one request waits for a change.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The least time between two requests, where the server has no place for one who waits.
const PAUSE: Duration = Duration::from_secs(1);

/// How many waivers are asked for at once.
const PAGE: &str = "limit=200";

/// What was put on record, and the decision that came of it.
#[derive(Deserialize)]
struct Said {
    decision: Decision,
}

fn place(patch: &str, customer: &Name) -> String {
    format!("/api/v1/decisions/{}?customer={customer}", encoded(patch))
}

/// What the server decides. What it says of the simulator's machines speaks for no real ones, nor the other way round.
fn decided(context: &Context, client: &Client, place: &str) -> Result<Decision, Refused> {
    let decision: Decision = client.read(place)?;
    let refused = match (decision.simulated, context.workshop.is_simulated()) {
        (true, false) => format!(
            "the server {} decides about the simulator's machines, and its word is none about real ones; to ask about simulated ones add \
             --hypervisor sim",
            client.url()
        ),
        (false, true) => format!(
            "the server {} decides about real machines, and you ask about the simulator's: leave --hypervisor and PATCHLAB_HYPERVISOR out",
            client.url()
        ),
        (true, true) | (false, false) => return Ok(decision),
    };
    Err(Failure::usage(refused).into())
}

pub fn gate(context: &Context, client: Client, verb: &GateVerb) -> Result<Exit, Failure> {
    let mut at = place(&candidate(context, &verb.patch)?, &verb.customer);
    if let Some(as_of) = verb.as_of {
        let then = format!("{at}&as_of={}", encoded(&as_of.to_string()));
        return tell(&decided(context, &client, &then)?, &verb.answer);
    }
    let end = end_of(verb.wait);
    let left = || end.saturating_duration_since(Instant::now());
    let (mut server, mut lost) = (Some(client), None::<Failure>);
    loop {
        let asked = Instant::now();
        let wait = left().min(LONGEST_WAIT).as_millis().div_ceil(1000);
        let answer = server.as_ref().map(|client| decided(context, client, &format!("{at}&wait={wait}s")));
        let over = left().is_zero();
        match answer {
            Some(Ok(decision)) if over || decision.status != Status::Pending => return tell(&decision, &verb.answer),
            Some(Ok(decision)) => {
                // Whatever comes in under the same id meanwhile.
                at = place(&decision.patch.sha256.to_string(), &verb.customer);
                lost = None;
            }
            Some(Err(refused)) if over || !refused.passing => return Err(refused.into()),
            Some(Err(refused)) => {
                let failure = Failure::from(refused);
                if lost.is_none() {
                    super::say(format_args!("{}; asking again until --wait is over", failure.message));
                }
                lost = Some(failure);
            }
            None if over => return Err(lost.unwrap_or_else(|| Failure::lab("the server is gone"))),
            None => {}
        }
        if lost.is_some() {
            // It may come back somewhere else, and somebody else may listen where it was.
            server = Client::find(context)?;
        }
        std::thread::sleep(PAUSE.saturating_sub(asked.elapsed()).min(left()));
    }
}

pub fn waive(context: &Context, client: &Client, verb: &Waive) -> Result<Exit, Failure> {
    if let Some(id) = verb.consent {
        let named = |waiver: &Value| waiver["id"].as_str() == Some(id.to_string().as_str());
        let meant = look_for(client, PAGE, |waiver| Ok(named(waiver).then(|| waiver.clone())))?;
        // What the server does not know, it says itself.
        if let Some(waiver) = meant {
            let scope = |key: &str| waiver[key].as_str().unwrap_or_default().to_owned();
            let customer = scope("customer").parse().map_err(Failure::lab)?;
            decided(context, client, &place(&scope("patch"), &customer))?;
        }
        return done(&client.say(&format!("/api/v1/waivers/{id}/consent"), &json!({}))?, &verb.answer);
    }
    let Given { patch, customer, case, fingerprint, expires, reason } = Given::of(verb)?;
    let decision = decided(context, client, &place(&candidate(context, patch)?, customer))?;
    let waiver = Waiver {
        patch: decision.patch.sha256,
        customer: customer.clone(),
        case: case.to_owned(),
        hardware: verb.hardware.clone(),
        fingerprint: whole(fingerprint, case, &decision)?,
        expires: ends(expires, &decision, Timestamp::now())?,
        reason: reason.to_owned(),
    };
    let report: Value = client.say("/api/v1/waivers", &waiver)?;
    proposed(&record(&report, waiver)?, &verb.answer)
}

/// A waiver as the server tells it.
fn record(report: &Value, waiver: Waiver) -> Result<WaiverRecord, Failure> {
    let unreadable = |bad| Failure::lab(format!("the server told of a waiver what this patchlab can't read: {bad}"));
    let act = |key: &str| serde_json::from_value::<Option<Act>>(report[key].clone()).map_err(unreadable);
    Ok(WaiverRecord {
        id: serde_json::from_value(report["id"].clone()).map_err(unreadable)?,
        waiver,
        proposed: serde_json::from_value(report["proposed"].clone()).map_err(unreadable)?,
        consented: act("consented")?,
        revoked: act("revoked")?,
    })
}

/// Looks through the waivers that the server has, the newest first, until something is found.
fn look_for<T>(client: &Client, filter: &str, mut look: impl FnMut(&Value) -> Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
    let mut cursor = None::<Uuid>;
    loop {
        let after = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let page: Value = client.read(&format!("/api/v1/waivers?{filter}{after}"))?;
        for waiver in page["waivers"].as_array().into_iter().flatten() {
            if let Some(found) = look(waiver)? {
                return Ok(Some(found));
            }
        }
        cursor = serde_json::from_value(page["next"].clone()).map_err(Failure::lab)?;
        if cursor.is_none() {
            return Ok(None);
        }
    }
}

pub fn waivers(context: &Context, client: &Client, verb: &Waivers) -> Result<Exit, Failure> {
    let mut filter = form_urlencoded::Serializer::new(PAGE.to_owned());
    if let Some(patch) = &verb.patch {
        filter.append_pair("patch", &candidate(context, patch)?);
    }
    if let Some(customer) = &verb.customer {
        filter.append_pair("customer", customer.as_str());
    }
    let mut shown = Vec::new();
    look_for::<()>(client, &filter.finish(), |report| {
        let field = |key: &str| report[key].clone();
        let waiver = json!({
            "patch": field("patch"), "customer": field("customer"), "case": field("case"), "hardware": field("hardware"),
            "fingerprint": field("fingerprint"), "expires": field("expires"), "reason": field("reason"),
        });
        let waiver = serde_json::from_value(waiver).map_err(Failure::lab)?;
        shown.push(Shown { record: record(report, waiver)?, void: report["why-not"].as_str().map(str::to_owned) });
        Ok(None)
    })?;
    // The newest come first there.
    shown.reverse();
    list(&shown, &verb.answer)
}

pub fn approve(context: &Context, client: &Client, verb: &Approve) -> Result<Exit, Failure> {
    if verb.role != Role::Approver {
        return Err(Failure::usage("at the server everybody approves in the role of their token; leave --role out"));
    }
    let patch = candidate(context, &verb.patch)?;
    let decision = decided(context, client, &place(&patch, &verb.customer))?;
    let revision = verb.revision.unwrap_or(decision.revision);
    let comment = verb.comment.as_deref().unwrap_or_default();
    let yes = json!({ "patch": decision.patch.sha256, "customer": verb.customer, "revision": revision, "comment": comment });
    done(&client.say::<Said>("/api/v1/approvals", &yes)?.decision, &verb.answer)
}

pub fn reject(context: &Context, client: &Client, verb: &Reject) -> Result<Exit, Failure> {
    let no = json!({ "patch": candidate(context, &verb.patch)?, "customer": verb.customer, "reason": verb.reason });
    done(&client.say::<Said>("/api/v1/rejections", &no)?.decision, &verb.answer)
}

pub fn revoke(client: &Client, verb: &Revoke) -> Result<Exit, Failure> {
    let reason = json!({ "reason": verb.reason });
    let mut refused = None;
    for kind in ["waivers", "approvals", "rejections"] {
        match client.say::<Decision>(&format!("/api/v1/{kind}/{}/revoke", verb.id), &reason) {
            Ok(decision) => return done(&decision, &verb.answer),
            Err(other) if other.is("no-such-record") => refused = Some(other),
            Err(other) => return Err(other.into()),
        }
    }
    Err(refused.map_or_else(|| Failure::usage(format!("there is no record {}", verb.id)), Into::into))
}
