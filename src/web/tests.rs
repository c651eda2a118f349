//! What must hold of every page, whatever guests and people say.

use html5gum::{Token, Tokenizer};

use super::assets;
use super::fixture;
use crate::report::fixture::{self as stories, HOSTILE, Story};

fn all_stories() -> [(&'static str, Story); 5] {
    [
        ("passing", stories::passing()),
        ("failing", stories::failing()),
        ("inconclusive", stories::inconclusive()),
        ("unfinished", stories::unfinished()),
        ("environment", stories::environment()),
    ]
}

/// Writes every page into the folder that PATCHLAB_PAGES names, to be looked at in a browser.
#[test]
fn pages_to_look_at() {
    let Some(folder) = std::env::var_os("PATCHLAB_PAGES").map(std::path::PathBuf::from) else { return };
    let assets = folder.join("assets");
    std::fs::create_dir_all(&assets).expect("a folder");
    for file in ["style.css", "live.js", "icon.svg"] {
        std::fs::write(assets.join(file), assets::file(file).expect("an asset").0).expect("written");
    }
    let hostile = stories::hostile();
    let said = all_stories().into_iter().map(|(kind, story)| (kind, story, "looks good to me")).chain([("hostile", hostile, HOSTILE)]);
    for (kind, story, said) in said {
        for (name, html) in fixture::pages(&story, said) {
            let html = html.replace("\"/assets/", "\"assets/");
            std::fs::write(folder.join(format!("{kind}-{name}.html")), html).expect("written");
        }
    }
}

/// Elements and attributes that templates use. Others can only have come from what somebody said.
const ELEMENTS: &str = "a article b body br button code dd details div dl dt fieldset form g h1 h2 h3 head header html i img input label legend li line \
    link main meta nav option p pre progress rect script section select small span strong summary svg table tbody td text th thead title tr ul";
const ATTRIBUTES: &str = "action alt aria-current aria-hidden aria-label aria-labelledby autocapitalize autocomplete autofocus charset checked class \
    colspan content data-label data-live data-refresh defer download height href id lang max maxlength method name open rel required role \
    rx scope selected spellcheck src tabindex type value width x x1 x2 y y1 y2";

struct Parsed {
    text: String,
    wrong: Vec<String>,
}

/// The page as a browser takes it apart.
fn parse(html: &str) -> Parsed {
    let elements: Vec<_> = ELEMENTS.split_whitespace().collect();
    let attributes: Vec<_> = ATTRIBUTES.split_whitespace().collect();
    let mut parsed = Parsed { text: String::new(), wrong: Vec::new() };
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for Ok(token) in Tokenizer::new(html) {
        match token {
            Token::StartTag(tag) => {
                let name = words(&tag.name);
                if !elements.contains(&name.as_str()) {
                    parsed.wrong.push(format!("<{name}>"));
                }
                for (key, value) in &tag.attributes {
                    let (key, value) = (words(key), words(value));
                    let address = matches!(key.as_str(), "href" | "src" | "action" | "data-live");
                    let own = value.starts_with("/") && !value.starts_with("//")
                        || value.starts_with('#')
                        || value.starts_with("data:image/png;base64,");
                    if !attributes.contains(&key.as_str()) || (address && !own) {
                        parsed.wrong.push(format!("<{name} {key}={value:?}>"));
                    }
                }
                if name == "script" && !tag.attributes.contains_key(&b"src"[..]) {
                    parsed.wrong.push("a script within the page".to_owned());
                }
            }
            Token::String(text) => parsed.text.push_str(&words(&text)),
            Token::Comment(_) => parsed.wrong.push("a comment".to_owned()),
            Token::Error(error) => parsed.wrong.push(format!("{error:?}")),
            Token::EndTag(_) | Token::Doctype(_) => {}
        }
    }
    parsed
}

#[test]
fn what_guests_and_people_say_stays_text() {
    let story = stories::hostile();
    for (name, html) in fixture::pages(&story, HOSTILE) {
        let parsed = parse(&html);
        assert!(parsed.wrong.is_empty(), "{name}: {:?}", parsed.wrong);
        let acts = html.chars().find(|c| {
            c.is_control() && !matches!(c, '\n' | '\t')
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert_eq!(acts, None, "{name}");
        assert!(html.len() < crate::report::html::MAX, "{name}: {} bytes", html.len());
    }
    let said = |wanted: &str| fixture::pages(&story, HOSTILE).into_iter().find(|(name, _)| *name == wanted).expect("the page").1;
    for page in ["run", "cell-2", "decision-rejected", "waivers"] {
        assert!(parse(&said(page)).text.contains("<script>alert(1)</script>"), "{page} shows it as it was said");
    }
}

#[test]
fn every_page_is_well_made() {
    for (kind, story) in all_stories() {
        for (name, html) in fixture::pages(&story, "looks good to me") {
            let parsed = parse(&html);
            assert!(parsed.wrong.is_empty(), "{kind} {name}: {:?}", parsed.wrong);
            assert_eq!(html.matches("<h1").count(), 1, "{kind} {name}");
            let ids: Vec<_> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            let once: std::collections::BTreeSet<_> = ids.iter().collect();
            assert_eq!(ids.len(), once.len(), "{kind} {name}: {ids:?}");
            let forms = html.matches("method=\"post\"").count();
            assert_eq!(html.matches("name=\"csrf\"").count(), forms, "{kind} {name}: every form has a token");
        }
    }
}

/// A run of many cells, each with many cases that broke.
fn large() -> Story {
    let mut story = stories::failing();
    let (cell, judged) = (story.run.plan.cells[2].clone(), story.judgement.cells[2].clone());
    let record = story.run.cells[&cell.id].clone();
    for number in 0..300 {
        let id: crate::id::CellId = format!("acme.web@kind-{number}").parse().expect("a cell");
        let mut judged = judged.clone();
        judged.cases = (0..100).map(|_| judged.cases[1].clone()).collect();
        judged.id = id.clone();
        story.run.plan.cells.push(crate::plan::PlannedCell { id: id.clone(), ..cell.clone() });
        story.run.cells.insert(id, record.clone());
        story.judgement.cells.push(judged);
    }
    story
}

#[test]
fn pages_about_much_stay_small_and_quick() {
    let story = large();
    for (name, html) in [
        ("run", fixture::timed("run", || askama::Template::render(&fixture::run_page(&story)))),
        ("cell", fixture::timed("cell", || askama::Template::render(&fixture::cell_page(&story, 200)))),
        ("board", fixture::timed("board", || askama::Template::render(&fixture::large_board(40, 12)))),
    ] {
        let html = html.expect("a page");
        assert!(html.len() < crate::report::html::MAX, "{name}: {} bytes", html.len());
    }
}
