use super::*;
use crate::catalog::hardware::{Hardware, Tpm};
use crate::catalog::text::Size;
use crate::hypervisor::MachineNic;
use crate::id::{Digest, RunId};

fn spec(chipset: Chipset, firmware: Firmware, disk: DiskBus, nic: NicModel) -> MachineSpec {
    MachineSpec {
        name: "m".to_owned(),
        tag: Tag {
            lab: "lab".to_owned(),
            run: RunId::from_parts(1_700_000_000_000, [7; 10]),
            cell: "acme.web@virtio-bios".parse().expect("a cell"),
            lease: "m".to_owned(),
        },
        hardware: Hardware::plain(chipset, firmware, disk, nic),
        image: "/images/sha256/disk.qcow2".into(),
        image_digest: Digest::of("image"),
        media: Some("/state/media.iso".into()),
        template: None,
        nics: vec![MachineNic { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), at: None }],
    }
}

fn site() -> Site {
    Site {
        kind: Kind::Qemu,
        files: Files::of(Path::new("/state/machines/m")),
        uefi_code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
        fresh_variables: None,
        nics: vec![SiteNic { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), at: Place::Wire(Wire { local: 20000, remote: 20001 }) }],
        gives_files: true,
        opens_files: true,
    }
}

fn xml(spec: &MachineSpec) -> String {
    domain(spec, &site()).to_xml().expect("written")
}

/// One whole definition for each kind of hardware that the lab ships.
#[test]
fn shipped_profiles() {
    for (name, chipset, firmware, disk, nic) in [
        ("virtio-bios", Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio),
        ("virtio-uefi", Chipset::Q35, Firmware::Uefi, DiskBus::Virtio, NicModel::Virtio),
        ("sata-e1000e", Chipset::Q35, Firmware::Bios, DiskBus::Sata, NicModel::E1000e),
        ("ide-rtl8139", Chipset::Pc, Firmware::Bios, DiskBus::Ide, NicModel::Rtl8139),
        ("scsi-vmxnet3", Chipset::Q35, Firmware::Bios, DiskBus::Scsi, NicModel::Vmxnet3),
        ("nvme", Chipset::Q35, Firmware::Uefi, DiskBus::Nvme, NicModel::Virtio),
    ] {
        whole(name, &spec(chipset, firmware, disk, nic));
    }
    let mut secure = spec(Chipset::Q35, Firmware::UefiSecureBoot, DiskBus::Nvme, NicModel::E1000e);
    secure.hardware.tpm = Tpm::V2_0;
    secure.hardware.clock = ClockBase::Localtime;
    let text = |text: &str| text.parse().ok();
    secure.hardware.smbios = Some(Smbios {
        manufacturer: text("Dell, Inc. <&>"),
        product: text("PowerEdge R740"),
        version: text("1.0"),
        serial: text("5XPHY42"),
        uuid: "4c4c4544-0058-5010-8048-b5c04f593432".parse().ok(),
        sku: text("SKU=NotProvided"),
        family: text("PowerEdge"),
    });
    whole("secure-boot-tpm2-smbios", &secure);
    let mut old = spec(Chipset::Pc, Firmware::Bios, DiskBus::Ide, NicModel::E1000);
    old.hardware.tpm = Tpm::V1_2;
    whole("bios-tpm12", &old);
}

fn whole(name: &str, spec: &MachineSpec) {
    let mut site = site();
    if spec.hardware.firmware == Firmware::UefiSecureBoot {
        site.uefi_code = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd".into();
    }
    let xml = domain(spec, &site).to_xml().expect("written");
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, xml);
    });
}

