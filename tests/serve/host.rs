//! Runs share the host, their cells say why they wait, runs are called off, and the host can be paused and drained.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::server::{IN_REAL_TIME, Lab, POLICY, Server, is_there, one_cell};

/// Launches a run of one cell that differs in this from others.
fn launch(server: &Server, token: &str, key: &str, value: &str) -> String {
    let mut wanted = one_cell();
    wanted[key] = json!([value]);
    let answer = server.post("/api/v1/runs", token, &[], &wanted);
    answer.json()["run"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Asks until it is so.
fn until(server: &Server, token: &str, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let told = server.get(path, token).json();
        if is_so(&told) {
            return told;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{told:#}");
    }
}

fn report(run: &str) -> String {
    format!("/api/v1/runs/{run}")
}

#[test]
fn runs_share_the_host_and_a_cell_that_waits_says_why() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&["--workers", "2"]);
    let first = server.launch(&token);
    let second = launch(&server, &token, "hardware", "virtio-uefi");
    server.under_way(&first, &token);
    server.under_way(&second, &token);
    let third = launch(&server, &token, "suites", "ssh");
    let host = until(&server, &token, "/api/v1/host", |host| host["waiting-count"] == 1);
    let at_work: Vec<_> = host["at-work"].as_array().expect("cells").iter().map(|one| one["run"].as_str().expect("a run")).collect();
    assert!(at_work.len() == 2 && [&first, &second].iter().all(|run| at_work.contains(&run.as_str())), "{host:#}");
    assert_eq!((&host["capacity"]["cores"], &host["taken"]["cores"], &host["capacity"]["memory"]), (&json!(2), &json!(2), &Value::Null));
    let why = "it needs 1 of 2 cores, 0 free";
    let waiting = &host["waiting"][0];
    assert_eq!(
        (&waiting["run"], &waiting["cell"], &waiting["waits-for"], &waiting["why"]),
        (&json!(third), &json!("acme.web@virtio-bios"), &json!("cores"), &json!(why))
    );
    let told = server.get(&report(&third), &token).json();
    assert_eq!((&told["state"], &told["waiting"][0]), (&json!("queued"), waiting));
    let shown = server.lab().patchlab(&["show", &third], Some(&token));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("Waiting\n  acme.web@virtio-bios\n") && shown.contains(why), "{shown}");
    let metrics = server.get("/metrics", &token).text;
    for line in ["patchlab_cells_waiting 1\n", "patchlab_machine_slots 2\n", "patchlab_machine_slots_taken 2\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert_eq!(server.get("/api/v1/runs?state=running", &token).json()["runs"].as_array().map(Vec::len), Some(2));

    // Room that is let go is the next cell's.
    assert_eq!(server.post(&format!("{}/cancel", report(&first)), &token, &[], &json!({})).status, 202);
    server.under_way(&third, &token);
    assert_eq!(server.get(&report(&third), &token).json()["waiting"], json!([]));
    let (lab, well, _) = server.end(Signal::SIGTERM);
    assert!(well);
    assert_eq!(String::from_utf8_lossy(&lab.patchlab(&["gc"], None).stdout), "nothing is left over\n");
}

#[test]
fn a_run_is_called_off_where_it_is() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&["--workers", "1"]);
    let first = server.launch(&token);
    assert_eq!(server.launch(&token), first, "the same plan, unfinished");
    server.under_way(&first, &token);
    let mut another = one_cell();
    another["hardware"] = json!(["virtio-uefi"]);
    let waiting = server.post("/api/v1/runs", &token, &[], &another).json();
    let waiting = waiting["run"].as_str().unwrap_or_else(|| panic!("{waiting}")).to_owned();
    let state = |run: &str| server.get(&format!("/api/v1/runs/{run}"), &token).json()["state"].clone();
    assert_eq!((state(&first), state(&waiting)), (json!("running"), json!("queued")));

    let off = |run: &str, body: &Value| server.post(&format!("/api/v1/runs/{run}/cancel"), &token, &[], body);
    assert_eq!(off(&waiting, &json!({ "reason": "wrong patch" })).status, 202);
    let report = server.ended(&waiting, &token);
    assert_eq!(
        (&report["verdict"], &report["called-off"]),
        (&json!("inconclusive"), &json!({ "by": "engineer", "reason": "wrong patch" }))
    );
    assert!(report["reason"].as_str().is_some_and(|reason| reason.contains("called off by engineer: wrong patch")), "{report}");
    assert!(report["cells"][0]["stages"].as_array().is_some_and(Vec::is_empty), "nothing was begun");

    let asked = Instant::now();
    // Without a body, and twice.
    let bearer = format!("Bearer {token}");
    for _ in 0..2 {
        let answer = server.ask("POST", &format!("/api/v1/runs/{first}/cancel"), &[("authorization", &bearer)], b"");
        assert!(answer.status == 202 || answer.problem() == "run-ended", "{answer:?}");
    }
    let report = server.ended(&first, &token);
    assert!(asked.elapsed() < Duration::from_secs(30), "its boot alone takes as long");
    assert_eq!((&report["verdict"], &report["called-off"]["by"]), (&json!("inconclusive"), &json!("engineer")));
    let too_late = off(&first, &json!({}));
    assert_eq!((too_late.status, too_late.problem().as_str()), (409, "run-ended"));
    let (lab, well, _) = server.end(Signal::SIGTERM);
    assert!(well);
    let left = lab.patchlab(&["gc"], None);
    assert_eq!(String::from_utf8_lossy(&left.stdout), "nothing is left over\n");
}

