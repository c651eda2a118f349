//! The dashboard as browsers see it: who gets in, whose forms count, and what pages say.

use std::collections::BTreeMap;

use patchlab::id::Name;
use patchlab::journal::{Event, Journal, Record};
use patchlab::verdict::gate::Rejection;

use super::server::{Lab, POLICY, Server, one_cell};

const PAGES: [&str; 8] =
    ["/", "/runs", "/patches", "/approvals", "/waivers", "/lab", "/launch", "/runs/01a20168-5e49-7615-ac41-017ca710af21"];

/// A browser with its cookies. It follows no redirection by itself.
pub struct Browser<'a> {
    server: &'a Server,
    cookies: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The value of the first field of this name.
    fn field(&self, name: &str) -> String {
        let rest = self.body.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no field {name}: {self:?}")).1;
        rest.split('"').next().expect("a value").to_owned()
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, cookies: BTreeMap::new() }
    }

    pub fn signed_in(server: &'a Server, token: &str) -> Self {
        let mut browser = Self::new(server);
        let reply = browser.sign_in(token, "/");
        assert_eq!((reply.status, reply.header("location")), (303, "/"), "{reply:?}");
        browser
    }

    fn sign_in(&mut self, token: &str, next: &str) -> Reply {
        let csrf = self.get("/login").field("csrf");
        self.post("/login", &[("csrf", &csrf), ("token", token), ("next", next)])
    }

    fn host(&self) -> &str {
        self.server.url.rsplit_once('/').expect("a URL").1
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host());
        if !cookies.is_empty() {
            head += &format!("cookie: {}\r\n", cookies.join("; "));
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let answer = self.server.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let headers: Vec<_> =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        for (_, value) in headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = value.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Reply { status, headers, body: body.to_owned() }
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.ask("GET", path, &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")], "")
    }

    /// Sends a form as a page of the server would.
    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let origin = self.server.url.clone();
        let headers =
            [("origin", origin.as_str()), ("sec-fetch-site", "same-origin"), ("content-type", "application/x-www-form-urlencoded")];
        self.ask("POST", path, &headers, &encoded(fields))
    }

    /// Sends a form with this session's token.
    fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let csrf = self.get("/runs").field("csrf");
        self.post(path, &[&[("csrf", csrf.as_str())], fields].concat())
    }
}

#[test]
fn nobody_sees_or_does_anything_without_signing_in() {
    let server = Lab::new().serve(&[]);
    let mut browser = Browser::new(&server);
    for page in PAGES {
        let reply = browser.get(page);
        assert_eq!(reply.status, 303, "{page}");
        assert!(reply.header("location").starts_with("/login?next=%2F"), "{page}: {reply:?}");
        assert_eq!(browser.post(page, &[("csrf", "x")]).status, if page == "/runs" { 401 } else { 405 }, "{page}");
    }
    // A link from elsewhere comes without the cookie; the page asks once more by itself.
    let linked = browser.ask("GET", "/waivers", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], "");
    assert!(linked.status == 200 && linked.body.contains("content=\"0;url=/waivers\""), "{linked:?}");
    let policy = linked.header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!((linked.header("x-content-type-options"), linked.header("cache-control")), ("nosniff", "no-store"));
    let style = browser.get("/assets/style.css");
    assert!(
        style.header("cache-control").contains("immutable") && style.header("content-type").starts_with("text/css"),
        "{:?}",
        style.headers
    );
    assert_eq!(browser.get("/assets/..%2f..%2fCargo.toml").status, 404);
}

#[test]
fn an_address_with_nothing_at_it_is_a_page_for_browsers_and_a_problem_for_programs() {
    let lab = Lab::new();
    let viewer = lab.token("viewer");
    let server = lab.serve(&[]);
    let mut browser = Browser::new(&server);
    let (page, problem) = ("text/html; charset=utf-8", "application/problem+json");
    let browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (method, path, accept, status, kind) in [
        ("GET", "/nosuch", browsers, 404, page),
        ("GET", "/runs/x/nosuch", browsers, 404, page),
        ("POST", "/patches", browsers, 405, page),
        ("GET", "/nosuch", "application/json", 404, problem),
        ("GET", "/nosuch", "*/*", 404, problem),
        ("GET", "/api/nosuch", browsers, 404, problem),
        ("GET", "/api", browsers, 404, problem),
        ("PUT", "/api/v1/runs", browsers, 405, problem),
    ] {
        let bearer = format!("Bearer {viewer}");
        let reply = browser.ask(method, path, &[("accept", accept), ("authorization", &bearer)], "");
        assert_eq!((reply.status, reply.header("content-type")), (status, kind), "{method} {path} {accept}: {reply:?}");
        assert_eq!(reply.header("content-security-policy").contains("default-src 'none'"), kind == page, "{reply:?}");
    }
    let lost = browser.ask("GET", "/nosuch", &[("accept", browsers)], "");
    assert!(lost.body.contains("<h1>There is no such thing</h1>") && lost.body.contains("there is no such page here"), "{lost:?}");
}

