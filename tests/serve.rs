//! The server as its callers see it: who may do what, runs over HTTP, and what happens when it is told to stop.

#[path = "serve/archive.rs"]
mod archive;
#[path = "common/command.rs"]
mod command;
#[path = "serve/host.rs"]
mod host;
#[path = "serve/server.rs"]
mod server;
#[path = "serve/stale.rs"]
mod stale;
#[path = "serve/web.rs"]
mod web;
#[path = "serve/wishes.rs"]
mod wishes;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use server::{IN_REAL_TIME, Lab, Server, is_there, one_cell};

const SOME_RUN: &str = "01a20168-5e49-7615-ac41-017ca710af21";

#[test]
fn nobody_does_what_their_role_may_not() {
    let lab = Lab::new();
    let roles = ["viewer", "engineer", "approver", "administrator"];
    let tokens: Vec<String> = roles.iter().map(|role| lab.token(role)).collect();
    let server = lab.serve(&[]);
    let (run, cancel) = (format!("/api/v1/runs/{SOME_RUN}"), format!("/api/v1/runs/{SOME_RUN}/cancel"));
    let [junit, html, markdown, text] = ["junit.xml", "report.html", "report.md", "report.txt"].map(|file| format!("{run}/{file}"));
    let (events, attestation, release) = (format!("{run}/events"), format!("{run}/attestation"), format!("{run}/release"));
    let evidence = format!("{run}/evidence");
    let nothing = json!({ "patch": "no-such-patch" });
    // Method, path, the least role, and what those who have it are answered.
    for (method, path, least, allowed) in [
        ("GET", "/api/v1/runs", 0, 200),
        ("GET", run.as_str(), 0, 404),
        ("GET", &events, 0, 404),
        ("GET", &junit, 0, 404),
        ("GET", &html, 0, 404),
        ("GET", &markdown, 0, 404),
        ("GET", &text, 0, 404),
        ("GET", &attestation, 0, 404),
        ("GET", &evidence, 0, 404),
        ("GET", "/metrics", 0, 200),
        ("GET", "/api/v1/host", 0, 200),
        ("POST", "/api/v1/host/pause", 1, 200),
        ("POST", "/api/v1/host/resume", 1, 200),
        ("GET", "/openapi.json", 0, 200),
        ("POST", "/api/v1/runs", 1, 404),
        ("POST", &cancel, 1, 404),
        ("POST", &release, 1, 404),
    ] {
        let body = if path == "/api/v1/runs" { &nothing } else { &json!({}) };
        for (at, token) in tokens.iter().enumerate() {
            let answer = if method == "GET" { server.get(path, token) } else { server.post(path, token, &[], body) };
            let expected = if at >= least { allowed } else { 403 };
            assert_eq!(answer.status, expected, "{method} {path} as {}: {answer:?}", roles[at]);
            if expected >= 400 {
                answer.problem();
            }
        }
        let answer = server.ask(method, path, &[], b"");
        assert_eq!((answer.status, answer.problem().as_str()), (401, "no-token"), "{method} {path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.ask("GET", path, &[], b"").status, 200, "{path}");
    }
    // Whatever is no bearer token of this lab.
    let basic = format!("Basic {}", tokens[3]);
    for header in ["", "Bearer", "Bearer ", &basic, &tokens[3], "Bearer patchlab_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(server.ask("GET", "/api/v1/runs", &[("authorization", header)], b"").status, 401, "{header:?}");
    }
    assert_eq!(server.get("/api/v1/runs", &tokens[1]).status, 200);
    assert!(server.lab().patchlab(&["token", "revoke", "engineer"], None).status.success());
    assert_eq!(server.get("/api/v1/runs", &tokens[1]).status, 401, "a revocation counts at once");
    let expiring = server.lab().patchlab(&["token", "add", "soon", "--role", "viewer", "--expires", "1ms"], None);
    let expiring = String::from_utf8(expiring.stdout).expect("UTF-8");
    assert_eq!(server.get("/api/v1/runs", expiring.trim()).status, 401, "expired");
    let (lab, well, _) = server.end(Signal::SIGTERM);
    assert!(well);
    let listed = lab.patchlab(&["token", "list", "--format", "json"], None);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let used = |name: &str| listed.as_array().into_iter().flatten().any(|one| one["name"] == name && one["last-used"].is_string());
    assert!(used("viewer") && !used("soon"), "{listed}");
}

#[test]
fn guessing_tokens_is_slowed_down_and_shuts_nobody_else_out() {
    let lab = Lab::new();
    let token = lab.token("viewer");
    let server = lab.serve(&[]);
    let answers: Vec<_> = (0..12).map(|guess| server.get("/api/v1/runs", &format!("patchlab_{guess}"))).collect();
    assert!(answers[..10].iter().all(|answer| answer.status == 401), "{answers:?}");
    let last = answers.last().expect("an answer");
    assert_eq!((last.status, last.problem().as_str()), (429, "too-many-bad-tokens"));
    let wait: u64 = last.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&wait));
    assert_eq!(server.get("/api/v1/runs", &token).status, 200);
}

