//! A server of its own for each test: the program itself, on the simulator.

use crate::command;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use ureq::Agent;

/// Machines that take their time, so that a run can be caught in the middle.
pub const IN_REAL_TIME: &str = "[pace]\nreal-time = true\n";

/// One small run and an approval fulfil it.
pub const POLICY: &str = "title = \"Acme\"\n[policy]\nvalid-for = \"14d\"\n[policy.require]\nbuilds = [\"web\"]\nenvironments = []\n\
                          hardware = [\"virtio-bios\"]\nsuites = [\"web-server\"]\n[[policy.approval]]\nrole = \"approver\"\ncount = 1\n\
                          [policy.waiver]\ncases = [\"*\"]\nlongest = \"30d\"\n";

pub struct Lab {
    pub state: tempfile::TempDir,
    /// The folder with its builds.
    pub folder: PathBuf,
    scenario: Option<String>,
}

impl Lab {
    pub fn new() -> Self {
        let folder = env!("CARGO_MANIFEST_DIR").into();
        let lab = Self { state: tempfile::tempdir().expect("a folder"), folder, scenario: None };
        let added = lab.patchlab(&["patch", "add", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/patches/good-motd")], None);
        assert!(added.status.success(), "{added:?}");
        lab
    }

    /// A lab with a folder of its own: a customer with this policy, and one without any.
    pub fn with_policy(policy: &str) -> Self {
        let mut lab = Self::new();
        let folder = lab.state.path().join("lab");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::create_dir_all(folder.join("builds")).expect("a folder");
        for shared in ["images", "test-suites", "builds/hardware"] {
            std::os::unix::fs::symlink(shipped.join(shared), folder.join(shared)).expect("a link");
        }
        for (customer, about) in [("acme", policy), ("other", "title = \"No policy\"\n")] {
            let builds = folder.join("builds").join(customer);
            std::fs::create_dir(&builds).expect("a folder");
            std::fs::copy(shipped.join("builds/acme/web.toml"), builds.join("web.toml")).expect("copied");
            std::fs::write(builds.join("customer.toml"), about).expect("written");
        }
        lab.folder = folder;
        lab
    }

    pub fn scenario(mut self, text: &str) -> Self {
        let file = self.state.path().join("scenario.toml");
        std::fs::write(&file, text).expect("written");
        self.scenario = Some(format!("sim:{}", file.display()));
        self
    }

    /// The same lab on machines that take no time.
    pub fn in_no_time(mut self) -> Self {
        self.scenario = None;
        self
    }

    fn machines(&self) -> &str {
        self.scenario.as_deref().unwrap_or("sim")
    }

    pub fn command(&self, arguments: &[&str], token: Option<&str>) -> Command {
        self.command_at(self.state.path(), self.machines(), arguments, token)
    }

    fn command_at(&self, state: &Path, machines: &str, arguments: &[&str], token: Option<&str>) -> Command {
        let mut command = command::patchlab(&self.folder, state);
        command.envs(token.map(|token| ("PATCHLAB_TOKEN", token)));
        command.args(["--hypervisor", machines]).args(arguments);
        command
    }

    /// As from another place, which knows the server alone.
    pub fn elsewhere(&self, server: &str, arguments: &[&str], token: Option<&str>) -> Output {
        self.elsewhere_on(self.machines(), server, arguments, token)
    }

    /// The same by somebody who means machines on this hypervisor.
    pub fn elsewhere_on(&self, machines: &str, server: &str, arguments: &[&str], token: Option<&str>) -> Output {
        let mut command = self.command_at(&self.state.path().join("elsewhere"), machines, arguments, token);
        command.env("PATCHLAB_SERVER", server).output().expect("patchlab starts")
    }

    pub fn patchlab(&self, arguments: &[&str], token: Option<&str>) -> Output {
        self.command(arguments, token).output().expect("patchlab starts")
    }

    /// A token of that role, of somebody called the same.
    pub fn token(&self, role: &str) -> String {
        let made = self.patchlab(&["token", "add", role, "--role", role], None);
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).expect("UTF-8").trim().to_owned()
    }

    pub fn serve(self, options: &[&str]) -> Server {
        self.serve_at("127.0.0.1:0", options)
    }

    pub fn serve_at(self, address: &str, options: &[&str]) -> Server {
        let mut command = self.command(&[&["serve", "--listen", address], options].concat(), None);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let url = loop {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("UTF-8"), 0, "it ended before it served");
            if let Some((_, url)) = line.trim().rsplit_once(" on ").filter(|_| line.starts_with("serving ")) {
                break url.to_owned();
            }
        };
        // Somebody has to read on, or it could not say anything more.
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            said.read_to_string(&mut rest).map(|_| rest)
        });
        let config = Agent::config_builder().http_status_as_error(false).timeout_per_read(Some(Duration::from_secs(60)));
        let agent = config.timeout_connect(Some(Duration::from_secs(10))).build().into();
        Server { lab: Some(self), child, url, agent, rest: Some(rest) }
    }
}

