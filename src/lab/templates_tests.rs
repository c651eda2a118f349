use super::*;
use crate::journal::HostReport;

fn host(qemu: &str) -> HostReport {
    HostReport {
        accelerator: "tcg".to_owned(),
        accelerator_reason: String::new(),
        qemu: qemu.to_owned(),
        libvirt: "9.0.0".to_owned(),
        kernel: String::new(),
        cpus: 2,
        memory: 1 << 30,
    }
}

fn key(image: &str) -> Key {
    Key::new(Digest::of(image), Digest::of("hardware"), Digest::of("runner"), 1, &host("7.2.0"))
}

fn identity(random: &str) -> Identity {
    Identity {
        machine_id: random.to_owned(),
        hostname: "web".to_owned(),
        random: Digest::of(random),
        host_keys: BTreeMap::new(),
        makes_host_keys: false,
        macs: Vec::new(),
        leases: Vec::new(),
        clock_ahead_ms: 0,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

struct Shelf {
    state: tempfile::TempDir,
    templates: Templates,
}

fn shelf(limits: Limits) -> Shelf {
    let state = tempfile::tempdir().expect("a folder");
    let templates = Templates::open(state.path(), limits).expect("a store");
    Shelf { state, templates }
}

impl Shelf {
    /// Publishes a template with this much memory.
    fn publish(&self, image: &str, bytes: usize) -> Template {
        let draft = self.templates.draft(image, 0).expect("a draft");
        fs::write(draft.join("memory.save"), vec![7; bytes]).expect("written");
        fs::write(draft.join("disk.qcow2"), image).expect("written");
        let macs = vec![Mac([2; 6])];
        let record = Record { key: key(image), frozen: at(0), boot_ms: 30_000, identity: identity(image), macs, files: BTreeMap::new() };
        self.templates.publish(&draft, record).expect("published")
    }

    fn find(&self, image: &str) -> Option<Template> {
        self.templates.find(&key(image), at(10)).expect("readable")
    }

    fn folders(&self) -> usize {
        fs::read_dir(self.state.path().join("templates")).expect("there").count()
    }
}

#[test]
fn a_template_is_found_under_all_that_it_depends_on() {
    let shelf = shelf(Limits::default());
    let made = shelf.publish("image", 100);
    let found = shelf.find("image").expect("found");
    assert_eq!((found.digest, &found.record), (made.digest, &made.record));
    assert_eq!((found.record.boot_ms, found.record.macs.as_slice()), (30_000, [Mac([2; 6])].as_slice()));
    let others = [
        key("another image"),
        Key::new(Digest::of("image"), Digest::of("other hardware"), Digest::of("runner"), 1, &host("7.2.0")),
        Key::new(Digest::of("image"), Digest::of("hardware"), Digest::of("runner"), 2, &host("7.2.0")),
        Key::new(Digest::of("image"), Digest::of("hardware"), Digest::of("runner"), 1, &host("8.0.0")),
    ];
    for other in others {
        assert!(shelf.templates.find(&other, at(10)).expect("readable").is_none(), "{other:?}");
    }
    assert!(shelf.templates.find(&key("image"), at(25 * 3600)).expect("readable").is_none(), "too old");
    assert_eq!(shelf.folders(), 0, "and removed");
}

#[test]
fn a_template_that_does_not_hold_is_removed() {
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 6] = [
        ("truncated", |folder| fs::write(folder.join("memory.save"), [7; 50]).expect("written")),
        ("changed in place", |folder| fs::write(folder.join("memory.save"), [8; 100]).expect("written")),
        ("swapped", |folder| {
            fs::write(folder.join("new"), [9; 100]).expect("written");
            fs::rename(folder.join("new"), folder.join("memory.save")).expect("moved");
        }),
        ("without its disk", |folder| fs::remove_file(folder.join("disk.qcow2")).expect("removed")),
        ("with half a record", |folder| fs::write(folder.join(RECORD), "{\"key\":").expect("written")),
        ("with another's record", |folder| {
            let text = fs::read_to_string(folder.join(RECORD)).expect("read").replace("7.2.0", "7.2.1");
            fs::write(folder.join(RECORD), text).expect("written");
        }),
    ];
    for (how, spoil) in spoil {
        let shelf = shelf(Limits::default());
        let made = shelf.publish("image", 100);
        spoil(&made.folder);
        assert!(shelf.find("image").is_none(), "{how}");
        assert_eq!(shelf.folders(), 0, "{how}");
        shelf.publish("image", 100);
        assert!(shelf.find("image").is_some(), "{how}, and made anew");
    }
}

#[test]
fn files_that_were_moved_with_all_their_bytes_still_hold() {
    let shelf = shelf(Limits::default());
    let made = shelf.publish("image", 100);
    let (file, copy) = (made.folder.join("memory.save"), made.folder.join("copy"));
    fs::copy(&file, &copy).expect("copied");
    fs::rename(&copy, &file).expect("moved");
    assert!(shelf.find("image").is_some());
    assert_ne!(shelf.find("image").expect("found").record, made.record, "where they lie is remembered");
}

#[test]
fn the_least_recently_used_go_first() {
    let shelf = shelf(Limits { count: 2, ..Limits::default() });
    for image in ["a", "b"] {
        shelf.publish(image, 10);
    }
    let used = |image: &str, hour: u64| {
        let clones = shelf.find(image).expect("found").folder.join(CLONES);
        let file = OpenOptions::new().append(true).open(clones).expect("open");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(hour * 3600)).expect("set");
    };
    used("a", 2);
    used("b", 1);
    shelf.publish("c", 10);
    assert!(shelf.find("a").is_some() && shelf.find("b").is_none() && shelf.find("c").is_some());
}

