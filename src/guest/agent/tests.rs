//! The adapter against an agent that follows a script, honest and hostile; the log reader against logs that lie.

use std::collections::BTreeMap;
use std::sync::Mutex as Lock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::sync::broadcast;

use super::*;
use crate::guest::{JobStep, StepEnd};
use crate::hypervisor::segments::{Fault, NetworkSpec};
use crate::hypervisor::{AgentError, HypervisorError, MachineEvent, MachineSpec, Owned, Tag, Vitals, WireReport};
use crate::journal::HostReport;

/// What a fake agent says to a command, given the files it holds.
type Answer = Box<dyn Fn(&str, &Value) -> Option<Result<Value, AgentError>> + Send + Sync>;

/// An agent with files, whose commands all end well, except where `answer` says something else.
struct FakeAgent {
    files: Lock<BTreeMap<String, Vec<u8>>>,
    /// The open file and how far it was read.
    open: Lock<(Vec<u8>, usize)>,
    asked: Lock<Vec<(String, Value)>>,
    answer: Answer,
}

impl FakeAgent {
    fn guest(answer: impl Fn(&str, &Value) -> Option<Result<Value, AgentError>> + Send + Sync + 'static) -> (Arc<Self>, AgentGuest) {
        let agent = Arc::new(Self { files: Lock::default(), open: Lock::default(), asked: Lock::default(), answer: Box::new(answer) });
        let guest = AgentGuest::new(agent.clone(), "m", Os::Debian);
        (agent, guest)
    }

    fn honest() -> (Arc<Self>, AgentGuest) {
        Self::guest(|_, _| None)
    }

    fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.into(), bytes.into());
    }

    fn reply(&self, name: &str, arguments: &Value) -> Result<Value, AgentError> {
        let refused = || AgentError::Refused("no such file".into());
        let mut open = self.open.lock().unwrap();
        Ok(match name {
            "guest-ping" => json!({}),
            "guest-exec" => json!({ "pid": if arguments.to_string().contains("exit 66") { 66 } else { 7 } }),
            "guest-exec-status" if arguments["pid"] == 66 => json!({ "exited": true, "exitcode": 66 }),
            "guest-exec-status" => json!({ "exited": true, "exitcode": 0 }),
            "guest-file-open" => {
                let files = self.files.lock().unwrap();
                *open = (files.get(arguments["path"].as_str().unwrap()).ok_or_else(refused)?.clone(), 0);
                json!(1000)
            }
            "guest-file-seek" => {
                open.1 = arguments["offset"].as_u64().unwrap() as usize;
                json!({ "position": open.1, "eof": false })
            }
            "guest-file-read" => {
                let end = open.0.len().min(open.1 + arguments["count"].as_u64().unwrap() as usize);
                let start = open.1.min(end);
                let chunk = &open.0[start..end];
                let answer = json!({ "count": chunk.len(), "buf-b64": STANDARD.encode(chunk), "eof": end == open.0.len() });
                open.1 = end;
                answer
            }
            "guest-file-close" => json!({}),
            other => panic!("unexpected {other}"),
        })
    }
}

#[async_trait]
impl Hypervisor for FakeAgent {
    async fn agent(&self, _: &str, command: &str, _: Duration) -> Result<String, AgentError> {
        let command: Value = serde_json::from_str(command).unwrap();
        let (name, arguments) = (command["execute"].as_str().unwrap(), &command["arguments"]);
        self.asked.lock().unwrap().push((name.into(), arguments.clone()));
        let answer = (self.answer)(name, arguments).unwrap_or_else(|| self.reply(name, arguments))?;
        // A bare text stands for an answer that is no JSON at all.
        Ok(answer.as_str().map_or_else(|| json!({ "return": answer }).to_string(), str::to_owned))
    }
    async fn host(&self) -> Result<HostReport, HypervisorError> {
        unimplemented!()
    }
    async fn open_network(&self, _: &str, _: &Tag, _: &NetworkSpec) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn disturb(&self, _: &str, _: &Fault) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn wire(&self, _: &str) -> Result<WireReport, HypervisorError> {
        unimplemented!()
    }
    async fn create(&self, _: &MachineSpec) -> Result<String, HypervisorError> {
        unimplemented!()
    }
    fn freezes(&self) -> bool {
        unreachable!()
    }

