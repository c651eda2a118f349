//! `patchlab hardware`.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{Answer, Format, HardwareVerb};
use super::error::{Exit, Failure};
use super::print;
use crate::catalog::hardware::Hardware;
use crate::catalog::inventory::{LONGEST, import, toml};
use crate::id::Name;
use crate::report::printable;

pub fn hardware(lab: &Path, verb: &HardwareVerb) -> Result<Exit, Failure> {
    match verb {
        HardwareVerb::Import { file, name, output, answer } => import_file(lab, file, name.as_ref(), output.as_deref(), answer),
    }
}

/// What the JSON answer tells.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Imported<'a> {
    from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    profile: &'a Hardware,
}

fn import_file(lab: &Path, file: &Path, name: Option<&Name>, output: Option<&Path>, answer: &Answer) -> Result<Exit, Failure> {
    let bytes = read(file)?;
    let (form, profile) = import(&bytes).map_err(|unreadable| Failure::usage(format!("{}: {unreadable}", file.display())))?;
    let in_lab = name.map(|name| lab.join("builds/hardware").join(format!("{name}.toml")));
    let target: Option<PathBuf> = output.map(Path::to_owned).or(in_lab);
    let text = toml(&profile);
    if let Some(target) = &target {
        // Editors complete and check a file that names its schema; from elsewhere the path would lead nowhere.
        let schema = "#:schema ../../src/catalog/schemas/hardware.schema.json\n";
        let has_schema = target.parent().is_some_and(|folder| folder.join("../../src/catalog/schemas/hardware.schema.json").is_file());
        write_new(target, &format!("{}{text}", if has_schema { schema } else { "" }))?;
    }
    match (answer.format, &target) {
        (Format::Json, _) => {
            let imported = Imported { from: form.as_str(), file: target.as_deref(), profile: &profile };
            print(&format!("{}\n", serde_json::to_string_pretty(&imported).map_err(Failure::lab)?))?;
        }
        (Format::Human, None) => print(&text)?,
        (Format::Human, Some(target)) => {
            print(&format!("{}: {}\n", target.display(), printable(&profile.title)))?;
            print(&format!("{} differences from production, kept in the profile and told in every report:\n", profile.differences.len()))?;
            for difference in &profile.differences {
                let [device, production, lab] = [&difference.device, &difference.production, &difference.lab].map(|text| printable(text));
                print(&format!("  {device}: {production}\n    in the lab: {lab}\n"))?;
            }
        }
    }
    Ok(Exit::Pass)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(format!("{} can't be read: {error}", file.display()));
    let mut bytes = Vec::new();
    let most = LONGEST as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes).map_err(cannot)?;
        return Ok(bytes);
    }
    // Asked before opening: opening a named pipe would wait for a writer.
    if !std::fs::metadata(file).map_err(cannot)?.is_file() {
        return Err(Failure::usage(format!("{} is not a regular file; `-` reads standard input", file.display())));
    }
    std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(cannot)?;
    Ok(bytes)
}

/// Writes a file that is not there yet: a profile that someone has worked on is not lost.
fn write_new(target: &Path, text: &str) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).open(target).and_then(|mut file| file.write_all(text.as_bytes()));
    made.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already; remove it, or name another with --output", target.display()))
        }
        std::io::ErrorKind::NotFound => {
            Failure::usage(format!("the folder of {} is not there; make it, or name the lab with --lab", target.display()))
        }
        _ => Failure::usage(format!("{} can't be written: {error}", target.display())),
    })
}