#[test]
fn a_session_begins_with_a_token_and_ends_with_it() {
    let lab = Lab::new();
    let (viewer, engineer) = (lab.token("viewer"), lab.token("engineer"));
    let server = lab.serve(&[]);
    let mut browser = Browser::new(&server);
    let reply = browser.sign_in(&viewer, "/runs?before=7");
    assert_eq!((reply.status, reply.header("location")), (303, "/runs?before=7"));
    let set = reply.header("set-cookie");
    assert!(set.starts_with("patchlab-session=") && set.contains("; HttpOnly; SameSite=Strict") && !set.contains(&viewer), "{set}");
    for page in &PAGES[..6] {
        assert_eq!(browser.get(page).status, 200, "{page}");
    }
    assert_eq!(browser.get(PAGES[7]).status, 404);
    for bad in ["//evil.example/", "https://evil.example/", "/\\evil.example"] {
        assert_eq!(Browser::new(&server).sign_in(&viewer, bad).header("location"), "/", "{bad}");
    }
    // The id that one is given is not the one that somebody else may have put there.
    let mut planted = Browser::new(&server);
    planted.cookies.insert("patchlab-session".to_owned(), "0".repeat(64));
    planted.sign_in(&viewer, "/");
    assert_ne!(planted.cookies["patchlab-session"], "0".repeat(64));

    let kept = browser.cookies.clone();
    assert_eq!(browser.send("/logout", &[]).header("location"), "/login");
    browser.cookies = kept;
    assert_eq!(browser.get("/runs").status, 303, "signed out is signed out");
    let mut browser = Browser::signed_in(&server, &engineer);
    assert_eq!(browser.get("/runs").status, 200);
    assert!(server.lab().patchlab(&["token", "revoke", "engineer"], None).status.success());
    assert_eq!(browser.get("/runs").status, 303, "a revocation ends the session");
}

#[test]
fn guessing_at_the_door_is_slowed_down() {
    let server = Lab::new().serve(&[]);
    let mut browser = Browser::new(&server);
    let replies: Vec<Reply> = (0..11).map(|guess| browser.sign_in(&format!("patchlab_{guess}"), "/")).collect();
    assert!(replies[..10].iter().all(|reply| reply.status == 401 && reply.body.contains("role=\"alert\"")), "{replies:?}");
    assert_eq!(replies[10].status, 429);
    assert!(!browser.cookies.contains_key("patchlab-session"));
}

#[test]
fn only_this_sessions_own_forms_count() {
    let lab = Lab::new();
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let (mut browser, mut other) = (Browser::signed_in(&server, &engineer), Browser::signed_in(&server, &viewer));
    let (csrf, foreign) = (browser.get("/runs").field("csrf"), other.get("/runs").field("csrf"));
    let url = server.url.clone();
    let form = "application/x-www-form-urlencoded";
    let wanted = [("patch", "sha256:0000000000000000000000000000000000000000000000000000000000000000")];
    let body = |csrf: &str| encoded(&[&[("csrf", csrf)], &wanted[..]].concat());
    let own = [("origin", url.as_str()), ("content-type", form)];
    for (headers, body, status) in [
        (&own[..], body(&csrf), 404),
        (&own, body(&foreign), 403),
        (&own, body(""), 403),
        (&own, encoded(&wanted), 403),
        (&[("content-type", form)], body(&csrf), 403),
        (&[("content-type", form), ("origin", "null")], body(&csrf), 403),
        (&[("content-type", form), ("origin", "https://evil.example")], body(&csrf), 403),
        (&[("content-type", form), ("origin", &url), ("sec-fetch-site", "cross-site")], body(&csrf), 403),
        (&[("content-type", form), ("origin", &url), ("sec-fetch-site", "same-site")], body(&csrf), 403),
        (&[("content-type", "text/plain"), ("origin", &url)], body(&csrf), 415),
        (&own, format!("{}&x={}", body(&csrf), "y".repeat(300_000)), 413),
    ] {
        let reply = browser.ask("POST", "/runs", headers, &body);
        assert_eq!(reply.status, status, "{headers:?} {:.200}", body);
        // What is announced as too large is refused before anybody looks at what it is for.
        assert!(status == 413 || reply.header("content-type").starts_with("text/html"), "{reply:?}");
    }
    for path in ["/runs", "/runs/01a20168-5e49-7615-ac41-017ca710af21/cancel"] {
        assert_eq!(other.send(path, &wanted).status, 403, "a viewer: {path}");
    }
    let login = Browser::new(&server).post("/login", &[("token", &viewer), ("csrf", "x")]);
    assert_eq!(login.status, 403, "nobody is signed in by another site's form");
}