    fn unfreezable(&self, _: &crate::catalog::hardware::Hardware) -> Option<String> {
        unreachable!()
    }

    async fn freeze(&self, _: &str, _: &std::path::Path) -> Result<(), HypervisorError> {
        unreachable!()
    }

    async fn thaw(&self, _: &str) -> Result<(), HypervisorError> {
        unreachable!()
    }

    async fn start(&self, _: &str) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn shutdown(&self, _: &str) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn power_off(&self, _: &str) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn reset(&self, _: &str) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn destroy(&self, _: &str) -> Result<(), HypervisorError> {
        unimplemented!()
    }
    async fn vitals(&self, _: &str) -> Result<Vitals, HypervisorError> {
        unimplemented!()
    }
    async fn console(&self, _: &str, _: u64) -> Result<Vec<u8>, HypervisorError> {
        unimplemented!()
    }
    async fn screenshot(&self, _: &str) -> Result<Option<Vec<u8>>, HypervisorError> {
        unimplemented!()
    }
    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        unimplemented!()
    }
    async fn owned(&self) -> Result<Vec<Owned>, HypervisorError> {
        unimplemented!()
    }
}

fn job(id: &str, steps: usize) -> Job {
    let step = JobStep {
        command: "true".into(),
        folder: None,
        env: BTreeMap::new(),
        limit: Duration::from_secs(1),
        output_cap: 100,
        terminal: false,
        needs: Vec::new(),
    };
    Job { id: id.into(), steps: vec![step; steps] }
}

fn log_path(job: &str) -> String {
    format!("{RUNNER_ROOT}/jobs/{job}/log")
}

const STAT: &str = "4 (a) b) (sh) S 1 4 4 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 555 1000 1";
const BOOT_ID: &str = "0b6e5a2c-8d5e-4b0c-9f0e-1f6f5d1c2b3a";

