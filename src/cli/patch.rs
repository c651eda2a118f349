//! `patchlab patch`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::{Answer, Format, PatchVerb};
use super::context::Context;
use super::error::{Exit, Failure};
use super::person::user;
use super::print;
use crate::lab::gate::Gate;
use crate::lab::patches::StoredPatch;

pub async fn patch(context: &Context, verb: &PatchVerb) -> Result<Exit, Failure> {
    let store = context.patches()?;
    match verb {
        PatchVerb::Add { folder, answer } => {
            let added = store.add(folder)?;
            let gate = Gate::new(context.journal().await?);
            gate.announce(&added.planned(), true, &user(), Timestamp::now()).await?;
            show(&added, answer)
        }
        PatchVerb::List(answer) => {
            let all = store.list()?;
            match answer.format {
                Format::Human if all.is_empty() => print("no patches yet; add one: patchlab patch add FOLDER\n")?,
                Format::Human => all
                    .iter()
                    .try_for_each(|one| print(&format!("{}  {}  {}\n", one.sha256.short(), one.manifest.id, one.manifest.title)))?,
                Format::Json => print(&format!("{:#}\n", Value::from_iter(all.iter().map(as_json))))?,
            }
            Ok(Exit::Pass)
        }
        PatchVerb::Show { patch, answer } => show(&store.get(patch)?, answer),
    }
}

fn as_json(patch: &StoredPatch) -> Value {
    json!({ "sha256": patch.sha256, "manifest": patch.manifest, "facts": patch.facts })
}

fn show(patch: &StoredPatch, answer: &Answer) -> Result<Exit, Failure> {
    match answer.format {
        Format::Json => print(&format!("{:#}\n", as_json(patch)))?,
        Format::Human => {
            print(&format!("{}  {}\n{}\n", patch.sha256, patch.manifest.id, patch.manifest.title))?;
            for package in &patch.facts.packages {
                print(&format!("  package {} {} {}\n", package.name, package.version, package.architecture))?;
            }
            for path in &patch.facts.paths {
                print(&format!("  path {path}\n"))?;
            }
        }
    }
    Ok(Exit::Pass)
}
