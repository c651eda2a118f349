//! Room on the host decides when cells run, and nothing else.

use std::collections::BTreeSet;

use patchlab::catalog::patch::Reboot;
use patchlab::id::CellId;
use patchlab::journal::{Entry, Event};
use patchlab::lab::scheduler::room::Room;
use patchlab::plan::PlannedCell;
use serde_json::Value;

use crate::common::{Story, Told, name, script_patch};

const PANICS: &str = "[[fault]]\non={boot='kernel'}\nwhen={side='after'}\ndoes='panic'";

/// What begins and ends, in the journal's order: a pass, or its boot.
fn course(told: &Told) -> Vec<(String, String, String)> {
    let entries = told.journal.iter().map(|entry| serde_json::from_str::<Value>(entry).expect("JSON"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries.map(|entry| (text(&entry["event"]["event"]), text(&entry["event"]["cell"]), text(&entry["event"]["stage"]))).collect()
}

/// The most passes that were under way at once.
fn most_at_once(told: &Told) -> usize {
    let (mut open, mut most) = (0, 0);
    for (event, ..) in course(told) {
        match event.as_str() {
            "pass-started" => open += 1,
            "pass-ended" => open -= 1,
            _ => {}
        }
        most = most.max(open);
    }
    most
}

#[test]
fn an_environments_machines_find_room_together_and_verdicts_do_not_depend_on_it() {
    const GIB: u64 = 1 << 30;
    for scenario in ["", PANICS] {
        let told = |room| Story::of_environment(script_patch(Reboot::Required)).scenario(scenario).room(room).run();
        let alone = told(Room::cores(1));
        assert_eq!((alone.state.plan.cells.len(), most_at_once(&alone)), (3, 1), "two machines on one core run by themselves");
        // Each cell has two machines of 768 MiB, and as many emulators.
        for (room, most) in [
            (Room::cores(3), 1),
            (Room::cores(4), 2),
            (Room::cores(6), 3),
            (Room { memory: 5 * GIB, ..Room::cores(6) }, 2),
            (Room { memory: GIB, ..Room::cores(6) }, 1),
        ] {
            let told = told(room);
            assert_eq!(most_at_once(&told), most, "{room:?}");
            assert_eq!(format!("{:?}", told.judgement), format!("{:?}", alone.judgement), "{room:?}");
            assert!(told.left.is_empty(), "{:?}", told.left);
        }
    }
}

#[test]
fn no_more_machines_boot_than_may() {
    let told = Story::of_environment(script_patch(Reboot::Required)).room(Room { boots: 2, ..Room::cores(6) }).run();
    let mut booting = 0;
    for (event, _, stage) in course(&told) {
        match (event.as_str(), stage.as_str()) {
            ("pass-started", _) => booting += 1,
            ("stage-ended", "boot") => booting -= 1,
            _ => {}
        }
        assert!(booting <= 1, "{:?}", course(&told));
    }
    assert!(most_at_once(&told) > 1);
}

#[test]
fn while_cells_wait_no_core_idles() {
    const CELLS: i64 = 7;
    let told = Story::new(script_patch(Reboot::Required))
        .with(|plan| {
            let first = plan.cells[0].clone();
            let id = |number| CellId::new(&name("acme"), &name("web"), &name(&format!("machine-{number}")));
            plan.cells = (0..CELLS).map(|number| PlannedCell { id: id(number), ..first.clone() }).collect();
        })
        .room(Room::cores(2))
        .run();
    let entries: Vec<Entry> = told.journal.iter().map(|entry| serde_json::from_str(entry).expect("an entry")).collect();
    let (mut waiting, mut at_work, mut begun) = (CELLS, 0, BTreeSet::new());
    for (entry, next) in entries.iter().zip(&entries[1..]) {
        match &entry.event {
            // A destructive case has a pass of its own.
            Event::PassStarted { cell, .. } if begun.insert(cell.clone()) => (waiting, at_work) = (waiting - 1, at_work + 1),
            Event::CellEnded { .. } => at_work -= 1,
            _ => {}
        }
        assert!(waiting == 0 || at_work == 2 || next.at == entry.at, "{entry:?}");
    }
    assert_eq!((waiting, at_work), (0, 0));
}