#[test]
fn a_host_that_is_paused_starts_nothing_until_it_is_resumed() {
    let lab = Lab::new();
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let said = |arguments: &[&str], lab: &Lab| {
        let answer = lab.patchlab(arguments, Some(&token));
        (answer.status.code(), String::from_utf8_lossy(&answer.stdout).into_owned(), String::from_utf8_lossy(&answer.stderr).into_owned())
    };
    let drained = said(&["drain", "--reason", "a new disk"], server.lab());
    assert_eq!((drained.0, drained.1.as_str()), (Some(0), "drained; 0 cells at work\n"), "{}", drained.2);
    let run = server.launch(&token);
    let told = until(&server, &token, &report(&run), |told| told["waiting"][0].is_object());
    let why = told["waiting"][0]["why"].as_str().expect("words");
    assert!(why.starts_with("the host is paused by engineer since ") && why.ends_with(": a new disk"), "{why}");
    assert_eq!((&told["state"], &told["waiting"][0]["waits-for"]), (&json!("queued"), &json!("pause")));

    // Whoever comes next finds it so.
    let (lab, _, _) = server.end(Signal::SIGTERM);
    assert!(is_there(&lab, "paused.json"));
    let refused = said(&["run", "good-motd", "--build", "web", "--hardware", "virtio-bios"], &lab);
    assert!(
        refused.0 == Some(2) && refused.2.contains("the host is paused by engineer") && refused.2.contains("patchlab resume"),
        "{refused:?}"
    );
    let server = lab.serve(&[]);
    let host = until(&server, &token, "/api/v1/host", |host| host["waiting-count"] == 1);
    assert_eq!(
        (&host["paused"]["by"], &host["paused"]["reason"], &host["at-work"]),
        (&json!("engineer"), &json!("a new disk"), &json!([]))
    );
    let resumed = said(&["resume", "--format", "json"], server.lab());
    assert_eq!((resumed.0, serde_json::from_str::<Value>(&resumed.1).expect("JSON")["paused"].clone()), (Some(0), json!(false)));
    assert_eq!(server.ended(&run, &token)["verdict"], "pass");

    // Without a server the state folder is told.
    let (lab, _, _) = server.end(Signal::SIGTERM);
    assert!(!is_there(&lab, "paused.json"));
    assert_eq!(said(&["pause"], &lab).1, "paused; 0 cells at work\n");
    assert!(is_there(&lab, "paused.json"));
    assert_eq!(said(&["resume"], &lab).1, "resumed; 0 cells at work\n");
    assert!(!is_there(&lab, "paused.json"));
}

