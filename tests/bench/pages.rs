//! The dashboard on the same journal: how long each kind of page takes from the request until the whole page is there.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

/// Times that each page is opened after the first.
const AGAIN: usize = 9;

/// A browser that is signed in.
struct Browser {
    agent: Agent,
    url: String,
    token: String,
    cookies: String,
}

/// A page, and how long it took: the first time, and the median of the others.
pub struct Opened {
    pub page: String,
    pub first: Duration,
    pub median: Duration,
}

/// Opens every kind of page, of the patches that decisions are asked about.
pub fn open(url: &str, token: &str, patch: &str) -> Vec<Opened> {
    let browser = Browser::sign_in(url, token);
    let run = browser.json("/api/v1/runs?limit=1")["runs"][0]["run"].as_str().expect("a run").to_owned();
    let cell = browser.json(&format!("/api/v1/runs/{run}"))["cells"][0]["id"].as_str().expect("a cell").to_owned();
    let older = browser.get("/runs");
    let older = older.split("/runs?before=").nth(1).and_then(|rest| rest.split('"').next()).expect("older runs");
    let middle = older.parse::<u64>().expect("an entry") / 2;
    let pages = [
        "/".to_owned(),
        "/?customer=berta".to_owned(),
        "/runs".to_owned(),
        format!("/runs?before={middle}"),
        format!("/runs/{run}"),
        format!("/runs/{run}/part"),
        format!("/runs/{run}/cells/{cell}"),
        "/patches".to_owned(),
        "/patches?from=200".to_owned(),
        format!("/patches/{patch}"),
        format!("/patches/{patch}/acme"),
        format!("/patches/{patch}/berta"),
        "/approvals".to_owned(),
        "/waivers".to_owned(),
        "/lab".to_owned(),
        "/launch".to_owned(),
        format!("/launch?patch={patch}"),
        "/api/v1/runs?limit=200".to_owned(),
        "/api/v1/runs?state=queued".to_owned(),
        "/api/v1/decisions?limit=200".to_owned(),
    ];
    pages.into_iter().map(|page| browser.open(page)).collect()
}

impl Browser {
    fn sign_in(url: &str, token: &str) -> Self {
        let config = Agent::config_builder().max_redirects(0).timeout_global(Some(Duration::from_secs(60)));
        let mut browser = Self { agent: config.build().into(), url: url.to_owned(), token: token.to_owned(), cookies: String::new() };
        let mut form = browser.agent.get(format!("{url}/login")).call().expect("a form");
        browser.keep(form.headers());
        let page = form.body_mut().read_to_string().expect("a page");
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token").to_owned();
        let request = browser.agent.post(format!("{url}/login")).header("origin", url).header("cookie", &browser.cookies);
        let answer = request.send_form([("csrf", csrf.as_str()), ("token", token), ("next", "/")]).expect("an answer");
        assert_eq!(answer.status(), 303);
        browser.keep(answer.headers());
        browser
    }

    fn keep(&mut self, headers: &ureq::http::HeaderMap) {
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text").split(';').next().expect("a cookie");
            self.cookies += &format!("{}{cookie}", if self.cookies.is_empty() { "" } else { "; " });
        }
    }

    fn get(&self, page: &str) -> String {
        let request = self.agent.get(format!("{}{page}", self.url)).header("cookie", &self.cookies);
        let request = request.header("authorization", format!("Bearer {}", self.token)).header("sec-fetch-site", "same-origin");
        let mut answer = request.call().unwrap_or_else(|error| panic!("{page}: {error}"));
        assert_eq!(answer.status(), 200, "{page}");
        answer.body_mut().with_config().limit(64 << 20).read_to_string().expect("a page")
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).expect("JSON")
    }

    fn open(&self, page: String) -> Opened {
        let once = || {
            let started = Instant::now();
            self.get(&page);
            started.elapsed()
        };
        let first = once();
        let mut times: Vec<_> = (0..AGAIN).map(|_| once()).collect();
        times.sort();
        Opened { page, first, median: times[AGAIN / 2] }
    }
}
