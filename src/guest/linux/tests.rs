//! The job runner itself, run on this host as root in a root folder of its own, under its weaker way of finding processes and, where
//! there is a cgroup v2, under the stronger one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::log::JobLog;
use super::*;
use crate::guest::{JobState, StepEnd, StepReport};

/// A root folder for the runner. Dropping it ends the job.
struct Bench {
    folder: tempfile::TempDir,
    groups: PathBuf,
    /// The one job's name: another one for each bench, since they all see the same processes.
    job: String,
}

impl Bench {
    fn new(groups: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("guest-").tempdir().unwrap();
        for name in ["run/jobs", "run/tmp", "run/media", "state/keep"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("runner.sh"), DEBIAN.runner).unwrap();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let job = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { folder, groups: groups.join("patchlab-test"), job }
    }

    /// Without cgroups: processes are found by their mark.
    fn plain() -> Self {
        Self::new(Path::new("/nowhere"))
    }

    fn runner(&self, arguments: &[&str], input: &str) {
        let mut child = Command::new("/bin/sh")
            .arg(self.folder.path().join("runner.sh"))
            .args(arguments)
            .env("PATCHLAB_ROOT", self.folder.path().join("run"))
            .env("PATCHLAB_STATE", self.folder.path().join("state"))
            .env("PATCHLAB_GROUPS", &self.groups)
            .env("PATCHLAB_PATIENCE", "2")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "runner.sh {arguments:?}");
    }

    fn start(&self, steps: Vec<JobStep>) {
        let job = Job { id: self.job.clone(), steps };
        self.runner(&["start", &job.id], &job_script(&job).unwrap());
    }

    fn state(&self) -> JobState {
        let mut log = JobLog::default();
        log.feed(&std::fs::read(self.folder.path().join("run/jobs").join(&self.job).join("log")).unwrap()).unwrap();
        log.state()
    }

    fn run(&self, steps: Vec<JobStep>) -> Vec<StepReport> {
        self.start(steps);
        self.ended()
    }

    fn ended(&self) -> Vec<StepReport> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let JobState::Ended { steps } = self.state() {
                return steps;
            }
            assert!(Instant::now() < deadline, "the job does not end: {:?}", self.state());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run_one(&self, step: JobStep) -> StepReport {
        self.run(vec![step]).remove(0)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runner(&["kill", &self.job], "");
        assert!(!self.groups.join(&self.job).exists(), "the job's control groups stay");
        let _ = std::fs::remove_dir(&self.groups);
    }
}

fn step(command: &str) -> JobStep {
    JobStep {
        command: command.into(),
        folder: None,
        env: BTreeMap::new(),
        limit: Duration::from_secs(30),
        output_cap: 4096,
        terminal: false,
        needs: Vec::new(),
    }
}

fn on_terminal(command: &str) -> JobStep {
    JobStep { terminal: true, ..step(command) }
}

fn text(report: &StepReport) -> String {
    String::from_utf8_lossy(&report.output).into_owned()
}

/// The processes with these words in their command line.
fn processes(words: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
    })
    .collect()
}

/// Seconds to sleep that no other test process on this host has.
fn sign(seconds: &str) -> String {
    format!("{seconds}{}", std::process::id())
}

fn runs(words: &str) -> bool {
    !processes(words).is_empty()
}

#[test]
fn a_step_gives_its_code_its_output_and_its_result() {
    let mut odd =
        step("printf '%s|' \"$A\" \"$B\" \"$PATCHLAB_STEP\"; pwd; printf '\\377\\0\\201' >\"$PATCHLAB_RESULT\"; echo oops >&2; exit 3");
    let value = "it's \"$HOME\" `id` \\ ü\u{81}\n*";
    odd.env = BTreeMap::from([("A".into(), value.into()), ("B".into(), String::new()), ("PATCHLAB_STEP".into(), "mine".into())]);
    odd.folder = Some("/usr/share".into());
    let lacking = JobStep { needs: vec!["sh".into(), "no-such thing".into()], ..step("echo never") };
    let bench = Bench::plain();
    let reports = bench.run(vec![
        odd,
        step("kill -9 $$"),
        lacking,
        step("printf 'a\\377b'"),
        step("pwd; touch x; echo \"$PATCHLAB_KEEP\""),
        step("cat; kill 0"),
    ]);

    assert_eq!(reports[0].end, StepEnd::Exit(3));
    assert_eq!(text(&reports[0]), format!("{value}||mine|/usr/share\noops\n"));
    assert_eq!(reports[0].result.as_deref(), Some(b"\xff\0\x81".as_slice()));
    assert!(!reports[0].truncated);
    assert_eq!(reports[1].end, StepEnd::Signal(9));
    assert_eq!(
        reports[2],
        StepReport {
            end: StepEnd::Lacks("no-such thing".into()),
            elapsed: Duration::ZERO,
            output: Vec::new(),
            truncated: false,
            result: None
        }
    );
    assert_eq!(reports[3].output, b"a\xffb");
    let scratch = text(&reports[4]);
    let state = bench.folder.path().join("state");
    assert_eq!(scratch, format!("{0}/scratch/{1}-4\n{0}/keep\n", state.display(), bench.job));
    assert!(!state.join(format!("scratch/{}-4", bench.job)).exists(), "the scratch folder stays");
    assert_eq!(reports[5].end, StepEnd::Signal(15));
}

