//! A reader of JUnit XML that is as strict as the schema Jenkins uses (`junit-10.xsd` of its xUnit plugin) and stricter in three ways:
//! counters must agree with the elements, a case has one result at most, and characters must be those of XML 1.0.

use std::collections::BTreeMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// What was found in a report.
#[derive(Debug, Default)]
pub struct Found {
    pub failures: usize,
    pub errors: usize,
    /// Suite and case -> the type of its `<failure>` or `<error>`, or `skipped`.
    pub cases: BTreeMap<(String, String), Option<String>>,
    /// The contents of every element that has text.
    pub texts: Vec<String>,
}

/// An element: the attributes it must have, those it may have, its children in the order in which they must come, and whether text may be in it.
struct Rule {
    must: &'static [&'static str],
    may: &'static [&'static str],
    children: &'static [&'static str],
    text: bool,
}

fn rule(element: &str) -> Option<Rule> {
    let rule = |must, may, children, text| Some(Rule { must, may, children, text });
    match element {
        "testsuites" => rule(&[], &["name", "time", "tests", "failures", "errors"], &["testsuite"], false),
        "testsuite" => rule(
            &["name", "tests", "failures", "errors"],
            &["group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"],
            &["properties", "testcase", "system-out", "system-err"],
            false,
        ),
        "properties" => rule(&[], &[], &["property"], false),
        "property" => rule(&["name", "value"], &[], &[], false),
        "testcase" => rule(&["name"], &["time", "classname", "group"], &["skipped", "error", "failure", "system-out", "system-err"], false),
        "skipped" | "error" | "failure" => rule(&[], &["type", "message"], &[], true),
        "system-out" | "system-err" => rule(&[], &[], &[], true),
        _ => None,
    }
}

/// One open element.
struct Open {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<String>,
    text: String,
}

/// Reads the report, or says what is wrong with it.
pub fn check(xml: &str) -> Result<Found, String> {
    let fit = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    if let Some(bad) = xml.chars().find(|c| !fit(*c)) {
        return Err(format!("XML 1.0 forbids {bad:?}"));
    }
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<Open> = Vec::new();
    let mut found = Found::default();
    loop {
        match reader.read_event().map_err(|error| format!("at {}: {error}", reader.buffer_position()))? {
            Event::Start(start) => {
                let element = begin(&start, open.last_mut())?;
                open.push(element);
            }
            Event::Empty(start) => {
                let element = begin(&start, open.last_mut())?;
                end(element, &open, &mut found)?;
            }
            Event::End(_) => {
                let element = open.pop().ok_or("an end without a start")?;
                end(element, &open, &mut found)?;
            }
            Event::Text(text) => {
                let text = text.xml_content(quick_xml::XmlVersion::Explicit1_0).map_err(|error| error.to_string())?;
                if let Some(inner) = open.last_mut() {
                    inner.text.push_str(&text);
                }
            }
            Event::CData(text) => {
                let text = text.xml_content(quick_xml::XmlVersion::Explicit1_0).map_err(|error| error.to_string())?;
                open.last_mut().ok_or("text outside the root")?.text.push_str(&text);
            }
            Event::Decl(_) => {}
            Event::Eof => break,
            other => return Err(format!("unexpected {other:?}")),
        }
    }
    if open.is_empty() { Ok(found) } else { Err("the root is not closed".to_owned()) }
}

fn begin(start: &BytesStart<'_>, parent: Option<&mut Open>) -> Result<Open, String> {
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let rule = rule(&name).ok_or_else(|| format!("unknown element {name}"))?;
    let mut attributes = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let value = attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).map_err(|error| error.to_string())?.into_owned();
        if !rule.must.contains(&key.as_str()) && !rule.may.contains(&key.as_str()) {
            return Err(format!("{name} has no attribute {key}"));
        }
        attributes.insert(key, value);
    }
    if let Some(missing) = rule.must.iter().find(|key| !attributes.contains_key(**key)) {
        return Err(format!("{name} lacks {missing}"));
    }
    match parent {
        Some(parent) => parent.children.push(name.clone()),
        None if name == "testsuites" => {}
        None => return Err(format!("the root is {name}")),
    }
    Ok(Open { name, attributes, children: Vec::new(), text: String::new() })
}

