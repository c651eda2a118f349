use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cell::Stage;

fn run(millis: u64) -> RunId {
    RunId::from_parts(millis, [7; 10])
}

fn some_event() -> Event {
    Event::StageStarted { cell: "acme.web@virtio-bios".parse().expect("a cell"), stage: Stage::Boot }
}

async fn journal_with(entries: u64) -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    for _ in 0..entries {
        journal.append(run(1), Timestamp::UNIX_EPOCH, some_event()).await.expect("appended");
    }
    (folder, journal)
}

#[tokio::test]
async fn what_was_appended_reads_back_after_opening_again() {
    let (folder, journal) = journal_with(3).await;
    journal.append(run(2), Timestamp::UNIX_EPOCH, some_event()).await.expect("appended");
    let before = journal.entries(run(1)).await.expect("entries");
    drop(journal);
    let again = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
    assert_eq!(again.entries(run(1)).await.expect("entries"), before);
    assert_eq!(before.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(again.runs().await.expect("runs"), [run(2), run(1)]);
    assert_eq!(again.verify().await.expect("a sound chain").entries, 4);
}

#[tokio::test]
async fn a_new_journal_is_its_owners_alone() {
    let (folder, journal) = journal_with(1).await;
    for entry in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
        assert_eq!(entry.metadata().expect("a file").permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    drop(journal);
}

#[tokio::test]
async fn entries_can_neither_be_changed_nor_removed() {
    let (_folder, journal) = journal_with(2).await;
    for sql in ["update entries set at = 'x'", "delete from entries where seq = 1"] {
        let refused = sqlx::raw_sql(sql).execute(&journal.pool).await.expect_err("refused");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
}

#[tokio::test]
async fn whoever_goes_around_the_triggers_is_found_out() {
    for sql in [
        "update entries set event = replace(event, 'boot', 'suites') where seq = 2",
        "update entries set at = '2001-01-01T00:00:00Z' where seq = 2",
        "delete from entries where seq = 2",
        "update entries set hash = (select hash from entries where seq = 1) where seq = 3",
    ] {
        let (_folder, journal) = journal_with(3).await;
        sqlx::raw_sql("drop trigger entries_stay; drop trigger entries_remain").execute(&journal.pool).await.expect("dropped");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&journal.pool).await.expect("altered");
        assert!(matches!(journal.verify().await, Err(JournalError::Altered { .. })), "{sql}");
    }
}

#[tokio::test]
async fn what_a_newer_patchlab_wrote_is_not_called_damaged() {
    for (version, event) in [(VERSION, r#"{"event":"not-known-yet"}"#), (VERSION + 1, "{}")] {
        let (_folder, journal) = journal_with(2).await;
        let previous = journal.verify().await.expect("a sound chain").last.to_string();
        let written = Written { seq: 3, version, at: "2026-01-01T00:00:00Z", run: "", event, previous: &previous };
        let insert = sqlx::query("insert into entries values (3, ?, ?, '', ?, ?, ?)");
        let insert = insert.bind(version).bind(written.at).bind(event).bind(&previous).bind(written.hash().to_string());
        insert.execute(&journal.pool).await.expect("written");
        let error = journal.verify().await.expect_err("not to be read");
        assert!(matches!(error, JournalError::Unknown { seq: 3, .. }) && error.to_string().contains("newer one"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_journal_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.sqlite");
    std::fs::write(&path, "not a database, but long enough to be taken for one at first sight").expect("written");
    assert!(matches!(Journal::open(&path).await, Err(JournalError::Store { tried: "open", .. })));
}
