//! With the real qemu-img on tiny files.

use std::io::{Seek, SeekFrom, Write};
use std::process;

use super::*;
use crate::lab::images::progress::unwatched;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn at(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.folder.path()).expect("there").join(name)
    }

    fn qemu_img(&self, arguments: &[&str]) {
        let ended = process::Command::new("qemu-img").args(arguments).current_dir(self.folder.path()).output().expect("qemu-img");
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    /// A raw disk of 4 MiB with something in its second MiB.
    fn raw(&self) -> PathBuf {
        let path = self.at("raw");
        let mut file = File::create(&path).expect("a file");
        file.set_len(4 << 20).expect("a size");
        file.seek(SeekFrom::Start(1 << 20)).expect("a seek");
        file.write_all(&b"patchlab".repeat(4096 * 8)).expect("written");
        path
    }

    fn made(&self, format: &str, options: &[&str]) -> PathBuf {
        let raw = self.raw();
        if format == "raw" {
            return raw;
        }
        let mut arguments = vec!["convert", "-O", format];
        arguments.extend(options);
        arguments.extend(["raw", format]);
        self.qemu_img(&arguments);
        self.at(format)
    }

    async fn import(&self, file: &Path, format: DiskFormat) -> Result<PathBuf, ImageError> {
        let disk = self.at("imported.qcow2");
        convert(file, format, &disk, &"web".parse().expect("a name"), &unwatched()).await.map(|()| disk)
    }

    async fn refusal(&self, file: &Path, format: DiskFormat) -> String {
        let error = self.import(file, format).await.expect_err("it must be refused");
        assert!(matches!(error, ImageError::Refused { .. }), "{error}");
        assert!(!self.at("imported.qcow2").exists());
        error.to_string()
    }
}

fn patch(file: &Path, offset: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(file).expect("open");
    file.seek(SeekFrom::Start(offset)).expect("a seek");
    file.write_all(bytes).expect("written");
}

#[tokio::test]
async fn every_format_arrives_as_a_qcow2_with_the_same_contents() {
    for (format, name, options) in [
        (DiskFormat::Raw, "raw", &[][..]),
        (DiskFormat::Qcow2, "qcow2", &[]),
        (DiskFormat::Vmdk, "vmdk", &[]),
        (DiskFormat::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]),
        (DiskFormat::Vhdx, "vhdx", &[]),
    ] {
        let bench = Bench::new();
        let file = bench.made(name, options);
        let disk = bench.import(&file, format).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        bench.qemu_img(&["compare", "-F", "qcow2", "-f", "raw", "raw", &disk.to_string_lossy()]);
    }
}

#[tokio::test]
async fn what_names_another_file_is_refused() {
    let bench = Bench::new();
    bench.raw();
    bench.qemu_img(&["create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", "overlay"]);
    assert!(bench.refusal(&bench.at("overlay"), DiskFormat::Qcow2).await.contains("a backing file"));
    bench.qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "outside", "4M"]);
    assert!(bench.refusal(&bench.at("outside"), DiskFormat::Qcow2).await.contains("an external data file"));
    bench.qemu_img(&["convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", "raw", "flat"]);
    assert!(bench.refusal(&bench.at("flat"), DiskFormat::Vmdk).await.contains("names other files"));
    bench.qemu_img(&["create", "-q", "-f", "vmdk", "base", "4M"]);
    bench.qemu_img(&["create", "-q", "-f", "vmdk", "-b", "base", "-F", "vmdk", "child"]);
    assert!(bench.refusal(&bench.at("child"), DiskFormat::Vmdk).await.contains("a parent disk"));
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused() {
    let bench = Bench::new();
    let qcow2 = bench.made("qcow2", &[]);
    assert!(bench.refusal(&qcow2, DiskFormat::Raw).await.contains("found a qcow2 file"));
    assert!(bench.refusal(&qcow2, DiskFormat::Vmdk).await.contains("found a qcow2 file"));
    assert!(bench.refusal(&bench.at("raw"), DiskFormat::Vhdx).await.contains("found something else"));
    fs::write(bench.at("empty"), "").expect("written");
    assert!(bench.refusal(&bench.at("empty"), DiskFormat::Raw).await.contains("an empty file"));
}

