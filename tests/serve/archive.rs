//! The auditor's archive over HTTP, by page and by command.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::server::{IN_REAL_TIME, Lab, is_there};
use super::web::Browser;

fn listed(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let files = archive.entries().expect("a tar file");
    files.map(|file| file.expect("a file").path().expect("a path").to_string_lossy().into_owned()).collect()
}

#[test]
fn the_same_archive_comes_by_every_way() {
    let lab = Lab::new();
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let run = server.launch(&engineer);
    server.ended(&run, &viewer);
    let path = format!("/api/v1/runs/{run}/evidence");
    let (headers, archive) = server.download(&path, &viewer);
    assert_eq!(headers["content-type"], "application/gzip");
    assert_eq!(headers["content-disposition"], format!("attachment; filename=\"patchlab-{run}.tar.gz\""));
    assert_eq!(
        (&headers["transfer-encoding"], headers.get("content-length")),
        (&"chunked".parse().expect("text"), None),
        "as it is packed"
    );
    let names = listed(&archive);
    for name in ["README.md", "attestation.intoto.jsonl", "journal.jsonl", "report.html", "SHA256SUMS", "SHA256SUMS.sig"] {
        assert!(names.contains(&format!("patchlab-{run}/{name}")), "{name}: {names:?}");
    }
    assert!(names.iter().any(|name| name.contains("/evidence/acme.web@virtio-bios/main/")), "{names:?}");

    // In the lab's own state folder without the server, through it, and from somewhere else.
    let file = |name: &str| server.lab().state.path().join(name);
    let write = |name: &str| ["evidence", "last", "--output", file(name).to_str().expect("UTF-8")].map(str::to_owned);
    let read = |name: &str| std::fs::read(file(name)).expect("written");
    for (name, token) in [("local.tar.gz", None), ("through.tar.gz", Some(viewer.as_str()))] {
        let arguments = write(name);
        let output = server.lab().patchlab(&arguments.each_ref().map(String::as_str), token);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(read(name) == archive, "{name}: other bytes");
    }
    let arguments = write("far.tar.gz");
    let arguments = arguments.each_ref().map(String::as_str);
    let output = server.lab().elsewhere(&server.url, &arguments, Some(&viewer));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(read("far.tar.gz") == archive);
    let attested = server.lab().elsewhere(&server.url, &["attest", "last"], Some(&viewer));
    assert_eq!(String::from_utf8_lossy(&attested.stdout), server.get(&format!("/api/v1/runs/{run}/attestation"), &viewer).text);
    let own_key = [&arguments[..], &["--signing-key", "/nonexistent"]].concat();
    let refused = server.lab().elsewhere(&server.url, &own_key, Some(&viewer));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("signs with its own key"), "{said}");

    let mut browser = Browser::signed_in(&server, &viewer);
    let link = format!("/runs/{run}/report/evidence");
    assert!(browser.get(&format!("/runs/{run}")).body.contains(&format!("href=\"{link}\"")));
    let page = browser.get(&link);
    assert_eq!((page.header("content-type"), page.status), ("application/gzip", 200));
    assert!(page.header("content-disposition").starts_with("attachment; "), "{page:?}");
    assert!(page.header("content-security-policy").contains("sandbox"), "{page:?}");

    // Where there is no room for it here, that is what is said.
    let full = file("full");
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link");
    let output = server.lab().elsewhere(&server.url, &["evidence", "last", "--output", full.to_str().expect("UTF-8")], Some(&viewer));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("full: No space left") && !said.contains(&server.url), "{said}");

    // What is gone is said in it, and by the command that fetched it.
    let kept = std::fs::read_dir(file("evidence")).expect("evidence").flatten().next().expect("a file").path();
    std::fs::remove_file(kept).expect("removed");
    let (_, archive) = server.download(&path, &viewer);
    assert!(listed(&archive).contains(&format!("patchlab-{run}/MISSING.txt")));
    let output = server.lab().elsewhere(&server.url, &arguments, Some(&viewer));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("gone from the store or altered"), "{said}");
    assert!(read("far.tar.gz") == archive, "the rest is there all the same");
}

