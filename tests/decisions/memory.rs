//! What is answered while the database says nothing.

use std::fs::{File, OpenOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::*;

/// The locks that every reader and writer of a SQLite file in WAL mode takes, held against all of them.
struct Locked(File);

impl Locked {
    /// Where they are in the file that readers share (https://www.sqlite.org/walformat.html).
    const FIRST: libc::off_t = 120;
    const COUNT: libc::off_t = 8;

    fn new(lab: &Lab) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(lab.state.path().join("journal.sqlite-shm")).expect("it is open");
        let locked = Self(file);
        locked.set(libc::F_WRLCK);
        locked
    }

    fn set(&self, kind: libc::c_int) {
        let lock = libc::flock {
            l_type: libc::c_short::try_from(kind).expect("a kind"),
            l_whence: libc::c_short::try_from(libc::SEEK_SET).expect("the start"),
            l_start: Self::FIRST,
            l_len: Self::COUNT,
            l_pid: 0,
        };
        // It waits for those who read at this moment.
        fcntl(&self.0, FcntlArg::F_SETLKW(&lock)).expect("locked");
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.set(libc::F_UNLCK);
    }
}

#[test]
fn what_has_not_changed_is_answered_without_the_database() {
    let lab = lab(POLICY, "");
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    run(&server, &engineer);
    // What was written a moment ago is read again: two writes within a tick of the clock can't be told apart.
    let written = || std::fs::metadata(server.lab().state.path().join("journal.sqlite-wal")).and_then(|about| about.modified());
    let rests = || written().is_ok_and(|at| at.elapsed().is_ok_and(|since| since > Duration::from_millis(100)));
    let begun = Instant::now();
    while !rests() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the journal does not come to rest: {:?}", written());
        server.get(DECISION, &engineer);
    }
    let known = server.get(DECISION, &engineer);
    assert_eq!(known.json()["status"], "pending", "{known:?}");
    let read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let locked = Locked::new(server.lab());
        let reading = scope.spawn(|| {
            let answer = server.get("/api/v1/runs", &engineer);
            read.store(true, Ordering::SeqCst);
            answer.status
        });
        for _ in 0..100 {
            let same = conditional(&server, DECISION, &engineer, &tag(&known));
            assert_eq!(same.status, 304, "{same:?}");
            let again = server.get(DECISION, &engineer);
            assert_eq!((again.status, &again.text), (200, &known.text));
        }
        assert!(!read.load(Ordering::SeqCst), "what has to be read waits for the lock");
        drop(locked);
        assert_eq!(reading.join().expect("an answer"), 200);
    });
}

#[test]
fn a_plain_poll_is_answered_as_any_other() {
    let lab = lab(POLICY, "");
    let engineer = lab.token("engineer");
    let server = lab.serve(&[]);
    run(&server, &engineer);
    let known = server.get(DECISION, &engineer);
    let digest = known.json()["patch"]["sha256"].as_str().expect("a digest").to_owned();
    let (bearer, tag) = (format!("Bearer {engineer}"), tag(&known));
    let asked = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut answer = server.ask(method, path, headers, b"");
        answer.headers.remove("date");
        (answer.status, answer.headers, answer.text)
    };
    let (good, bad) = (("authorization", bearer.as_str()), ("authorization", "Bearer patchlab_guessed"));
    for (status, method, patch, headers) in [
        (200, "GET", "good-motd", vec![good]),
        (200, "GET", digest.as_str(), vec![good]),
        (200, "GET", &digest[7..15], vec![good, ("if-none-match", "\"another\"")]),
        (304, "GET", "good-motd", vec![good, ("if-none-match", &tag)]),
        (304, "GET", "good-motd", vec![good, ("if-none-match", "*")]),
        (200, "HEAD", "good-motd", vec![good]),
        (405, "DELETE", "good-motd", vec![good]),
        (404, "GET", "unknown", vec![good]),
        (404, "GET", "good-motd/", vec![good]),
        (400, "GET", "%FF", vec![good]),
        (401, "GET", "good-motd", vec![]),
        (401, "GET", "good-motd", vec![bad]),
        (401, "GET", "good-motd", vec![good, good]),
    ] {
        let [plain, other] =
            ["acme", "%61cme"].map(|customer| asked(method, &format!("/api/v1/decisions/{patch}?customer={customer}"), &headers));
        assert_eq!(plain, other, "{method} {patch} {headers:?}");
        assert_eq!(plain.0, status, "{method} {patch} {headers:?}: {plain:?}");
    }
    // A guess counts once: the four from above, and so many more until this address has had its ten.
    let guesses = (0..7).map(|_| asked("GET", DECISION, &[bad]).0).collect::<Vec<_>>();
    assert_eq!(guesses, [401, 401, 401, 401, 401, 401, 429]);
    assert_eq!(asked("GET", DECISION, &[good]).0, 200, "who has a good token is not one of them");
    let revoked = server.lab().patchlab(&["token", "revoke", "engineer"], None);
    assert!(revoked.status.success(), "{revoked:?}");
    assert_eq!(asked("GET", DECISION, &[good]).0, 429, "a revocation counts at once");
}
