//! The gate's policies: what a good one gives, and what is said about each mistake.

use patchlab::catalog::Catalog;
use patchlab::catalog::patch::Severity;

use crate::Lab;

const POLICY: &str = r#"title = "Acme"

[policy]
valid-for = "14d"

[policy.require]
builds = ["web"]
hardware = ["plain"]
suites = ["web"]

[[policy.approval]]
role = "approver"
count = 2

[policy.waiver]
cases = ["web/*"]
longest = "30d"

[[policy.lane]]
name = "critical"
severities = ["critical"]
deadline = "4h"
approval = []
"#;

const FILE: &str = "builds/acme/customer.toml";

fn with_policy() -> Lab {
    let lab = Lab::good();
    lab.write(FILE, POLICY);
    lab
}

#[test]
fn a_lane_changes_what_it_names_and_nothing_else() {
    let lab = with_policy();
    assert_eq!(lab.brief(), Vec::<String>::new());
    let catalog = Catalog::load(lab.path()).expect("a catalog");
    let policy = catalog.customers.values().next().and_then(|entry| entry.customer.policy.clone()).expect("a policy");
    let text = "id = \"p\"\ntitle = \"p\"\nkind = \"script\"\npayload = [\"x\"]\nreboot = \"never\"\n";
    let plain: patchlab::catalog::patch::Patch = toml_edit::de::from_str(text).expect("a patch");
    let critical = patchlab::catalog::patch::Patch { severity: Some(Severity::Critical), ..plain.clone() };
    let (usual, fast) = (policy.terms(&plain), policy.terms(&critical));
    assert_eq!((usual.lane, usual.deadline, usual.approvals.len()), (None, None, 1));
    assert_eq!((fast.lane.map(|name| name.to_string()), fast.approvals.len()), (Some("critical".to_owned()), 0));
    assert_eq!((fast.deadline.map(|span| span.to_string()), fast.valid_for), (Some("4h".to_owned()), usual.valid_for));
    assert_eq!(fast.require, usual.require);
}

#[test]
fn a_policy_that_can_never_be_met_is_a_mistake() {
    let sins: &[(&str, &str, &[&str])] = &[
        (
            "valid-for = \"14d\"",
            "valid-for = \"1s\"",
            &["builds/acme/customer.toml:4 [policy.valid-for] a length of time that no gate can go by"],
        ),
        (
            "valid-for = \"14d\"",
            "valid-for = \"14d\"\nbaseline-valid-for = \"31d\"",
            &["builds/acme/customer.toml:5 [policy.baseline-valid-for] too long for what a machine did to stand for what it does"],
        ),
        (
            "longest = \"30d\"",
            "longest = \"0s\"",
            &["builds/acme/customer.toml:17 [policy.waiver.longest] a length of time that no gate can go by"],
        ),
        (
            "deadline = \"4h\"",
            "deadline = \"9999d\"",
            &["builds/acme/customer.toml:22 [policy.lane[0].deadline] a length of time that no gate can go by"],
        ),
        (
            "builds = [\"web\"]",
            "builds = [\"shop\"]",
            &[
                "builds/acme/customer.toml:6 [policy.require] nothing is required, so the gate would never open",
                "builds/acme/customer.toml:7 [policy.require.builds[0]] there is no build of this customer \"shop\"",
            ],
        ),
        (
            "builds = [\"web\"]",
            "builds = []",
            &["builds/acme/customer.toml:6 [policy.require] nothing is required, so the gate would never open"],
        ),
        (
            "builds = [\"web\"]",
            "environments = [\"pair\"]",
            &["builds/acme/customer.toml:7 [policy.require.environments[0]] there is no environment of this customer \"pair\""],
        ),
        (
            "hardware = [\"plain\"]",
            "hardware = [\"other\"]",
            &[
                "warning: builds/acme/customer.toml:8 [policy.require.hardware] web has none of this hardware: nothing would be required of it",
                "builds/acme/customer.toml:8 [policy.require.hardware[0]] no required build or environment has the hardware \"other\"",
            ],
        ),
        (
            "suites = [\"web\"]",
            "suites = [\"mail\"]",
            &[
                "warning: builds/acme/customer.toml:9 [policy.require.suites] web runs none of these suites: only the health checks would be required of it",
                "builds/acme/customer.toml:9 [policy.require.suites[0]] no required build or environment has the suite \"mail\"",
            ],
        ),
        (
            "suites = [\"web\"]",
            "levels = [\"all\"]",
            &["builds/acme/customer.toml:9 [policy.require.levels[0]] no required environment has the level \"all\""],
        ),
        (
            "suites = [\"web\"]",
            "suites = []",
            &["builds/acme/customer.toml:9 [policy.require.suites] policy.require.suites is too short a list"],
        ),
        (
            "role = \"approver\"",
            "role = \"viewer\"",
            &["builds/acme/customer.toml:12 [policy.approval[0].role] a viewer can't approve, so nobody ever will"],
        ),
        ("count = 2", "count = 0", &["builds/acme/customer.toml:13 [policy.approval[0].count] policy.approval[0].count is too small"]),
        (
            "cases = [\"web/*\"]",
            "cases = [\" \"]",
            &["builds/acme/customer.toml:16 [policy.waiver.cases[0]] a pattern that matches no case"],
        ),
        (
            "[policy.require]",
            "accept-from = [\"acme\", \"umbrella\"]\n[policy.require]",
            &[
                "builds/acme/customer.toml:6 [policy.accept-from[0]] a customer's own verdicts count without being named",
                "builds/acme/customer.toml:6 [policy.accept-from[1]] there is no customer \"umbrella\"",
            ],
        ),
        (
            "[[policy.lane]]",
            "[[policy.lane]]\nname = \"all\"\n[[policy.lane]]",
            &["warning: builds/acme/customer.toml:21 [policy.lane[1]] no patch goes by this lane: one before it takes them all"],
        ),
        (
            "[[policy.lane]]",
            "[[policy.lane]]\nname = \"critical\"\nkinds = [\"deb\"]\n[[policy.lane]]",
            &["builds/acme/customer.toml:23 [policy.lane[1].name] there is a lane \"critical\" before it"],
        ),
        ("valid-for = \"14d\"", "valid-fro = \"14d\"", &["builds/acme/customer.toml:4 [policy.valid-fro] unknown key \"valid-fro\""]),
    ];
    for (from, to, said) in sins {
        let lab = with_policy();
        lab.change(FILE, from, to);
        assert_eq!(lab.brief(), *said, "{to}");
    }
}
