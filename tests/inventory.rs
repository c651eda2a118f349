//! Profiles from inventories of several machines, as the tools write them, and from what is none. The machines are made up after what their
//! makers and the tools' manuals publish.

use std::fs;
use std::path::Path;

use patchlab::catalog::hardware::{DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::inventory::{Form, LONGEST, import, toml};
use patchlab::catalog::load::load;
use proptest::prelude::*;

const MACHINES: [&str; 6] = [
    "dell-poweredge-r740.lshw.json",
    "hpe-proliant-dl380-gen10.dmidecode.txt",
    "libvirt-guest.xml",
    "old-bios-pc.dmidecode.txt",
    "thinkpad-t480.lshw.json",
    "vmware-guest.lshw.json",
];

fn inventory(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventories").join(name)).expect("an inventory")
}

/// The profile read back from its file, as a lab does.
fn read_back(text: &str) -> Hardware {
    let lab = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(lab.path().join("builds/hardware")).expect("a folder");
    fs::write(lab.path().join("builds/hardware/imported.toml"), text).expect("written");
    let loading = load(lab.path());
    let said: Vec<_> = loading.diagnostics.iter().map(ToString::to_string).collect();
    loading.catalog.unwrap_or_else(|| panic!("{}\n{text}", said.join("\n"))).hardware.into_values().next().expect("a profile")
}

#[test]
fn every_machine_becomes_a_profile_that_says_what_it_lacks() {
    for name in MACHINES {
        let (form, profile) = import(&inventory(name)).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert_eq!(profile.impossible(), [], "{name}");
        let text = toml(&profile);
        assert_eq!(read_back(&text), profile, "{name}");
        let expected = if name.contains("lshw") {
            Form::Lshw
        } else if name.contains("dmidecode") {
            Form::Dmidecode
        } else {
            Form::DomainXml
        };
        assert_eq!(form, expected);
        insta::assert_snapshot!(name, text);
    }
}

fn said(text: &str) -> String {
    import(text.as_bytes()).map(|(_, profile)| toml(&profile)).unwrap_or_else(|bad| bad.to_string())
}

#[test]
fn what_is_no_inventory_is_refused_with_a_way_out() {
    for (text, problem) in [
        ("", "an empty file"),
        ("\u{feff} \n", "an empty file"),
        ("{", "not valid JSON"),
        ("{\"id\": 1}", "JSON without a node of class \"system\""),
        ("[]", "JSON without a node of class \"system\""),
        ("[[[[]]]]", "JSON without a node of class \"system\""),
        ("{\"class\": \"network\"}", "JSON without a node of class \"system\""),
        ("myhost\n    description: Computer\n  *-core\n", "lshw's text for people"),
        ("<?xml version=\"1.0\"?><list><node id=\"x\"/></list>", "lshw's XML"),
        ("<html><body></body></html>", "a page of HTML"),
        ("<network><name>default</name></network>", "XML whose outermost element is <network>, not <domain>"),
        ("<domain>", "it ends in the middle"),
        ("<domain><a></b></domain>", "not well-formed XML"),
        ("<domain/><domain/>", "several XML documents"),
        ("<!DOCTYPE d [<!ENTITY a \"aaaa\">]><domain><name>&a;</name></domain>", "an entity that XML itself does not have"),
        ("# dmidecode 3.4\nScanning /dev/mem for entry point.\n# No SMBIOS nor DMI entry point found, sorry.", "without a table of type 1"),
        ("/dev/mem: Permission denied", "none of the known forms"),
    ] {
        let said = said(text);
        assert!(said.contains(problem) && said.lines().count() == 3, "{text:?}: {said}");
    }
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("{}".bytes().flat_map(|byte| [byte, 0])).collect();
    assert!(import(&utf16).expect_err("UTF-16").to_string().contains("PowerShell"));
    assert!(import(&vec![b' '; LONGEST + 1]).expect_err("long").to_string().contains("MiB"));
    assert!(import("[".repeat(100_000).as_bytes()).expect_err("deep").to_string().contains("JSON"));
    let deep = format!("<domain>{}{}</domain>", "<a>".repeat(100_000), "</a>".repeat(100_000));
    assert!(import(deep.as_bytes()).expect_err("deep").to_string().contains("far too many elements"));
}

#[test]
fn a_machine_that_says_nothing_gets_a_plain_profile_and_says_so() {
    for text in ["{\"class\": \"system\"}", "<domain/>", "Handle 0x0001, DMI type 1, 27 bytes\nSystem Information\n"] {
        let (_, profile) = import(text.as_bytes()).expect("a profile");
        assert_eq!((profile.impossible(), profile.firmware, profile.smbios.as_ref()), (vec![], Firmware::Bios, None), "{text}");
        assert!(profile.differences.iter().any(|it| it.production.starts_with("not told by")), "{text}");
        assert_eq!(read_back(&toml(&profile)), profile, "{text}");
    }
}

/// On a virtual machine, lshw tells of a device twice: as it is on PCI, and below it as what the guest's driver makes of it.
#[test]
fn paravirtual_devices_are_told_once() {
    let below = |parent: &str, class: &str, product: &str, child: serde_json::Value| {
        serde_json::json!({
            "class": class, "id": parent, "businfo": "pci@0000:01:00.0", "product": product, "vendor": "Red Hat, Inc.",
            "configuration": { "driver": "virtio-pci" }, "children": [child],
        })
    };
    let card =
        serde_json::json!({ "class": "network", "id": "virtio0", "businfo": "virtio@0", "configuration": { "driver": "virtio_net" } });
    let disk = serde_json::json!({ "class": "disk", "id": "virtio1", "businfo": "virtio@1", "logicalname": "/dev/vda", "size": 10_737_418_240_u64 });
    let core = [below("network", "network", "Virtio network device", card), below("scsi", "storage", "Virtio block device", disk)];
    let value = serde_json::json!({ "class": "system", "product": "Standard PC (Q35 + ICH9, 2009)", "vendor": "QEMU", "children": core });
    let (_, profile) = import(value.to_string().as_bytes()).expect("a profile");
    assert_eq!((profile.disk, profile.nic), (DiskBus::Virtio, NicModel::Virtio));
    assert!(!profile.differences.iter().any(|it| it.device == "network card"), "{:?}", profile.differences);
}

#[test]
fn hostile_names_stay_names() {
    let hostile = "x\"]\n[[differences]] \u{1b}[2J\u{202e} '''\"\"\" \\u0000 <script>";
    let value = serde_json::json!({
        "class": "system", "vendor": hostile, "product": hostile.repeat(5000), "configuration": { "uuid": hostile, "sku": "é" },
        "children": [
            { "class": "processor", "product": hostile, "vendor": "Intel", "configuration": { "cores": "4294967295", "threads": "4294967295" } },
            { "class": "display", "businfo": "pci@0", "product": hostile },
            { "class": "memory", "id": "memory", "description": "System Memory", "size": u64::MAX },
        ],
    });
    let (_, profile) = import(value.to_string().as_bytes()).expect("a profile");
    assert_eq!(profile.impossible(), []);
    let text = toml(&profile);
    assert_eq!(read_back(&text), profile);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text}");
    assert!(profile.differences.iter().any(|it| it.device == "SMBIOS identity" && it.production.contains("uuid")), "{text}");
}

/// A machine as its makers wrote it, with a few bytes changed, cut or doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    (prop::sample::select(MACHINES.to_vec()), prop::collection::vec(edit, 0..6)).prop_map(|(name, edits)| {
        let mut bytes = inventory(name);
        for (at, byte, how) in edits {
            let at = at.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if byte < 8 => bytes.truncate(at),
                _ => {}
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_read_gives_a_profile_that_can_exist(bytes in damaged()) {
        if let Ok((_, profile)) = import(&bytes) {
            prop_assert_eq!(profile.impossible(), vec![]);
            prop_assert_eq!(read_back(&toml(&profile)), profile);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(start in prop::sample::select(vec!["", "{", "[{\"class\":\"system\",", "<domain>", "# dmidecode\nHandle 0x1, DMI type 1,\n\t"]), rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = import(&[start.as_bytes(), &rest].concat());
    }
}
