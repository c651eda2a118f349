//! A lab of many customers, as large as a measure wants it.

use std::collections::{BTreeMap, BTreeSet};

use patchlab::catalog::build::{Build, Customer, Levels, Role};
use patchlab::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use patchlab::catalog::image::{Image, Os};
use patchlab::catalog::patch::{Patch, PatchKind, Reboot};
use patchlab::catalog::suite::{Case, Suite, SuiteKind};
use patchlab::catalog::text::{Size, Span};
use patchlab::catalog::{Catalog, CustomerEntry, ImageEntry, SuiteEntry};
use patchlab::id::{Digest, Name};
use patchlab::plan::{Package, PayloadFacts, PlannedPatch, SealedImage};

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub customers: usize,
    /// Of each customer.
    pub builds: usize,
    /// Of each build.
    pub hardware: usize,
    /// Of the lab, and those of each build.
    pub suites: (usize, usize),
    /// Of each suite.
    pub cases: usize,
    /// Of the lab, in turn.
    pub images: usize,
    /// Installed in each image.
    pub packages: usize,
}

impl Fleet {
    pub const fn cells(self) -> usize {
        self.customers * self.builds * self.hardware
    }

    pub fn catalog(self) -> Catalog {
        let image = |number| {
            let title = format!("image {number}");
            let image = Image { title, os: Os::Debian, firmware: vec![Firmware::Bios, Firmware::Uefi], recipe: None, import: None };
            (self.image(number), ImageEntry { image, folder: "image".into() })
        };
        Catalog {
            images: (0..self.images).map(image).collect(),
            hardware: (0..self.hardware).map(hardware).collect(),
            customers: (0..self.customers).map(|number| self.customer(number)).collect(),
            suites: (0..self.suites.0).map(|number| self.suite(number)).collect(),
        }
    }

    pub fn sealed(self) -> BTreeMap<Name, SealedImage> {
        let package = |number: usize| (format!("package-{number}"), format!("1.{number}-1+deb12u1"));
        let sealed = |number: usize| SealedImage {
            sha256: Digest::of(number.to_le_bytes()),
            packages: Some((0..self.packages).map(package).collect()),
            prepared: BTreeMap::new(),
        };
        (0..self.images).map(|number| (self.image(number), sealed(number))).collect()
    }

    fn image(self, number: usize) -> Name {
        name(&format!("image-{}", number % self.images))
    }

    fn suite(self, number: usize) -> (Name, SuiteEntry) {
        let case = |case: usize| Case {
            name: name(&format!("case-{case}")),
            title: format!("what case {case} of suite {number} shows to work"),
            run: Some(format!("case-{case}.sh")),
            steps: Vec::new(),
            result: Default::default(),
            leaves_nothing: false,
            time_limit: Span::secs(60),
            role: (case % 6 == 5).then_some(Role::Client),
            needs: vec!["curl".to_owned()],
            destructive: false,
            autopkgtest: None,
        };
        let suite = Suite {
            title: format!("suite {number}"),
            kind: SuiteKind::Regression,
            roles: Vec::new(),
            autopkgtest: None,
            cases: (0..self.cases).map(case).collect(),
        };
        (name(&format!("suite-{number}")), SuiteEntry { suite, folder: "suite".into(), sha256: Digest::of(number.to_le_bytes()) })
    }

    fn customer(self, number: usize) -> (Name, CustomerEntry) {
        let (suites, of_build) = self.suites;
        let build = |build: usize| {
            let made = Build {
                title: format!("build {build} of customer {number}"),
                role: Role::Server,
                image: self.image(number * self.builds + build),
                hardware: (0..self.hardware).map(|hardware| name(&format!("profile-{hardware}"))).collect(),
                suites: (0..of_build).map(|suite| name(&format!("suite-{}", (number + build * of_build + suite) % suites))).collect(),
                services: vec!["nginx.service".to_owned()],
                volatile: vec!["/var/lib/app/*".to_owned()],
            };
            (name(&format!("build-{build}")), made)
        };
        let title = format!("customer {number}");
        let customer = Customer {
            title,
            confirmations: 1,
            attempts: 2,
            most_hardware: None,
            levels: Levels::Each,
            host_labels: BTreeSet::new(),
            policy: None,
        };
        let builds = (0..self.builds).map(build).collect();
        (name(&format!("customer-{number}")), CustomerEntry { customer, builds, environments: BTreeMap::new() })
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn hardware(number: usize) -> (Name, Hardware) {
    let disk = [DiskBus::Virtio, DiskBus::Nvme, DiskBus::Sata, DiskBus::Ide][number % 4];
    let chipset = if number % 4 == 3 { Chipset::Pc } else { Chipset::Q35 };
    let plain = Hardware::plain(chipset, Firmware::Bios, disk, [NicModel::Virtio, NicModel::E1000e][number / 4 % 2]);
    let profile = Hardware { title: format!("machine {number} of the fleet"), memory: Size::mib(512 + 256 * number as u64), ..plain };
    (name(&format!("profile-{number}")), profile)
}

/// A patch for every image: a package that they have, or a script that can be verified and taken back.
pub fn patch(kind: PatchKind) -> PlannedPatch {
    let text = |text: &str| text.to_owned();
    let line = |line: &str| (kind == PatchKind::Script).then(|| line.to_owned());
    let package = Package { name: text("package-1"), version: text("1.1-1+deb12u2"), architecture: text("amd64"), file: text("payload") };
    let packages = if kind == PatchKind::Deb { vec![package] } else { Vec::new() };
    let manifest = Patch {
        id: name("bench"),
        title: text("a patch for every image"),
        kind,
        payload: vec![text("payload")],
        reboot: Reboot::Auto,
        vendor: None,
        severity: None,
        cves: Vec::new(),
        supersedes: Vec::new(),
        requires: Vec::new(),
        install: line("./payload"),
        uninstall: line("./payload --undo"),
        verify: line("./payload --verify"),
        timeout: Span::secs(600),
        files: Vec::new(),
        root: None,
        strip: None,
        removes: Vec::new(),
        changes: Vec::new(),
    };
    let facts = PayloadFacts { packages, ..PayloadFacts::default() };
    PlannedPatch { sha256: Digest::of("bench"), manifest, facts, brings: false }
}