#[test]
fn a_drain_waits_for_those_at_work_and_says_so_when_it_has_waited_long_enough() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&["--workers", "1"]);
    let run = server.launch(&token);
    server.under_way(&run, &token);
    let drained = server.lab().patchlab(&["drain", "--wait", "10ms"], Some(&token));
    let told = format!("paused, not drained in time; 1 cell at work\n  acme.web@virtio-bios of run {run}\n");
    assert_eq!((drained.status.code(), String::from_utf8_lossy(&drained.stdout).into_owned()), (Some(4), told));
    assert_eq!(server.post(&format!("{}/cancel", report(&run)), &token, &[], &json!({})).status, 202);
    let drained = server.lab().patchlab(&["drain"], Some(&token));
    assert_eq!(drained.status.code(), Some(0));
}

#[test]
fn what_the_host_can_never_bear_is_refused_with_the_numbers() {
    let lab = Lab::with_policy("title = \"Acme\"\n");
    let set = |text: &str| std::fs::write(lab.folder.join("patchlab.toml"), text).expect("written");
    let plan = || {
        let answer = lab.patchlab(&["plan", "good-motd", "--customer", "acme"], None);
        (answer.status.code(), String::from_utf8_lossy(&answer.stderr).into_owned())
    };
    set("[[host]]\nname = \"here\"\nmemory = \"1GiB\"\n");
    let (code, told) = plan();
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("acme.web@virtio-bios can't run on this host: its machine needs 1.3 GiB of memory at once, and there are 1.0 GiB"),
        "{told}"
    );
    assert!(told.contains("[[host]] in patchlab.toml"), "{told}");
    set("[[host]]\nname = \"here\"\nmemory = \"2GiB\"\ncores = 2\nboots = 1\ndisk = \"20GiB\"\n");
    assert_eq!(plan().0, Some(0));
    for (bad, told) in [("memory = \"1MiB\"", "640MiB to 64TiB"), ("cores = 1\nboots = 2", "at most cores, which are 1")] {
        set(&format!("[[host]]\nname = \"here\"\n{bad}\n"));
        let checked = lab.patchlab(&["check"], None);
        let all = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.code() == Some(2) && all.contains(told), "{all}");
    }
}

#[test]
fn the_lane_with_the_shorter_deadline_is_first_whenever_it_was_asked_for() {
    let lab = Lab::with_policy(&format!("{POLICY}[[policy.lane]]\nname = \"routine\"\ndeadline = \"4h\"\n")).scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&["--workers", "1"]);
    let launch = |customer: &str, hardware: &str| {
        let wanted = json!({ "patch": "good-motd", "customers": [customer], "hardware": [hardware] });
        let answer = server.post("/api/v1/runs", &token, &[], &wanted);
        answer.json()["run"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    };
    let first = launch("other", "virtio-bios");
    server.under_way(&first, &token);
    let (second, urgent) = (launch("other", "virtio-uefi"), launch("acme", "virtio-bios"));
    let host = until(&server, &token, "/api/v1/host", |host| host["waiting-count"] == 2);
    let told: Vec<_> = host["waiting"].as_array().expect("cells").iter().map(|one| (&one["run"], &one["deadline-seconds"])).collect();
    assert_eq!(told, [(&json!(urgent), &json!(4 * 3600)), (&json!(second), &Value::Null)]);
}