#[test]
fn a_flood_is_drained_and_its_two_ends_are_kept() {
    let flood = JobStep { output_cap: 1001, ..step("echo first; yes | head -c 100000000; echo last") };
    let exact = JobStep { output_cap: 10, ..step("printf 0123456789") };
    let none = JobStep { output_cap: 0, ..step("echo something") };
    let reports = Bench::plain().run(vec![flood, exact, none]);

    let output = text(&reports[0]);
    assert_eq!((reports[0].end.clone(), output.len(), reports[0].truncated), (StepEnd::Exit(0), 1001, true));
    assert!(output.starts_with("first\ny\n") && output.ends_with("y\nlast\n"), "{output}");
    assert_eq!((text(&reports[1]).as_str(), reports[1].truncated), ("0123456789", false));
    assert_eq!((text(&reports[2]).as_str(), reports[2].truncated), ("", true));
}

fn time_out_ends_all(bench: &Bench, sign: &str) {
    let command = format!("trap '' TERM; (trap '' TERM; setsid sleep {sign} &) ; echo before; sleep {sign}");
    let report = bench.run_one(JobStep { limit: Duration::from_millis(500), ..step(&command) });
    assert_eq!((report.end, report.output), (StepEnd::TimedOut, b"before\n".to_vec()));
    assert!(!runs(&format!("sleep {sign}")), "a child outlives the step");
}

#[test]
fn a_time_out_ends_all_that_the_step_started() {
    time_out_ends_all(&Bench::plain(), &sign("7654.1"));
}

/// Where control groups can be made here.
fn control_groups() -> Option<&'static Path> {
    let found =
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new).into_iter().find(|path| path.join("cgroup.controllers").exists());
    found.filter(|_| nix::unistd::geteuid().is_root())
}

#[test]
fn a_time_out_ends_the_control_group() {
    match control_groups() {
        Some(groups) => time_out_ends_all(&Bench::new(groups), &sign("7654.2")),
        None => eprintln!("no cgroup v2 to test with here"),
    }
}

