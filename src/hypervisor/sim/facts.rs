//! What a simulated guest's facts say: a healthy small web server, but for what the scenario changes. The form is that of
//! `guest/linux/facts.sh`: sections `== name`, a record a line.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::scenario::{Facts, Scenario};
use super::step::Guest;
use crate::catalog::hardware::{Claims, Firmware, Hardware, TpmVersion, claims, cpu::Vendor};

/// The facts of a guest that nothing is the matter with. `{boot-id}` stands for the boot's id; `devices` and `hardware` are those of a
/// plain machine, and each machine's own follow its profile.
const HEALTHY: &str = include_str!("facts.txt");

/// A section's name and its text.
type Section = (Cow<'static, str>, Cow<'static, str>);

/// [`HEALTHY`] by its sections.
static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| {
    let sections = HEALTHY.split("== ").skip(1).filter_map(|section| section.split_once('\n'));
    sections.map(|(name, text)| (name.into(), text.into())).collect()
});

const FULL: &str = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 4000000 4000000 0 100% /\n";

/// The facts as this guest tells them.
pub fn told(scenario: &Scenario, guest: &Guest<'_>) -> String {
    let mut sections = SECTIONS.clone();
    let [devices, machine] = machine(guest.hardware);
    change(&mut sections, "devices", |text| *text = devices.into());
    change(&mut sections, "hardware", |text| *text = machine.into());
    if guest.disk_full {
        change(&mut sections, "disk", |text| *text = FULL.into());
    }
    for facts in &scenario.facts {
        if guest.before >= facts.read_before && facts.reads_so_at(guest.situation.point) && facts.when.matches(&guest.situation) {
            change(&mut sections, &facts.section, |text| edit(text.to_mut(), facts));
        }
    }
    let text = sections.iter().fold(String::new(), |mut all, (name, text)| {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        all.extend(["== ", name, "\n", text, end]);
        all
    });
    text.replace("{boot-id}", guest.boot_id)
}

/// A machine that is all that its profile claims: its devices, and what it says of itself.
fn machine(hardware: &Hardware) -> [String; 2] {
    let Claims { devices, firmware, tpm, processors, vendor, identity } = claims(hardware);
    let driven = devices.iter().map(|device| {
        let chain = device.chains.first().map(|chain| chain.join(" ")).unwrap_or_default();
        format!("{} {}0 {chain}\n", device.kind.as_str(), device.kind.as_str())
    });
    let mut says = vec![match firmware {
        Firmware::Bios => "firmware bios".to_owned(),
        Firmware::Uefi => "firmware uefi\nsecure-boot 0\nsetup-mode 1\nlockdown [none] integrity confidentiality".to_owned(),
        Firmware::UefiSecureBoot => "firmware uefi\nsecure-boot 1\nsetup-mode 0\nlockdown none [integrity] confidentiality".to_owned(),
    }];
    says.extend(tpm.map(|version| match version {
        TpmVersion::V1_2 => "tpm 1".to_owned(),
        TpmVersion::V2_0 => "tpm 2".to_owned(),
    }));
    says.push(format!("processors {processors}"));
    says.push(format!("vendor {}", vendor.map_or("AuthenticAMD", Vendor::id)));
    says.extend(identity.into_iter().map(|(key, value)| format!("dmi {key} {value}")));
    [driven.collect(), says.join("\n") + "\n"]
}

/// One section changed, or added before the last, which marks the end.
fn change(sections: &mut Vec<Section>, name: &str, edit: impl FnOnce(&mut Cow<'static, str>)) {
    match sections.iter_mut().find(|(known, _)| known == name) {
        Some((_, text)) => edit(text),
        None => {
            let mut text = Cow::default();
            edit(&mut text);
            sections.insert(sections.len().saturating_sub(1), (name.to_owned().into(), text));
        }
    }
}

fn edit(text: &mut String, facts: &Facts) {
    if let Some(whole) = &facts.text {
        whole.clone_into(text);
    }
    if let Some(drop) = &facts.drop {
        *text = text.lines().filter(|line| !line.contains(drop.as_str())).flat_map(|line| [line, "\n"]).collect();
    }
    if let Some(add) = &facts.add {
        let break_before = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        text.extend([break_before, add, "\n"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::hardware::{Chipset, DiskBus, NicModel};
    use crate::cell::observation::Point;
    use crate::hypervisor::sim::Situation;

    fn guest(point: Point, disk_full: bool) -> Guest<'static> {
        let situation = Situation { cell: "acme.web@bios", role: "", nth: 1, point, boot: 1, patches: Box::leak(Box::default()) };
        let hardware = Box::leak(Box::new(Hardware::plain(Chipset::Pc, Firmware::Bios, DiskBus::Virtio, NicModel::Virtio)));
        Guest { situation, boot_id: "the-boot", hardware, applied: false, disk_full, before: 0 }
    }

    #[test]
    fn untouched_facts_are_the_healthy_ones() {
        let told = told(&Scenario::default(), &guest(Point::Baseline, false));
        assert_eq!(told, HEALTHY.replace("{boot-id}", "the-boot"));
        assert!(told.ends_with("== end\n"));
    }

    #[test]
    fn a_section_changes_from_its_first_point_to_its_last() {
        let scenario = Scenario::default().facts(Facts::section("journal").from(Point::Rebooted).adding("nginx[1]: it broke"));
        let broken = |point| told(&scenario, &guest(point, false)).contains("== journal\nnginx[1]: it broke\n== core-dumps\n");
        let points = [Point::Baseline, Point::Applied, Point::Rebooted, Point::ColdBooted, Point::Reapplied, Point::RolledBack];
        assert_eq!(points.map(broken), [false, false, true, true, true, false]);
    }

    #[test]
    fn lines_can_go_and_sections_can_come() {
        let scenario = Scenario::default()
            .facts(Facts { drop: Some("nginx.service".to_owned()), ..Facts::section("units") }.adding("nginx.service loaded failed failed"))
            .facts(Facts::section("strange").adding("x"));
        let told = told(&scenario, &guest(Point::Baseline, true));
        assert!(!told.contains("nginx.service loaded active") && told.contains("nginx.service loaded failed failed\n== restarts"));
        assert!(told.contains("4000000 0 100% /\n") && told.ends_with("== strange\nx\n== end\n"), "{told}");
    }
}
