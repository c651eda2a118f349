//! `patchlab suite`: what a suite holds.

use std::fmt::Write;

use serde::Serialize;

use super::args::{Format, SuiteVerb};
use super::context::Context;
use super::error::{Exit, Failure};
use super::print;
use crate::catalog::SuiteEntry;
use crate::id::{Digest, Name};
use crate::report::printable;

/// A suite as `show` tells it. Fields are only ever added.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Told<'a> {
    suite: &'a Name,
    sha256: Digest,
    title: &'a str,
    cases: Vec<Case<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Case<'a> {
    case: &'a Name,
    title: &'a str,
    destructive: bool,
    /// The test's own name, in a suite of kind autopkgtest.
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    depends: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip: Option<&'a str>,
    /// What happens one after the other, in an interoperability suite.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
}

pub fn suite(context: &Context, verb: &SuiteVerb) -> Result<Exit, Failure> {
    let catalog = context.catalog()?;
    let find = |name: &Name| {
        let known = || catalog.suites.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
        catalog.suites.get(name).ok_or_else(|| Failure::usage(format!("there is no suite {name}; there is: {}", known())))
    };
    match verb {
        SuiteVerb::Show { name, answer } => {
            let told = told(name, find(name)?);
            match answer.format {
                Format::Human => print(&human(&told))?,
                Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&told).map_err(Failure::lab)?))?,
            }
        }
        SuiteVerb::Depends { name } => {
            let told = told(name, find(name)?);
            let mut out = format!("{}\n", told.sha256);
            for case in told.cases.iter().filter(|case| case.skip.is_none() && !case.depends.is_empty()) {
                let _ = writeln!(out, "{}\t{}", case.case, case.depends);
            }
            print(&out)?;
        }
    }
    Ok(Exit::Pass)
}

fn told<'a>(name: &'a Name, entry: &'a SuiteEntry) -> Told<'a> {
    let case = |case: &'a crate::catalog::suite::Case| {
        let test = case.autopkgtest.as_ref();
        Case {
            case: &case.name,
            title: &case.title,
            destructive: case.destructive,
            test: test.map(|test| test.name.as_str()),
            depends: test.map_or("", |test| test.depends.as_str()),
            skip: test.and_then(|test| test.skip.as_deref()),
            steps: case.steps.iter().map(ToString::to_string).collect(),
        }
    };
    Told { suite: name, sha256: entry.sha256, title: &entry.suite.title, cases: entry.suite.cases.iter().map(case).collect() }
}

fn human(told: &Told<'_>) -> String {
    let mut out = format!("{}: {}\n{}\n", told.suite, told.title, told.sha256);
    for case in &told.cases {
        let star = if case.destructive { " *" } else { "" };
        let _ = writeln!(out, "\n  {}{star}  {}", case.case, printable(case.title));
        if let Some(reason) = case.skip {
            let _ = writeln!(out, "    skipped: {}", printable(reason));
        }
        for step in &case.steps {
            let _ = writeln!(out, "    {}", printable(step));
        }
        if !case.depends.is_empty() {
            let _ = writeln!(out, "    needs: {}", printable(case.depends));
        }
    }
    if told.cases.iter().any(|case| case.destructive) {
        out.push_str("\n* on a clone of its own\n");
    }
    out
}
