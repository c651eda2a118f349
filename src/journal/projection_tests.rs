use sqlx::sqlite::SqlitePoolOptions;

use super::*;
use crate::journal::Record;

fn refused(reason: &str) -> Record {
    let patch = Some(Digest::of("patch"));
    let customer = Some("acme".parse().expect("a name"));
    Record::Refused { what: "approve".to_owned(), patch, customer, by: "alice".to_owned(), reason: reason.to_owned() }
}

fn consent() -> Record {
    Record::WaiverConsented { id: Uuid::from_u128(1), by: "bob".to_owned() }
}

fn proposal() -> Record {
    let waiver = crate::verdict::gate::Waiver {
        patch: Digest::of("patch"),
        customer: "acme".parse().expect("a name"),
        case: "web/a".to_owned(),
        hardware: None,
        fingerprint: Digest::of("f"),
        expires: Timestamp::MAX,
        reason: "x".to_owned(),
    };
    Record::WaiverProposed { id: Uuid::from_u128(1), waiver, by: "alice".to_owned() }
}

async fn journal() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    (folder, journal)
}

async fn altered(folder: &tempfile::TempDir, sql: &'static str) {
    let path = format!("sqlite:{}", folder.path().join("journal.sqlite").display());
    let pool = SqlitePoolOptions::new().max_connections(1).connect(&path).await.expect("the file");
    sqlx::raw_sql(sql).execute(&pool).await.expect("altered");
    pool.close().await;
}

fn kinds(entries: &[Entry]) -> Vec<&'static str> {
    let kind = |entry: &Entry| match &entry.event {
        Event::Recorded { record } => record.kind(),
        _ => "event",
    };
    entries.iter().map(kind).collect()
}

#[tokio::test]
async fn records_are_found_by_what_they_are_about_and_survive_the_loss_of_the_lists() {
    let (folder, journal) = journal().await;
    let now = Timestamp::UNIX_EPOCH;
    let written = journal.append_with(None, now, vec![proposal(), consent(), refused("no")], Vec::new()).await.expect("appended");
    assert_eq!(written.map(|entries| entries.len()), Some(3));
    let acme: Name = "acme".parse().expect("a name");
    let found = journal.records(Digest::of("patch"), &acme).await.expect("records");
    assert_eq!(kinds(&found), ["waiver-proposed", "waiver-consented", "refused"]);
    assert!(found.windows(2).all(|pair| pair[0].at < pair[1].at), "their moments only grow");
    assert_eq!(journal.records(Digest::of("other"), &acme).await.expect("records"), []);
    assert_eq!(journal.scope_of(Uuid::from_u128(1)).await.expect("a scope"), Some((Digest::of("patch"), acme.clone())));
    assert_eq!(journal.verify().await.expect("sound").entries, 3);
    drop(journal);
    altered(&folder, FORGET).await;
    let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    assert_eq!(journal.records(Digest::of("patch"), &acme).await.expect("records"), found);
    // Written by a program that knows nothing of the lists.
    altered(&folder, "delete from records where seq = 3; update projected set seq = 2").await;
    let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    assert_eq!(journal.records(Digest::of("patch"), &acme).await.expect("records"), found);
}

#[tokio::test]
async fn runs_that_keep_machines_are_known_until_their_leases_are_over() {
    let (folder, journal) = journal().await;
    let run = |number| RunId::from_parts(number, [7; 10]);
    let cell: crate::id::CellId = "acme.web@virtio-bios".parse().expect("a cell");
    let at = |hours: i64| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hours);
    for (number, hours, kept) in [(1, 0, true), (2, 1, false), (3, 20, true), (3, 21, true)] {
        journal.append(run(number), at(hours), Event::PassEnded { cell: cell.clone(), kept }).await.expect("appended");
    }
    let expected = [(23, vec![run(1), run(3)]), (24, vec![run(3)]), (44, vec![run(3)]), (45, vec![])];
    for (hours, keepers) in &expected {
        assert_eq!(journal.keepers(at(*hours)).await.expect("runs"), *keepers, "after {hours} h");
    }
    drop(journal);
    // The form that the lists had before.
    altered(&folder, "drop table kept; update projected set version = 1").await;
    let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    assert_eq!(journal.keepers(at(0)).await.expect("runs"), [run(1), run(3)]);
    journal.verify().await.expect("sound");
    altered(&folder, "delete from kept where seq = 1").await;
    assert!(matches!(journal.verify().await, Err(JournalError::Altered { .. })), "a machine that was hidden is missed");
}

#[tokio::test]
async fn candidates_are_found_by_what_they_are_and_by_whose_place_they_take() {
    let (_folder, journal) = journal().await;
    let name = |text: &str| text.parse::<Name>().expect("a name");
    let added = |bytes: &str, id: &str, supersedes: &[&str]| Record::PatchAdded {
        patch: Digest::of(bytes),
        id: name(id),
        supersedes: supersedes.iter().map(|id| name(id)).collect(),
        by: "alice".to_owned(),
    };
    let all = [added("1", "one", &[]), added("2", "two", &["one", "zero"]), added("3", "one", &[]), added("4", "one-more", &[])];
    journal.append_with(None, Timestamp::UNIX_EPOCH, all.to_vec(), Vec::new()).await.expect("appended");
    for (bytes, id, expected) in [("1", "one", &[1, 2, 3][..]), ("2", "two", &[2]), ("4", "one-more", &[4]), ("9", "zero", &[2])] {
        let found = journal.candidates(Digest::of(bytes), &name(id)).await.expect("entries");
        assert_eq!(found.iter().map(|entry| entry.seq).collect::<Vec<_>>(), expected, "{id}");
    }
}

#[tokio::test]
async fn a_record_that_was_taken_from_the_list_is_missed() {
    let (folder, journal) = journal().await;
    journal.append_with(None, Timestamp::UNIX_EPOCH, vec![proposal(), consent()], Vec::new()).await.expect("appended");
    altered(&folder, "delete from records where seq = 2").await;
    assert!(matches!(journal.verify().await, Err(JournalError::Altered { .. })));
}

#[tokio::test]
async fn nothing_is_written_where_something_came_between() {
    let (_folder, journal) = journal().await;
    let now = Timestamp::UNIX_EPOCH;
    let head = journal.head().await.expect("a head");
    let message = Message { target: "hook".to_owned(), body: "{}".to_owned() };
    let first = journal.append_with(Some(head), now, vec![refused("1")], vec![message.clone()]).await.expect("appended");
    assert!(first.is_some());
    let second = journal.append_with(Some(head), now, vec![refused("2")], vec![message]).await.expect("asked");
    assert_eq!(second, None);
    assert_eq!(journal.head().await.expect("a head"), head + 1);
    let rows = journal.rows(sqlx::query("select count(*) as waiting from outbox where delivered is null")).await.expect("rows");
    assert_eq!(rows[0].try_get::<i64, _>("waiting").expect("a count"), 1);
}

#[tokio::test]
async fn a_clock_that_was_put_back_puts_no_record_before_another() {
    let (_folder, journal) = journal().await;
    let late: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a moment");
    journal.append_with(None, late, vec![proposal()], Vec::new()).await.expect("appended");
    let entries = journal.append_with(None, Timestamp::UNIX_EPOCH, vec![consent()], Vec::new()).await.expect("appended");
    assert!(entries.expect("written")[0].at > late);
}