#[test]
fn a_run_is_launched_watched_and_told() {
    let lab = Lab::new();
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let launched = server.post("/api/v1/runs", &engineer, &[], &one_cell());
    assert_eq!(launched.status, 202, "{launched:?}");
    let run = launched.json()["run"].as_str().expect("a run").to_owned();
    assert_eq!(launched.headers["location"], format!("/api/v1/runs/{run}"));
    let all = server.events(&run, &viewer, None, |_| false);
    let numbered: Vec<u64> = all.iter().filter_map(|(id, _, _)| *id).collect();
    assert!(numbered.is_sorted() && numbered.windows(2).all(|pair| pair[0] != pair[1]), "{numbered:?}");
    let names: Vec<&str> = all.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("run-planned", "run-ended"));
    // Whoever comes back gets exactly what was missed.
    for at in [0, 1, numbered.len() / 2, numbered.len() - 2] {
        let rest = server.events(&run, &viewer, Some(numbered[at]), |_| false);
        let rest: Vec<u64> = rest.iter().filter_map(|(id, _, _)| *id).collect();
        assert_eq!(rest, numbered[at + 1..]);
    }
    assert!(server.events(&run, &viewer, numbered.last().copied(), |_| false).is_empty());

    let report = server.get(&format!("/api/v1/runs/{run}"), &viewer);
    let told = report.json();
    assert_eq!((&told["verdict"], &told["state"], &told["by"]), (&json!("pass"), &json!("ended"), &json!("engineer")));
    for (file, kind, word) in [
        ("junit.xml", "application/xml; charset=utf-8", "<testsuites"),
        ("attestation", "application/vnd.in-toto.bundle", "\"signatures\""),
        ("report.html", "text/html; charset=utf-8", "<!doctype html>"),
        ("report.md", "text/markdown; charset=utf-8", "### Next"),
        ("report.txt", "text/plain; charset=utf-8", "PASS"),
    ] {
        let answer = server.get(&format!("/api/v1/runs/{run}/{file}"), &viewer);
        assert_eq!((answer.status, answer.kind.as_str()), (200, kind));
        assert!(answer.text.contains(word), "{file}: {}", answer.text);
        let policy = answer.headers.get("content-security-policy").map(|policy| policy.to_str().expect("text"));
        assert_eq!(policy.is_some_and(|policy| policy.starts_with("sandbox; default-src 'none'")), file == "report.html");
    }
    let metrics = server.get("/metrics", &viewer);
    for line in ["patchlab_runs_ended_total{verdict=\"pass\"} 1", "patchlab_runs{state=\"queued\"} 0", "patchlab_stage_seconds_count"] {
        assert!(metrics.text.contains(line), "{line}: {}", metrics.text);
    }
    assert!(metrics.text.contains("route=\"/api/v1/runs/{run}/junit.xml\",status=\"200\"} 1"), "{}", metrics.text);
    // What the description says of a report is so.
    let mut schema = server.get("/openapi.json", &viewer).json();
    schema["$ref"] = json!("#/components/schemas/RunReport");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> = validator.iter_errors(&told).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!validator.is_valid(&json!({ "run": run })));
}

