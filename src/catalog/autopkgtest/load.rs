//! Reads a source package's tests from a suite's folder.

use std::io::ErrorKind;
use std::path::Path;

use super::control::Malformed;
use super::depends::SourcePackage;
use super::{Broken, Program, Source, cases};
use crate::catalog::diagnostic::{Diagnostic, Place};
use crate::catalog::inside;
use crate::catalog::suite::{Suite, SuiteKind};

/// The longest control file that is read.
const LONGEST: u64 = 1 << 20;

/// Gives a suite of kind autopkgtest its cases. Diagnostics name its folder `shown`.
pub fn fill(folder: &Path, shown: &Path, suite: &mut Suite) -> Option<Diagnostic> {
    let (SuiteKind::Autopkgtest, Some(settings)) = (suite.kind, suite.autopkgtest.clone()) else { return None };
    match read(folder, shown, &settings) {
        Ok(cases) => {
            suite.cases = cases;
            None
        }
        Err(diagnostic) => Some(*diagnostic),
    }
}

fn read(folder: &Path, shown: &Path, settings: &Source) -> Result<Vec<crate::catalog::suite::Case>, Box<Diagnostic>> {
    let tests = format!("{}/debian/tests/control", settings.source);
    let Some(text) = text(folder, shown, &tests)? else {
        let problem = Diagnostic::error(shown.join(&tests), "there is no such file, and so no test");
        let hint = "`source` names the folder with the source package; scripts/fetch-autopkgtest makes one";
        return Err(Box::new(problem.expected("the debian/tests/control of a source package").hint(hint)));
    };
    let control = format!("{}/debian/control", settings.source);
    let package = self::text(folder, shown, &control)?.map(|text| {
        let bad = |bad: Malformed| at(shown, &control, &text, &Broken::from(bad));
        SourcePackage::parse(&text).map_err(bad)
    });
    let mut found = cases(&text, settings, package.transpose()?.as_ref()).map_err(|bad| at(shown, &tests, &text, &bad))?;
    if found.is_empty() {
        return Err(Box::new(Diagnostic::error(shown.join(&tests), "there is no test in it").expected("at least one stanza with Tests")));
    }
    for case in &mut found {
        let Some(test) = case.autopkgtest.as_mut().filter(|test| test.skip.is_none()) else { continue };
        if let Program::File(program) = &test.program
            && let Err(outside) = inside::file(folder, &format!("{}/{program}", settings.source))
        {
            test.skip = Some(format!("its program {program} is {outside}"));
            case.destructive = false;
        }
    }
    Ok(found)
}

/// A file's text; `None` when it is not there. What is no UTF-8 in it is replaced, as it is only shown.
fn text(folder: &Path, shown: &Path, path: &str) -> Result<Option<String>, Box<Diagnostic>> {
    let problem = |problem: String| Box::new(Diagnostic::error(shown.join(path), problem));
    let file = match inside::file(folder, path) {
        Ok(file) => file,
        Err(inside::Outside::Missing) => return Ok(None),
        Err(outside) => return Err(Box::new(problem(outside.to_string()).hint(outside.hint()))),
    };
    match std::fs::metadata(&file) {
        Ok(about) if about.len() > LONGEST => Err(problem("too long a file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem(format!("can't be read: {error}"))),
        Ok(_) => {
            let bytes = std::fs::read(&file).map_err(|error| problem(format!("can't be read: {error}")))?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}

fn at(shown: &Path, path: &str, text: &str, bad: &Broken) -> Box<Diagnostic> {
    let start: usize = text.split_inclusive('\n').take(bad.line.saturating_sub(1)).map(str::len).sum();
    let end = start + text[start..].lines().next().map_or(0, str::len);
    Box::new(Diagnostic::error(shown.join(path), bad.problem.clone()).at(Place::of(text, start..end)))
}
