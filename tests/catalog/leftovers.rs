//! What a case may say that it leaves, and what its scripts say.

use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sys::stat::Mode;

use super::Lab;

#[test]
fn a_case_that_leaves_something_cannot_say_that_it_does_not() {
    let claims = |scripts: &[(&str, &str)], claim: &str| {
        let lab = Lab::good();
        lab.change("test-suites/web/suite.toml", "needs = [\"curl\"]", claim);
        for (file, text) in scripts {
            lab.script(&format!("test-suites/web/{file}"));
            lab.change(&format!("test-suites/web/{file}"), "#!/bin/sh\n", &format!("#!/bin/sh\n{text}\n"));
        }
        lab.brief()
    };
    let clean = "leaves-nothing = true";
    let uses = |file: &str, variable: &str| {
        let problem = "what it does patched hangs on its own baseline";
        vec![format!("test-suites/web/suite.toml:7 [case[0].leaves-nothing] {file} uses ${variable}: {problem}")]
    };
    assert_eq!(claims(&[], clean), Vec::<String>::new());
    assert_eq!(claims(&[("serves", "echo x >$PATCHLAB_KEEP/x")], clean), uses("serves", "PATCHLAB_KEEP"));
    assert_eq!(claims(&[("serves", "[ $PATCHLAB_PHASE = patched ]")], clean), uses("serves", "PATCHLAB_PHASE"));
    let lib = [("serves", ". $PATCHLAB_SUITE/one.sh"), ("one.sh", ". $PATCHLAB_SUITE/parts/two.sh"), ("parts/two.sh", "ls $PATCHLAB_KEEP")];
    assert_eq!(claims(&lib, clean), uses("parts/two.sh", "PATCHLAB_KEEP"), "what a script takes in counts too");
    let below = [("cases/one.sh", ". \"${0%/*}/two.sh\""), ("cases/two.sh", "ls $PATCHLAB_KEEP"), ("serves", "exec cases/one.sh")];
    assert_eq!(claims(&below, clean), uses("cases/two.sh", "PATCHLAB_KEEP"), "also by its name alone, from the folder where it is");
    assert_eq!(
        claims(&[("serves", "for part in parts/*; do :; done"), ("parts/x", "ls $PATCHLAB_KEEP")], clean),
        uses("parts/x", "PATCHLAB_KEEP")
    );
    assert_eq!(claims(&[("other.sh", "ls $PATCHLAB_KEEP")], clean), Vec::<String>::new(), "what it does not take in does not");
    assert_eq!(claims(&[("serves", "ls $PATCHLAB_KEEP")], "leaves-nothing = false"), Vec::<String>::new());
    let ruins = "test-suites/web/suite.toml:7 [case[0].leaves-nothing] a destructive case leaves its machine unfit";
    assert_eq!(
        claims(&[], "destructive = true\nleaves-nothing = true").iter().map(|said| said.replace(":8 ", ":7 ")).collect::<Vec<_>>(),
        [ruins]
    );
}

#[test]
fn a_script_that_is_none_is_refused_and_not_read() {
    for (run, problem) in [
        ("/dev/null", "an absolute path"),
        ("/", "an absolute path"),
        ("..", "a path that leaves the folder"),
        ("parts", "something that is not a regular file"),
        ("pipe", "something that is not a regular file"),
    ] {
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let lab = Lab::good();
            lab.change("test-suites/web/suite.toml", "needs = [\"curl\"]", "leaves-nothing = true");
            lab.change("test-suites/web/suite.toml", "run = \"serves\"", &format!("run = {run:?}"));
            lab.script("test-suites/web/parts/one");
            nix::unistd::mkfifo(&lab.path().join("test-suites/web/pipe"), Mode::S_IRWXU).expect("a pipe");
            // Whoever asked may have lost patience.
            let _ = tell.send(lab.brief());
        });
        let said = told.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{run} is read without an end"));
        assert!(said.iter().any(|line| line.contains("[case[0].run]") && line.contains(problem)), "{run}: {said:?}");
        assert!(said.iter().any(|line| line.contains("test-suites/web/pipe something that is not a regular file")), "{run}: {said:?}");
        assert!(said.iter().all(|line| !line.contains("leaves-nothing")), "{run}: {said:?}");
    }
}
