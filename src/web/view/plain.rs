//! Login, and what is said when a page can't be given.

use askama::Template;

use super::frame::{Frame, Section};

#[derive(Template)]
#[template(path = "login.html", config = "src/web/askama.toml")]
pub struct LoginPage {
    pub frame: Frame,
    /// The form's own token: nobody is there yet who could have one.
    pub csrf: String,
    /// Where to go afterwards.
    pub next: String,
    pub problem: Option<String>,
}

/// An error in words: what was tried, what came of it, what can be done.
#[derive(Template)]
#[template(path = "error.html", config = "src/web/askama.toml")]
pub struct ErrorPage {
    pub frame: Frame,
    pub status: u16,
    pub title: String,
    pub detail: String,
    /// Where to go from here: address and word.
    pub ways: Vec<(String, &'static str)>,
}

/// A page that asks for itself once more: a browser that comes from another site sends no session cookie the first time.
#[derive(Template)]
#[template(path = "again.html", config = "src/web/askama.toml")]
pub struct AgainPage {
    pub frame: Frame,
    pub address: String,
}

impl Frame {
    /// Of a page outside of the dashboard.
    pub fn outside(title: &str, assets: &'static str) -> Self {
        Self { title: title.to_owned(), here: Section::Outside, who: None, waiting: 0, notice: None, assets }
    }
}