#[test]
fn runs_are_listed_by_pages_and_by_what_they_are() {
    let lab = Lab::new();
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let mut runs: Vec<String> = (0..5)
        .map(|_| {
            let run = server.launch(&token);
            server.ended(&run, &token);
            run
        })
        .collect();
    runs.reverse();
    let (mut paged, mut path) = (Vec::new(), "/api/v1/runs?limit=2".to_owned());
    loop {
        let page = server.get(&path, &token).json();
        paged.extend(page["runs"].as_array().expect("rows").iter().map(|row| row["run"].as_str().expect("a run").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/runs?limit=2&cursor={next}");
    }
    assert_eq!(paged, runs);
    let digest = server.get("/api/v1/runs?limit=1", &token).json()["runs"][0]["patch"]["sha256"].as_str().expect("a digest").to_owned();
    for (filter, expected) in [
        ("state=ended", 5),
        ("state=queued", 0),
        ("verdict=pass", 5),
        ("verdict=fail", 0),
        ("patch=good-motd", 5),
        (&format!("patch={digest}"), 5),
        ("patch=other", 0),
        ("customer=acme&by=engineer", 5),
        ("customer=umbrella", 0),
        ("by=nobody", 0),
    ] {
        let found = server.get(&format!("/api/v1/runs?{filter}"), &token).json();
        assert_eq!(found["runs"].as_array().map(Vec::len), Some(expected), "{filter}");
    }
    for bad in [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "state=done",
        "verdict=maybe",
        "cursor=x",
        "customer=A",
        "nosuch=1",
        "limit=1&limit=2",
    ] {
        let answer = server.get(&format!("/api/v1/runs?{bad}"), &token);
        assert_eq!((answer.status, answer.problem().as_str()), (400, "unreadable"), "{bad}");
    }
    assert_eq!(server.get(&format!("/api/v1/runs?cursor={SOME_RUN}"), &token).problem(), "no-such-run");
}

#[test]
fn the_same_key_launches_once() {
    let lab = Lab::new();
    let (token, other) = (lab.token("engineer"), lab.token("administrator"));
    let server = lab.serve(&[]);
    let launch =
        |server: &Server, token: &str, key: &str, body: &Value| server.post("/api/v1/runs", token, &[("idempotency-key", key)], body);
    let run = |answer: server::Answer| answer.json()["run"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    // At once, as a client does that has lost its patience.
    let runs: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| run(launch(&server, &token, "k-1", &one_cell())))).collect();
        asking.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]), "{runs:?}");
    server.ended(&runs[0], &token);
    assert_eq!(run(launch(&server, &token, "k-1", &one_cell())), runs[0], "also when it has ended");
    let mut another = one_cell();
    another["hardware"] = json!(["virtio-uefi"]);
    let refused = launch(&server, &token, "k-1", &another);
    assert_eq!((refused.status, refused.problem().as_str()), (409, "key-used"));
    assert_ne!(run(launch(&server, &other, "k-1", &one_cell())), runs[0], "another caller's key is another key");
    assert_ne!(run(launch(&server, &token, "k-2", &one_cell())), runs[0]);
    for bad in ["", " ", "a b", &"k".repeat(201)] {
        assert_eq!(launch(&server, &token, bad, &one_cell()).status, 400, "{bad:?}");
    }
    let (lab, _, _) = server.end(Signal::SIGTERM);
    let server = lab.serve(&[]);
    assert_eq!(run(launch(&server, &token, "k-1", &one_cell())), runs[0], "also after a restart");
}