#[test]
fn bytes_are_limited_but_the_newest_stays() {
    let shelf = shelf(Limits { bytes: 1000, ..Limits::default() });
    shelf.publish("a", 600);
    shelf.publish("b", 600);
    assert!(shelf.find("a").is_none() && shelf.find("b").is_some());
    shelf.publish("c", 5000);
    assert!(shelf.find("b").is_none() && shelf.find("c").is_some());
    assert_eq!(shelf.templates.all().expect("readable").len(), 1);
}

#[test]
fn clones_are_remembered_and_success_forgives() {
    let shelf = shelf(Limits::default());
    let template = shelf.publish("image", 10);
    shelf.templates.note(&template, &identity("first")).expect("noted");
    shelf.templates.note(&template, &identity("second")).expect("noted");
    assert_eq!(shelf.templates.clones(&template), [identity("second"), identity("first")]);
    shelf.templates.fail(&key("image"), "it did not wake");
    assert!(shelf.find("image").is_none() && shelf.templates.given_up(&key("image")).is_none());
    let again = shelf.publish("image", 10);
    shelf.templates.note(&again, &identity("third")).expect("noted");
    shelf.templates.fail(&key("image"), "once");
    assert_eq!(shelf.templates.given_up(&key("image")), None);
    shelf.templates.fail(&key("image"), "twice");
    assert_eq!(shelf.templates.given_up(&key("image")).as_deref(), Some("twice"));
}

#[test]
fn what_a_killed_controller_left_half_made_is_no_template() {
    let shelf = shelf(Limits::default());
    let draft = shelf.templates.draft("image", 0).expect("a draft");
    fs::write(draft.join("memory.save"), "half").expect("written");
    assert!(shelf.find("image").is_none());
    let at_work = shelf.state.path().join("templates").join(format!("{DRAFT}1-of-another"));
    fs::create_dir(&at_work).expect("made");
    shelf.templates.sweep().expect("swept");
    assert_eq!(shelf.folders(), 1);
    assert!(at_work.exists(), "a process that lives may still be at it");
    let error = shelf.templates.draft("image", u64::MAX).expect_err("no such disk");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn all_are_removed_but_not_what_another_is_making() {
    let shelf = shelf(Limits::default());
    shelf.publish("a", 10);
    shelf.publish("b", 10);
    let folder = shelf.state.path().join("templates");
    fs::write(shelf.find("b").expect("found").folder.join(RECORD), "no record").expect("written");
    let at_work = folder.join(format!("{DRAFT}1-of-another"));
    fs::create_dir(&at_work).expect("made");
    assert_eq!(shelf.templates.clear().expect("cleared"), 2);
    assert!(shelf.folders() == 1 && at_work.exists());
    assert_eq!(shelf.templates.clear().expect("cleared"), 0);
}

#[test]
fn a_lab_says_how_many_it_keeps() {
    let wanted = settings::Templates { at_most: 3, size: "2GiB".parse().expect("a size"), age: "90m".parse().expect("a span") };
    assert_eq!(Limits::from(&wanted), Limits { count: 3, bytes: 2 << 30, age: Duration::from_secs(5400) });
    assert_eq!(Limits::default(), Limits { count: 16, bytes: 8 << 30, age: Duration::from_secs(86400) });
}

#[test]
fn of_two_clones_that_are_one_the_second_is_not_admitted() {
    let shelf = shelf(Limits::default());
    let template = shelf.publish("image", 10);
    let admit = |clone: &Identity| {
        let twin = |others: &[Identity]| others.iter().filter(|other| other.random == clone.random).map(|_| "a twin".to_owned()).collect();
        shelf.templates.admit(&template, clone, twin).expect("noted")
    };
    assert_eq!(admit(&identity("one")), Vec::<String>::new());
    assert_eq!(admit(&identity("one")), ["a twin"]);
    assert_eq!(admit(&identity("two")), Vec::<String>::new());
    assert_eq!(shelf.templates.clones(&template).len(), 2, "the twin is not noted");
}