#[test]
fn of_two_hosts_one_is_out_and_the_other_is_paused_by_itself() {
    const SWIFT: &str = "[pace]\nreal-time = true\nspeed = 100\n";
    let lab = Lab::with_policy("title = \"Acme\"\n").scenario(SWIFT);
    let beta = lab.state.path().join("beta.toml");
    std::fs::write(&beta, format!("{SWIFT}[[fault]]\non = 'start'\ndoes = {{ refuse = 'refused' }}\n")).expect("written");
    let hosts = format!("[[host]]\nname = \"alpha\"\n[[host]]\nname = \"beta\"\nuri = \"sim:{}\"\n", beta.display());
    std::fs::write(lab.folder.join("patchlab.toml"), hosts).expect("written");
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let run = server.launch(&token);
    let told = server.ended(&run, &token);
    assert_eq!(told["verdict"], "pass", "{told:#}");
    let stages = told["cells"][0]["stages"].as_array().expect("stages");
    assert!(!stages.is_empty() && stages.iter().all(|stage| stage["host"] == "alpha"), "{stages:?}");
    assert_eq!((&told["hosts"][0]["host"], &told["hosts"][1]), (&json!("alpha"), &Value::Null));
    let page = server.get(&format!("/api/v1/runs/{run}/report.html"), &token).text;
    assert!(page.contains("main, host alpha") && page.contains("Hosts of its machines"), "{page}");

    let said = |arguments: &[&str]| {
        let answer = server.lab().patchlab(arguments, Some(&token));
        (answer.status.code(), String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr))
    };
    assert_eq!(said(&["drain", "--host", "alpha", "--reason", "a new disk"]), (Some(0), "drained; 0 cells at work\n".to_owned()));
    let (code, told) = said(&["pause", "--host", "gamma"]);
    assert!(code != Some(0) && told.contains("there are alpha, beta"), "{told}");
    let second = launch(&server, &token, "hardware", "virtio-uefi");
    let told =
        until(&server, &token, &report(&second), |told| told["waiting"][0]["why"].as_str().is_some_and(|why| why.contains("known-good")));
    let why = told["waiting"][0]["why"].as_str().expect("words");
    assert!(
        why.starts_with("alpha: the host is paused by engineer since ") && why.contains(": a new disk; beta: the host is out: "),
        "{why}"
    );
    assert_eq!(told["waiting"][0]["waits-for"], "host");
    let host = server.get("/api/v1/host", &token).json();
    assert_eq!((&host["paused"], &host["hosts"][0]["paused"]["reason"]), (&Value::Null, &json!("a new disk")));
    assert!(host["hosts"][1]["out"].as_str().is_some_and(|out| out.starts_with("a known-good machine of image ")), "{host:#}");
    let metrics = server.get("/metrics", &token).text;
    for line in
        ["patchlab_host_out{host=\"beta\"} 1\n", "patchlab_host_out{host=\"alpha\"} 0\n", "patchlab_host_paused{host=\"alpha\"} 1\n"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert_eq!(said(&["resume", "--host", "alpha"]).0, Some(0));
    assert_eq!(server.ended(&second, &token)["verdict"], "pass");

    // A lab on one host of the two finds the other's pause and state as they were.
    let (lab, well, _) = server.end(Signal::SIGTERM);
    assert!(well && is_there(&lab, "hosts/beta") && !is_there(&lab, "paused-alpha.json"));
    let left = lab.patchlab(&["gc"], None);
    assert_eq!(String::from_utf8_lossy(&left.stdout), "nothing is left over\n");
}

#[test]
fn a_servers_cells_are_spread_over_its_hosts_each_as_large_as_it_says() {
    const SWIFT: &str = "[pace]\nreal-time = true\nspeed = 50\n";
    let lab = Lab::with_policy("title = \"Acme\"\n").scenario(SWIFT);
    let beta = lab.state.path().join("beta.toml");
    std::fs::write(&beta, format!("{SWIFT}[host]\ncpus = 3\n")).expect("written");
    let hosts = format!("[[host]]\nname = \"alpha\"\ncores = 1\n[[host]]\nname = \"beta\"\nuri = \"sim:{}\"\n", beta.display());
    std::fs::write(lab.folder.join("patchlab.toml"), hosts).expect("written");
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let runs = [server.launch(&token), launch(&server, &token, "hardware", "virtio-uefi"), launch(&server, &token, "suites", "ssh")];
    let host = until(&server, &token, "/api/v1/host", |host| host["hosts"][1]["capacity"]["cores"] == 3);
    assert_eq!((&host["hosts"][0]["capacity"]["cores"], &host["capacity"]["cores"]), (&json!(1), &json!(4)));
    let mut used = std::collections::BTreeSet::new();
    for run in &runs {
        let told = server.ended(run, &token);
        assert_eq!(told["verdict"], "pass", "{told:#}");
        used.extend(told["hosts"].as_array().expect("hosts").iter().map(|one| one["host"].to_string()));
    }
    assert!(used.contains("\"beta\""), "{used:?}");
}