#[test]
fn what_is_left_behind_is_ended_and_holds_nothing_up() {
    let started = Instant::now();
    let (held, escaped) = (format!("sleep {}", sign("7655.1")), format!("sleep {}", sign("7655.2")));
    let steps = [format!("setsid {held} & echo done"), format!("env -i setsid {escaped} & echo also")];
    let reports = Bench::plain().run(steps.iter().map(|command| step(command)).collect());
    assert_eq!((reports[0].end.clone(), text(&reports[0])), (StepEnd::Exit(0), "done\n".into()));
    assert_eq!((reports[1].end.clone(), text(&reports[1])), (StepEnd::Exit(0), "also\n".into()));
    assert!(!runs(&held));
    assert!(started.elapsed() < Duration::from_secs(10));
    // Without a control group, the second one got away, but held nothing up. Ended here.
    for pid in processes(&escaped) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

fn a_stranger_leaves_what_goes_on(bench: &Bench, sign: &str) {
    let leaving = |end: &str| on_terminal(&format!("sleep {sign} & echo done; {end}"));
    let reports = bench.run(vec![leaving("exit 7"), leaving("kill -9 $$"), on_terminal("exit 0")]);
    assert_eq!((reports[0].end.clone(), text(&reports[0])), (StepEnd::Exit(7), "done\r\n".into()));
    assert_eq!((reports[1].end.clone(), reports[2].end.clone()), (StepEnd::Signal(9), StepEnd::Exit(0)));
    assert_eq!(processes(&format!("sleep {sign}")).len(), 2);
    // It may have asked for a restart before it exited.
    let written = |at| std::fs::read_to_string(bench.folder.path().join(format!("state/ended/{}-{at}", bench.job)));
    assert_eq!(written(0).unwrap(), "7\n");
    assert!(written(1).is_err(), "a step that was killed has not ended by itself");
    bench.runner(&["kill", &bench.job], "");
    assert!(!runs(&format!("sleep {sign}")));
    assert!(written(0).is_err());
}

#[test]
fn what_a_stranger_leaves_in_the_background_goes_on_until_the_job_is_ended() {
    a_stranger_leaves_what_goes_on(&Bench::plain(), &sign("7657.1"));
    if let Some(groups) = control_groups() {
        a_stranger_leaves_what_goes_on(&Bench::new(groups), &sign("7657.2"));
    }
}

#[test]
fn questions_on_the_terminal_are_seen() {
    let questions = [
        "printf 'Continue? '; read answer; echo \"got $answer\"",
        "exec </dev/null; printf 'Password: ' >/dev/tty; read answer </dev/tty",
        "perl -e 'print \"Sure? \"; $| = 1; print q(); my ($r, $w, $x) = (chr 1); select($r, undef, undef, undef)'",
        "timeout 20 sh -c 'printf \"Sure? \"; read answer'",
    ];
    let benches = questions.map(|question| {
        let bench = Bench::plain();
        bench.start(vec![on_terminal(question)]);
        bench
    });
    for (bench, question) in benches.iter().zip(questions) {
        let steps = bench.ended();
        let asked = ["Continue? ", "Password: ", "Sure? "];
        assert_eq!(steps[0].end, StepEnd::Asked, "{question}");
        assert!(asked.iter().any(|asked| text(&steps[0]).contains(asked)), "{question}: {:?}", text(&steps[0]));
    }
}

#[test]
fn a_question_is_seen_beside_one_who_works() {
    let Some(groups) = control_groups() else { return };
    let bench = Bench::new(groups);
    bench.start(vec![on_terminal("while :; do :; done & printf 'Sure? '; read answer")]);
    let ended = bench.ended();
    assert_eq!((ended[0].end.clone(), text(&ended[0])), (StepEnd::Asked, "Sure? ".into()));
}

#[test]
fn a_long_silence_is_no_question() {
    let commands =
        ["tty -s && sleep 4 && exit 4", "script -qec 'sleep 4; exit 5' /dev/null", "(read answer </dev/null); timeout 4 sleep 9"];
    let benches = commands.map(|command| {
        let bench = Bench::plain();
        bench.start(vec![on_terminal(command)]);
        bench
    });
    let ends = benches.map(|bench| bench.ended()[0].end.clone());
    assert_eq!(ends, [StepEnd::Exit(4), StepEnd::Exit(5), StepEnd::Exit(124)]);
}

#[test]
fn a_killed_job_leaves_nothing() {
    let bench = Bench::plain();
    let sleeping = format!("sleep {}", sign("7656.1"));
    bench.start(vec![step(&format!("setsid {sleeping} & {sleeping}"))]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !runs(&sleeping) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.runner(&["kill", &bench.job], "");
    assert!(!runs(&sleeping));
    assert!(!bench.folder.path().join(format!("run/jobs/{}", bench.job)).exists());
    // Its watcher and its drains are gone too: all of them carry the root folder or the job's mark.
    assert!(!runs(&format!("{}/runner.sh run", bench.folder.path().display())));
}

#[test]
fn starting_twice_is_starting_once() {
    let bench = Bench::plain();
    let steps = vec![step("echo >>\"$PATCHLAB_KEEP/runs\"; wc -l <\"$PATCHLAB_KEEP/runs\"")];
    bench.start(steps.clone());
    bench.start(steps.clone());
    assert_eq!(text(&bench.run(steps)[0]), "1\n");
}

#[test]
fn outputs_that_want_too_much_are_cut_in_proportion() {
    let caps = |caps: &[usize]| {
        let steps = caps.iter().map(|cap| JobStep { output_cap: *cap, ..step("true") }).collect();
        let script = job_script(&Job { id: "a".into(), steps }).unwrap();
        let number = |word: &str| word.trim_matches('\'').parse::<u128>().unwrap();
        let sums = script.lines().map(|line| line.split(' ').skip(2).take(2).map(number).sum::<u128>());
        sums.collect::<Vec<_>>()
    };
    assert_eq!(caps(&[0, 1001, 8 << 20]), [0, 1001, 8 << 20]);
    assert_eq!(caps(&[24 << 20, 8 << 20]), [9 << 20, 3 << 20]);
    assert!(caps(&[usize::MAX, usize::MAX, 1]).iter().sum::<u128>() <= JOB_OUTPUT_CAP);
}

#[test]
fn what_a_shell_could_misread_is_refused() {
    let job = |step| Job { id: "a".into(), steps: vec![step] };
    assert!(job_script(&Job { id: "../a".into(), steps: Vec::new() }).is_err());
    assert!(job_script(&job(step("a\0b"))).is_err());
    assert!(job_script(&job(step(&"x".repeat(WORD_CAP + 1)))).is_err());
    let env = BTreeMap::from([("A B".to_owned(), String::new())]);
    assert!(job_script(&job(JobStep { env, ..step("true") })).is_err());
}
