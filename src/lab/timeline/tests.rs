use std::time::Duration;

use super::*;
use crate::cell::Point;
use crate::guest::{StepEnd, StepReport};
use crate::hypervisor::segments::Fault;

fn at(second: f64) -> Timestamp {
    Timestamp::from_nanosecond((second * 1e9) as i128).expect("a moment")
}

fn case() -> CaseAt {
    CaseAt { suite: "http".parse().expect("a name"), case: "page".parse().expect("a name"), point: Point::Applied }
}

fn report(output: &[u8]) -> StepReport {
    StepReport { end: StepEnd::Exit(0), elapsed: Duration::ZERO, output: output.to_vec(), truncated: false, result: None }
}

#[test]
fn all_are_told_in_one_order() {
    let notes = vec![(at(10.5), "lab".to_owned(), "step 1".to_owned())];
    let timeline = Timeline { case: case(), began: at(10.0), ended: Some(at(12.0)), notes };
    let down = Fault { segment: "lan".parse().expect("a name"), nic: Some("client".parse().expect("a name")), verb: Verb::LinkDown };
    let chance = crate::hypervisor::segments::Chance::percent(2.5).expect("a chance");
    let loss = Fault { nic: None, verb: Verb::Loss { chance }, ..down.clone() };
    let others = vec![
        (at(11.0), "server".to_owned(), "sshd[1]: hello\u{1b}[2J".to_owned()),
        told(&LinkEvent { at: at(10.25), what: Happening::Done(down) }),
        told(&LinkEvent { at: at(10.75), what: Happening::Done(loss) }),
        (at(9.0), "lan".to_owned(), "before".to_owned()),
        (at(13.0), "lan".to_owned(), "after".to_owned()),
    ];
    let expected = "     0.250  lan           the link of client is down\n     0.500  lab           step 1\n     0.750  lan           the segment loses 2.5 % of \
                    the frames\n     1.000  server        sshd[1]: hello\u{fffd}[2J\n";
    assert_eq!(timeline.merged(others), expected);
}

#[test]
fn long_output_is_told_by_its_first_line_and_size() {
    assert_eq!(said(b"  \n"), "");
    assert_eq!(said(b"ok\n"), "; it said: ok");
    assert_eq!(said(b"first\nsecond\n"), "; it said 13 bytes: first");
    assert!(said(&[b'x'; 10_000]).chars().count() < 200);
}

#[test]
fn a_journal_is_read_by_the_time_since_boot() {
    // Asked at 1000 and answered at 1002, it had been up for 501 s: it booted at 500.
    let booted = Booted::from(b"501.00 900.12\n", at(1000.0), at(1002.0)).expect("an uptime");
    let output = b"[  450.000000] client sshd[9]: later\n    with a second line\n[  449.000000] client kernel: earlier \xff\n";
    let journal = Journal::read("client", booted, &report(output));
    let told = journal.during(Window { from: at(940.0), to: at(960.0) });
    let lines: Vec<_> = told.iter().map(|(stamp, _, text)| (*stamp, text.as_str())).collect();
    let expected =
        [(at(949.0), "client kernel: earlier \u{fffd}"), (at(950.0), "client sshd[9]: later"), (at(950.0), "    with a second line")];
    assert_eq!(lines, expected);
    assert_eq!(journal.during(Window { from: at(0.0), to: at(900.0) }), []);
    assert_eq!(booted.step(at(940.0)).env.get("PATCHLAB_FROM").map(String::as_str), Some("439.000"));
}

#[test]
fn nonsense_from_a_guest_is_no_journal() {
    for uptime in [&b""[..], b"soon", b"-5 1", b"inf", b"1e300", b"\xff\xfe"] {
        assert_eq!(Booted::from(uptime, at(0.0), at(0.0)), None, "{uptime:?}");
    }
    let booted = Booted::from(b"5 5", at(10.0), at(10.0)).expect("an uptime");
    for line in [&b"[nan] x"[..], b"[1e308] x", b"[-1] x", b"[", b"]", b"[]", b"\0\0"] {
        assert_eq!(Journal::read("client", booted, &report(line)).during(Window { from: at(0.0), to: at(1e6) }), [], "{line:?}");
    }
    let lacking = Journal::read("client", booted, &StepReport { end: StepEnd::Lacks("awk".to_owned()), ..report(b"") });
    let told = lacking.during(Window { from: at(1.0), to: at(2.0) });
    assert!(matches!(told.as_slice(), [(_, _, text)] if text.contains("could not be read")), "{told:?}");
}

#[test]
fn a_talkative_machine_is_shown_by_its_ends() {
    let booted = Booted::from(b"5 5", at(5.0), at(5.0)).expect("an uptime");
    let output: String = (0..1000).rev().map(|line| format!("[{line}.000000] line {line}\n")).collect();
    let told = Journal::read("client", booted, &report(output.as_bytes())).during(Window { from: at(0.0), to: at(5000.0) });
    assert_eq!(told.len(), 201);
    assert_eq!(
        (told[99].2.as_str(), told[100].2.as_str(), told[101].2.as_str()),
        ("line 99", "[... 800 lines left out here ...]", "line 900")
    );
}