#[test]
fn a_run_is_launched_followed_and_looked_into() {
    let scenario = "[[step]]\non = { case = \"web-server/large-file\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\n\
                    output = \"<script>alert(1)</script><img src=x onerror=alert(2)>\"\n";
    let lab = Lab::new().scenario(scenario);
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let mut browser = Browser::signed_in(&server, &engineer);
    let plan = browser.get("/launch?patch=good-motd&build=web&hardware=virtio-bios");
    assert!(plan.body.contains("1 cell, "), "{plan:?}");
    let fields = [("patch", plan.body.split_once("name=\"patch\" value=\"").expect("a patch").1.split('"').next().expect("a digest"))];
    let (key, digest) = (plan.field("key"), plan.field("plan"));
    let wanted = [&fields[..], &[("build", "web"), ("hardware", "virtio-bios"), ("key", &key), ("plan", &digest)]].concat();
    let launched = browser.send("/runs", &wanted);
    let run = launched.header("location").to_owned();
    assert!(launched.status == 303 && run.starts_with("/runs/"), "{launched:?}");
    assert!(browser.get(&run).body.contains("The run is launched."));
    assert!(!browser.get(&run).body.contains("The run is launched."), "said once");
    assert_eq!(browser.send("/runs", &wanted).header("location"), run, "sent twice, launched once");
    server.ended(run.rsplit_once('/').expect("an id").1, &viewer);

    let page = browser.get(&run);
    assert!(page.body.contains("<b>fail</b>") && page.body.contains("&#60;script&#62;alert(1)"), "{}", page.body);
    let cell = browser.get(&format!("{run}/cells/acme.web@virtio-bios"));
    assert!(cell.body.contains("The machines were the simulator"));
    assert!(cell.body.contains("patchlab waive ") && !cell.body.contains("<script>alert") && !cell.body.contains("<img src=x"));
    let file = cell.body.split_once(&format!("{run}/files/")).expect("a file").1.split(['"', '?']).next().expect("a digest").to_owned();
    let kept = browser.get(&format!("{run}/files/{file}"));
    assert!(kept.header("content-disposition").starts_with("attachment; filename=\""), "{kept:?}");
    for (path, kind) in [(format!("{run}/files/{file}"), "application/octet-stream"), (format!("{run}/files/{file}?as=text"), "text/plain")]
    {
        let reply = browser.get(&path);
        assert!(reply.header("content-type").starts_with(kind), "{reply:?}");
        let policy = reply.header("content-security-policy");
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    }
    for path in
        [format!("{run}/files/{}", "0".repeat(64)), format!("{run}/files/..%2f..%2ftokens.json"), format!("{run}/cells/acme.web@nvme")]
    {
        assert_eq!(browser.get(&path).status, 404, "{path}");
    }
    let late = browser.send(&format!("{run}/cancel"), &[]);
    assert_eq!(late.status, 303);
    assert!(browser.get(&run).body.contains("had ended before"));
    assert_eq!(browser.get(&format!("{run}/part")).status, 200);
}

