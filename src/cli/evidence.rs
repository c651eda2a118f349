//! `patchlab evidence`.

use std::io;

use super::args::Evidence;
use super::context::Context;
use super::error::{Exit, Failure};
use super::{attest, key, output, show};
use crate::lab::keys;
use crate::report::archive::{ATTESTATION, Archive, PUBLIC_KEY, readme};
use crate::report::files::kept_files;
use crate::report::{self, human};

const REPORTS: [(&str, report::Format); 4] = [
    ("report.json", report::Format::Json),
    ("report.html", report::Format::Html),
    ("report.md", report::Format::Markdown),
    ("junit.xml", report::Format::Junit),
];

/// Writes everything about a run into one archive. Kept files that are gone are named in it, and the exit code is 3.
pub async fn evidence(context: &Context, verb: &Evidence) -> Result<Exit, Failure> {
    let journal = context.journal().await?;
    let state = context.run(&journal, &verb.run).await?;
    let key = key::signing(context, &verb.key)?;
    let attestation = attest::statements(context, &journal, &state, &key).await?;
    let entries = journal.entries(state.run).await?;
    let lines = entries.iter().map(|entry| Ok(serde_json::to_string(entry)? + "\n")).collect::<Result<String, serde_json::Error>>();
    let lines = lines.map_err(|bad| Failure::lab(format!("could not write the journal's entries: {bad}")))?;
    let output = output::Output::open(&verb.output)?;
    let mut lost = String::new();
    show::with_source(context, &state, |source| {
        output.fill(|to| {
            let mut archive = Archive::new(to, source);
            archive.add("README.md", readme(source, &key).as_bytes())?;
            archive.add(ATTESTATION, attestation.as_bytes())?;
            archive.add(PUBLIC_KEY, keys::pem(&key.verifying_key())?.as_bytes())?;
            archive.add("summary.txt", human::render(source).plain().as_bytes())?;
            for (name, format) in REPORTS {
                archive.add(name, report::render(format, source).map_err(io::Error::other)?.as_bytes())?;
            }
            archive.add("journal.jsonl", lines.as_bytes())?;
            for file in kept_files(source.run) {
                match (source.evidence)(&file.sha256) {
                    Some(bytes) => archive.add(&format!("evidence/{}", file.named(&bytes)), &bytes)?,
                    None => lost += &format!("{}: gone from the store or altered ({})\n", file.path, file.sha256),
                }
            }
            if !lost.is_empty() {
                archive.add("MISSING.txt", lost.as_bytes())?;
            }
            archive.finish(&key)
        })
    })??;
    if lost.is_empty() { Ok(Exit::Pass) } else { Err(Failure::lab(format!("not everything is in {}:\n{lost}", verb.output.display()))) }
}