#[test]
fn a_server_that_is_stopped_or_killed_is_followed_by_one_that_takes_the_runs_up() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let lab = Lab::new().scenario(IN_REAL_TIME);
        let token = lab.token("engineer");
        let server = lab.serve(&[]);
        let run = server.launch(&token);
        let mut another = one_cell();
        another["hardware"] = json!(["virtio-uefi"]);
        let waiting = server.post("/api/v1/runs", &token, &[], &another).json()["run"].as_str().expect("a run").to_owned();
        server.under_way(&run, &token);
        let (lab, well, said) = server.end(signal);
        assert_eq!((well, is_there(&lab, "server.json")), if signal == Signal::SIGTERM { (true, false) } else { (false, true) }, "{said}");
        let shown = lab.patchlab(&["show", &run], Some(&token));
        assert_eq!(shown.status.code(), Some(4), "it has not ended; a stale server.json deceives nobody");

        let server = lab.in_no_time().serve(&[]);
        let report = server.ended(&run, &token);
        assert_eq!((&report["verdict"], &report["by"]), (&json!("pass"), &json!("engineer")), "{signal}: {report}");
        assert_eq!(server.ended(&waiting, &token)["verdict"], "pass");
        let boots = |stages: &Value| stages.as_array().into_iter().flatten().filter(|stage| stage["stage"] == "boot").count();
        assert_eq!(boots(&report["cells"][0]["stages"]), 2, "{signal}: the pass was done again");
        assert_eq!(server.get("/readyz", &token).status, 200);
        let (lab, _, _) = server.end(Signal::SIGINT);
        assert_eq!(String::from_utf8_lossy(&lab.patchlab(&["gc"], None).stdout), "nothing is left over\n");
    }
}

#[test]
fn who_waits_for_a_run_waits_over_the_servers_restart() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let run = server.launch(&token);
    server.under_way(&run, &token);
    // The same plan, unfinished: the same run.
    let verb = ["run", "good-motd", "--build", "web", "--hardware", "virtio-bios"];
    let mut client = server.lab().command(&verb, Some(&token)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(client.stderr.take().expect("a pipe")).lines().map(|line| line.expect("UTF-8"));
    let first = said.next().expect("a line");
    assert!(first.starts_with(&format!("run {run}: ")), "{first}");
    let address = server.url.strip_prefix("http://").expect("an address").to_owned();
    let (lab, _, _) = server.end(Signal::SIGKILL);
    assert!(said.any(|line| line.starts_with("the server is away")));
    let server = lab.in_no_time().serve_at(&address, &[]);
    let rest: Vec<String> = said.collect();
    assert_eq!(client.wait().expect("reaped").code(), Some(0), "{rest:#?}");
    assert_eq!(server.ended(&run, &token)["verdict"], "pass");
}

#[test]
fn streams_end_when_the_server_stops() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let run = server.launch(&token);
    server.under_way(&run, &token);
    let mut stopped = false;
    let events = server.events(&run, &token, None, |_| {
        if !std::mem::replace(&mut stopped, true) {
            server.signal(Signal::SIGTERM);
        }
        false
    });
    assert!(events.iter().all(|(_, name, _)| name != "run-ended"));
}

#[test]
fn a_token_that_is_revoked_takes_its_streams_with_it() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let run = server.launch(&engineer);
    server.under_way(&run, &engineer);
    let mut revoked = false;
    let events = server.events(&run, &viewer, None, |_| {
        if !std::mem::replace(&mut revoked, true) {
            let output = server.lab().patchlab(&["token", "revoke", "viewer"], None);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        }
        false
    });
    assert!(revoked && events.iter().all(|(_, name, _)| name != "run-ended"), "{events:?}");
    assert_eq!(server.get(&format!("/api/v1/runs/{run}"), &viewer).status, 401);
    assert_eq!(server.get(&format!("/api/v1/runs/{run}"), &engineer).json()["state"], "running");
    server.end(Signal::SIGTERM);
}