#[test]
fn kept_machines_are_let_go_by_page_by_program_and_by_command() {
    let scenario = "[[step]]\non = { case = \"web-server/large-file\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\n";
    let lab = Lab::new().scenario(scenario);
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let runs = ["virtio-bios", "virtio-uefi", "virtio-bios"].map(|hardware| {
        let mut body = one_cell();
        (body["hardware"], body["keep-failed"]) = (serde_json::json!([hardware]), true.into());
        let launched = server.post("/api/v1/runs", &engineer, &[], &body);
        assert_eq!(launched.status, 202, "{launched:?}");
        let run = launched.json()["run"].as_str().expect("a run").to_owned();
        assert_eq!(server.ended(&run, &viewer)["verdict"], "fail");
        run
    });
    let machines = |run: &str| server.get(&format!("/api/v1/runs/{run}"), &viewer).json()["kept"].as_array().expect("machines").clone();
    let [first, second, third] = &runs;
    let machine = machines(first)[0].as_str().expect("a name").to_owned();
    let mut browser = Browser::signed_in(&server, &engineer);
    let place = format!("/runs/{first}/release");
    assert!(browser.get("/lab").body.contains(&machine) && browser.get("/lab").body.contains(&place));
    let mut other = Browser::signed_in(&server, &viewer);
    let seen = other.get("/lab").body;
    assert!(seen.contains(&machine) && !seen.contains(&place), "who may not let it go is offered nothing: {seen}");
    assert_eq!(other.send(&place, &[]).status, 403);
    assert_eq!(browser.post(&place, &[("csrf", "x")]).status, 403, "no form of this session");
    let count = machines(first).len();
    assert!(count > 0, "nothing was let go");
    let gone = browser.send(&place, &[]);
    assert_eq!((gone.status, gone.header("location")), (303, "/lab#kept"));
    let page = browser.get("/lab").body;
    assert!(page.contains(&format!("{count} machines let go.")) && !page.contains(&machine), "{page}");
    assert!(machines(first).is_empty());
    let kept = machines(second);
    let released = server.post(&format!("/api/v1/runs/{second}/release"), &engineer, &[], &serde_json::json!({}));
    assert_eq!((released.status, released.json()["released"].as_array()), (200, Some(&kept)), "{released:?}");
    let again = server.post(&format!("/api/v1/runs/{second}/release"), &engineer, &[], &serde_json::json!({}));
    assert_eq!((again.status, again.json()["released"].as_array().map(Vec::len)), (200, Some(0)), "{again:?}");
    let told = server.lab().patchlab(&["release", third], Some(&engineer));
    assert!(told.status.success() && String::from_utf8_lossy(&told.stdout).starts_with("released patchlab-"), "{told:?}");
    // Who did it is on record, and what a run found is taken away signed.
    let signed = browser.get(&format!("/runs/{first}/report/attestation"));
    assert!(signed.header("content-disposition").ends_with(".intoto.jsonl\"") && signed.body.contains("\"payloadType\""), "{signed:?}");
    let (lab, _, _) = server.end(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(String::from_utf8_lossy(&lab.patchlab(&["gc"], None).stdout), "nothing is left over\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let journal = Journal::open(&lab.state.path().join("journal.sqlite")).await.expect("a journal");
        for run in &runs {
            let entries = journal.entries(run.parse().expect("an id")).await.expect("entries");
            let by = entries.iter().rev().find_map(|entry| match &entry.event {
                Event::MachineReleased { by, .. } => by.clone(),
                _ => None,
            });
            assert_eq!(by.as_deref(), Some("engineer"));
        }
    });
}

