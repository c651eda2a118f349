//! Everything about a run in one file, for the auditor: `patchlab-RUN.tar.gz`.
//!
//! Invariant: the same run, the same bytes: no clock, no user, no order but the one given. The private key is never in it.

use std::io::{self, Write};

use ed25519_dalek::{Signer, SigningKey};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::files::kept_files;
use super::statement::key_id;
use super::{Format, Source, human, render};
use crate::id::{Digest, RunId};
use crate::journal::Entry;

pub const MEDIA_TYPE: &str = "application/gzip";
/// The file of an archive that lists what should be in it and is gone.
pub const MISSING: &str = "MISSING.txt";

/// The folder of an archive with every kept file.
pub const KEPT: &str = "evidence/";

const ATTESTATION: &str = "attestation.intoto.jsonl";
const PUBLIC_KEY: &str = "public-key.pem";
const SUMS: &str = "SHA256SUMS";
const REPORTS: [(&str, Format); 4] =
    [("report.json", Format::Json), ("report.html", Format::Html), ("report.md", Format::Markdown), ("junit.xml", Format::Junit)];

/// What goes into an archive besides what the run itself tells.
pub struct Contents<'a> {
    pub attestation: &'a str,
    pub entries: &'a [Entry],
    pub key: &'a SigningKey,
    /// The key's public half, as PEM.
    pub public_key: &'a str,
}

/// What the archive of a run is called.
pub fn file_name(run: RunId) -> String {
    format!("patchlab-{run}.tar.gz")
}

/// Writes everything about a run, file by file. Returns which of the kept files are gone, a line each; the archive says it too.
///
/// # Errors
/// When the writer does not take it.
pub fn write(to: impl Write, source: &Source<'_>, contents: &Contents<'_>) -> io::Result<String> {
    let Contents { attestation, entries, key, public_key } = contents;
    let mut archive = Archive::new(to, source);
    archive.add("README.md", readme(source, key).as_bytes())?;
    archive.add(ATTESTATION, attestation.as_bytes())?;
    archive.add(PUBLIC_KEY, public_key.as_bytes())?;
    archive.add("summary.txt", human::render(source).plain().as_bytes())?;
    for (name, format) in REPORTS {
        archive.add(name, render(format, source).map_err(io::Error::other)?.as_bytes())?;
    }
    let lines = entries.iter().map(|entry| Ok(serde_json::to_string(entry)? + "\n"));
    archive.add("journal.jsonl", lines.collect::<Result<String, serde_json::Error>>()?.as_bytes())?;
    let mut lost = String::new();
    for file in kept_files(source.run) {
        match (source.evidence)(&file.sha256) {
            Some(bytes) => archive.add(&format!("{KEPT}{}", file.named(&bytes)), &bytes)?,
            None => lost += &format!("{}: gone from the store or altered ({})\n", file.path, file.sha256),
        }
    }
    if !lost.is_empty() {
        archive.add(MISSING, lost.as_bytes())?;
    }
    archive.finish(key)?;
    Ok(lost)
}

/// An archive that is being written. Files are in it in the order in which they are added.
struct Archive<W: Write> {
    tar: Builder<GzEncoder<W>>,
    folder: String,
    /// The time that every file bears, in seconds since 1970.
    at: u64,
    sums: String,
}

impl<W: Write> Archive<W> {
    /// All files are below a folder with the run's name.
    fn new(to: W, source: &Source<'_>) -> Self {
        let gzip = GzBuilder::new().write(to, Compression::default());
        let at = source.run.ended.map_or(source.run.planned, |(at, _)| at);
        let folder = format!("patchlab-{}", source.run.run);
        Self { tar: Builder::new(gzip), folder, at: u64::try_from(at.as_second()).unwrap_or(0), sums: String::new() }
    }

    fn add(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.sums += &format!("{}  {path}\n", Digest::of(bytes).hex());
        self.put(path, bytes)
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.at);
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, format!("{}/{path}", self.folder), bytes)
    }

    /// Adds the list of digests with its signature, and ends the file.
    fn finish(mut self, key: &SigningKey) -> io::Result<()> {
        let sums = std::mem::take(&mut self.sums);
        self.put(SUMS, sums.as_bytes())?;
        self.put(&format!("{SUMS}.sig"), &key.sign(sums.as_bytes()).to_bytes())?;
        self.tar.into_inner()?.finish()?.flush()
    }
}

/// What the archive says of itself.
fn readme(source: &Source<'_>, key: &SigningKey) -> String {
    let run = source.run;
    let id: RunId = run.run;
    let patch = &run.plan.patch;
    let ended = run.ended.map_or_else(String::new, |(at, _)| at.to_string());
    let (verdict, key) = (source.verdict(), key_id(&key.verifying_key()));
    format!(
        r#"# Run {id}

Patch {patch_id}, {sha256}: {verdict}. Ended {ended}. Plan {plan}.

| file | what it is |
| --- | --- |
| `{ATTESTATION}` | the result, signed: in-toto statements in DSSE envelopes, one a line |
| `report.*`, `junit.xml`, `summary.txt` | the same for people and programs |
| `journal.jsonl` | every entry of the lab's journal about this run |
| `{KEPT}` | what was kept of the machines: consoles, screens, captures, outputs, facts. The machines' own words: do not trust them |
| `{PUBLIC_KEY}` | the key that it is signed with |
| `{MISSING}` | only where something is not there any more: what |
| `{SUMS}`, `{SUMS}.sig` | digests of all other files, and the signature of this list |

## Checking it

The key in this archive proves nothing by itself: whoever forges an archive puts his own into it. Its name is

    {key}

Compare that with what the lab told you by another way (`patchlab key show`), and with what the file gives:

    openssl pkey -pubin -in {PUBLIC_KEY} -outform DER | sha256sum

Nothing was altered:

```sh
openssl pkeyutl -verify -pubin -inkey {PUBLIC_KEY} -rawin -in {SUMS} -sigfile {SUMS}.sig
sha256sum --check --quiet {SUMS}
```

The result speaks for the bytes that you have; `patchlab patch show` or your own copy gives the patch's digest:

    patchlab verify {ATTESTATION} --key {PUBLIC_KEY} --patch {sha256}

The same without patchlab, here for the last line, which is the summary:

```sh
line=$(tail -n 1 {ATTESTATION})
field() {{ printf '%s' "$line" | sed 's/.*"'"$1"'":"\([^"]*\)".*/\1/' | base64 -d; }}
folder=$(mktemp -d)
field payload >"$folder/payload"
field sig >"$folder/signature"
{{ printf 'DSSEv1 28 application/vnd.in-toto+json %s ' "$(wc -c <"$folder/payload")"; cat "$folder/payload"; }} >"$folder/signed"
openssl pkeyutl -verify -pubin -inkey {PUBLIC_KEY} -rawin -in "$folder/signed" -sigfile "$folder/signature"
cat "$folder/payload"
rm -r "$folder"
```

Its `inputAttestations` name the lines before it by the sha256 of each, without the line's end.

An entry of the journal has as its `hash` the sha256 of the JSON array `[seq,version,at,run,event,previous]`, without blanks; `previous` is the
hash of the entry before it in the lab's journal, where entries of other runs lie between.
"#,
        patch_id = patch.manifest.id,
        sha256 = patch.sha256,
        plan = run.plan_digest,
    )
}
