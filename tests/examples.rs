//! The examples for pipelines and monitoring do what they say: their own lines are run, against a served lab on the simulator.

#[path = "common/command.rs"]
mod command;
#[path = "decisions/labs.rs"]
mod labs;
#[expect(dead_code, reason = "shared with tests/decisions.rs")]
#[path = "decisions/receiver.rs"]
mod receiver;
#[expect(dead_code, reason = "shared with tests/serve.rs")]
#[path = "serve/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use labs::{NO_APPROVAL, POLICY, hook, lab};
use receiver::Receiver;
use serde_json::Value;
use server::Server;
use yaml_rust2::{Yaml, YamlLoader};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const BREAKS: &str = "[[step]]\non = { case = \"web-server/pages\" }\nwhen = { side = \"after\" }\nends = { exit = 1 }\n";
const REFUSES: &str = "[[fault]]\non = \"create\"\ndoes = { refuse = \"no-space\" }\n";

fn example(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join("scripts/examples").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    let documents = YamlLoader::load_from_str(&example(name)).unwrap_or_else(|bad| panic!("{name}: {bad}"));
    assert_eq!(documents.len(), 1, "{name}");
    json(&documents[0])
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(map) => map.iter().map(|(key, value)| (key.as_str().expect("a text").to_owned(), json(value))).collect(),
        Yaml::Array(list) => list.iter().map(json).collect(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(is) => (*is).into(),
        other => panic!("not expected in an example: {other:?}"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, found {value}")).to_owned()
}

/// A job of a pipeline: its script, and the variables that the pipeline itself sets.
struct Job {
    name: &'static str,
    script: String,
    variables: BTreeMap<String, String>,
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn shell() -> Job {
    Job { name: "a shell", script: "scripts/examples/gate.sh good-motd acme".to_owned(), variables: BTreeMap::new() }
}

fn gitlab() -> Job {
    let whole = yaml("gitlab-ci.yml");
    let job = &whole["validate-patch"];
    assert_eq!((&job["artifacts"]["reports"]["junit"], &job["artifacts"]["when"]), (&"junit.xml".into(), &"always".into()));
    let lines: Vec<String> = job["script"].as_array().expect("a script").iter().map(text).collect();
    let set = whole["variables"].as_object().expect("variables").iter().map(|(name, value)| (name.clone(), text(value)));
    let variables = set.chain([("CI_JOB_ID".to_owned(), "4711".to_owned())]).collect();
    Job { name: "GitLab CI", script: lines.join("\n"), variables }
}

fn github(server: &Server, token: &str) -> Job {
    let whole = yaml("github-actions.yml");
    let steps = whole["jobs"]["validate"]["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["run"].is_string()).expect("a script");
    let reports: Vec<&Value> = steps.iter().filter(|step| step["if"] == "always()").map(|step| &step["with"]).collect();
    assert!(reports.iter().any(|with| with["path"] == "junit.xml") && reports.iter().any(|with| with["report_paths"] == "junit.xml"));
    let expressions = [
        ("inputs.patch", "good-motd"),
        ("inputs.customer", "acme"),
        ("vars.PATCHLAB_SERVER", server.url.as_str()),
        ("secrets.PATCHLAB_TOKEN", token),
        ("github.run_id", "4711"),
        ("github.run_attempt", "1"),
    ];
    let evaluated = |value: &Value| {
        let fill = |text: String, (name, value): &(&str, &str)| text.replace(&format!("${{{{ {name} }}}}"), value);
        expressions.iter().fold(text(value), fill)
    };
    let variables: BTreeMap<_, _> =
        step["env"].as_object().expect("variables").iter().map(|(name, value)| (name.clone(), evaluated(value))).collect();
    let script = text(&step["run"]);
    assert!(!script.contains("${{") && variables.values().all(|value| !value.contains("${{")), "{script}: {variables:?}");
    Job { name: "GitHub Actions", script, variables }
}

fn jenkins() -> Job {
    let whole = example("Jenkinsfile");
    assert!(whole.contains("junit testResults: 'junit.xml'") && whole.contains("PATCHLAB_TOKEN = credentials("));
    let script = whole.split("sh '''").nth(1).and_then(|rest| rest.split_once("'''")).expect("a script").0.to_owned();
    let variables = variables(&[("PATCH", "good-motd"), ("CUSTOMER", "acme"), ("BUILD_TAG", "jenkins-patch-4711")]);
    Job { name: "Jenkins", script, variables }
}

/// What a job ended with, and said; and the JUnit report that it left.
struct Done {
    code: Option<i32>,
    said: String,
    junit: String,
}

/// Runs a job as its platform would: in a checkout, with the server's address and the token as variables.
fn run(job: &Job, server: &Server, token: &str, more: &[(&str, &str)]) -> Done {
    for tool in ["curl", "jq"] {
        let there = Command::new(tool).arg("--version").stdout(Stdio::null()).status();
        assert!(there.is_ok_and(|status| status.success()), "{tool} is missing: scripts/setup {tool}");
    }
    let checkout = tempfile::tempdir().expect("a folder");
    symlink(Path::new(ROOT).join("scripts"), checkout.path().join("scripts")).expect("a link");
    let stale = "an earlier job's";
    fs::write(checkout.path().join("junit.xml"), stale).expect("written");
    let mut command = Command::new("sh");
    command.args(["-euc", &job.script]).current_dir(checkout.path()).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").expect("a path")).env("PATCHLAB_PAUSE", "0.1");
    command.env("PATCHLAB_SERVER", &server.url).env("PATCHLAB_TOKEN", token).env("PATCHLAB_SIMULATED", "yes");
    let output = command.envs(&job.variables).envs(more.iter().copied()).output().expect("it starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    assert!(!said.contains(token), "{}: {said}", job.name);
    let left = fs::read_dir(checkout.path()).expect("a folder").count();
    let junit = fs::read_to_string(checkout.path().join("junit.xml")).unwrap_or_default();
    assert!(!junit.contains(stale), "{}: {said}", job.name);
    assert_eq!(left, 1 + usize::from(!junit.is_empty()), "{}: {said}", job.name);
    Done { code: output.status.code(), said, junit }
}

#[test]
fn each_pipeline_goes_on_with_an_approved_patch_and_stops_at_a_rejected_one() {
    let policy = POLICY.replace(NO_APPROVAL, "");
    for (scenario, code, word) in [("", 0, "approved"), (BREAKS, 1, "rejected")] {
        let lab = lab(&policy, "").scenario(scenario);
        let token = lab.token("engineer");
        let server = lab.serve(&[]);
        for job in [shell(), gitlab(), github(&server, &token), jenkins()] {
            let done = run(&job, &server, &token, &[]);
            assert_eq!(done.code, Some(code), "{}: {}", job.name, done.said);
            assert!(done.said.contains(word), "{}: {}", job.name, done.said);
            assert!(done.junit.contains("<testsuites"), "{}: {}", job.name, done.junit);
            assert_eq!(done.junit.contains("<failure"), code == 1, "{}", job.name);
        }
    }
}

#[test]
fn what_is_no_approval_stops_the_pipeline() {
    let settings = [("PATCHLAB_WAIT", "0")];
    let lab_of = |scenario: &str| lab(POLICY, "").scenario(scenario);
    let lab = lab_of("");
    let token = lab.token("engineer");
    let server = lab.serve(&[]);
    let waits = run(&shell(), &server, &token, &settings);
    assert_eq!(waits.code, Some(4), "nobody has approved it: {}", waits.said);
    assert!(waits.junit.contains("<testsuites"));
    let real = run(&shell(), &server, &token, &[("PATCHLAB_SIMULATED", "no"), ("PATCHLAB_WAIT", "0")]);
    assert!(real.code == Some(2) && real.said.contains("simulator"), "{}", real.said);
    let with = |script: &str| Job { script: script.to_owned(), ..shell() };
    for (job, token, word) in [
        (with("scripts/examples/gate.sh no-such acme"), token.as_str(), "there is no patch"),
        (with("scripts/examples/gate.sh good-motd other"), &token, "has no policy"),
        (with("scripts/examples/gate.sh good-motd '../x'"), &token, "patchlab: "),
        (shell(), "patchlab_bad", "token"),
        (with("scripts/examples/gate.sh good-motd"), &token, "parameter"),
    ] {
        let done = run(&job, &server, token, &settings);
        assert!(done.code == Some(2) && done.said.contains(word), "{}: {:?} {}", job.script, done.code, done.said);
    }
    drop(server);
    let lab = lab_of(REFUSES);
    let token = lab.token("engineer");
    let done = run(&shell(), &lab.serve(&[]), &token, &[]);
    assert_eq!(done.code, Some(3), "the lab is to blame: {}", done.said);
    assert!(done.junit.contains("<error type=\"lab."), "{}", done.junit);
}

/// The words of an expression that begin like a metric's name; and the labels that it names.
fn named(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let metrics = expression.split(|c| !word(c)).filter(|word| word.starts_with("patchlab_")).map(str::to_owned).collect();
    let mut labels = BTreeSet::new();
    for (open, close) in [("{", '}'), ("by (", ')')] {
        for part in expression.split(open).skip(1) {
            let inside = part.split(close).next().unwrap_or_default();
            labels.extend(inside.split(',').map(|one| one.trim().split(|c| !word(c)).next().unwrap_or_default().to_owned()));
        }
    }
    (metrics, labels)
}

#[test]
fn the_dashboard_for_grafana_shows_what_there_is() {
    let receiver = Receiver::new(&[]);
    let lab = lab(&POLICY.replace(NO_APPROVAL, ""), &hook("pipeline", &receiver, ""));
    let (engineer, viewer) = (lab.token("engineer"), lab.token("viewer"));
    let server = lab.serve(&[]);
    assert_eq!(run(&shell(), &server, &engineer, &[]).code, Some(0));
    receiver.next();
    let exposed = server.get("/metrics", &viewer).text;
    // What Prometheus itself adds to what it scrapes.
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in exposed.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().expect("a name");
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        let labels = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        known.entry(name).or_insert_with(|| BTreeSet::from(["instance", "job"])).extend(labels);
    }
    let dashboard: Value = serde_json::from_str(&example("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets")) {
        let expression = text(&target["expr"]);
        let (metrics, labels) = named(&expression);
        assert_eq!(metrics.len(), 1, "{expression}");
        for metric in metrics {
            let there = known.get(metric.as_str()).unwrap_or_else(|| panic!("{expression}: no {metric} in {exposed}"));
            let unknown: Vec<_> = labels.iter().filter(|label| !there.contains(label.as_str())).collect();
            assert!(unknown.is_empty(), "{expression}: {metric} has no {unknown:?}, only {there:?}");
        }
    }
    let scrape = &yaml("prometheus.yml")["scrape_configs"][0];
    assert!(scrape["authorization"]["credentials_file"].is_string() && scrape["scheme"] == "https", "{scrape}");
    assert!(scrape.get("metrics_path").is_none(), "/metrics is where it looks by itself");
}