#[test]
fn a_patch_is_approved_by_another_person_than_launched_it() {
    let lab = Lab::new();
    let (engineer, approver, administrator) = (lab.token("engineer"), lab.token("approver"), lab.token("administrator"));
    let server = lab.serve(&[]);
    let mut browsers = [&engineer, &approver, &administrator].map(|token| Browser::signed_in(&server, token));
    let [browser, second, third] = &mut browsers;
    let plan = browser.get("/launch?patch=good-motd&customer=acme");
    let patch = plan.body.split_once("name=\"patch\" value=\"").expect("a patch").1.split('"').next().expect("a digest").to_owned();
    let place = format!("/patches/{patch}/acme");
    for _ in 0..2 {
        assert!(browser.get(&place).body.contains("was not asked about this patch"), "looking asks nothing");
    }
    let launched = third.send("/runs", &[("patch", &patch), ("customer", "acme")]);
    server.ended(launched.header("location").rsplit_once('/').expect("a run").1, &engineer);
    assert_eq!(browser.send(&format!("{place}/ask"), &[]).status, 303);
    let page = second.get(&place);
    assert!(page.body.contains("<b>pending</b>"), "{}", page.body);
    assert!(second.get("/approvals").body.contains("good-motd for acme"));
    assert!(!third.get("/approvals").body.contains("good-motd for acme"), "who launched it is not asked");
    let revision = page.field("revision");
    let approve = |who: &mut Browser<'_>, revision: &str| who.send(&format!("{place}/approve"), &[("revision", revision)]).status;
    assert_eq!([approve(browser, &revision), approve(third, &revision), approve(second, "77"), approve(second, "")], [403, 409, 409, 400]);
    let approved = second.send(&format!("{place}/approve"), &[("revision", &revision), ("comment", "<b>fine</b>")]);
    assert_eq!((approved.status, approved.header("location")), (303, place.as_str()));
    let page = second.get(&place).body;
    assert!(page.contains("<b>approved</b>") && page.contains("&#60;b&#62;fine&#60;/b&#62;"), "{page}");
    let board = browser.get("/").body;
    assert!(board.contains("approved") && board.contains("good-motd"), "{board}");
    assert_eq!(second.send(&format!("{place}/reject"), &[("reason", " ")]).status, 400, "a rejection needs a reason");
    assert_eq!(second.send(&format!("{place}/reject"), &[("reason", "not today")]).status, 303);
    assert!(browser.get(&place).body.contains("<b>rejected</b>"));
    // Who may not say a word may not take another's back either.
    let rejections = server.get("/api/v1/rejections", &engineer).json();
    let id = rejections["rejections"][0]["id"].as_str().expect("an id");
    for kind in ["approvals", "waivers"] {
        assert_eq!(browser.send(&format!("/{kind}/{id}/revoke"), &[("reason", "never mind")]).status, 403, "{kind}");
    }
    assert!(browser.get(&place).body.contains("<b>rejected</b>"));
    assert_eq!(second.send(&format!("/approvals/{id}/revoke"), &[("reason", "never mind")]).status, 303);
    assert!(browser.get(&place).body.contains("<b>approved</b>"));
    // The overviews show what is so by now, though nobody has decided it yet.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let customer: Name = "acme".parse().expect("a name");
    let rejection = Rejection { patch: patch.parse().expect("a digest"), customer, by: "dora".to_owned(), reason: "no".to_owned() };
    let rejected = vec![Record::Rejected { id: uuid::Uuid::now_v7(), rejection }];
    runtime.block_on(async {
        let journal = Journal::open(&server.lab().state.path().join("journal.sqlite")).await.expect("a journal");
        journal.append_with(None, jiff::Timestamp::now(), rejected, Vec::new()).await.expect("written");
    });
    let board = browser.get("/").body;
    assert!(board.contains("rejected by dora") && browser.get("/patches").body.contains("rejected"), "{board}");
}

#[test]
fn a_policy_that_was_changed_counts_before_anybody_acts() {
    let lab = Lab::with_policy(POLICY);
    let (engineer, approver) = (lab.token("engineer"), lab.token("approver"));
    let policy = lab.folder.join("builds/acme/customer.toml");
    let server = lab.serve(&[]);
    let launch = serde_json::json!({ "patch": "good-motd", "builds": ["web"], "hardware": ["virtio-bios"], "customers": ["acme"] });
    let launched = server.post("/api/v1/runs", &engineer, &[], &launch).json();
    server.ended(launched["run"].as_str().expect("a run"), &engineer);
    let [mut browser, mut second] = [&engineer, &approver].map(|token| Browser::signed_in(&server, token));
    let place = format!("/patches/{}/acme", launched["patch"]["sha256"].as_str().expect("a digest"));
    assert_eq!(browser.send(&format!("{place}/ask"), &[]).status, 303);
    let revision = second.get(&place).field("revision");
    // Nobody tells the server, and it looks every few seconds alone.
    std::fs::write(&policy, POLICY.replace("count = 1", "count = 2")).expect("written");
    let approved = second.send(&format!("{place}/approve"), &[("revision", &revision)]);
    assert_eq!(approved.status, 409, "{approved:?}");
    let now = second.get(&place);
    assert_eq!(second.send(&format!("{place}/approve"), &[("revision", &now.field("revision"))]).status, 303);
    assert!(second.get(&place).body.contains("<b>pending</b>"), "one of two");
    // A catalog with mistakes.
    std::fs::write(&policy, "[policy").expect("written");
    assert_eq!(browser.send(&format!("{place}/ask"), &[]).status, 409);
    assert_eq!(browser.get(&place).status, 409, "nobody knows what is asked for");
    assert_eq!(second.send(&format!("{place}/reject"), &[("reason", "not today")]).status, 303, "a rejection always counts");
}