#[tokio::test(start_paused = true)]
async fn a_job_is_followed_to_its_end_and_read_once() {
    let (agent, guest) = FakeAgent::honest();
    agent.put("/proc/4/stat", STAT);
    guest.start(&job("a", 2)).await.unwrap();
    let begun = "patchlab-job 1 4 555\nstep 0\n";
    agent.put(&log_path("a"), begun);
    assert_eq!(guest.poll("a").await, Ok(JobState::Running { at: 0, finished: vec![] }));

    let first = format!("{begun}end 0 exit 3 1500 4 2 1 3\nheadtlresstep 1\n").replace("res", "res\n");
    agent.put(&log_path("a"), format!("{first}end 1 lacks 0 0 5 0 0 -\nsen"));
    let Ok(JobState::Running { at: 1, finished }) = guest.poll("a").await else { panic!("not at the second step") };
    assert_eq!(finished.len(), 1);
    assert_eq!((finished[0].end.clone(), finished[0].elapsed), (StepEnd::Exit(3), Duration::from_millis(1500)));
    assert_eq!((finished[0].output.as_slice(), finished[0].truncated), (b"headtl".as_slice(), true));
    assert_eq!(finished[0].result.as_deref(), Some(b"res".as_slice()));

    agent.put(&log_path("a"), format!("{first}end 1 lacks 0 0 5 0 0 -\nnginx\ndone\n"));
    let Ok(JobState::Ended { steps }) = guest.poll("a").await else { panic!("not ended") };
    assert_eq!(steps[1].end, StepEnd::Lacks("nginx".into()));
    let seeks = agent.asked.lock().unwrap().iter().filter(|(name, _)| name == "guest-file-seek").count();
    assert_eq!(seeks, 2, "later looks go on where the earlier ended");
    let looks = agent.asked.lock().unwrap().iter().filter(|(_, arguments)| arguments["path"] == "/proc/4/stat").count();
    assert_eq!(looks, 1, "a runner that was just seen at work is not looked at again");

    guest.start(&job("b", 1)).await.unwrap();
    let asked = agent.asked.lock().unwrap().iter().rev().find(|(name, _)| name == "guest-exec").cloned().unwrap();
    assert_eq!(asked.1["arg"], json!([format!("{RUNNER_ROOT}/runner.sh"), "start", "b", "a"]), "a job read to its end is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_job_without_log_or_runner_is_unknown() {
    let (agent, guest) = FakeAgent::honest();
    assert_eq!(guest.poll("a").await, Ok(JobState::Unknown));
    agent.put(&log_path("a"), "patchlab-job 1 4 555\nstep 0\n");
    assert_eq!(guest.poll("a").await, Ok(JobState::Unknown), "no such process");
    agent.put("/proc/4/stat", STAT.replace("555", "556"));
    assert_eq!(guest.poll("a").await, Ok(JobState::Unknown), "another process with its number");
    agent.put("/proc/4/stat", STAT.replace(" S ", " Z "));
    assert_eq!(guest.poll("a").await, Ok(JobState::Unknown), "a dead process");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lies_about_its_steps_fails() {
    let end = |at| format!("end {at} exit 0 1 0 0 0 -\n\n");
    let logs = [
        "patchlab-job 1 4 555\nstep 0\ndone\n".to_owned(),
        format!("patchlab-job 1 4 555\nstep 0\n{0}{0}", end(0)),
        format!("patchlab-job 1 4 555\nstep 0\n{}step 1\n", end(0)),
        "step 0\n".to_owned(),
        "patchlab-job 1 -4 555\n".to_owned(),
        "patchlab-job 1 4 555\npatchlab-job 1 4 555\n".to_owned(),
        "patchlab-job 1 4 555\nstep 0\nend 0 exit 0 1 99999999999 0 0 -\n".to_owned(),
        "patchlab-job 1 4 555\nstep 0\nend 0 exit 0 1 -1 0 0 -\n".to_owned(),
        "patchlab-job 1 4 555\nstep 0\nend 0 won 0 1 0 0 0 -\n\n".to_owned(),
        "patchlab-job 1 4 555\nstep 0\nend 0 exit 0 1 1 0 0 -\nabcdef\n".to_owned(),
        "\u{fffd}".repeat(400),
    ];
    for log in logs {
        let (agent, guest) = FakeAgent::honest();
        agent.put("/proc/4/stat", STAT);
        guest.start(&job("a", 1)).await.unwrap();
        agent.put(&log_path("a"), log.clone());
        assert!(matches!(guest.poll("a").await, Err(GuestError::Failed { .. })), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_read_with_a_cap() {
    let (agent, guest) = FakeAgent::honest();
    agent.put("/f", vec![7; 2_000_000]);
    assert_eq!(guest.read("/f", 2_000_000).await, Ok((vec![7; 2_000_000], false)));
    assert_eq!(guest.read("/f", 1_999_999).await, Ok((vec![7; 1_999_999], true)));
    assert_eq!(guest.read("/f", 0).await, Ok((vec![], true)));
    assert!(matches!(guest.read("/none", 10).await, Err(GuestError::Refused { .. })));
    let closed = agent.asked.lock().unwrap().iter().filter(|(name, _)| name == "guest-file-close").count();
    assert_eq!(closed, 3, "every open file is closed");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_the_agent_does_not_open_is_read_by_a_command() {
    let (_, guest) = FakeAgent::guest(|name, _| match name {
        "guest-file-open" => Some(Err(AgentError::Refused("failed to commit persistent state to disk".into()))),
        "guest-exec" => Some(Ok(json!({ "pid": 1 }))),
        "guest-exec-status" => Some(Ok(json!({ "exited": true, "exitcode": 0, "out-data": STANDARD.encode(BOOT_ID) }))),
        _ => None,
    });
    assert_eq!(guest.boot_id().await.unwrap(), BOOT_ID);
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_a_failure_and_nothing_else() {
    let answers = [
        json!(null),
        json!("no json"),
        json!("[1]"),
        json!("{\"error\": {\"desc\": \"no\"}}"),
        json!(-1e300),
        json!([]),
        json!({ "pid": "seven", "exited": 1, "buf-b64": 7, "eof": "yes" }),
        json!({ "pid": 1e300, "exited": true, "exitcode": "0", "out-data": "!!!", "eof": false, "buf-b64": "****" }),
        json!({ "exited": true, "out-data": [1], "eof": true, "buf-b64": STANDARD.encode(vec![0; 900_000]) }),
        json!("x".repeat(5 << 20)),
    ];
    for named in ["guest-exec", "guest-exec-status", "guest-file-open", "guest-file-read"] {
        for answer in &answers {
            let said = answer.clone();
            let (agent, guest) = FakeAgent::guest(move |name, _| (name == named).then(|| Ok(said.clone())));
            agent.put("/f", "text");
            let failed = match named {
                "guest-exec" | "guest-exec-status" => guest.prepare().await.err(),
                _ => guest.read("/f", 100).await.err(),
            };
            // A number is a handle like any other.
            let is_handle = named == "guest-file-open" && answer.is_i64();
            assert!(
                is_handle || matches!(failed, Some(GuestError::Failed { .. } | GuestError::Refused { .. })),
                "{named} {answer:.100}: {failed:?}"
            );
            if let Some(error) = failed {
                assert!(error.to_string().len() < 1000);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_never_ends_is_given_up() {
    let (_, guest) = FakeAgent::guest(|name, _| (name == "guest-exec-status").then(|| Ok(json!({ "exited": false }))));
    let started = tokio::time::Instant::now();
    assert!(matches!(guest.prepare().await, Err(GuestError::Failed { .. })));
    assert!(started.elapsed() < PATIENT * 2);
}

#[tokio::test(start_paused = true)]
async fn whether_it_is_settled_is_an_exit_code() {
    for (code, expected) in [(0, Some(true)), (1, Some(false)), (2, None), (-1, None)] {
        let answer = json!({ "exited": true, "exitcode": code });
        let (_, guest) = FakeAgent::guest(move |name, _| (name == "guest-exec-status").then(|| Ok(answer.clone())));
        assert_eq!(guest.is_settled().await.ok(), expected, "exit code {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_may_cost_the_answer_but_not_the_question() {
    let gone = || Some(Err(AgentError::Unresponsive("gone".into())));
    let (_, guest) = FakeAgent::guest(move |name, _| if name == "guest-exec-status" { gone() } else { None });
    assert_eq!(guest.reboot().await, Ok(()));
    let (_, guest) = FakeAgent::guest(move |name, _| if name == "guest-exec" { gone() } else { None });
    assert!(matches!(guest.reboot().await, Err(GuestError::Unresponsive { .. })));
}

#[tokio::test(start_paused = true)]
async fn names_that_could_leave_their_folder_are_refused() {
    let (agent, guest) = FakeAgent::honest();
    for name in ["", "../x", "A", "-a", "a b"] {
        assert!(guest.start(&job(name, 1)).await.is_err() && guest.poll(name).await.is_err() && guest.kill(name).await.is_err(), "{name}");
    }
    assert!(agent.asked.lock().unwrap().is_empty(), "nothing was asked of the guest");
}

#[test]
fn boot_ids_are_checked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (text, good) in [(format!("{BOOT_ID}\n"), true), ("<script>".into(), false), ("a".repeat(100), false)] {
        let (agent, guest) = FakeAgent::honest();
        agent.put("/proc/sys/kernel/random/boot_id", text.clone());
        assert_eq!(runtime.block_on(guest.boot_id()).is_ok(), good, "{text}");
    }
}
