use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::catalog::build::{Customer, Levels, Role};
use crate::catalog::hardware::{Chipset, DiskBus, Firmware, Hardware, NicModel};
use crate::catalog::image::{Image, Os};
use crate::catalog::suite::{Case, Suite, SuiteKind};
use crate::catalog::text::Size;
use crate::catalog::{ImageEntry, SuiteEntry};
use crate::plan::examples::{self, name, planned};
use crate::plan::lint::PARTIAL;

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| name(text)).collect()
}

fn hardware(firmware: Firmware) -> Hardware {
    Hardware::plain(Chipset::Q35, firmware, DiskBus::Virtio, NicModel::Virtio)
}

fn case(text: &str, role: Option<Role>) -> Case {
    Case { role, ..examples::case(text) }
}

/// One customer with a server that has an image for BIOS alone, on two profiles, and one suite.
fn catalog() -> Catalog {
    let image = Image { title: "i".to_owned(), os: Os::Debian, firmware: vec![Firmware::Bios], recipe: None, import: None };
    let suite = Suite {
        title: "s".to_owned(),
        kind: SuiteKind::Regression,
        roles: Vec::new(),
        autopkgtest: None,
        cases: vec![case("all", None), case("servers", Some(Role::Server)), case("clients", Some(Role::Client))],
    };
    let build = Build {
        title: "b".to_owned(),
        role: Role::Server,
        image: name("image"),
        hardware: names(&["bios", "uefi"]),
        suites: names(&["suite"]),
        services: Vec::new(),
        volatile: Vec::new(),
    };
    let customer = Customer {
        title: "c".to_owned(),
        confirmations: 1,
        attempts: 2,
        most_hardware: None,
        levels: Levels::Each,
        host_labels: BTreeSet::new(),
        policy: None,
    };
    Catalog {
        images: [(name("image"), ImageEntry { image, folder: "x".into() })].into(),
        hardware: [(name("bios"), hardware(Firmware::Bios)), (name("uefi"), hardware(Firmware::Uefi))].into(),
        customers: [(name("acme"), CustomerEntry { customer, builds: [(name("web"), build)].into(), environments: BTreeMap::new() })]
            .into(),
        suites: [(name("suite"), SuiteEntry { suite, folder: "x".into(), sha256: Digest::of("suite") })].into(),
    }
}

fn sealed(packages: Option<&[(&str, &str)]>) -> BTreeMap<Name, SealedImage> {
    let packages = packages.map(|all| all.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect());
    [(name("image"), SealedImage { sha256: Digest::of("image"), packages, prepared: BTreeMap::new() })].into()
}

fn excluded(plan: &Plan) -> Vec<&str> {
    plan.excluded.iter().map(|one| one.what.as_str()).collect()
}

#[test]
fn the_matrix_leaves_out_what_cannot_run_and_says_why() {
    let made = plan(&Request::default(), &catalog(), &sealed(None), &planned("script")).expect("a plan");
    let cells: Vec<&str> = made.cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(cells, ["acme.web@bios"]);
    assert_eq!(excluded(&made), ["acme.web: suite/clients", "acme.web@uefi"]);
    let cases: Vec<String> = made.cells[0].cases().map(|(suite, case)| format!("{}/{}", suite.name, case.name)).collect();
    assert_eq!(cases, ["suite/all", "suite/servers"]);
}

#[test]
fn the_same_request_gives_the_same_digest_and_any_other_byte_another() {
    let made = |catalog: &Catalog, images: &BTreeMap<Name, SealedImage>| {
        plan(&Request::default(), catalog, images, &planned("script")).expect("a plan").digest()
    };
    let (catalog, images) = (catalog(), sealed(None));
    let digest = made(&catalog, &images);
    assert_eq!(digest, made(&catalog.clone(), &images));
    let mut other = catalog.clone();
    other.suites.get_mut(&name("suite")).expect("there").sha256 = Digest::of("edited");
    assert_ne!(digest, made(&other, &images));
    let mut other = catalog.clone();
    other.hardware.get_mut(&name("bios")).expect("there").memory = Size::mib(1024);
    assert_ne!(digest, made(&other, &images));
    let mut images = images.clone();
    images.get_mut(&name("image")).expect("there").sha256 = Digest::of("rebuilt");
    assert_ne!(digest, made(&catalog, &images));
}

#[test]
fn a_plan_survives_its_journal() {
    let made = plan(&Request::default(), &catalog(), &sealed(None), &planned("deb")).expect("a plan");
    let text = serde_json::to_string(&made).expect("json");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("a plan").digest(), made.digest());
}