#[tokio::test]
async fn what_is_truncated_or_damaged_is_refused() {
    // A last cluster (64 KiB) may lawfully be short, and a streamOptimized file ends in padding whose loss is none.
    for (name, format, options, lost) in [
        ("qcow2", DiskFormat::Qcow2, &[][..], 70_000),
        ("vmdk", DiskFormat::Vmdk, &[], 70_000),
        ("vmdk", DiskFormat::Vmdk, &["-o", "subformat=streamOptimized"], 66_304),
        ("vhdx", DiskFormat::Vhdx, &[], 1024),
    ] {
        let bench = Bench::new();
        let file = bench.made(name, options);
        let whole = fs::read(&file).expect("readable");
        for kept in [100, whole.len() / 3, whole.len() - lost] {
            fs::write(&file, &whole[..kept]).expect("cut");
            bench.refusal(&file, format).await;
        }
    }
    let bench = Bench::new();
    let file = bench.made("qcow2", &[]);
    // The refcount table's place.
    patch(&file, 48, &[0xff; 8]);
    bench.refusal(&file, DiskFormat::Qcow2).await;
    let file = bench.made("qcow2", &[]);
    patch(&file, 72, &[0x80, 0, 0, 0, 0, 0, 0, 0]);
    assert!(bench.refusal(&file, DiskFormat::Qcow2).await.contains("incompatible features"));
}

#[tokio::test]
async fn a_raw_disk_shorter_than_its_partitions_is_refused() {
    let bench = Bench::new();
    let raw = bench.raw();
    // One Linux partition of 8 MiB on a disk of 4.
    patch(&raw, 446 + 4, &[0x83]);
    patch(&raw, 446 + 8, &[&2048_u32.to_le_bytes()[..], &16384_u32.to_le_bytes()].concat());
    patch(&raw, 510, &[0x55, 0xaa]);
    assert!(bench.refusal(&raw, DiskFormat::Raw).await.contains("it is truncated"));
    // GPT, whose second header would be beyond the end.
    let raw = bench.raw();
    patch(&raw, 510, &[0x55, 0xaa]);
    patch(&raw, 512, b"EFI PART");
    patch(&raw, 512 + 32, &8192_u64.to_le_bytes());
    assert!(bench.refusal(&raw, DiskFormat::Raw).await.contains("it is truncated"));
    patch(&raw, 512 + 32, &8191_u64.to_le_bytes());
    let disk = bench.import(&raw, DiskFormat::Raw).await.expect("the whole disk is taken");
    fs::remove_file(disk).expect("removed");
    let odd = bench.at("odd");
    fs::write(&odd, [0; 1000]).expect("written");
    assert!(bench.refusal(&odd, DiskFormat::Raw).await.contains("whole sectors"));
}

#[test]
fn what_qemu_img_says_is_judged_too() {
    let file = Path::new("/disks/a.vmdk");
    let judged = |format, text: &str| {
        let info: Info = serde_json::from_str(text).expect("JSON");
        judge(&info, format, file).map(|objection| objection.found).unwrap_or_default()
    };
    let qcow2 = |rest: &str| judged(DiskFormat::Qcow2, &format!(r#"{{"format": "qcow2", "virtual-size": 4096, "new-key": [1]{rest}}}"#));
    assert_eq!(qcow2(""), "");
    assert!(qcow2(r#", "backing-filename": "json:{}""#).contains("backing file"));
    assert!(qcow2(r#", "format-specific": {"type": "qcow2", "data": {"data-file": "/etc/shadow"}}"#).contains("/etc/shadow"));
    assert!(qcow2(r#", "format-specific": {"type": "qcow2", "data": {"corrupt": true}}"#).contains("corrupt"));
    assert!(qcow2(r#", "encrypted": true"#).contains("encrypted"));
    assert!(judged(DiskFormat::Qcow2, r#"{"format": "raw", "virtual-size": 1}"#).contains("raw"));
    assert!(judged(DiskFormat::Qcow2, r#"{"format": "qcow2", "virtual-size": 9223372036854775807}"#).contains("bytes"));
    assert!(!judged(DiskFormat::Qcow2, r#"{"format": "qcow2"}"#).is_empty());
    let vmdk = |name: &str| {
        let data = format!(r#"{{"extents": [{{"filename": "{name}"}}]}}"#);
        judged(
            DiskFormat::Vmdk,
            &format!(r#"{{"format": "vmdk", "virtual-size": 1, "format-specific": {{"type": "vmdk", "data": {data}}}}}"#),
        )
    };
    assert_eq!(vmdk("/disks/a.vmdk"), "");
    assert!(vmdk("/etc/shadow").contains("/etc/shadow"));
}