pub struct Server {
    pub lab: Option<Lab>,
    child: Child,
    pub url: String,
    agent: Agent,
    rest: Option<std::thread::JoinHandle<std::io::Result<String>>>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|bad| panic!("{bad}: {self:?}"))
    }

    /// The code of the problem that it tells.
    pub fn problem(&self) -> String {
        assert_eq!(self.kind, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:patchlab:problem:")).expect("a code").to_owned()
    }
}

/// An event of a stream: id, name and data.
pub type Seen = (Option<u64>, String, Value);

impl Server {
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("it serves")
    }

    /// `headers` are name and value.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).expect("a request");
        let mut config = self.agent.configure_request(request);
        config = config.allow_non_standard_methods(true);
        let mut response = self.agent.run(config.build()).expect("an answer");
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned()).unwrap_or_default();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, kind, headers, text: response.body_mut().read_to_string().expect("UTF-8") }
    }

    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, &[("authorization", &format!("Bearer {token}"))], b"")
    }

    /// What is downloaded, with its headers.
    pub fn download(&self, path: &str, token: &str) -> (ureq::http::HeaderMap, Vec<u8>) {
        let request = self.agent.get(format!("{}{path}", self.url)).header("authorization", format!("Bearer {token}"));
        let mut response = request.call().expect("an answer");
        assert_eq!(response.status(), 200, "{response:?}");
        (response.headers().clone(), response.body_mut().read_to_vec().expect("to its end"))
    }

    pub fn post(&self, path: &str, token: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let all = [&[("authorization", bearer.as_str()), ("content-type", "application/json")], headers].concat();
        self.ask("POST", path, &all, body.to_string().as_bytes())
    }

    /// Launches the patch that every lab here has, on one build and one hardware profile.
    pub fn launch(&self, token: &str) -> String {
        let answer = self.post("/api/v1/runs", token, &[], &one_cell());
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["run"].as_str().expect("a run").to_owned()
    }

    /// A run's events after one, until `enough` or the end of the stream.
    pub fn events(&self, run: &str, token: &str, after: Option<u64>, mut enough: impl FnMut(&Seen) -> bool) -> Vec<Seen> {
        let mut request =
            self.agent.get(format!("{}/api/v1/runs/{run}/events", self.url)).header("authorization", format!("Bearer {token}"));
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let response = request.call().expect("an answer");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Vec::new();
        let (mut id, mut name) = (None, String::new());
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.expect("it goes on");
            match line.split_once(": ") {
                Some(("id", number)) => id = Some(number.parse().expect("a number")),
                Some(("event", event)) => name = event.to_owned(),
                Some(("data", data)) => {
                    let seen = (id.take(), std::mem::take(&mut name), serde_json::from_str(data).expect("JSON"));
                    let last = enough(&seen);
                    events.push(seen);
                    if last {
                        break;
                    }
                }
                _ => {}
            }
        }
        events
    }

    /// Waits until a run has ended and returns its report.
    pub fn ended(&self, run: &str, token: &str) -> Value {
        let events = self.events(run, token, None, |_| false);
        assert_eq!(events.last().map(|(_, name, _)| name.as_str()), Some("run-ended"));
        self.get(&format!("/api/v1/runs/{run}"), token).json()
    }

    /// Waits until a machine of the run boots.
    pub fn under_way(&self, run: &str, token: &str) {
        let boots = |(_, name, data): &Seen| name == "stage-started" && data["event"]["stage"] == "boot";
        let events = self.events(run, token, None, boots);
        assert!(events.last().is_some_and(boots), "{events:?}");
    }

    /// A connection that nothing was sent on yet.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.rsplit_once('/').expect("a URL").1).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a deadline");
        stream
    }

    /// Sends these bytes and returns everything that is answered until the other end closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may have closed before it had everything.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a process")), signal).expect("signalled");
    }

    /// Ends it with a signal. Returns its lab, whether it ended well, and what it said.
    pub fn end(mut self, signal: Signal) -> (Lab, bool, String) {
        self.signal(signal);
        let ended = self.child.wait().expect("it ends");
        let said = self.rest.take().expect("a reader").join().expect("read").expect("UTF-8");
        (self.lab.take().expect("its lab"), ended.success(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn one_cell() -> Value {
    serde_json::json!({ "patch": "good-motd", "builds": ["web"], "hardware": ["virtio-bios"] })
}

/// Whether a file is in the state folder.
pub fn is_there(lab: &Lab, file: &str) -> bool {
    Path::new(lab.state.path()).join(file).exists()
}
