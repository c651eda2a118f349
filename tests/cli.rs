//! The command line as its users see it, on the simulator: exit codes, formats, and what a repeated command does.

#[path = "common/command.rs"]
mod command;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

struct Lab {
    state: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { state: tempfile::tempdir().expect("a folder") }
    }

    fn patchlab(&self, arguments: &[&str]) -> Output {
        let (lab, arguments) = match arguments {
            ["--lab", lab, rest @ ..] => (*lab, rest),
            all => (env!("CARGO_MANIFEST_DIR"), all),
        };
        let mut command = command::patchlab(lab, self.state.path());
        if !arguments.contains(&"--hypervisor") {
            command.args(["--hypervisor", "sim"]);
        }
        command.args(arguments).output().expect("patchlab starts")
    }

    /// Its exit code and standard output; nothing but results go there.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.patchlab(arguments);
        (output.status.code().expect("an exit code"), String::from_utf8(output.stdout).expect("UTF-8"))
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let (code, text) = self.run(&[arguments, &["--format", "json"]].concat());
        (code, serde_json::from_str(&text).unwrap_or_else(|bad| panic!("{bad}: {text}")))
    }

    fn scenario(&self, text: &str) -> String {
        let file = self.state.path().join("scenario.toml");
        std::fs::write(&file, text).expect("written");
        format!("sim:{}", file.display())
    }
}

const PATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/patches/good-motd");
const ONE: [&str; 4] = ["--build", "web", "--hardware", "virtio-bios"];

#[test]
fn exit_codes_tell_pass_fail_and_inconclusive_apart() {
    let refuse = "[[fault]]\non = 'create'\ndoes = { refuse = 'no-space' }";
    let break_it = "[[step]]\non = { case = 'storage/*' }\nwhen = { side = 'after' }\nends = { exit = 1 }";
    for (scenario, code, verdict) in [("", 0, "pass"), (break_it, 1, "fail"), (refuse, 3, "inconclusive")] {
        let lab = Lab::new();
        let sim = lab.scenario(scenario);
        let (found, report) = lab.json(&[&["--hypervisor", &sim, "run", PATCH], &ONE[..]].concat());
        assert_eq!((found, report["verdict"].as_str()), (code, Some(verdict)), "{scenario}");
        assert_eq!(lab.run(&["show", "last"]).0, code, "show answers as the run did");
        assert_eq!(lab.run(&["gc"]), (0, "nothing is left over\n".to_owned()));
    }
}

#[test]
fn usage_and_configuration_errors_are_2_and_say_what_to_do() {
    let lab = Lab::new();
    let empty = tempfile::tempdir().expect("a folder");
    let empty = empty.path().to_str().expect("UTF-8");
    for (arguments, word) in [
        (vec!["frobnicate"], "Usage"),
        (vec!["show", "last"], "patchlab run"),
        (vec!["run", "/nonexistent"], "patchlab patch list"),
        (vec!["run", empty], "patch.toml"),
        (vec!["run", PATCH, "--build", "nosuch"], "desktop, office-server, web"),
        (vec!["run", PATCH, "--environment", "shop"], "there is: back-office, office"),
        (
            vec!["plan", PATCH, "--environment", "office", "--level", "nobody"],
            "there is no patch level nobody; there is: all, client, server",
        ),
        (vec!["patch", "add", empty], "patch.toml"),
        (vec!["shell", "last"], "no run"),
    ] {
        let output = lab.patchlab(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word) && output.stdout.is_empty(), "{arguments:?}: {said}");
        let stored = lab.json(&["patch", "list"]).1;
        assert_eq!(stored, serde_json::json!([]), "{arguments:?} left a candidate in the store");
    }
    let output = lab.patchlab(&["--hypervisor", "sim:/nonexistent", "run", PATCH]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("scenario"));
    assert_eq!(lab.run(&["runs"]), (0, "no runs yet\n".to_owned()), "nothing was half done");
}