#[test]
fn what_a_lab_can_not_do_is_told_and_leaves_nothing_behind() {
    let lab = Lab::new();
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let with = |key: &str, value: Value| {
        let mut body = one_cell();
        body[key] = value;
        body
    };
    for (body, status, code) in [
        (with("patch", json!("nosuch")), 404, "no-such-patch"),
        (with("patch", json!("../../etc")), 404, "no-such-patch"),
        (with("builds", json!(["nosuch"])), 409, "not-possible"),
        (with("builds", json!(["No Such"])), 422, "not-what-is-asked-for"),
        (with("builds", json!("web")), 422, "not-what-is-asked-for"),
        (with("nosuch", json!(1)), 422, "not-what-is-asked-for"),
        (json!([]), 422, "not-what-is-asked-for"),
        (json!(null), 422, "not-what-is-asked-for"),
    ] {
        let answer = server.post("/api/v1/runs", &token, &[], &body);
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{body}");
    }
    let bearer = format!("Bearer {token}");
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = server.ask(method, path, &[&[("authorization", bearer.as_str())], headers].concat(), body);
        (answer.status, answer.problem())
    };
    let json = ("content-type", "application/json");
    for (body, status, code) in [(&b""[..], 400, "unreadable"), (b"{", 400, "unreadable"), (b"\xff\xfe", 400, "unreadable")] {
        assert_eq!(ask("POST", "/api/v1/runs", &[json], body), (status, code.to_owned()), "{body:?}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""] {
        let answered = ask("POST", "/api/v1/runs", &[("content-type", kind)], one_cell().to_string().as_bytes());
        assert_eq!(answered, (415, "wrong-type".to_owned()), "{kind}");
    }
    for (method, path, status, code) in [
        ("DELETE", "/api/v1/runs", 405, "method-not-allowed"),
        ("PUT", "/metrics", 405, "method-not-allowed"),
        ("GET", "/api/v1/runs/", 404, "no-such-route"),
        ("GET", "/api/v2/runs", 404, "no-such-route"),
        ("GET", "/api/v1/runs/x", 404, "no-such-run"),
        ("GET", "/api/v1/runs/..%2f..%2fetc%2fpasswd", 404, "no-such-run"),
        ("GET", "/api/v1/runs/%ff", 400, "unreadable"),
    ] {
        assert_eq!(ask(method, path, &[], b""), (status, code.to_owned()), "{method} {path}");
    }
    assert_eq!(ask("GET", &format!("/api/v1/runs/{SOME_RUN}/events"), &[("last-event-id", "x")], b"").0, 400);
    let large = vec![b' '; 300 * 1024];
    assert_eq!(ask("POST", "/api/v1/runs", &[json], &large), (413, "too-large".to_owned()));
    let many: Vec<String> = (0..20_000).map(|number| format!("a{number}")).collect();
    let answer = server.post("/api/v1/runs", &token, &[], &with("suites", json!(many)));
    assert!(answer.problem() == "not-possible" && answer.text.len() < 10_000, "{} bytes", answer.text.len());
    let chunked = format!(
        "POST /api/v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunks = format!("{chunked}{:x}\r\n{}\r\n0\r\n\r\n", large.len(), " ".repeat(large.len()));
    assert!(server.raw(chunks.as_bytes()).starts_with("HTTP/1.1 413 "));
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(100_000));
    assert!(server.raw(head.as_bytes()).starts_with("HTTP/1.1 431 "));
    assert_eq!(server.get("/api/v1/runs", &token).json()["runs"], json!([]), "nothing was begun");
}

#[test]
fn a_run_that_can_not_be_worked_on_says_why_and_holds_nobody_up() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let first = server.launch(&token);
    let mut another = one_cell();
    another["hardware"] = json!(["virtio-uefi"]);
    let second = server.post("/api/v1/runs", &token, &[], &another).json()["run"].as_str().expect("a run").to_owned();
    server.under_way(&first, &token);
    let (lab, _, _) = server.end(Signal::SIGTERM);
    // The candidate is gone when they are taken up.
    std::fs::rename(lab.state.path().join("patches"), lab.state.path().join("elsewhere")).expect("moved");
    let server = lab.in_no_time().serve(&[]);
    let report = server.ended(&first, &token);
    assert!(report["called-off"]["reason"].as_str().is_some_and(|reason| reason.contains("there is no patch")), "{report}");
    assert_eq!((&report["verdict"], &report["called-off"]["by"]), (&json!("inconclusive"), &Value::Null));
    assert!(server.ended(&second, &token)["called-off"]["reason"].is_string());
    assert_eq!(server.get("/readyz", &token).status, 200);
}