#[test]
fn what_cannot_be_planned_is_said_all_at_once() {
    let request = Request { customers: names(&["nobody"]), hardware: names(&["abacus"]), ..Request::default() };
    let problems = plan(&request, &catalog(), &sealed(None), &planned("script")).expect_err("no plan");
    let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(
        said.contains("no customer nobody; there is: acme") && said.contains("no hardware profile abacus; there is: bios, uefi"),
        "{said}"
    );
    let problems = plan(&Request::default(), &catalog(), &BTreeMap::new(), &planned("script")).expect_err("no plan");
    assert!(problems[0].to_string().contains("patchlab image build image"), "{}", problems[0]);
    let request = Request { hardware: names(&["uefi"]), ..Request::default() };
    let problems = plan(&request, &catalog(), &sealed(None), &planned("script")).expect_err("no plan");
    assert!(problems.iter().any(|problem| problem.to_string().contains("does not boot on this profile's firmware")), "{problems:?}");
}

#[test]
fn what_nothing_chosen_has_is_not_asked_for_in_vain() {
    let mut catalog = catalog();
    let suite = catalog.suites.values().next().cloned().expect("a suite");
    catalog.suites.insert(name("unused"), suite);
    let profile = catalog.hardware.values().next().cloned().expect("a profile");
    catalog.hardware.insert(name("spare"), profile);
    let request = Request { hardware: names(&["bios", "spare"]), suites: names(&["suite", "unused"]), ..Request::default() };
    let problems = plan(&request, &catalog, &sealed(None), &planned("script")).expect_err("no plan");
    let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let expected = "nothing that was chosen has the hardware profile spare; it has: bios, uefi\n\
                    nothing that was chosen has the suite unused; it has: suite";
    assert_eq!(said, expected);
}

#[test]
fn a_package_that_is_not_in_the_image_concerns_nobody() {
    let deb = planned("deb");
    let fits = plan(&Request::default(), &catalog(), &sealed(Some(&[("nginx", "1.0")])), &deb).expect("a plan");
    assert_eq!(fits.cells.len(), 1);
    let mut images = sealed(Some(&[("vim", "9")]));
    let brought = plan(&Request::default(), &catalog(), &images, &deb).expect("a plan");
    assert!(brought.cells.len() == 1 && brought.patch.brings && brought.lint.iter().any(|lint| lint.code == "new-packages"));
    images.extend(sealed(Some(&[("nginx", "1.0")])).into_values().map(|image| (name("other"), image)));
    let problems = plan(&Request::default(), &catalog(), &images, &deb).expect_err("no plan: it is another build's update");
    assert!(problems[0].to_string().contains("none of the patch's packages is installed"), "{}", problems[0]);
    assert_eq!(plan(&Request::default(), &catalog(), &sealed(None), &deb).map(|plan| plan.cells.len()), Ok(1), "unknown is not absent");
}

#[test]
fn lint_says_what_weakens_a_plan() {
    let codes = |request: &Request, patch: &str, images: &BTreeMap<Name, SealedImage>| -> Vec<String> {
        plan(request, &catalog(), images, &planned(patch)).expect("a plan").lint.into_iter().map(|lint| lint.code).collect()
    };
    let all = Request::default();
    assert!(codes(&all, "script", &sealed(None)).contains(&"no-second-boot".to_owned()));
    let same = planned("deb").facts.packages[0].version.clone();
    assert!(codes(&all, "deb", &sealed(Some(&[("nginx", same.as_str())]))).contains(&"already-there".to_owned()));
}

#[test]
fn what_was_not_asked_for_is_named() {
    let mut catalog = catalog();
    let entry = catalog.customers.get_mut(&name("acme")).expect("acme");
    let web = entry.builds[&name("web")].clone();
    entry.builds.insert(name("desktop"), web);
    let partial = |request: Request| {
        let lint = plan(&request, &catalog, &sealed(None), &planned("script")).expect("a plan").lint;
        lint.into_iter().find(|lint| lint.code == PARTIAL).map(|lint| lint.message)
    };
    let builds = |builds: &[&str]| Request { builds: names(builds), ..Request::default() };
    for whole in [Request::default(), builds(&["desktop", "web"]), Request { customers: names(&["acme"]), ..Request::default() }] {
        assert_eq!(partial(whole), None, "all of it");
    }
    let one = partial(builds(&["web"])).expect("a word");
    assert!(one.ends_with("not for build acme.desktop"), "{one}");
    let less = partial(Request { suites: names(&["suite"]), hardware: names(&["bios"]), ..builds(&["web"]) }).expect("a word");
    assert!(less.ends_with("not for build acme.desktop, the other hardware, the other suites"), "{less}");
}
