//! What a server leaves that was killed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::server::Lab;

#[test]
fn what_a_killed_server_left_leads_nobody_to_whoever_listens_there_now() {
    let lab = Lab::new();
    let token = lab.token("engineer");
    let (lab, _, _) = lab.serve(&[]).end(Signal::SIGKILL);
    let [file, lock] = ["server.json", "controller.lock"].map(|name| lab.state.path().join(name));
    let left = fs::read_to_string(&file).expect("left behind");
    let process = serde_json::from_str::<Value>(&left).expect("JSON")["process"].to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let url = serde_json::from_str::<Value>(&left).expect("JSON")["url"].as_str().expect("a URL").to_owned();
    fs::write(&file, left.replace(&url, &format!("http://{}", listener.local_addr().expect("an address")))).expect("written");

    // Somebody works with the lab at a terminal; numbers of processes come again.
    for holder in ["4711", &process] {
        fs::write(&lock, holder).expect("written");
        let held = Flock::lock(File::open(&lock).expect("there"), FlockArg::LockExclusive).map_err(|(_, bad)| bad).expect("the lock");
        let runs = lab.patchlab(&["runs"], Some(&token));
        assert_eq!((runs.status.code(), String::from_utf8_lossy(&runs.stdout).as_ref()), (Some(0), "no runs yet\n"), "{runs:?}");
        let run = lab.patchlab(&["run", "good-motd", "--build", "web", "--hardware", "virtio-bios"], Some(&token));
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.code() == Some(2) && said.contains(&format!("another patchlab (process {holder})")), "{said}");
        drop(held);
    }
    assert_eq!(lab.patchlab(&["runs"], Some(&token)).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&lock).expect("there"), process, "who looks for a server does not take the lock");
    let came = listener.accept().map(|(_, from)| from).map_err(|error| error.kind());
    assert_eq!(came, Err(ErrorKind::WouldBlock), "nobody spoke to it");
}