#[test]
fn the_command_line_goes_through_the_server() {
    let lab = Lab::new();
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let patch = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/patches/good-motd");
    let one = ["run", patch, "--build", "web", "--hardware", "virtio-bios"];
    let without = server.lab().patchlab(&one, None);
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(without.status.code() == Some(2) && said.contains("PATCHLAB_TOKEN"), "{said}");
    let junit = server.lab().state.path().join("out.xml");
    let with = [&one[..], &["--format", "json", "--junit", junit.to_str().expect("UTF-8")]].concat();
    let output = server.lab().patchlab(&with, Some(&token));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["verdict"], &report["by"]), (&json!("pass"), &json!("engineer")));
    assert!(std::fs::read_to_string(junit).expect("written").contains("<testsuites"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("boot done"), "{output:?}");
    let run = report["run"].as_str().expect("a run");
    for token in [Some(token.as_str()), None] {
        let runs = server.lab().patchlab(&["runs", "--format", "json"], token);
        let runs: Value = serde_json::from_slice(&runs.stdout).expect("JSON");
        assert_eq!((&runs[0]["run"], &runs[0]["verdict"]), (&json!(run), &json!("pass")));
        let shown = server.lab().patchlab(&["show", "last"], token);
        assert!(shown.status.code() == Some(0) && String::from_utf8_lossy(&shown.stdout).contains("PASS"), "{shown:?}");
    }
    assert_eq!(server.lab().patchlab(&["show", "nosuch"], Some(&token)).status.code(), Some(2));
    assert_eq!(server.lab().patchlab(&["cancel", run], Some(&token)).status.code(), Some(2), "it has ended");
    assert_eq!(server.lab().patchlab(&["runs"], Some("patchlab_bad")).status.code(), Some(2));
    let second = server.lab().patchlab(&["serve", "--listen", "127.0.0.1:0"], None);
    assert_eq!(second.status.code(), Some(2), "one server a lab");
}

#[test]
fn with_a_certificate_it_speaks_tls_alone() {
    let lab = Lab::new();
    let token = lab.token("viewer");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (lab.state.path().join("server.crt"), lab.state.path().join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let (certificate, key) = (certificate.to_str().expect("UTF-8").to_owned(), key.to_str().expect("UTF-8").to_owned());
    for (options, word) in [
        (vec!["--certificate", certificate.as_str()], "--private-key"),
        (vec!["--certificate", "/nonexistent", "--private-key", &key], "/nonexistent"),
        (vec!["--certificate", &key, "--private-key", &key], "certificate"),
    ] {
        let refused = lab.patchlab(&[&["serve", "--listen", "127.0.0.1:0"], &options[..]].concat(), None);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(word), "{options:?}: {said}");
    }
    let server = lab.serve(&["--certificate", &certificate, "--private-key", &key]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let runs = |trusted: Option<&str>| {
        let mut command = command::patchlab(env!("CARGO_MANIFEST_DIR"), server.lab().state.path());
        command
            .args(["--hypervisor", "sim", "runs"])
            .env("PATCHLAB_TOKEN", &token)
            .envs(trusted.map(|file| ("PATCHLAB_CERTIFICATE", file)));
        command.output().expect("patchlab starts")
    };
    let trusting = runs(Some(&certificate));
    assert_eq!((trusting.status.code(), String::from_utf8_lossy(&trusting.stdout).as_ref()), (Some(0), "no runs yet\n"), "{trusting:?}");
    assert_eq!(runs(None).status.code(), Some(3), "nobody vouches for it");
    assert!(!server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").contains("200 OK"));
}
