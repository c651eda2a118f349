//! JUnit XML, as Jenkins' `junit-10.xsd` has it: a `<testsuite>` per cell and suite, and one for the cell's stages.
//!
//! The `junit-report` crate writes suites, cases and results. It knows no properties, no `skipped` counter and no totals; a second pass
//! over its XML adds those. Texts reach it [made visible](text::visible), so that nothing which XML 1.0 forbids is in them.
//!
//! | standing of a case or stage | element |
//! | --- | --- |
//! | passed | none; what a reader should know is in `<system-out>` |
//! | skipped | `<skipped>` with the reason |
//! | finding | `<failure type="code">` |
//! | fault, missing, not run, flaky, outstanding | `<error type="lab.code">` |
//!
//! Invariant: a run whose verdict is not pass has at least one `<failure>` or `<error>`.

use junit_report::{Duration, OffsetDateTime, ReportBuilder, TestCase, TestResult, TestSuite};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer};

use crate::catalog::hardware::Difference;
use crate::cell::Stage;
use crate::journal::{PassRecord, RunState};
use crate::plan::Subject;
use crate::verdict::{CaseJudgement, Verdict};

use super::bundle::BundleReport;
use super::standing::{self, News, Standing};
use super::view::{CellView, difference};
use super::{ReportError, Source, text};

/// Bytes of one case's output.
const DETAIL: usize = 64 * 1024;
/// Characters of one message.
const MESSAGE: usize = 500;

/// A suite, and the properties that the crate has no place for.
struct Suite {
    suite: TestSuite,
    properties: Vec<(String, String)>,
}

/// The run as JUnit XML.
///
/// # Errors
/// [`ReportError::Junit`], if the crate that writes the XML writes something that is none.
pub fn render(source: &Source<'_>) -> Result<String, ReportError> {
    write(source, &suites(source))
}

/// The run of all patches of a bundle, and what became of each of them by all of its runs.
///
/// # Errors
/// As [`render`].
pub fn render_bundle(source: &Source<'_>, bundle: &BundleReport<'_>) -> Result<String, ReportError> {
    let mut suite = new_suite("bundle", source.run);
    for (patch, standing) in bundle.standings() {
        suite.add_testcase(test_case("bundle", patch, 0, &standing));
    }
    let mut suites = suites(source);
    suites.insert(0, Suite { suite, properties: run_properties(source) });
    write(source, &suites)
}

fn write(source: &Source<'_>, suites: &[Suite]) -> Result<String, ReportError> {
    let mut plain = Vec::new();
    let report = ReportBuilder::new().add_testsuites(suites.iter().map(|suite| suite.suite.clone())).build();
    report.write_xml(&mut plain).map_err(|error| ReportError::Junit(error.to_string()))?;
    let simulated = if source.run.is_simulated() { " (simulated)" } else { "" };
    let name = format!("patchlab {}{simulated}", source.title());
    extend(&plain, &name, suites).map_err(|error| ReportError::Junit(error.to_string()))
}

fn suites(source: &Source<'_>) -> Vec<Suite> {
    let mut suites: Vec<_> = source.cells().iter().flat_map(|cell| cell_suites(source, cell)).collect();
    let red = suites.iter().any(|suite| suite.suite.errors() + suite.suite.failures() > 0);
    if let Some(suite) = run_suite(source, red) {
        suites.insert(0, suite);
    }
    suites
}

/// What is to be said of the run as a whole: that it has not ended, or bad news that no cell tells.
fn run_suite(source: &Source<'_>, red: bool) -> Option<Suite> {
    let standing = match source.verdict() {
        _ if !source.is_finished() => Standing::Fault(bad("unfinished", source.reason())),
        Verdict::Fail if !red => Standing::Finding(bad("fail", source.reason())),
        Verdict::Inconclusive if !red => Standing::Fault(bad("inconclusive", source.reason())),
        Verdict::Pass | Verdict::Fail | Verdict::Inconclusive => return None,
    };
    let mut suite = new_suite("run", source.run);
    suite.add_testcase(test_case("run", "verdict", 0, &standing));
    Some(Suite { suite, properties: run_properties(source) })
}

fn bad(code: &str, message: String) -> News {
    News { code: code.to_owned(), message, detail: String::new() }
}

