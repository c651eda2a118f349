//! What every page has around its contents: title, places to go, who is there.

use crate::report::html::Sign;

/// Where in the dashboard a page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Board,
    Runs,
    Patches,
    Approvals,
    Waivers,
    Lab,
    Launch,
    /// Login and errors: nowhere.
    Outside,
}

/// Places of the navigation, in order: address and word.
const PLACES: [(Section, &str, &str); 7] = [
    (Section::Board, "/", "Board"),
    (Section::Runs, "/runs", "Runs"),
    (Section::Patches, "/patches", "Patches"),
    (Section::Approvals, "/approvals", "Approvals"),
    (Section::Waivers, "/waivers", "Waivers"),
    (Section::Lab, "/lab", "Lab"),
    (Section::Launch, "/launch", "Launch"),
];

/// The person who looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub name: String,
    pub role: &'static str,
    /// Goes into every form.
    pub csrf: String,
    pub may: May,
}

/// Which forms are offered. The server checks again when one is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct May {
    /// Launch, cancel, propose a waiver, let machines go.
    pub work: bool,
    /// Approve, reject, consent.
    pub approve: bool,
}

/// What became of the form that was sent before this page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub sign: Sign,
    pub text: String,
}

/// The frame of a page.
#[derive(Clone, Debug)]
pub struct Frame {
    pub title: String,
    pub here: Section,
    pub who: Option<Who>,
    /// Approvals and consents that wait for this person.
    pub waiting: usize,
    pub notice: Option<Notice>,
    /// Changes whenever style or script do.
    pub assets: &'static str,
}

/// One place of the navigation.
pub struct Link {
    pub href: &'static str,
    pub word: &'static str,
    pub here: bool,
    /// How much waits there; 0 shows nothing.
    pub count: usize,
}

impl Frame {
    pub fn links(&self) -> Vec<Link> {
        let shown = |section: &Section| *section != Section::Launch || self.may().work;
        let link = |(section, href, word)| Link {
            href,
            word,
            here: section == self.here,
            count: if section == Section::Approvals { self.waiting } else { 0 },
        };
        PLACES.into_iter().filter(|(section, _, _)| shown(section)).map(link).collect()
    }

    pub fn may(&self) -> May {
        self.who.as_ref().map(|who| who.may).unwrap_or_default()
    }

    /// The token of this person's forms; empty for nobody, whose forms no one accepts.
    pub fn csrf(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.csrf)
    }
}
