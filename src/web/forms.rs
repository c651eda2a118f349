//! What forms do. Each is checked for where it comes from and whose it is before it gets here; each asks for the role that it needs, and
//! leads back to a page.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Redirect;
use uuid::Uuid;

use super::Web;
use super::pages::{part, request};
use super::visitor::{Sent, Trouble};
use crate::api::people::allowed;
use crate::api::runs::{RunRequest, begin};
use crate::api::{Problem, Role};
use crate::id::{Digest, Name, RunId};
use crate::lab::desk::queue::CallOff;
use crate::lab::gate::Yes;
use crate::plan::Request;
use crate::report::html::Sign;
use crate::report::text::count;
use crate::verdict::gate::{Decision, Waiver};

type Done = Result<Redirect, Trouble>;

macro_rules! form {
    ($sent:ident, $role:expr, $done:expr) => {
        async {
            $sent.visitor.caller.require($role)?;
            $done
        }
        .await
        .map_err(|trouble: Trouble| trouble.for_visitor(&$sent.visitor))
    };
}

/// The same for a word to the gate: that the role is not enough is put on record.
macro_rules! word {
    ($web:ident, $sent:ident, $role:expr, $what:literal, $done:expr) => {
        async {
            allowed(&$web.service, &$sent.visitor.caller, $role, $what).await?;
            $done
        }
        .await
        .map_err(|trouble: Trouble| trouble.for_visitor(&$sent.visitor))
    };
}

/// Launches a run.
pub async fn launch(State(web): State<Arc<Web>>, sent: Sent) -> Done {
    form!(sent, Role::Engineer, {
        let Request { customers, builds, environments, levels, hardware, suites } = request(&sent.fields)?;
        let patch: Digest = sent.fields.need("patch")?;
        let keep_failed = !sent.fields.get("keep").is_empty();
        let (patch, cold, fresh_baselines) = (patch.to_string(), false, false);
        let wanted = RunRequest { patch, customers, builds, environments, levels, hardware, suites, keep_failed, cold, fresh_baselines };
        let key = Some(sent.fields.get("key")).filter(|key| key.len() == 64 && key.bytes().all(|c| c.is_ascii_hexdigit()));
        let state = begin(&web.service, &sent.visitor.caller, &wanted, key).await?;
        let shown: Option<Digest> = sent.fields.maybe("plan")?;
        let (sign, told) = if shown.is_some_and(|shown| shown != state.plan_digest) {
            (
                Sign::Odd,
                "The run is launched, but its plan is not the one that you were shown: builds, suites or images have changed since.",
            )
        } else {
            (Sign::Good, "The run is launched.")
        };
        Ok(sent.visitor.go(&web, &format!("/runs/{}", state.run), sign, told))
    })
}

/// Calls a run off.
pub async fn cancel(State(web): State<Arc<Web>>, Path(run): Path<String>, sent: Sent) -> Done {
    form!(sent, Role::Engineer, {
        let run: RunId = part(&run, "run")?;
        let reason = match sent.fields.comment("reason")? {
            reason if reason.is_empty() => "it is not wanted any more".to_owned(),
            reason => reason,
        };
        let called_off = web.service.queue.call_off(run, sent.visitor.caller.name.as_str(), &reason).await?;
        let (sign, told) = match called_off {
            CallOff::Ended => (Sign::Good, "The run is called off."),
            CallOff::UnderWay => (Sign::Good, "The run is being called off: its machines are removed."),
            CallOff::TooLate => (Sign::Odd, "The run had ended before."),
        };
        Ok(sent.visitor.go(&web, &format!("/runs/{run}"), sign, told))
    })
}

/// Lets the machines go that a run keeps.
pub async fn release(State(web): State<Arc<Web>>, Path(run): Path<String>, sent: Sent) -> Done {
    form!(sent, Role::Engineer, {
        let run: RunId = part(&run, "run")?;
        let released = web.service.queue.release(run, sent.visitor.caller.name.as_str()).await?;
        let (sign, told) = match released.len() {
            0 => (Sign::Odd, "The run keeps no machine any more.".to_owned()),
            machines => (Sign::Good, format!("{} let go.", count(machines, "machine"))),
        };
        Ok(sent.visitor.go(&web, "/lab#kept", sign, told))
    })
}