fn cell_suites(source: &Source<'_>, cell: &CellView<'_>) -> Vec<Suite> {
    let id = &cell.planned.id;
    let mut suites: Vec<Suite> = Vec::new();
    for case in &cell.cases {
        let name = format!("{id}/{}", case.suite);
        let at = suites.iter().position(|suite| suite.suite.name == name).unwrap_or_else(|| {
            let planned = cell.planned.suites.iter().find(|suite| suite.name == case.suite);
            let digest = planned.map(|suite| ("suite.sha256".to_owned(), suite.sha256.to_string()));
            let properties =
                run_properties(source).into_iter().chain(cell_properties(cell)).chain(digest).chain(baselines(cell, &case.suite)).collect();
            suites.push(Suite { suite: new_suite(&name, source.run), properties });
            suites.len() - 1
        });
        suites[at].suite.add_testcase(case_of(cell, case, &name));
    }
    let name = format!("{id}/stages");
    let mut stages = new_suite(&name, source.run);
    for stage in Stage::ALL {
        let standing = standing::of_stage(cell, stage, source.run.plan.reboot());
        stages.add_testcase(test_case(&name, stage.as_str(), stage_ms(cell.main_pass(), stage), &standing));
    }
    let explained = suites.iter().map(|suite| &suite.suite).chain([&stages]).any(|suite| suite.errors() + suite.failures() > 0);
    if let Some(standing) = standing::of_cell(cell, explained) {
        stages.add_testcase(test_case(&name, "cell", 0, &standing));
    }
    let properties = run_properties(source).into_iter().chain(cell_properties(cell)).collect();
    suites.insert(0, Suite { suite: stages, properties });
    suites
}

fn case_of(cell: &CellView<'_>, case: &CaseJudgement, classname: &str) -> TestCase {
    let time = case.patched_ms.or(case.baseline_ms).unwrap_or(0);
    test_case(classname, case.case.as_str(), time, &standing::of_case(cell, case))
}

