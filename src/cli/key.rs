//! `patchlab key`, and the key that other verbs sign with.

use serde_json::json;

use super::args::{Format, KeyVerb, SigningKey};
use super::context::Context;
use super::error::{Exit, Failure};
use super::print;
use crate::lab::keys;
use crate::report::statement::key_id;

pub fn key(context: &Context, verb: &KeyVerb) -> Result<Exit, Failure> {
    let KeyVerb::Show { key, answer } = verb;
    let public = signing(context, key)?.verifying_key();
    let pem = keys::pem(&public)?;
    match answer.format {
        Format::Human => {
            super::say(format_args!("{}", key_id(&public)));
            print(&pem)?;
        }
        Format::Json => print(&format!("{:#}\n", json!({ "key": key_id(&public), "pem": pem })))?,
    }
    Ok(Exit::Pass)
}

/// The key that was given, else the lab's own.
pub fn signing(context: &Context, given: &SigningKey) -> Result<ed25519_dalek::SigningKey, Failure> {
    Ok(match &given.signing_key {
        Some(file) => keys::signing(file)?,
        None => keys::own(&context.state.folder)?,
    })
}
