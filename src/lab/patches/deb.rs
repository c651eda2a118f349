//! What Debian packages say of themselves (deb(5), deb-control(5)), read by `dpkg-deb`, which must know best.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::command::{self, Trouble};
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::patch::{Patch, Reboot};
use crate::catalog::source::Source;
use crate::plan::Package;

/// How long reading one package may take. A kernel's takes seconds.
const LIMIT: Duration = Duration::from_secs(180);

/// The longest control file that is read. Real ones have a few KiB.
const LONGEST_CONTROL: u64 = 256 * 1024;

/// The packages of the payload, sorted by name. Reports what is broken, contradictory or for another machine.
pub(super) fn packages(source: &Source, folder: &Path, manifest: &Patch, diagnostics: &mut Vec<Diagnostic>) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut sources = Vec::new();
    for (at, file, item) in source.tree.texts_at("payload") {
        let key = format!("payload[{at}]");
        match control(&folder.join(file)) {
            Ok(control) => {
                let package = Package { file: file.to_owned(), ..control.package };
                if let Some(problem) = refuse(&package) {
                    diagnostics.push(source.error(item, key, format!("{file:?} {problem}")));
                    continue;
                }
                if let Some(other) = first.insert(package.name.clone(), package.file.clone()) {
                    let problem = source.error(item, key, format!("{file:?} and {other:?} are the same package {:?}", package.name));
                    diagnostics.push(problem.hint("keep the one that is to be installed"));
                    continue;
                }
                sources.push(control.source);
                packages.push(package);
            }
            Err(trouble @ Trouble::Start { .. }) => {
                diagnostics.push(source.error(item, key, trouble.to_string()).hint("install the package dpkg"));
                return Vec::new();
            }
            Err(trouble) => {
                let problem = source.error(item, key, format!("{file:?} is not a whole Debian package")).found(trouble.to_string());
                diagnostics.push(problem.hint("fetch it again: it is truncated or damaged"));
            }
        }
    }
    packages.sort();
    agreement(source, manifest, &packages, &sources, diagnostics);
    packages
}

/// What a control file says.
struct Control {
    package: Package,
    /// The source package.
    source: String,
}

fn control(file: &Path) -> Result<Control, Trouble> {
    let dpkg_deb = |option: &str| {
        let mut command = Command::new("dpkg-deb");
        command.arg(option).arg("--").arg(file);
        command
    };
    let text = command::run(dpkg_deb("--field"), LIMIT, LONGEST_CONTROL)?;
    // Listing unpacks all of the data, so that a truncated package is seen here and not in the guest.
    command::run(dpkg_deb("--contents"), LIMIT, 0)?;
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let name = field("Package");
    let source = field("Source").split(' ').next().filter(|source| !source.is_empty()).map_or_else(|| name.clone(), str::to_owned);
    let package = Package { name, version: field("Version"), architecture: field("Architecture"), file: String::new() };
    Ok(Control { package, source })
}

/// Why a package can't be installed on any machine of the lab.
fn refuse(package: &Package) -> Option<String> {
    if !is_package_name(&package.name) {
        return Some(format!("has the impossible package name {:?}", package.name));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '~' | ':');
    if package.version.is_empty() || package.version.len() > 255 || !package.version.chars().all(plain) {
        return Some(format!("has the impossible version {:?}", package.version));
    }
    match package.architecture.as_str() {
        "amd64" | "all" => None,
        other => Some(format!("is built for the architecture {other:?}; machines of the lab are amd64")),
    }
}

/// The name rule of the Debian policy, 5.6.7.
pub(super) fn is_package_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (2..=200).contains(&name.len()) && name.starts_with(letter) && name.chars().all(|c| letter(c) || matches!(c, '+' | '-' | '.'))
}

/// Warns where the manifest says something else than the packages. The packages are believed.
fn agreement(source: &Source, manifest: &Patch, packages: &[Package], sources: &[String], diagnostics: &mut Vec<Diagnostic>) {
    let at = |key: &str| source.tree.get(key).unwrap_or(&source.tree);
    let kernel = packages.iter().find(|package| package.name.starts_with("linux-image-"));
    if let Some(kernel) = kernel.filter(|_| manifest.reboot == Reboot::Never) {
        let problem = format!("{:?} is a kernel, which takes effect only after a reboot, and reboot is \"never\"", kernel.name);
        diagnostics.push(source.warning(at("reboot"), "reboot", problem).hint("use reboot = \"required\""));
    }
    for (index, name, item) in source.tree.texts_at("removes") {
        if packages.iter().any(|package| package.name == name) {
            let problem = format!("{name:?} is both installed by the payload and declared as removed");
            diagnostics.push(source.warning(item, format!("removes[{index}]"), problem).hint("remove it from the list"));
        }
    }
    let id = manifest.id.as_str();
    let claimed = packages.iter().map(|package| &package.name).chain(sources).find_map(|name| {
        let rest = id.strip_prefix(&folded(name))?.strip_prefix('-')?;
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some(rest)
    });
    if let Some(claimed) = claimed {
        let versions: Vec<_> = packages.iter().map(|package| folded(without_epoch(&package.version))).collect();
        if !versions.iter().any(|version| version.starts_with(claimed) || claimed.starts_with(version)) {
            let found: Vec<_> = packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
            let problem =
                source.warning(at("id"), "id", format!("the id speaks of version {claimed:?}, which no package of the payload has"));
            diagnostics.push(problem.found(found.join(", ")).hint("the payload is believed; correct the id"));
        }
    }
}

fn without_epoch(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, rest)| rest)
}

/// A version or package name in the letters that ids have.
fn folded(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' }).collect()
}