fn test_case(classname: &str, name: &str, milliseconds: u64, standing: &Standing) -> TestCase {
    let time = Duration::milliseconds(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    let cause = |news: &News| (!news.detail.is_empty()).then(|| for_cdata(&news.detail));
    let message = |text: &str| text::one_line(text, MESSAGE);
    let mut case = TestCase::success(name, time);
    case.set_classname(classname);
    case.result = match standing {
        Standing::Passed { note } => {
            case.system_out = note.as_deref().map(for_cdata);
            TestResult::Success
        }
        Standing::Skipped { reason } => TestResult::SkippedWithCause { type_: "skipped".to_owned(), message: message(reason), cause: None },
        Standing::Finding(news) => {
            TestResult::Failure { type_: text::one_line(&news.code, 80), message: message(&news.message), cause: cause(news) }
        }
        Standing::Fault(news) => {
            let kind = format!("lab.{}", text::one_line(&news.code, 80));
            TestResult::Error { type_: kind, message: message(&news.message), cause: cause(news) }
        }
    };
    case
}

/// Guest text for a CDATA section. The crate writes it as it is, so its end mark is spread over two sections here.
fn for_cdata(text: &str) -> String {
    text::guest(text, DETAIL).replace("]]>", "]]]]><![CDATA[>")
}

fn new_suite(name: &str, run: &RunState) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.package = run.plan.patches().map(|patch| patch.manifest.id.as_str()).collect::<Vec<_>>().join("+");
    suite.hostname = "patchlab".to_owned();
    suite.timestamp = OffsetDateTime::from_unix_timestamp(run.planned.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    suite
}

fn stage_ms(pass: Option<&PassRecord>, stage: Stage) -> u64 {
    let record = pass.and_then(|pass| pass.stages.iter().rev().find(|record| record.stage == stage));
    record.and_then(|record| record.ended.as_ref().map(|(at, _)| text::elapsed(record.started, *at))).unwrap_or(0)
}

fn run_properties(source: &Source<'_>) -> Vec<(String, String)> {
    let run = source.run;
    let together = source.run.plan.patches().map(|patch| format!("{} {}", patch.manifest.id, patch.sha256));
    let together = run.plan.is_together().then(|| ("patches.tested-together".to_owned(), together.collect::<Vec<_>>().join(", ")));
    let bundle = run.bundle.map(|bundle| ("bundle".to_owned(), bundle.to_string()));
    let mut properties = vec![
        ("run".to_owned(), run.run.to_string()),
        ("run.finished".to_owned(), source.is_finished().to_string()),
        ("run.verdict".to_owned(), source.verdict().to_string()),
        ("patch".to_owned(), run.plan.patch.manifest.id.to_string()),
        ("patch.sha256".to_owned(), run.plan.patch.sha256.to_string()),
        ("plan.digest".to_owned(), run.plan_digest.to_string()),
        ("simulated".to_owned(), run.is_simulated().to_string()),
    ];
    let narrowed = source.narrowed().map(|narrowed| ("run.narrowed".to_owned(), narrowed));
    properties.extend(together.into_iter().chain(bundle).chain(narrowed));
    properties
}

fn cell_properties(cell: &CellView<'_>) -> Vec<(String, String)> {
    let planned = cell.planned;
    let mut properties = vec![
        ("cell".to_owned(), planned.id.to_string()),
        ("cell.verdict".to_owned(), cell.verdict().to_string()),
        ("customer".to_owned(), planned.customer.to_string()),
    ];
    if let Subject::Environment(name) = &planned.subject {
        properties.push(("environment".to_owned(), name.to_string()));
        properties.push(("level".to_owned(), planned.level()));
    }
    for machine in &planned.machines {
        let of = |key: &str| if planned.is_environment() { format!("{}.{key}", machine.role) } else { key.to_owned() };
        properties.extend([
            (of("build"), machine.build.to_string()),
            (of("image"), machine.image.name.to_string()),
            (of("image.sha256"), machine.image.sha256.to_string()),
            (of("hardware"), machine.hardware.name.to_string()),
            (of("hardware.sha256"), machine.hardware.sha256.to_string()),
        ]);
        for one in &machine.hardware.profile.differences {
            let Difference { device, production, lab } = difference(one);
            properties.push((of("difference"), format!("{device}: {production}; in the lab: {lab}")));
        }
    }
    properties
}

/// Where the baselines of a suite's cases were seen, where that was not in this run.
fn baselines(cell: &CellView<'_>, suite: &crate::id::Name) -> Vec<(String, String)> {
    let of = cell.cases.iter().filter(|case| case.suite == *suite);
    let from = of.filter_map(|case| {
        let origin = case.baseline_from.as_ref()?;
        let told = format!("run {} cell {} at {} {}", origin.run, origin.cell, origin.at, origin.sha256);
        Some((format!("baseline.from.{}", case.case), told))
    });
    from.collect()
}

/// The crate's XML with what it has no place for: totals on the root; properties, `skipped` and times to the millisecond on suites.
fn extend(plain: &[u8], name: &str, suites: &[Suite]) -> Result<String, quick_xml::Error> {
    let mut reader = Reader::from_reader(plain);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let mut next = suites.iter();
    loop {
        match reader.read_event()? {
            Event::Eof => break,
            Event::Start(start) if start.name().as_ref() == b"testsuites" => writer.write_event(Event::Start(root(name, suites)))?,
            Event::Start(start) if start.name().as_ref() == b"testsuite" => {
                let suite = next.next();
                let mut element = BytesStart::new("testsuite");
                for attribute in start.attributes().flatten().filter(|attribute| attribute.key.as_ref() != b"time") {
                    element.push_attribute(attribute);
                }
                if let Some(suite) = suite {
                    element.push_attribute(("skipped", suite.suite.skipped().to_string().as_str()));
                    element.push_attribute(("time", seconds(suite.suite.time()).as_str()));
                }
                writer.write_event(Event::Start(element))?;
                if let Some(suite) = suite {
                    write_properties(&mut writer, &suite.properties)?;
                }
            }
            event => writer.write_event(event)?,
        }
    }
    let mut xml = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    xml.push('\n');
    Ok(xml)
}

fn root(name: &str, suites: &[Suite]) -> BytesStart<'static> {
    let total = |of: fn(&TestSuite) -> usize| suites.iter().map(|suite| of(&suite.suite)).sum::<usize>().to_string();
    let time = suites.iter().fold(Duration::ZERO, |sum, suite| sum + suite.suite.time());
    let mut element = BytesStart::new("testsuites");
    element.push_attribute(("name", name));
    element.push_attribute(("tests", total(TestSuite::tests).as_str()));
    element.push_attribute(("failures", total(TestSuite::failures).as_str()));
    element.push_attribute(("errors", total(TestSuite::errors).as_str()));
    element.push_attribute(("time", seconds(time).as_str()));
    element
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.whole_seconds(), time.subsec_milliseconds())
}

fn write_properties(writer: &mut Writer<Vec<u8>>, properties: &[(String, String)]) -> Result<(), quick_xml::Error> {
    writer.write_event(Event::Start(BytesStart::new("properties")))?;
    for (name, value) in properties {
        let property = BytesStart::new("property").with_attributes([("name", name.as_str()), ("value", value.as_str())]);
        writer.write_event(Event::Empty(property))?;
    }
    writer.write_event(Event::End(BytesStart::new("properties").to_end()))?;
    Ok(())
}
