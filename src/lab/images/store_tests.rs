use super::*;
use crate::lab::images::progress::unwatched;

struct Bench {
    state: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let state = tempfile::tempdir().expect("a folder");
    let store = Store::open(state.path()).expect("a store");
    Bench { state, store }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn draft(image: &str, disk: PathBuf) -> Draft {
    let packages = Some("nginx\t1.22.1-9\tamd64\tnginx\n".to_owned());
    Draft { name: name(image), source: Digest::of("recipe"), disk, packages }
}

impl Bench {
    async fn publish(&self, image: &str, contents: &str) -> Record {
        let incoming = self.store.incoming().await.expect("the right to add");
        let disk = self.state.path().join("made.qcow2");
        fs::write(&disk, contents).expect("a disk");
        self.store.publish(&incoming, draft(image, disk), &unwatched()).await.expect("published")
    }

    fn overwrite(&self, record: &Record, contents: &str) {
        let path = self.store.path_of(record.image);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
        fs::write(&path, contents).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(SEALED)).expect("a mode");
    }

    fn listing(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state.path().join("images")).expect("a listing");
        let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn what_is_published_is_sealed_under_its_digest() {
    let bench = bench();
    let record = bench.publish("web", "a disk").await;
    assert_eq!((record.image, record.size), (Digest::of("a disk"), 6));
    let sealed = bench.store.verify(&name("web"), &unwatched()).await.expect("found");
    assert_eq!(fs::read_to_string(&sealed.path).expect("readable"), "a disk");
    assert_eq!(fs::metadata(&sealed.path).expect("there").permissions().mode() & 0o7777, SEALED);
    assert_eq!(bench.store.records().expect("records"), std::slice::from_ref(&record));
    let hex = record.image.hex();
    assert_eq!(record.packages(), Some(BTreeMap::from([("nginx".to_owned(), "1.22.1-9".to_owned())])));
    let others = ["incoming", "web.json", "web.packages.tsv"].map(str::to_owned);
    let mut expected = [vec![format!("{hex}.qcow2"), format!("{hex}.seen")], others.to_vec()].concat();
    expected.sort();
    assert_eq!(bench.listing(), expected);
}

#[tokio::test]
async fn a_new_disk_takes_the_name_and_leaves_the_old_one() {
    let bench = bench();
    let old = bench.publish("web", "old").await;
    let new = bench.publish("web", "new").await;
    assert_eq!(bench.store.verify(&name("web"), &unwatched()).await.expect("found").image, new.image);
    assert_eq!(bench.store.nameless().expect("a list"), [bench.store.path_of(old.image)]);
    bench.store.sealed(old.image).await.expect("the old one is still whole");
}

#[tokio::test]
async fn a_changed_disk_is_refused_by_both_checks() {
    let bench = bench();
    let record = bench.publish("web", "a disk").await;
    bench.store.verify(&name("web"), &unwatched()).await.expect("whole so far");
    bench.overwrite(&record, "A DISK");
    let error = bench.store.verify(&name("web"), &unwatched()).await.expect_err("changed");
    assert!(matches!(&error, ImageError::Damaged { expected, .. } if *expected == record.image.to_string()), "{error}");
    let error = bench.store.verify_fully(&name("web"), &unwatched()).await.expect_err("changed");
    assert!(matches!(error, ImageError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_writable_disk_is_refused() {
    let bench = bench();
    let record = bench.publish("web", "a disk").await;
    fs::set_permissions(bench.store.path_of(record.image), Permissions::from_mode(0o644)).expect("a mode");
    let error = bench.store.verify(&name("web"), &unwatched()).await.expect_err("writable");
    assert!(error.to_string().contains("mode 0644"), "{error}");
}

#[tokio::test]
async fn a_lost_or_false_cache_costs_time_only() {
    let bench = bench();
    let record = bench.publish("web", "a disk").await;
    for cache in ["", "{}", "not json"] {
        fs::write(bench.store.seen_of(record.image), cache).expect("written");
        bench.store.verify(&name("web"), &unwatched()).await.expect("read again and whole");
    }
    fs::remove_file(bench.store.seen_of(record.image)).expect("removed");
    bench.store.verify(&name("web"), &unwatched()).await.expect("read again and whole");
    assert!(bench.store.seen_of(record.image).exists(), "and remembered");
}

#[tokio::test]
async fn builds_take_turns_and_what_a_crash_left_is_removed() {
    let bench = bench();
    let first = bench.store.incoming().await.expect("the right to add");
    assert!(matches!(bench.store.incoming().await, Err(ImageError::Busy { .. })));
    // A crash: the lock goes with the process, the files stay.
    let folder = first.folder(&name("web")).expect("a folder");
    drop(first);
    fs::create_dir_all(folder.join("left/over")).expect("a folder");
    let _second = bench.store.incoming().await.expect("free again");
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_failed_publication_leaves_the_store_as_it_was() {
    let bench = bench();
    let old = bench.publish("web", "old").await;
    let before = bench.listing();
    let incoming = bench.store.incoming().await.expect("the right to add");
    let nowhere = bench.state.path().join("no-such-disk");
    bench.store.publish(&incoming, draft("web", nowhere), &unwatched()).await.expect_err("no disk");
    drop(incoming);
    assert_eq!(bench.listing(), before);
    assert_eq!(bench.store.verify(&name("web"), &unwatched()).await.expect("found").image, old.image);
    assert_eq!(fs::read_dir(bench.state.path().join("images/incoming")).expect("a listing").count(), 0);
}

#[tokio::test]
async fn what_was_never_made_is_said_so() {
    let bench = bench();
    let error = bench.store.verify(&name("web"), &unwatched()).await.expect_err("nothing there");
    assert_eq!((error.to_string(), error.hint()), ("image web has not been made yet".to_owned(), "patchlab image build web".to_owned()));
    fs::write(bench.state.path().join("images/web.json"), "{ broken").expect("written");
    assert!(matches!(bench.store.verify(&name("web"), &unwatched()).await, Err(ImageError::Record { .. })));
}
