//! A JUnit file, read as Jenkins does: `testsuites` and `testsuite` nested at will, `testcase` with `failure`, `error` or `skipped`
//! inside. Read as a stream: entities of the file's own are never expanded, so that they cost nothing.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Reading, last_words, some_of};
use crate::cell::CaseOutcome;

const DEPTH: usize = 64;
const CASES: u64 = 100_000;

/// The numbers that a suite claims, or that its cases give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
}

/// A suite that is open.
#[derive(Default)]
struct Suite {
    name: String,
    claimed: [Option<String>; 4],
    counted: Counts,
}

/// A case that is open.
#[derive(Default)]
struct Case {
    name: String,
    failure: Option<String>,
    error: Option<String>,
    skipped: bool,
}

#[derive(Default)]
struct Document {
    open: Vec<String>,
    suites: Vec<Suite>,
    case: Option<Case>,
    total: Counts,
    failed: Vec<String>,
    skipped: Vec<String>,
    disagreement: Option<String>,
    roots: u32,
}

pub(super) fn read(code: i64, result: Option<&[u8]>, output: &str) -> Reading {
    let Some(bytes) = result.filter(|bytes| !bytes.is_empty()) else {
        return match code {
            0 => Reading::new(CaseOutcome::HarnessError, "it wrote no result file"),
            77 => Reading::new(CaseOutcome::Skip, super::last_line(output).unwrap_or("the script says that it does not apply here")),
            code => Reading::new(CaseOutcome::Fail, format!("exit code {code} and no result file{}", last_words(output))),
        };
    };
    let text = String::from_utf8_lossy(bytes);
    let mut document = Document::default();
    if let Err(problem) = document.parse(&text) {
        return Reading::new(CaseOutcome::HarnessError, format!("its result file is not readable: {problem}"));
    }
    document.judge(code, output)
}

impl Document {
    fn parse(&mut self, text: &str) -> Result<(), String> {
        let mut reader = Reader::from_str(text);
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(element) => self.start(&element)?,
                Event::Empty(element) => {
                    self.start(&element)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Eof if !self.open.is_empty() => return Err("it ends in the middle".to_owned()),
                Event::Eof if self.roots == 0 => return Err("there is no element in it".to_owned()),
                Event::Eof => return Ok(()),
                Event::Text(text)
                    if self.open.is_empty() && !text.iter().all(u8::is_ascii_whitespace) && !text.starts_with("\u{feff}".as_bytes()) =>
                {
                    return Err("there is text outside of its elements".to_owned());
                }
                Event::Text(_)
                | Event::CData(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_)
                | Event::GeneralRef(_) => {}
            }
        }
    }

    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let kind = String::from_utf8_lossy(element.local_name().as_ref()).into_owned();
        if self.open.is_empty() {
            self.roots += 1;
            if self.roots > 1 || !matches!(kind.as_str(), "testsuites" | "testsuite") {
                return Err(format!("its root is <{}>", kind.chars().take(40).collect::<String>()));
            }
        }
        if self.open.len() >= DEPTH {
            return Err(format!("its elements are nested more than {DEPTH} deep"));
        }
        match kind.as_str() {
            "testsuites" | "testsuite" => self.suites.push(Suite {
                name: attribute(element, "name")?.unwrap_or_default(),
                claimed: [
                    attribute(element, "tests")?,
                    attribute(element, "failures")?,
                    attribute(element, "errors")?,
                    attribute(element, "skipped")?,
                ],
                counted: Counts::default(),
            }),
            "testcase" => {
                let name = attribute(element, "name")?.unwrap_or_default();
                let class = attribute(element, "classname")?.map(|class| format!("{class}.")).unwrap_or_default();
                self.case = Some(Case { name: format!("{class}{name}"), ..Case::default() });
            }
            "failure" | "error" | "skipped" => {
                let message = attribute(element, "message")?.unwrap_or_default();
                match (kind.as_str(), &mut self.case) {
                    ("failure", Some(case)) => case.failure = Some(message),
                    ("error", Some(case)) => case.error = Some(message),
                    (_, Some(case)) => case.skipped = true,
                    (_, None) => {}
                }
            }
            _ => {}
        }
        self.open.push(kind);
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop().as_deref() {
            Some("testcase") => {
                if self.total.tests >= CASES {
                    return Err(format!("it has more than {CASES} cases"));
                }
                if let Some(case) = self.case.take() {
                    self.count(&case);
                }
            }
            Some("testsuites" | "testsuite") => {
                if let Some(suite) = self.suites.pop() {
                    self.check(&suite);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, case: &Case) {
        for counts in self.suites.iter_mut().map(|suite| &mut suite.counted).chain([&mut self.total]) {
            counts.tests += 1;
            counts.errors += u64::from(case.error.is_some());
            counts.failures += u64::from(case.error.is_none() && case.failure.is_some());
            counts.skipped += u64::from(case.error.is_none() && case.failure.is_none() && case.skipped);
        }
        if let Some(message) = case.error.as_ref().or(case.failure.as_ref()) {
            self.failed.push(if message.is_empty() { case.name.clone() } else { format!("{}: {message}", case.name) });
        } else if case.skipped {
            self.skipped.push(case.name.clone());
        }
    }

    fn check(&mut self, suite: &Suite) {
        let Counts { tests, failures, errors, skipped } = suite.counted;
        for (claimed, counted, what) in [(0, tests, "tests"), (1, failures, "failures"), (2, errors, "errors"), (3, skipped, "skipped")] {
            if let Some(claim) = &suite.claimed[claimed]
                && claim.trim().parse() != Ok(counted)
            {
                self.disagreement = Some(format!("suite {:?} claims {claim:?} {what} and has {counted}", suite.name));
            }
        }
    }

    fn judge(mut self, code: i64, output: &str) -> Reading {
        if !self.failed.is_empty() {
            self.failed.sort();
            let message = format!("{} of {} failed: {}", self.failed.len(), self.total.tests, some_of(&self.failed));
            return Reading::new(CaseOutcome::Fail, message).with_essence(self.failed);
        }
        if let Some(disagreement) = self.disagreement {
            return Reading::new(CaseOutcome::HarnessError, format!("its result file contradicts itself: {disagreement}"));
        }
        if self.total.tests == 0 {
            return Reading::new(CaseOutcome::HarnessError, "its result file has no test in it");
        }
        if code != 0 {
            return Reading::new(CaseOutcome::Fail, format!("every test passed, but the exit code is {code}{}", last_words(output)));
        }
        if self.total.skipped == self.total.tests {
            return Reading::new(CaseOutcome::Skip, "every test is skipped");
        }
        Reading::new(CaseOutcome::Pass, "").with_skipped(self.skipped)
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.as_ref() == name.as_bytes() {
            // Entities of the file's own stay as they are written.
            let raw = String::from_utf8_lossy(&attribute.value).into_owned();
            let text = quick_xml::escape::unescape(&raw).map_or_else(|_| raw.clone(), |text| text.into_owned());
            return Ok(Some(text.chars().take(600).collect()));
        }
    }
    Ok(None)
}