fn end(element: Open, above: &[Open], found: &mut Found) -> Result<(), String> {
    let Open { name, attributes, children, text } = &element;
    let rule = rule(name).ok_or("unknown")?;
    let places: Option<Vec<_>> = children.iter().map(|child| rule.children.iter().position(|known| known == child)).collect();
    let places = places.ok_or_else(|| format!("{name} has a child it may not have: {children:?}"))?;
    if !places.is_sorted() {
        return Err(format!("{name}: children out of order: {children:?}"));
    }
    if !rule.text && !text.trim().is_empty() {
        return Err(format!("{name} holds text: {text:?}"));
    }
    if rule.text && !text.is_empty() {
        found.texts.push(text.clone());
    }
    if let Some(time) = attributes.get("time").filter(|time| time.parse::<f64>().is_err() || time.contains('e')) {
        return Err(format!("{name}: time {time}"));
    }
    let number =
        |key: &str| attributes.get(key).and_then(|value| value.parse::<usize>().ok()).ok_or_else(|| format!("{name} lacks a number {key}"));
    match name.as_str() {
        "failure" | "error" | "skipped" => {
            let kind = attributes.get("type").ok_or_else(|| format!("{name} lacks a type"))?;
            if name != "skipped" && kind.starts_with("lab.") != (name == "error") {
                return Err(format!("{name} of type {kind}: the blame is on the wrong side"));
            }
            note(above, kind, found)?;
            found.failures += usize::from(name == "failure");
            found.errors += usize::from(name == "error");
        }
        "testcase" => {
            note_case(above, attributes, found);
        }
        "testsuite" => {
            let suite = &attributes["name"];
            let own: Vec<_> = found.cases.iter().filter(|((of, _), _)| of == suite).map(|(_, result)| result.as_deref()).collect();
            let errors = own.iter().flatten().filter(|kind| kind.starts_with("lab.")).count();
            let skipped = own.iter().flatten().filter(|kind| **kind == "skipped").count();
            let failures = own.iter().flatten().count() - errors - skipped;
            let counted = [own.len(), failures, errors, skipped];
            let claimed = [number("tests")?, number("failures")?, number("errors")?, number("skipped")?];
            let cases = children.iter().filter(|child| *child == "testcase").count();
            if claimed != counted || cases != own.len() {
                return Err(format!("suite {suite} claims {claimed:?} and has {counted:?}, {cases} cases"));
            }
        }
        "testsuites" => {
            let counted = [found.cases.len(), found.failures, found.errors];
            let claimed = [number("tests")?, number("failures")?, number("errors")?];
            if claimed != counted {
                return Err(format!("the report claims {claimed:?} and has {counted:?}"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// The suite and case that are open.
fn at(above: &[Open]) -> Option<(String, String)> {
    let named = |kind: &str| above.iter().rev().find(|open| open.name == kind).map(|open| open.attributes["name"].clone());
    Some((named("testsuite")?, named("testcase")?))
}

fn note(above: &[Open], kind: &str, found: &mut Found) -> Result<(), String> {
    let at = at(above).ok_or("a result outside a case")?;
    match found.cases.insert(at.clone(), Some(kind.to_owned())) {
        None => Ok(()),
        Some(_) => Err(format!("{at:?} has two results, or two cases have one name")),
    }
}

fn note_case(above: &[Open], attributes: &BTreeMap<String, String>, found: &mut Found) {
    let suite = above.iter().rev().find(|open| open.name == "testsuite").map(|open| open.attributes["name"].clone());
    found.cases.entry((suite.unwrap_or_default(), attributes["name"].clone())).or_insert(None);
}
