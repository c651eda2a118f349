//! Suites that others have written: the autopkgtests of a Debian source package, from its `debian/tests/control`.
//!
//! What a stanza asks for is taken as autopkgtest's `README.package-tests.rst` has it. Invariant: a test that asks for something that the
//! lab can't give, or does not know, becomes a case that is skipped with that reason; nothing of a control file is left out.

pub mod control;
pub mod depends;
pub mod load;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inside;
use super::suite::{Case, ResultForm};
use super::text::Span;
use crate::id::Name;
use control::{Malformed, Paragraph, paragraphs};
use depends::SourcePackage;

/// The architecture of the guests.
const ARCHITECTURE: &str = "amd64";

/// Where a suite's tests are, in `suite.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// The folder in the suite's folder that holds the unpacked source package, or as much of it as the tests need: at least
    /// `debian/tests/control`, the test programs, and `debian/control` where dependencies are named by `@`.
    #[serde(default = "Source::default_source")]
    #[schemars(length(min = 1))]
    pub source: String,
    /// How long one test may take on this host, its restarts not counted; then it is ended and counts as failed.
    #[serde(default = "Source::default_time_limit")]
    pub time_limit: Span,
    /// Whether the tests, run unpatched, leave nothing on the machine that another test or a health check would look at later. Only then
    /// may their baselines be those that an earlier run has seen. Never so for tests that break their machine or restart it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves_nothing: bool,
}

impl Source {
    fn default_source() -> String {
        "source".to_owned()
    }

    fn default_time_limit() -> Span {
        Span::secs(30 * 60)
    }
}

/// What one test asks of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Test {
    /// Its own name, which may be one that no case can have.
    pub name: String,
    pub program: Program,
    /// The folder of the source package, from the suite's folder.
    pub source: String,
    pub user: User,
    /// What has to be installed, in the syntax of dpkg's dependencies. Empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub depends: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_stderr: bool,
    /// Whether exit code 77 is a skip.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skippable: bool,
    /// Whether it is known to fail now and then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flaky: bool,
    /// Whether its pass says little.
    #[serde(default, skip_serializing_if = "is_false")]
    pub superficial: bool,
    /// Why it is not run at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
}

const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// A file, from the top of the source package.
    File(String),
    /// A command line for `bash -e`.
    Command(String),
}

/// Who runs a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    Root,
    Ordinary,
    /// An ordinary user who may become root.
    Sudo,
}

impl User {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Ordinary => "ordinary",
            Self::Sudo => "sudo",
        }
    }
}

/// The restrictions that the lab honours. `build-needed`, `needs-internet` and `hint-testsuite-triggers` are known and not among them.
const HONOURED: [&str; 13] = [
    "allow-stderr",
    "breaks-testbed",
    "flaky",
    "isolation-container",
    "isolation-machine",
    "needs-reboot",
    "needs-recommends",
    "needs-root",
    "needs-sudo",
    "rw-build-tree",
    "skip-not-installable",
    "skippable",
    "superficial",
];

const FIELDS: [&str; 8] = ["tests", "test-command", "restrictions", "features", "depends", "tests-directory", "classes", "architecture"];

/// Why a control file gives no cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub line: usize,
    pub problem: String,
}

impl From<Malformed> for Broken {
    fn from(bad: Malformed) -> Self {
        Self { line: bad.line, problem: format!("a line that is neither a field nor goes on with one: {:?}", bad.text) }
    }
}

/// The cases of a `debian/tests/control`. `package` is what `debian/control` says, where there is one.
///
/// # Errors
/// What autopkgtest calls broken: a stanza without a test, or one that contradicts itself.
pub fn cases(text: &str, settings: &Source, package: Option<&SourcePackage>) -> Result<Vec<Case>, Broken> {
    let mut taken = BTreeSet::new();
    let mut commands = 0;
    let mut cases = Vec::new();
    for stanza in paragraphs(text)? {
        for (name, program) in programs(&stanza, &mut commands)? {
            let test = test(&stanza, name, program, settings, package);
            cases.push(case(&stanza, test, settings, &mut taken));
        }
    }
    Ok(cases)
}

/// The tests that a stanza names, each with its program.
fn programs(stanza: &Paragraph, commands: &mut u32) -> Result<Vec<(String, Program)>, Broken> {
    let broken = |problem: &str| Err(Broken { line: stanza.line, problem: problem.to_owned() });
    let mut named = stanza.words("features").into_iter().filter_map(|feature| match feature.split_once('=') {
        Some(("test-name", name)) => Some(Some(name)),
        None if feature == "test-name" => Some(None),
        _ => None,
    });
    let (named, again) = (named.next(), named.next());
    if again.is_some() || matches!(named, Some(None | Some(""))) {
        return broken("the feature test-name is given twice or without a name");
    }
    match (stanza.get("tests"), stanza.get("test-command"), named.flatten()) {
        (Some(_), Some(_), _) => broken("both Tests and Test-Command are given"),
        (Some(_), None, Some(_)) => broken("the feature test-name does not go with Tests"),
        (Some(_), None, None) => {
            let folder = stanza.get("tests-directory").unwrap_or("debian/tests").trim_end_matches('/');
            let tests: Vec<_> =
                stanza.words("tests").into_iter().map(|name| (name.to_owned(), Program::File(format!("{folder}/{name}")))).collect();
            if tests.is_empty() { broken("Tests names no test") } else { Ok(tests) }
        }
        (None, Some(command), named) => {
            let name = named.map(str::to_owned).unwrap_or_else(|| {
                *commands += 1;
                format!("command{commands}")
            });
            Ok(vec![(name, Program::Command(command.to_owned()))])
        }
        (None, None, _) => broken("neither Tests nor Test-Command is given"),
    }
}