#[test]
fn an_environment_has_all_its_machines_at_once_however_few_were_asked_for() {
    let lab = Lab::new();
    for (arguments, machines) in
        [(ONE.as_slice(), "1 machine at once"), (&["--environment", "office", "--level", "all"], "2 machines at once")]
    {
        let output = lab.patchlab(&[&["run", PATCH, "--workers", "1"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(machines), "{said}");
    }
}

#[test]
fn the_longest_cells_are_begun_first() {
    let lab = Lab::new();
    let output = lab.patchlab(&["run", PATCH, "--build", "web", "--build", "desktop", "--workers", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let ended: Vec<&str> = said.lines().filter(|line| line.contains("ended (")).collect();
    // The profile with UEFI asks for a second cold boot.
    let second_boot: Vec<bool> = ended.iter().map(|line| line.contains("@virtio-uefi")).collect();
    assert_eq!(second_boot, [true, true, false, false], "{said}");
}

#[test]
fn every_report_is_written_whole_and_names_the_run() {
    let lab = Lab::new();
    let junit = lab.state.path().join("out.xml");
    let (code, report) = lab.json(&[&["run", PATCH, "--junit", junit.to_str().expect("UTF-8")], &ONE[..]].concat());
    assert_eq!(code, 0);
    let run = report["run"].as_str().expect("a run");
    for format in ["junit", "html", "json", "markdown"] {
        let (code, text) = lab.run(&["report", run, "--format", format]);
        assert!(code == 0 && text.contains(run), "{format}");
    }
    let (_, text) = lab.run(&["report", run, "--format", "junit"]);
    assert_eq!(std::fs::read_to_string(&junit).expect("written"), text);
    let folder = lab.state.path().join("kept");
    let kept = ["report", run, "--evidence", folder.to_str().expect("UTF-8")];
    assert_eq!(lab.run(&kept).0, 0);
    assert!(folder.join("acme.web@virtio-bios/main/facts.baseline.txt").is_file(), "{:?}", std::fs::read_dir(&folder));
    assert_eq!(lab.run(&kept).0, 2, "nothing is overwritten");
    let output = lab.patchlab(&["report", run, "--format", "html", "--output", "/nonexistent/report.html"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn the_plan_shown_is_the_plan_run_and_reuse_answers_with_it() {
    let lab = Lab::new();
    let (code, plan) = lab.json(&[&["plan", PATCH], &ONE[..]].concat());
    assert_eq!(code, 0);
    let command = [&["run", PATCH, "--reuse"], &ONE[..]].concat();
    let (_, first) = lab.json(&command);
    assert_eq!(plan["digest"], first["plan"]["digest"]);
    let (code, again) = lab.json(&command);
    assert_eq!((code, &again["run"]), (0, &first["run"]), "the same run answers");
    let (_, fresh) = lab.json(&[&["run", PATCH], &ONE[..]].concat());
    assert_ne!(fresh["run"], first["run"]);
    let (_, other) = lab.json(&["run", PATCH, "--reuse", "--build", "desktop", "--hardware", "virtio-bios"]);
    assert_ne!(other["run"], first["run"], "another plan is not spoken for");
}

#[test]
fn reuse_does_not_answer_a_flaky_run_with_an_older_pass() {
    let lab = Lab::new();
    let run = |scenario: &str| {
        let sim = lab.scenario(scenario);
        let (code, told) = lab.json(&[&["--hypervisor", &sim, "run", PATCH, "--reuse"], &ONE[..]].concat());
        (code, told["run"].clone())
    };
    let anew = |scenario: &str| {
        let sim = lab.scenario(scenario);
        lab.run(&[&["--hypervisor", &sim, "run", PATCH], &ONE[..]].concat()).0
    };
    let (code, first) = run("");
    assert_eq!((code, run("").1), (0, first.clone()));
    // The first clone was the first run's.
    let flaky = "[[step]]\non = { case = 'storage/*' }\nwhen = { side = 'after', nth = [2] }\nends = { exit = 1 }";
    assert_eq!(anew(flaky), 3);
    let (code, third) = run("");
    assert_eq!(code, 0);
    assert_ne!(third, first, "it is tried again");
    assert_eq!(run("").1, third);
    // What failed before the patch says nothing of it.
    assert_eq!(anew("[[fault]]\non = { boot = 'kernel' }\nwhen = { side = 'before' }\ndoes = 'panic'"), 3);
    assert_eq!(run("").1, third);
}

#[test]
fn failed_machines_are_kept_looked_into_and_let_go() {
    let lab = Lab::new();
    let sim = lab.scenario("[[step]]\non = { step = 'apply' }\nends = { exit = 1 }");
    let (code, _) = lab.run(&[&["--hypervisor", &sim, "run", PATCH, "--keep-failed"], &ONE[..]].concat());
    assert_eq!(code, 1);
    assert_eq!(lab.run(&["gc"]).1, "nothing is left over\n", "what is kept is no leftover");
    let (code, said) = lab.run(&["release", "last"]);
    assert!(code == 0 && said.contains("released patchlab-"), "{said}");
    assert_eq!(lab.run(&["shell", "last"]).0, 2, "nothing is kept any more");
}

#[test]
fn lists_of_nothing_are_no_errors() {
    let lab = Lab::new();
    for arguments in [["runs"].as_slice(), &["patch", "list"], &["gc"], &["audit", "verify"], &["completions", "bash"], &["man"]] {
        let (code, text) = lab.run(arguments);
        assert!(code == 0 && !text.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_real_machine_becomes_a_profile_of_the_lab() {
    let lab = Lab::new();
    let home = lab.state.path().join("lab");
    std::fs::create_dir_all(home.join("builds/hardware")).expect("a folder");
    let home = home.to_str().expect("UTF-8");
    let machine = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inventories/dell-poweredge-r740.lshw.json");
    let (code, told) = lab.run(&["--lab", home, "hardware", "import", machine, "--name", "r740"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("in the lab: virtio-scsi") && told.contains("MegaRAID SAS-3 3108"), "{told}");
    let file = format!("{home}/builds/hardware/r740.toml");
    let (code, checked) = lab.run(&["--lab", home, "check"]);
    assert!(code == 0 && checked.contains("1 hardware profile,"), "{checked}");
    // What someone may have worked on is not written over.
    let again = lab.patchlab(&["--lab", home, "hardware", "import", machine, "--name", "r740"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"), "{again:?}");
    // Without a place it is a result.
    assert_eq!(lab.run(&["hardware", "import", machine]), (0, std::fs::read_to_string(file).expect("written")));
    let (code, json) = lab.json(&["hardware", "import", machine]);
    assert_eq!((code, &json["from"], &json["profile"]["disk"]), (0, &Value::from("lshw"), &Value::from("scsi")));
    for bad in ["Cargo.toml", "tests", "nowhere.json"] {
        let path = format!("{}/{bad}", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(lab.run(&["hardware", "import", &path]).0, 2, "{bad}");
    }
    assert_eq!(lab.run(&["hardware", "import", machine, "--output", "/nowhere/at/all.toml"]).0, 2);
}

#[test]
fn a_suite_between_machines_is_shown_with_its_steps() {
    let lab = Lab::new();
    let (code, shown) = lab.run(&["suite", "show", "http"]);
    assert_eq!(code, 0);
    let steps = ["    server starts site.sh 16 in the background as site, and is waited for until ready\n", "    network: down client\n"];
    assert!(steps.iter().all(|step| shown.contains(step)), "{shown}");
    assert_eq!(lab.json(&["suite", "show", "http"]).1["cases"][1]["steps"][3], "client runs unreachable.sh");
}

/// Runs the patch on machines that can be frozen, in a lab with these settings. Gives the report and what `gc` then lists.
fn with_templates(lab: &Lab, settings: &str) -> (Value, Value) {
    let sim = lab.scenario("[templates]\nfreeze = true\n");
    let home = lab.state.path().join("lab");
    std::fs::create_dir_all(&home).expect("a folder");
    for shared in ["images", "test-suites", "builds"] {
        std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(shared), home.join(shared)).expect("a link");
    }
    std::fs::write(home.join("patchlab.toml"), settings).expect("written");
    let home = home.to_str().expect("UTF-8");
    let (code, report) = lab.json(&[&["--lab", home, "--hypervisor", &sim, "run", PATCH], &ONE[..]].concat());
    assert_eq!(code, 0, "{report:#}");
    (report, lab.json(&["--lab", home, "gc"]).1)
}

#[test]
fn templates_are_listed_and_removed() {
    let lab = Lab::new();
    let (report, listed) = with_templates(&lab, "[templates]\nat-most = 1\n");
    assert!(report.to_string().contains("\"warm\""), "{report:#}");
    let folder = lab.state.path().join("templates");
    let found: Vec<_> = std::fs::read_dir(&folder).expect("a folder").map(|one| one.expect("an entry").file_name()).collect();
    let [only] = found.as_slice() else { panic!("one template expected, found {found:?}") };
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed:#}");
    assert_eq!(listed[0]["template"].as_str().map(|digest| digest.trim_start_matches("sha256:")), only.to_str());
    assert!(["image", "hardware", "frozen", "used"].iter().all(|key| listed[0][key].is_string()) && listed[0]["bytes"].is_u64());

    let digest = |key: &str| listed[0][key].as_str().expect("a digest").trim_start_matches("sha256:")[..8].to_owned();
    let (_, told) = lab.run(&["gc", "--remove"]);
    let [first, line] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
    let named = ["template", "image", "hardware"].iter().all(|key| line.contains(&format!("{key} {}", digest(key))));
    assert!(first == "nothing is left over" && named && line.contains("last used 2"), "{told}");
    assert!(folder.join(only).exists(), "a template is no leftover");

    let removed = lab.patchlab(&["gc", "--templates"]);
    assert!(removed.status.success() && String::from_utf8_lossy(&removed.stderr).contains("removed 1"), "{removed:?}");
    assert!(!folder.join(only).exists());
    assert_eq!(lab.run(&["gc", "--templates"]), (0, "nothing is left over\n".to_owned()));
}

#[test]
fn a_lab_that_wants_no_templates_has_none() {
    let (report, listed) = with_templates(&Lab::new(), "[templates]\nat-most = 0\n");
    assert_eq!(listed, Value::Array(Vec::new()));
    assert!(!report.to_string().contains("\"start\""), "nobody need be told why: {report:#}");
}

#[test]
fn the_doctor_says_whether_machines_can_be_frozen() {
    let lab = Lab::new();
    let templates = |sim: &str| {
        let (_, checked) = lab.json(&["--hypervisor", sim, "doctor"]);
        let one = checked.as_array().expect("a list").iter().find(|one| one["what"] == "templates").cloned();
        one.unwrap_or_else(|| panic!("no word of templates: {checked:#}"))
    };
    let (can, can_not) = (templates(&lab.scenario("[templates]\nfreeze = true\n")), templates("sim"));
    assert!(can["sound"] == true && can["found"] == "machines go on from a boot before", "{can}");
    let why = "every machine boots: the scenario's machines can't be frozen";
    assert!(can_not["sound"] == true && can_not["found"] == why, "what boots is no mistake: {can_not}");
}

#[test]
fn the_help_names_the_verbs_that_go_through_a_server() {
    let lab = Lab::new();
    let (code, help) = lab.run(&["--help"]);
    let told: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, told) = told.split_once("While a server works with the lab, ").expect("it says so");
    let (told, _) = told.split_once(" PATCHLAB_SERVER names").expect("an end");
    let id = "01a20168-5e49-7615-ac41-017ca710af21";
    for (verb, arguments) in [
        ("run", &[PATCH][..]),
        ("cancel", &["last"]),
        ("release", &["last"]),
        ("runs", &[]),
        ("show", &["last"]),
        ("gate", &["x", "--customer", "acme"]),
        ("waive", &["--consent", id]),
        ("waivers", &[]),
        ("approve", &["x", "--customer", "acme"]),
        ("reject", &["x", "--customer", "acme", "--reason", "no"]),
        ("revoke", &[id, "--reason", "no"]),
        ("attest", &["last"]),
        ("evidence", &["last", "--output", "/dev/null"]),
    ] {
        let mut command = command::patchlab(env!("CARGO_MANIFEST_DIR"), lab.state.path());
        command.args(["--hypervisor", "sim", verb]).args(arguments);
        let output = command.env("PATCHLAB_SERVER", "http://127.0.0.1:1").output().expect("patchlab starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("PATCHLAB_TOKEN"), "{verb}: {said}");
        let is_named = told.split(|c: char| !c.is_alphabetic()).any(|word| word == verb);
        assert!(code == 0 && is_named, "{verb}: {told}");
    }
}