/// A decision's patch and customer, from the path.
fn scope((patch, customer): &(String, String)) -> Result<(Digest, Name), Problem> {
    Ok((part(patch, "patch")?, part(customer, "customer")?))
}

fn back(web: &Web, sent: &Sent, decision: &Decision, told: &str) -> Redirect {
    let place = format!("/patches/{}/{}", decision.patch.sha256, decision.customer);
    sent.visitor.go(web, &place, Sign::Good, told)
}

/// Asks the gate: from here on the patch is held to what policy, builds and images are now.
pub async fn ask(State(web): State<Arc<Web>>, Path(place): Path<(String, String)>, sent: Sent) -> Done {
    form!(sent, Role::Engineer, {
        let decision = web.service.decisions.ask(&scope(&place)?, sent.visitor.caller.name.as_str()).await?;
        Ok(back(&web, &sent, &decision, "The gate was asked."))
    })
}

/// Approves the revision that the person saw.
pub async fn approve(State(web): State<Arc<Web>>, Path(place): Path<(String, String)>, sent: Sent) -> Done {
    word!(web, sent, Role::Approver, "approve", {
        let key = scope(&place)?;
        let comment = sent.fields.comment("comment")?;
        let yes = Yes {
            revision: Some(sent.fields.need("revision")?),
            role: sent.visitor.caller.role,
            by: sent.visitor.caller.name.as_str(),
            comment: &comment,
        };
        let decision = web.service.decisions.approve(Uuid::now_v7(), &key, &yes).await?;
        Ok(back(&web, &sent, &decision, "Your approval is on record."))
    })
}

/// Rejects the patch for a customer.
pub async fn reject(State(web): State<Arc<Web>>, Path(place): Path<(String, String)>, sent: Sent) -> Done {
    word!(web, sent, Role::Approver, "reject", {
        let key = scope(&place)?;
        let reason = sent.fields.words("reason")?;
        let decision = web.service.decisions.reject(Uuid::now_v7(), &key, sent.visitor.caller.name.as_str(), &reason).await?;
        Ok(back(&web, &sent, &decision, "Your rejection is on record."))
    })
}

/// Proposes to waive a finding.
pub async fn waive(State(web): State<Arc<Web>>, Path(place): Path<(String, String)>, sent: Sent) -> Done {
    word!(web, sent, Role::Engineer, "waive", {
        let (patch, customer) = scope(&place)?;
        let waiver = Waiver {
            patch,
            customer: customer.clone(),
            case: sent.fields.need("case")?,
            hardware: sent.fields.maybe("hardware")?,
            fingerprint: sent.fields.need("fingerprint")?,
            expires: sent.fields.moment("expires")?,
            reason: sent.fields.words("reason")?,
        };
        web.service.decisions.propose(Uuid::now_v7(), waiver, sent.visitor.caller.name.as_str()).await?;
        let told = "The waiver is proposed; a second person has to consent.";
        Ok(sent.visitor.go(&web, &format!("/patches/{patch}/{customer}#waivers"), Sign::Good, told))
    })
}

/// Consents to a waiver that somebody else has proposed.
pub async fn consent(State(web): State<Arc<Web>>, Path(id): Path<String>, sent: Sent) -> Done {
    word!(web, sent, Role::Approver, "consent", {
        let decision = web.service.decisions.consent(part::<Uuid>(&id, "waiver")?, sent.visitor.caller.name.as_str(), false).await?;
        Ok(back(&web, &sent, &decision, "The waiver is in force."))
    })
}

/// Takes back a waiver, an approval or a rejection.
pub async fn revoke(State(web): State<Arc<Web>>, Path(id): Path<String>, sent: Sent) -> Done {
    let id = part::<Uuid>(&id, "record").map_err(Trouble::from).map_err(|trouble| trouble.for_visitor(&sent.visitor))?;
    let kind = web.service.journal.kind_of(id).await?;
    let role = if kind.as_deref() == Some("waiver-proposed") { Role::Engineer } else { Role::Approver };
    word!(web, sent, role, "revoke", {
        let reason = sent.fields.words("reason")?;
        let decision = web.service.decisions.revoke(id, sent.visitor.caller.name.as_str(), &reason, false).await?;
        Ok(back(&web, &sent, &decision, "It is taken back."))
    })
}