fn test(stanza: &Paragraph, name: String, program: Program, settings: &Source, package: Option<&SourcePackage>) -> Test {
    let restrictions = stanza.words("restrictions");
    let has = |wanted: &str| restrictions.contains(&wanted);
    let mut depends = stanza.get("depends").unwrap_or("@").to_owned();
    if has("needs-recommends") {
        depends.push_str(", @recommends@");
    }
    if has("needs-sudo") {
        depends.push_str(", sudo");
    }
    let depends = depends::expand(&depends, package);
    let skip = obstacle(stanza, &restrictions, &name, &program).or_else(|| depends.as_ref().err().cloned());
    Test {
        program,
        source: settings.source.clone(),
        user: match () {
            () if has("needs-root") => User::Root,
            () if has("needs-sudo") => User::Sudo,
            () => User::Ordinary,
        },
        depends: depends.unwrap_or_default(),
        allow_stderr: has("allow-stderr"),
        skippable: has("skippable"),
        flaky: has("flaky"),
        superficial: has("superficial"),
        skip,
        name,
    }
}

/// Why a test can't be run here, from its stanza alone.
fn obstacle(stanza: &Paragraph, restrictions: &[&str], name: &str, program: &Program) -> Option<String> {
    if let Some(field) = stanza.fields().find(|field| !FIELDS.contains(field)) {
        return Some(format!("its stanza has the unknown field {field:?}"));
    }
    for restriction in restrictions {
        let reason = match *restriction {
            known if HONOURED.contains(&known) => continue,
            "build-needed" => "build-needed: the lab does not build source packages",
            "needs-internet" => "needs-internet: the lab's machines have no way out to any network",
            "hint-testsuite-triggers" => "hint-testsuite-triggers: it is a hint and no test",
            unknown => return Some(format!("the restriction {unknown:?} is unknown")),
        };
        return Some(reason.to_owned());
    }
    if name.contains('/') {
        return Some("its name has a / in it".to_owned());
    }
    if let Program::File(path) = program
        && let Err(outside) = inside::relative(path)
    {
        return Some(format!("its Tests-Directory makes {outside}"));
    }
    depends::wrong_architecture(&stanza.words("architecture"), ARCHITECTURE)
}

fn case(stanza: &Paragraph, test: Test, settings: &Source, taken: &mut BTreeSet<Name>) -> Case {
    let restrictions = stanza.words("restrictions");
    let name = case_name(&test.name, taken);
    let renamed = (name.as_str() != test.name).then(|| format!("the test {}", test.name));
    let command = match &test.program {
        Program::Command(command) => Some(command.chars().take(120).collect()),
        Program::File(_) => None,
    };
    // What restarts the machine gets a clone of its own too: the other cases' machine stays as the patch left it.
    let destructive = test.skip.is_none() && ["breaks-testbed", "needs-reboot"].iter().any(|one| restrictions.contains(one));
    Case {
        name,
        title: renamed.into_iter().chain(command).collect::<Vec<String>>().join(": "),
        run: None,
        steps: Vec::new(),
        result: ResultForm::Exit,
        time_limit: settings.time_limit,
        role: None,
        needs: Vec::new(),
        destructive,
        leaves_nothing: settings.leaves_nothing && !destructive,
        autopkgtest: Some(test),
    }
}

/// A name for the case: the test's own where it can be one, else the nearest that can and is free.
fn case_name(test: &str, taken: &mut BTreeSet<Name>) -> Name {
    let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c.to_ascii_lowercase() } else { '-' };
    let plain: String = test.chars().map(fit).collect();
    let plain: String = plain.trim_start_matches(['.', '_', '-']).chars().take(56).collect();
    let plain = if plain.is_empty() { "test".to_owned() } else { plain };
    let whole = std::iter::once(test.to_owned());
    let numbered = (2..).map(|number: u32| format!("{plain}-{number}"));
    let mut free = whole.chain(std::iter::once(plain.clone())).chain(numbered).filter_map(|text| text.parse::<Name>().ok());
    let name = free.find(|name| !taken.contains(name)).unwrap_or_else(|| Name::constant("test"));
    taken.insert(name.clone());
    name
}
