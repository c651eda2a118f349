//! Whole reports, compared byte by byte with the ones kept in `snapshots/`, and what must hold of any.

mod schema;

use proptest::prelude::*;

use super::fixture::{self, HOSTILE, Story, name};
use super::{Format, human, render, text};
use crate::cell::{Blame, CaseOutcome, Side, blame};
use crate::id::Digest;
use crate::verdict::{CaseJudgement, Comparison, Verdict};

fn write(story: &Story, format: Format) -> String {
    story.tell(|source| render(format, source)).expect("a report")
}

fn stories() -> [(&'static str, Story); 6] {
    [
        ("passing", fixture::passing()),
        ("failing", fixture::failing()),
        ("inconclusive", fixture::inconclusive()),
        ("unfinished", fixture::unfinished()),
        ("environment", fixture::environment()),
        ("hostile", fixture::hostile()),
    ]
}

/// The page is compared without its style sheet, and pictures by their digest.
fn short(html: &str) -> String {
    let (head, rest) = html.split_once("<style>").expect("a style sheet");
    let (_, rest) = rest.split_once("</style>").expect("the end of the style sheet");
    let mut text = format!("{head}{rest}");
    while let Some(at) = text.find("data:image/png;base64,") {
        let end = at + text[at..].find('"').expect("the attribute's end");
        let digest = Digest::of(&text[at..end]).short();
        text.replace_range(at..end, &format!("[picture {digest}]"));
    }
    text
}

#[test]
fn reports_are_what_they_were() {
    for (kind, story) in stories() {
        let hostile = kind == "hostile";
        insta::assert_snapshot!(format!("{kind}.txt"), story.tell(human::render).plain());
        insta::assert_snapshot!(format!("{kind}.md"), write(&story, Format::Markdown));
        // 5 MB of "A<" are no use in a file that people read.
        let cut =
            |text: String| if hostile { text.replace(&"A<".repeat(100), "A<..").replace(&"A&#60;".repeat(50), "A&#60;..") } else { text };
        insta::assert_snapshot!(format!("{kind}.junit.xml"), cut(write(&story, Format::Junit)));
        if !hostile {
            insta::assert_snapshot!(format!("{kind}.json"), write(&story, Format::Json));
        }
        insta::assert_snapshot!(format!("{kind}.html"), cut(short(&write(&story, Format::Html))));
    }
}

#[test]
fn a_run_on_the_simulator_says_so_in_every_form() {
    let mut story = fixture::passing();
    let forms = [Format::Markdown, Format::Html, Format::Json, Format::Junit];
    let mut told = |hypervisor: &str| {
        story.run.controllers[0].hypervisor = hypervisor.to_owned();
        forms.iter().map(|form| write(&story, *form)).chain([story.tell(human::render).plain()]).collect::<Vec<_>>()
    };
    for text in told("sim:demo.toml") {
        let says = ["The machines were the simulator's", "The machines were the simulator&#39;s", "(simulated)\""];
        assert!(says.iter().any(|say| text.contains(say)), "{text}");
    }
    for text in told("qemu:///system") {
        assert!(!text.contains("simulator") && !text.contains("(simulated)"), "{text}");
    }
}

#[test]
fn a_pass_of_a_part_says_so_in_every_form() {
    let mut story = fixture::passing();
    let forms = [Format::Markdown, Format::Html, Format::Json, Format::Junit];
    let told = |story: &Story| {
        let told = forms.iter().map(|form| write(story, *form)).chain([story.tell(human::render).plain().replace('\n', " ")]);
        told.filter(|text| text.contains("not for build acme.other")).count()
    };
    assert_eq!(told(&story), 0);
    let message = "It speaks for no more than was asked for, so not for build acme.other".to_owned();
    story.run.plan.lint.push(crate::plan::Lint { code: crate::plan::lint::PARTIAL.to_owned(), message });
    assert_eq!(told(&story), forms.len() + 1);
}

#[test]
fn a_plan_is_what_it_was() {
    let mut plan = fixture::passing().run.plan;
    plan.cells[2].suites[1].cases[0].destructive = true;
    let estimate = std::time::Duration::from_secs(742);
    let baselines = [fixture::expected(&plan.cells[2])];
    insta::assert_snapshot!("plan.txt", super::plan::human(&plan, estimate, &baselines));
    insta::assert_snapshot!("plan.json", super::plan::json(&plan, estimate, &baselines).expect("JSON"));
}

#[test]
fn many_missing_results_are_told_as_one_and_outstanding_ones_not_at_all() {
    let mut story = fixture::inconclusive();
    for case in ["health/files", "health/packages", "ssh/login"] {
        let mut fault = story.judgement.cells[0].faults[0].clone();
        (fault.code, fault.stage, fault.case) = ("missing".to_owned(), None, Some(case.to_owned()));
        story.judgement.cells[0].faults.push(fault);
    }
    let told =
        |story: &Story| story.tell(|source| source.cells()[0].told_faults().iter().map(|fault| fault.message.clone()).collect::<Vec<_>>());
    assert_eq!(told(&story)[1..], ["3 checks gave no result: health/files, health/packages, ssh/login"]);
    story.run.ended = None;
    story.run.cells.values_mut().for_each(|cell| cell.ended = false);
    let mut none = story.judgement.cells[0].faults[0].clone();
    (none.code, none.stage) = ("no-required-cases".to_owned(), None);
    story.judgement.cells[0].faults.push(none);
    assert_eq!(told(&story).len(), 1, "only the fault that is one");
}

#[test]
fn what_the_judge_says_of_a_run_is_told_as_it_is() {
    for (kind, mut story) in stories() {
        story.judgement = crate::verdict::judge::judge(&story.run);
        let report = schema::check(&write(&story, Format::Junit)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let verdict = story.tell(|source| source.verdict());
        assert_eq!(report.errors + report.failures == 0, verdict == Verdict::Pass, "{kind}");
    }
}

#[test]
fn junit_is_as_jenkins_wants_it_and_says_what_the_verdict_says() {
    for (kind, story) in stories() {
        let report = schema::check(&write(&story, Format::Junit)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let green = report.errors + report.failures == 0;
        assert_eq!(green, story.judgement.verdict == Verdict::Pass, "{kind}");
        assert_eq!(report.failures > 0, story.judgement.verdict == Verdict::Fail, "{kind}: only the patch's failures are failures");
    }
}

#[test]
fn every_planned_case_and_stage_is_in_the_junit_report() {
    for (kind, story) in stories() {
        let xml = write(&story, Format::Junit);
        let report = schema::check(&xml).expect("a good report");
        for cell in &story.run.plan.cells {
            for (suite, case) in cell.cases() {
                let wanted = (format!("{}/{}", cell.id, suite.name), case.name.to_string());
                assert!(report.cases.contains_key(&wanted), "{kind}: {wanted:?}");
            }
            for stage in crate::cell::Stage::ALL {
                assert!(report.cases.contains_key(&(format!("{}/stages", cell.id), stage.to_string())), "{kind}: {} {stage}", cell.id);
            }
        }
    }
}

#[test]
fn an_unfinished_run_is_never_green() {
    let mut story = fixture::passing();
    story.run.ended = None;
    assert_eq!(story.tell(|source| source.verdict()), Verdict::Inconclusive, "whatever the judgement says");
    let report = schema::check(&write(&story, Format::Junit)).expect("a good report");
    assert_eq!(report.cases[&("run".to_owned(), "verdict".to_owned())].as_deref(), Some("lab.unfinished"));
    let json: serde_json::Value = serde_json::from_str(&write(&story, Format::Json)).expect("JSON");
    assert_eq!((&json["verdict"], &json["finished"]), (&"inconclusive".into(), &false.into()));
}

#[test]
fn a_verdict_that_nothing_explains_is_red_all_the_same() {
    for verdict in [Verdict::Fail, Verdict::Inconclusive] {
        let mut story = fixture::passing();
        story.judgement.verdict = verdict;
        let report = schema::check(&write(&story, Format::Junit)).expect("a good report");
        assert_eq!(report.errors + report.failures, 1, "a run that is {verdict}");
        story.judgement.cells[0].verdict = verdict;
        let report = schema::check(&write(&story, Format::Junit)).expect("a good report");
        assert_eq!(report.errors + report.failures, 1, "a cell that is {verdict}");
    }
    let mut story = fixture::passing();
    story.run.plan.cells.clear();
    story.judgement.verdict = Verdict::Inconclusive;
    let report = schema::check(&write(&story, Format::Junit)).expect("a good report");
    assert_eq!(report.errors, 1, "an empty plan");
}

#[test]
fn a_case_is_green_only_when_it_was_seen_to_pass() {
    let green = [Comparison::Unchanged, Comparison::Fixed, Comparison::New, Comparison::PreExisting];
    let all = [Comparison::Regression, Comparison::ChangedFailure, Comparison::Flaky, Comparison::Missing];
    for comparison in green.into_iter().chain(all).chain([Comparison::Skipped]) {
        for patched in [None, Some(CaseOutcome::Pass)] {
            let mut story = fixture::passing();
            let case = CaseJudgement { patched, ..fixture::judged(&name("health"), &name("files"), comparison) };
            story.judgement.cells[0].cases[3] = case;
            let report = schema::check(&write(&story, Format::Junit)).expect("a good report");
            let element = report.cases[&("acme.desktop@virtio-bios/health".to_owned(), "files".to_owned())].as_deref();
            let expected = match comparison {
                Comparison::Regression => Some("regression"),
                Comparison::ChangedFailure => Some("changed-failure"),
                Comparison::Flaky => Some("lab.flaky"),
                Comparison::Skipped => Some("skipped"),
                _ if patched.is_none() || comparison == Comparison::Missing => Some("lab.missing"),
                _ => None,
            };
            assert_eq!(element, expected, "{comparison:?} {patched:?}");
        }
    }
}

#[test]
fn a_failed_stage_that_the_judgement_forgot_is_told_by_its_blame() {
    use crate::cell::{Cause, StageOutcome, Trouble};
    for (stage, cause) in [(1, Cause::KernelPanic), (3, Cause::ApplyTimedOut), (3, Cause::HostDiskFull)] {
        let mut story = fixture::passing();
        let id = story.run.plan.cells[0].id.clone();
        let record = &mut story.run.cells.get_mut(&id).expect("the cell").passes[0].stages[stage];
        let trouble = Trouble::new(cause.clone(), "what happened");
        record.ended.as_mut().expect("ended").1 = StageOutcome::Failed { trouble };
        let expected = match blame(&cause, if stage == 1 { Side::Before } else { Side::After }) {
            Blame::Patch => cause.code().to_owned(),
            Blame::Lab => format!("lab.{}", cause.code()),
        };
        let at = (format!("{id}/stages"), record.stage.to_string());
        let report = schema::check(&write(&story, Format::Junit)).expect("a good report");
        assert_eq!(report.cases[&at], Some(expected));
    }
}

#[test]
fn a_pass_that_was_spoilt_and_repeated_is_green_and_says_so() {
    let xml = write(&fixture::passing(), Format::Junit);
    assert!(xml.contains("passed on another attempt; before that, emulator-died"), "{xml}");
    assert!(xml.contains("pre-existing: it fails without the patch as well"), "{xml}");
}

#[test]
fn guest_text_comes_back_from_junit_as_it_was_shown() {
    let report = schema::check(&write(&fixture::saying(HOSTILE), Format::Junit)).expect("a good report");
    assert!(report.texts.iter().any(|found| *found == text::visible(HOSTILE)), "{:?}", report.texts.first());
}

#[test]
fn the_page_holds_nothing_that_acts_and_stays_small() {
    for (kind, story) in stories() {
        let html = write(&story, Format::Html);
        assert!(html.len() < super::html::MAX, "{kind}: {} bytes", html.len());
        let lower = html.to_lowercase();
        for bad in ["<script", "<img src=x", "onerror=\"", "http://evil.example\"", "</details></pre>{{", "\u{202e}", "\0", "\u{1b}"] {
            assert!(!lower.contains(bad), "{kind}: {bad:?}");
        }
        for outside in ["src=\"http", "href=\"http", "url(", "@import", "<link", "<iframe", "<form"] {
            assert!(!lower.contains(outside), "{kind}: {outside:?}");
        }
    }
}

#[test]
fn a_page_of_nothing_but_special_characters_stays_small() {
    for flood in ["<\n".repeat(60_000), "+\n".repeat(100_000), "\u{202e}".repeat(50_000), "\"'&".repeat(80_000)] {
        let mut story = fixture::saying(&format!("@@ -1 +1 @@\n{flood}"));
        story.run.controllers.clear();
        let html = write(&story, Format::Html);
        assert!(html.len() < super::html::MAX, "{} bytes", html.len());
    }
}

#[test]
fn the_terminal_gets_no_control_characters_and_80_columns() {
    use unicode_width::UnicodeWidthStr;
    for (kind, story) in stories() {
        let styled = story.tell(human::render);
        for line in styled.plain().lines() {
            // Command lines are for copying and stay whole.
            assert!(line.width() <= 80 || line.starts_with("  patchlab "), "{kind}: {line}");
            assert!(!line.chars().any(char::is_control), "{kind}: {line:?}");
        }
        assert!(styled.ansi().contains("\u{1b}["));
    }
}

#[test]
fn markdown_keeps_guest_text_in_code() {
    let story = fixture::saying("@everyone [a](http://evil.example) <img src=x> `tick` ```` # x");
    let markdown = write(&story, Format::Markdown);
    for line in markdown.lines().filter(|line| line.contains("@everyone")) {
        let trimmed = line.trim_start();
        let at = line.find("@everyone").expect("found");
        let inside = trimmed.starts_with("@everyone") || line[..at].ends_with("````` ") || line[..at].ends_with("`````");
        assert!(inside, "{line}");
    }
    let fences: Vec<_> = markdown.lines().map(str::trim_start).filter(|line| line.starts_with("`````") && !line.contains('@')).collect();
    assert_eq!(fences.len() % 2, 0, "{fences:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_guest_text_gives_good_reports(said in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for said in [said, String::from_utf8_lossy(&bytes).into_owned()] {
            let story = fixture::saying(&said);
            let report = schema::check(&write(&story, Format::Junit));
            prop_assert!(report.is_ok(), "{:?}", report.err());
            let json: Result<serde_json::Value, _> = serde_json::from_str(&write(&story, Format::Json));
            prop_assert!(json.is_ok());
            let html = write(&story, Format::Html);
            prop_assert!(html.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
            prop_assert!(story.tell(human::render).plain().chars().all(|c| c == '\n' || !c.is_control()));
        }
    }

    #[test]
    fn visible_text_is_fit_for_xml(said in any::<String>()) {
        let fit = |c: char| matches!(c, '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
        prop_assert!(text::visible(&said).chars().all(fit));
    }
}