#[test]
fn a_report_and_the_kept_files_are_the_same_by_every_way() {
    let lab = Lab::new();
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    let run = server.launch(&engineer);
    server.ended(&run, &viewer);
    let by_every_way = |verb: &[&str]| {
        [
            server.lab().patchlab(verb, None),
            server.lab().patchlab(verb, Some(&viewer)),
            server.lab().elsewhere(&server.url, verb, Some(&viewer)),
        ]
    };
    for format in ["junit", "html", "markdown", "json"] {
        let [here, through, far] = by_every_way(&["report", "last", "--format", format]).map(|output| {
            assert_eq!(output.status.code(), Some(0), "{format}: {output:?}");
            output.stdout
        });
        assert!(through == far, "{format}");
        if format == "json" {
            let [mut here, far] = [here, far].map(|text| serde_json::from_slice::<serde_json::Value>(&text).expect("JSON"));
            // What a server alone can say.
            for more in ["state", "waiting"] {
                here[more] = far[more].clone();
            }
            assert_eq!((&here, &far["state"]), (&far, &"ended".into()));
        } else {
            assert!(here == far, "{format}: {}\n{}", String::from_utf8_lossy(&here), String::from_utf8_lossy(&far));
        }
    }
    let folder = |name: &str| server.lab().state.path().join(name);
    let write = |name: &str| ["report", "last", "--evidence", folder(name).to_str().expect("UTF-8")].map(str::to_owned);
    let (here, far) = (write("here"), write("far"));
    let output = server.lab().patchlab(&here.each_ref().map(String::as_str), None);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let far = far.each_ref().map(String::as_str);
    let output = server.lab().elsewhere(&server.url, &far, Some(&viewer));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let kept = files(&folder("far"));
    assert!(!kept.is_empty() && kept == files(&folder("here")), "{:?}", kept.keys());
    let output = server.lab().elsewhere(&server.url, &far, Some(&viewer));
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("is there already"), "{output:?}");
}

/// What is below a folder, by path.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inside, bytes)| (Path::new(&entry.file_name()).join(inside), bytes)));
        } else {
            found.insert(entry.file_name().into(), std::fs::read(&path).expect("a file"));
        }
    }
    found
}

#[test]
fn a_run_under_way_has_no_archive_yet() {
    let lab = Lab::new().scenario(IN_REAL_TIME);
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let run = server.launch(&token);
    let answer = server.get(&format!("/api/v1/runs/{run}/evidence"), &token);
    assert_eq!((answer.status, answer.problem().as_str()), (409, "not-ended"), "{answer:?}");
    let file = server.lab().state.path().join("archive.tar.gz");
    for token in [None, Some(token.as_str())] {
        let output = server.lab().patchlab(&["evidence", "last", "--output", file.to_str().expect("UTF-8")], token);
        assert!(output.status.code() == Some(4) && !Path::new(&file).exists(), "{output:?}");
    }
    let folder = server.lab().state.path().join("files");
    let output = server.lab().patchlab(&["report", "last", "--evidence", folder.to_str().expect("UTF-8")], Some(&token));
    assert!(output.status.code() == Some(4) && !folder.exists(), "{output:?}");
    let mut browser = Browser::signed_in(&server, &token);
    assert_eq!(browser.get(&format!("/runs/{run}/report/evidence")).status, 409);
    server.end(Signal::SIGTERM);
}

#[test]
fn the_lab_says_how_many_may_come_at_once() {
    let lab = Lab::with_policy("title = \"No policy\"\n");
    let token = lab.token("viewer");
    std::fs::write(lab.folder.join("patchlab.toml"), "[server]\nconnections-from-this-host = 3\n").expect("written");
    let server = lab.serve(&[]);
    let held = [server.connect(), server.connect(), server.connect()];
    let answer = server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("problem:too-many-connections"), "{answer}");
    drop(held);
    // When the server has seen that they are gone is the kernel's to say.
    let waited = std::time::Instant::now();
    while !server.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").starts_with("HTTP/1.1 200") {
        assert!(waited.elapsed() < std::time::Duration::from_secs(20), "still full");
    }
    assert_eq!(server.get("/api/v1/runs", &token).status, 200);
    let (lab, _, _) = server.end(Signal::SIGTERM);
    std::fs::write(lab.folder.join("patchlab.toml"), "[server]\nconnections = 3\n").expect("written");
    let refused = lab.patchlab(&["serve", "--listen", "127.0.0.1:0"], None);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

/// The file of this name in an archive, as text.
fn text(archive: &[u8], name: &str) -> String {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut files = archive.entries().expect("a tar file").map(|file| file.expect("a file"));
    let mut file = files.find(|file| file.path().expect("a path").ends_with(name)).expect("the file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("text");
    text
}

#[test]
fn a_server_signs_with_the_key_that_it_is_given_else_with_its_own() {
    let (other, lab) = (Lab::new(), Lab::new());
    let public = String::from_utf8(other.patchlab(&["key", "show"], None).stdout).expect("UTF-8");
    let key = other.state.path().join("signing-key.pem");
    let given = ["--signing-key", key.to_str().expect("UTF-8")];
    let engineer = lab.token("engineer");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("opened");
    let refused = lab.patchlab(&[&["serve", "--listen", "127.0.0.1:0"], &given[..]].concat(), None);
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("others can read it"), "{refused:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("closed");
    let server = lab.serve(&given);
    assert!(!is_there(server.lab(), "signing-key.pem"));
    let run = server.launch(&engineer);
    server.ended(&run, &engineer);
    let path = format!("/api/v1/runs/{run}/evidence");
    assert_eq!(text(&server.download(&path, &engineer).1, "public-key.pem"), public);
    let (lab, _, _) = server.end(Signal::SIGTERM);
    let server = lab.serve(&[]);
    assert!(is_there(server.lab(), "signing-key.pem"), "made at the start");
    assert_ne!(text(&server.download(&path, &engineer).1, "public-key.pem"), public);
}