#[test]
fn what_differs_by_cpu_memory_and_accelerator() {
    let mut spec = spec(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    spec.hardware.cpu = "Nehalem".to_owned();
    spec.hardware.cores = 4;
    spec.hardware.memory = Size::mib(2048);
    spec.media = None;
    let xml = domain(&spec, &Site { kind: Kind::Kvm, ..site() }).to_xml().expect("written");
    for part in [
        r#"<domain type="kvm">"#,
        r#"<model fallback="forbid">Nehalem</model>"#,
        r#"<topology sockets="1" cores="4" threads="1"/>"#,
        "<vcpu>4</vcpu>",
        r#"<memory unit="MiB">2048</memory>"#,
    ] {
        assert!(xml.contains(part), "no {part} in {xml}");
    }
    assert!(xml.contains("cdrom") && !xml.contains(".iso"), "an empty drive: {xml}");
}

/// In a storage pool, libvirt makes the firmware's variables, and each file is where the pool has it.
#[test]
fn what_differs_where_a_pool_has_the_files() {
    let files = Files { overlay: "/pool/m.overlay.qcow2".into(), variables: "/pool/m.variables.fd".into(), ..site().files };
    let pooled = Site { files, fresh_variables: Some("/usr/share/OVMF/OVMF_VARS_4M.fd".into()), ..site() };
    let xml = |firmware| domain(&spec(Chipset::Q35, firmware, DiskBus::Virtio, NicModel::Virtio), &pooled).to_xml().expect("written");
    let made = r#"<nvram template="/usr/share/OVMF/OVMF_VARS_4M.fd">/pool/m.variables.fd</nvram>"#;
    for part in [made, r#"<source file="/pool/m.overlay.qcow2"/>"#] {
        assert!(xml(Firmware::Uefi).contains(part), "no {part} in {}", xml(Firmware::Uefi));
    }
    assert!(!xml(Firmware::Bios).contains("nvram"));
}

#[test]
fn sockets_and_threads_make_processors() {
    let mut spec = spec(Chipset::Q35, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    (spec.hardware.sockets, spec.hardware.cores, spec.hardware.threads) = (2, 3, 2);
    let xml = xml(&spec);
    assert!(xml.contains("<vcpu>12</vcpu>") && xml.contains(r#"<topology sockets="2" cores="3" threads="2"/>"#), "{xml}");
}

#[test]
fn hostile_texts_stay_texts() {
    let hostile = r#"x"/><disk a='&lt;<&>]]>"#;
    for disk in [DiskBus::Virtio, DiskBus::Nvme] {
        let mut spec = spec(Chipset::Q35, Firmware::Uefi, disk, NicModel::Virtio);
        spec.name = hostile.to_owned();
        spec.tag.lab = hostile.to_owned();
        spec.tag.lease = hostile.to_owned();
        spec.hardware.cpu = hostile.to_owned();
        spec.image = format!("/{hostile}").into();
        spec.media = Some(format!("/{hostile}").into());
        let site = Site { files: Files::of(Path::new(&format!("/{hostile}"))), uefi_code: format!("/{hostile}").into(), ..site() };
        let xml = domain(&spec, &site).to_xml().expect("written");
        let mut reader = quick_xml::Reader::from_str(&xml);
        let (mut disks, mut hostile_values) = (0, 0);
        loop {
            use quick_xml::events::Event;
            match reader.read_event().expect("well formed") {
                Event::Eof => break,
                Event::Start(element) | Event::Empty(element) => {
                    disks += usize::from(element.name().as_ref() == b"disk");
                    for attribute in element.attributes() {
                        let value = attribute.expect("well formed").normalized_value(quick_xml::XmlVersion::Implicit1_0).expect("escaped");
                        hostile_values += usize::from(value.contains(hostile));
                    }
                }
                _ => {}
            }
        }
        assert_eq!(disks, if disk == DiskBus::Nvme { 1 } else { 2 });
        // Lab, lease, media, console; and the managed disk's overlay and image. NVMe's paths are in JSON, whose quotes are escaped too.
        assert_eq!(hostile_values, if disk == DiskBus::Nvme { 4 } else { 6 });
    }
}

#[test]
fn one_name_one_identity() {
    let spec = spec(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    let mut other = spec.clone();
    other.name = "n".to_owned();
    let (a, b) = (domain(&spec, &site()), domain(&other, &site()));
    assert_eq!(a.uuid, domain(&spec, &site()).uuid);
    assert_ne!(a.uuid, b.uuid);
}

#[test]
fn an_unprivileged_libvirt_is_not_asked_about_owners() {
    let spec = spec(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    let plain = domain(&spec, &Site { gives_files: false, ..site() }).to_xml().expect("written");
    assert!(!plain.contains("seclabel") && xml(&spec).contains("seclabel"));
}

#[test]
fn a_log_daemon_is_given_each_file_once() {
    let spec = spec(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio);
    let elsewhere = domain(&spec, &Site { opens_files: false, ..site() }).to_xml().expect("written");
    let ports = |xml: &str| xml.matches("console.log").count();
    assert_eq!((ports(&xml(&spec)), ports(&elsewhere)), (2, 1));
}
