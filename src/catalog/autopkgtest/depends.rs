//! What a test depends on, in words that apt takes: `@`, `@builddeps@` and `@recommends@` put in full.

use super::control::{Malformed, Paragraph, paragraphs};

/// What `debian/control` says about a source package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePackage {
    /// Its binary packages, each with the architectures that limit it, if any do.
    binaries: Vec<String>,
    build_depends: Vec<String>,
    recommends: Vec<String>,
}

impl SourcePackage {
    /// # Errors
    /// The first line that belongs to no field.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut package = Self::default();
        for stanza in paragraphs(text)? {
            for field in ["build-depends", "build-depends-indep", "build-depends-arch"] {
                package.build_depends.extend(groups(stanza.get(field).unwrap_or_default()));
            }
            package.recommends.extend(groups(stanza.get("recommends").unwrap_or_default()).filter_map(|group| without_variables(&group)));
            package.binaries.extend(binary(&stanza));
        }
        Ok(package)
    }
}

/// A binary package as a dependency on it. Installer packages (udebs) can't be installed.
fn binary(stanza: &Paragraph) -> Option<String> {
    let name = stanza.get("package")?;
    let kind = stanza.get("package-type").or_else(|| stanza.get("xc-package-type")).unwrap_or("deb");
    match stanza.get("architecture").unwrap_or("any") {
        _ if kind != "deb" => None,
        "any" | "all" => Some(name.to_owned()),
        some => Some(format!("{name} [{some}]")),
    }
}

/// The groups of a dependency field, between its commas.
fn groups(field: &str) -> impl Iterator<Item = String> {
    field.split(',').map(|group| group.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|group| !group.is_empty())
}

/// A group without substitution variables, whose values only a build knows.
fn without_variables(group: &str) -> Option<String> {
    let plain = |one: &str| match one.split_once('(') {
        Some((name, version)) if version.contains("${") => name.trim().to_owned(),
        _ => one.trim().to_owned(),
    };
    let kept: Vec<String> = group.split('|').map(plain).filter(|one| !one.contains("${") && !one.is_empty()).collect();
    (!kept.is_empty()).then(|| kept.join(" | "))
}

/// A `Depends` field of a test in full. On error: why it can't be.
pub fn expand(field: &str, package: Option<&SourcePackage>) -> Result<String, String> {
    let own = |what: &str| package.ok_or_else(|| format!("its Depends name {what}, and there is no debian/control beside its tests"));
    let mut all: Vec<String> = Vec::new();
    for group in groups(field) {
        match group.as_str() {
            "@builddeps@" => all.extend(own("@builddeps@")?.build_depends.iter().cloned().chain(["build-essential".to_owned()])),
            "@recommends@" => all.extend(own("@recommends@")?.recommends.iter().cloned()),
            _ if group.contains('@') => all.extend(own("@")?.binaries.iter().map(|binary| group.replace('@', binary))),
            _ => all.push(group),
        }
    }
    if let Some(bad) = all.iter().find(|group| !group.split('|').all(is_dependency)) {
        return Err(format!("its Depends are no dependencies: {:?}", bad.chars().take(80).collect::<String>()));
    }
    Ok(all.join(", "))
}

/// Whether a text can be one dependency. It holds nothing that a command line could take for an option or a pattern.
fn is_dependency(text: &str) -> bool {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || " +-.:~()<>=[]!".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) && text.chars().all(plain)
}

/// Why a list of architectures keeps a test from a machine, if it does.
pub fn wrong_architecture(list: &[&str], here: &str) -> Option<String> {
    let (not, only): (Vec<&str>, Vec<&str>) = list.iter().partition(|one| one.starts_with('!'));
    let among = |list: &[&str]| list.iter().any(|one| covers(one.trim_start_matches('!'), here));
    match () {
        () if list.contains(&"all") => Some("its Architecture is \"all\", which no machine is".to_owned()),
        () if !not.is_empty() && !only.is_empty() => Some("its Architecture mixes what it wants with what it does not want".to_owned()),
        () if among(&not) => Some(format!("it is not for {here}")),
        () if !only.is_empty() && !among(&only) => Some(format!("it is for {}, not for {here}", only.join(", "))),
        () => None,
    }
}

/// Whether an architecture or wildcard of dpkg's means this Linux architecture.
fn covers(wildcard: &str, here: &str) -> bool {
    match wildcard.rsplit_once('-') {
        None => wildcard == "any" || wildcard == here,
        Some((os, cpu)) => (cpu == "any" || cpu == here) && os.split('-').all(|part| matches!(part, "any" | "gnu" | "linux")),
    }
}
