use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::catalog::image::{DiskFormat, Import, Os};

/// Images to import from files in a folder of their own: those named "broken…" are no disks.
fn wanted(folder: &Path, names: &[&str]) -> Vec<(Name, ImageEntry)> {
    let entry = |name: &&str| {
        let file = folder.join(format!("{name}.qcow2"));
        let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("1M").status().expect("qemu-img runs");
        assert!(made.success());
        if name.starts_with("broken") {
            fs::write(&file, "no disk").expect("written");
        }
        let import = Import { source: file.display().to_string(), format: DiskFormat::Qcow2, sha256: None };
        let image = Image { title: "a disk".to_owned(), os: Os::Debian, firmware: Vec::new(), recipe: None, import: Some(import) };
        (name.parse().expect("a name"), ImageEntry { image, folder: folder.to_owned() })
    };
    names.iter().map(entry).collect()
}

async fn made(store: &Store, wanted: Vec<(Name, ImageEntry)>, watcher: &Watcher) -> Vec<(Name, Result<Made, ImageError>)> {
    let mut all = Vec::new();
    make(store, wanted, Rebuild::WhenChanged, 2, watcher, |name, made| all.push((name, made))).await.expect("the right to add");
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[tokio::test]
async fn one_that_fails_does_not_keep_the_others_from_being_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let wanted = || wanted(folder.path(), &["broken-a", "good-b", "broken-c", "good-d"]);
    let how = |made: &[(Name, Result<Made, ImageError>)]| -> Vec<&'static str> {
        let word = |made: &Result<Made, ImageError>| match made {
            Ok(Made::New { .. }) => "new",
            Ok(Made::Unchanged(_)) => "unchanged",
            Err(_) => "failed",
        };
        made.iter().map(|(_, made)| word(made)).collect()
    };
    assert_eq!(how(&made(&store, wanted(), &unwatched()).await), ["failed", "failed", "new", "new"]);
    for name in ["good-b", "good-d"] {
        store.verify_fully(&name.parse().expect("a name"), &unwatched()).await.expect("sealed");
    }
    assert_eq!(store.records().expect("records").len(), 2);
    assert_eq!(how(&made(&store, wanted(), &unwatched()).await), ["failed", "failed", "unchanged", "unchanged"]);
    assert_eq!(fs::read_dir(folder.path().join("images/incoming")).expect("a listing").count(), 0);
}

#[tokio::test]
async fn what_is_called_off_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    for at in [Step::Read, Step::Convert, Step::Seal] {
        let (cancel, cancelled) = tokio::sync::watch::channel(false);
        let watcher = Watcher::new(cancelled, move |progress| {
            cancel.send_if_modified(|cancelled| {
                *cancelled |= progress.step == at;
                *cancelled
            });
        });
        let made = made(&store, wanted(folder.path(), &["one", "two"]), &watcher).await;
        for (name, made) in made {
            assert!(matches!(&made, Err(ImageError::Cancelled(image)) if *image == name), "{at:?}: {made:?}");
        }
        assert!(store.records().expect("records").is_empty() && store.nameless().expect("a listing").is_empty(), "{at:?}");
        assert_eq!(fs::read_dir(folder.path().join("images/incoming")).expect("a listing").count(), 0, "{at:?}");
    }
}
