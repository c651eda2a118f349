//! What holds for guests.

use std::collections::BTreeMap;
use std::time::Duration;

use patchlab::guest::{Guest, GuestError, Job, JobState, JobStep, StepEnd, StepReport};
use patchlab::hypervisor::MachineEventKind;

use crate::lab::{GUEST, Lab, PAYLOAD, until, until_event, until_up};

pub async fn a_machine_restarts_and_shuts_down(lab: &Lab) {
    let guest = lab.guest().await;
    let mut events = lab.hypervisor.events();
    let mut seen = vec![guest.boot_id().await.expect("a boot id")];
    assert_eq!(guest.boot_id().await.as_ref(), Ok(&seen[0]), "one boot, one id");

    let job = |id: &str| Job { id: id.to_owned(), steps: vec![step("sleep 600")] };
    guest.start(&job("restarted")).await.expect("a job");
    guest.reboot().await.expect("a restart");
    until_event(&mut events, GUEST, MachineEventKind::Rebooted).await;
    until("the restart shows", || async { guest.boot_id().await.is_ok_and(|id| !seen.contains(&id)) }).await;
    until_up(&*guest).await;
    assert_eq!(guest.poll("restarted").await, Ok(JobState::Unknown), "jobs end with their boot");
    seen.push(guest.boot_id().await.expect("a boot id"));

    guest.start(&job("reset")).await.expect("a job");
    lab.hypervisor.reset(GUEST).await.expect("a reset");
    until("the reset shows", || async { guest.boot_id().await.is_ok_and(|id| !seen.contains(&id)) }).await;
    until_up(&*guest).await;
    assert_eq!(guest.poll("reset").await, Ok(JobState::Unknown), "jobs end with their boot");
    seen.push(guest.boot_id().await.expect("a boot id"));

    guest.shutdown().await.expect("a shutdown");
    until_event(&mut events, GUEST, MachineEventKind::Stopped).await;
    assert!(matches!(guest.ping().await, Err(GuestError::NotRunning { .. })));
    lab.hypervisor.start(GUEST).await.expect("a second start");
    until_up(&*guest).await;
    let last = guest.boot_id().await.expect("a boot id");
    assert!(!seen.contains(&last), "a cold boot is another boot");

    lab.hypervisor.shutdown(GUEST).await.expect("the power button");
    until_event(&mut events, GUEST, MachineEventKind::Stopped).await;
}

pub async fn jobs_run_to_their_ends(lab: &Lab) {
    let guest = lab.guest().await;
    let plain = step("echo hello; exit 3");
    let long = JobStep { limit: Duration::from_secs(2), ..step("echo begun; sleep 60") };
    let wordy = JobStep { output_cap: 8, ..step("echo abcdefghijklmnop") };
    let needy = JobStep { needs: vec!["no-such-command".to_owned()], ..step("echo never") };
    let asking = JobStep { terminal: true, ..step("echo name; read name") };
    let deaf = step("read name");
    let [plain, long, wordy, needy, asking, deaf, last] =
        run(&*guest, "ends", [plain, long, wordy, needy, asking, deaf, step("true")]).await;

    assert_eq!((&plain.end, plain.output.as_slice(), plain.truncated), (&StepEnd::Exit(3), b"hello\n".as_slice(), false));
    assert_eq!((&long.end, long.output.as_slice()), (&StepEnd::TimedOut, b"begun\n".as_slice()));
    assert!(long.elapsed >= Duration::from_secs(2) && long.elapsed < Duration::from_secs(30), "{:?}", long.elapsed);
    assert!(wordy.truncated && wordy.output.len() <= 8 && wordy.output.starts_with(b"abcd"), "{wordy:?}");
    assert!(wordy.output.ends_with(b"nop\n"), "{wordy:?}");
    assert_eq!(needy.end, StepEnd::Lacks("no-such-command".to_owned()));
    assert_eq!(asking.end, StepEnd::Asked);
    assert!(asking.output.starts_with(b"name"), "{asking:?}");
    assert_eq!(deaf.end, StepEnd::Exit(1), "without a terminal there is nothing to read");
    assert_eq!((last.end, last.result), (StepEnd::Exit(0), None), "steps follow each other, whatever became of the one before");

    let once = Job { id: "once".to_owned(), steps: vec![step("echo once")] };
    guest.start(&once).await.expect("a job");
    guest.start(&once).await.expect("the same job, as when the first answer got lost");
    let other = Job { id: "once".to_owned(), steps: vec![step("echo other")] };
    assert!(matches!(guest.start(&other).await, Err(GuestError::Refused { .. })), "an id is used once");
    let [once] = ended(&*guest, "once").await;
    assert_eq!(once.output, b"once\n");
    assert_eq!(guest.poll("never-begun").await, Ok(JobState::Unknown));

    // A simulated machine's drive holds what its scenario says, and that is not this.
    if lab.media.is_some() {
        let [payload] = run(&*guest, "payload", [step("cat \"$PATCHLAB_MEDIA/word\"")]).await;
        assert_eq!((payload.end, payload.output.as_slice()), (StepEnd::Exit(0), PAYLOAD.as_bytes()));
    }
}

pub async fn a_killed_job_runs_no_more(lab: &Lab) {
    let guest = lab.guest().await;
    let job = Job { id: "killed".to_owned(), steps: vec![step("echo first"), step("sleep 600")] };
    guest.start(&job).await.expect("a job");
    until("its second step runs", || async { matches!(guest.poll("killed").await, Ok(JobState::Running { at: 1, .. })) }).await;
    let Ok(JobState::Running { finished, .. }) = guest.poll("killed").await else { panic!("it should still run") };
    assert_eq!(finished.first().map(|report| report.output.as_slice()), Some(b"first\n".as_slice()));
    guest.kill("killed").await.expect("a killed job");
    assert!(!matches!(guest.poll("killed").await, Ok(JobState::Running { .. })), "a killed job runs no more");
}

pub async fn files_are_read_up_to_a_cap(lab: &Lab) {
    let guest = lab.guest().await;
    let (whole, more) = guest.read("/etc/hostname", 4096).await.expect("the host's name");
    assert!(!more && whole.len() > 1, "{whole:?}");
    assert_eq!(guest.read("/etc/hostname", 1).await, Ok((whole[..1].to_vec(), true)));
    assert_eq!(guest.read("/etc/hostname", whole.len()).await, Ok((whole, false)));
    assert!(matches!(guest.read("/no/such/file", 10).await, Err(GuestError::Refused { .. })));
}

pub fn step(command: &str) -> JobStep {
    JobStep {
        command: command.to_owned(),
        folder: None,
        env: BTreeMap::new(),
        limit: Duration::from_secs(900),
        output_cap: 64 * 1024,
        terminal: false,
        needs: Vec::new(),
    }
}

/// Runs a job to its end.
pub async fn run<const N: usize>(guest: &dyn Guest, id: &str, steps: [JobStep; N]) -> [StepReport; N] {
    guest.start(&Job { id: id.to_owned(), steps: steps.to_vec() }).await.expect("a job");
    ended(guest, id).await
}

/// Waits for a job's end.
async fn ended<const N: usize>(guest: &dyn Guest, id: &str) -> [StepReport; N] {
    until("the job has ended", || async { !matches!(guest.poll(id).await, Ok(JobState::Running { .. })) }).await;
    match guest.poll(id).await {
        Ok(JobState::Ended { steps }) => steps.try_into().expect("a report for each step"),
        other => panic!("the job should have ended, found {other:?}"),
    }
}
