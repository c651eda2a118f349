//! Decisions for those who poll, from a journal of 10,000 runs and a million case results, against a bare axum handler that returns the
//! same bytes; and the pages of the dashboard on the same journal.
//!
//! The server is the program itself; the bare handler is this program again. One client drives both in turn, over as many connections.

#[path = "../common/command.rs"]
mod command;
mod pages;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use patchlab::id::{Digest, RunId};
use patchlab::journal::{Entry, Event, Journal, Record};
use patchlab::lab::patches::PatchStore;
use patchlab::verdict::gate::Waiver;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// The least part of the bare handler's requests per second, the longest p99 at half of its own, and the most memory.
const LEAST: f64 = 0.6;
const LONGEST: Duration = Duration::from_millis(5);
const MOST: f64 = 150.0;
/// The longest that a page may take.
const LONGEST_PAGE: Duration = Duration::from_millis(100);

const RUNS: u64 = 10_000;
const RESULTS: u64 = 1_000_000;
/// Patches that the runs are of, those of them that are in the store, and those of these that are asked about.
const PATCHES: u64 = 1000;
const STORED: usize = 300;
const ASKED: usize = 50;
/// Waivers on record, and runs that keep a machine.
const WAIVERS: u128 = 100;
const KEEPERS: u64 = 10;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
/// A pause of the whole machine spoils one round, not their median.
const PACED_ROUNDS: usize = 5;
const PACED: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries of one transaction.
const BATCH: u64 = 500;

const POLICY: &str = "title = \"Acme\"\n[policy]\nvalid-for = \"14d\"\n[policy.require]\nbuilds = [\"web\"]\nenvironments = []\n\
                      hardware = [\"virtio-bios\"]\n";
/// It takes the others' word and wants an approval on top.
const OTHER: &str = "title = \"Berta\"\n[policy]\nvalid-for = \"14d\"\naccept-from = [\"acme\"]\n[policy.require]\nbuilds = [\"web\"]\n\
                     environments = []\nhardware = [\"virtio-bios\"]\n[[policy.approval]]\nrole = \"approver\"\ncount = 1\n\
                     [policy.waiver]\ncases = [\"*\"]\nlongest = \"30d\"\n";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut arguments = std::env::args().skip_while(|argument| argument != "--bare").skip(1);
    match arguments.next() {
        Some(file) => runtime.block_on(bare(file)),
        None => runtime.block_on(measure()),
    }
}

/// The handler to compare with.
async fn bare(file: String) -> ExitCode {
    let body = axum::body::Bytes::from(std::fs::read(file).expect("the bytes"));
    let handler = async move || ([(axum::http::header::CONTENT_TYPE, "application/json")], body.clone());
    let router = axum::Router::new().route("/api/v1/decisions/{patch}", axum::routing::get(handler));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    eprintln!("serving on http://{}", listener.local_addr().expect("an address"));
    axum::serve(listener, router).await.expect("it serves");
    ExitCode::SUCCESS
}

async fn measure() -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let asked = fill(folder.path(), &state).await;
    let token = patchlab(folder.path(), &["token", "add", "bench", "--role", "viewer"]).trim().to_owned();
    let mut command = command(folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let started = Instant::now();
    let server = Server::start(command);
    let requests: Vec<Vec<u8>> = asked
        .iter()
        .map(|patch| {
            let head =
                format!("GET /api/v1/decisions/{patch}?customer=acme HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
            head.into_bytes()
        })
        .collect();
    let mut client = Client::connect(server.address).await;
    let mut body = Vec::new();
    for request in &requests {
        body = client.ask(request).await;
        let decision: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(decision["status"], "approved", "{decision}");
    }
    eprintln!("serving after {:.1} s, decisions of {} bytes", started.elapsed().as_secs_f64(), body.len());
    let file = folder.path().join("body");
    std::fs::write(&file, &body).expect("written");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--bare").arg(&file);
    let plain = Server::start(command);

    let before = made(server.address, &token).await;
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(rate(plain.address, &requests).await);
        rates.push(rate(server.address, &requests).await);
    }
    let [rates, floors] = [rates, floors].map(median);
    let (mut p99, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..PACED_ROUNDS {
        floor.push(paced(plain.address, &requests, rates / 2.0).await);
        p99.push(paced(server.address, &requests, rates / 2.0).await);
    }
    let [p99, floor] = [p99, floor].map(|rounds| Duration::from_secs_f64(median(rounds)));
    let made = made(server.address, &token).await - before;
    let memory = memory(&server);
    eprintln!(
        "gate {rates:.0}, bare {floors:.0} requests a second, medians of {ROUNDS}; the bare handler's p99 at the same load {floor:?}"
    );
    let mut good = true;
    let mut say = |text: String, ok: bool| {
        good &= ok;
        println!("{text}: {}", if ok { "ok" } else { "short" });
    };
    let ratio = rates / floors;
    say(format!("gate {ratio:.2} of a bare handler's requests per second, at least {LEAST:.2}"), ratio >= LEAST);
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    say(format!("gate-p99 {:.2} ms at half load, less than {:.0} ms", millis(p99), millis(LONGEST)), p99 < LONGEST);
    say(format!("gate-memory {memory:.0} MB, less than {MOST:.0} MB"), memory < MOST);
    say(format!("gate-made {made} decisions made anew while nothing changed, at most 0"), made == 0);
    let slowest = slowest_page(folder.path(), server.address, &asked).await;
    let text =
        format!("gate-pages {:.1} ms for the slowest, {}, less than {:.0} ms", millis(slowest.median), slowest.page, millis(LONGEST_PAGE));
    say(text, slowest.median < LONGEST_PAGE);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The page that takes the longest, with decisions that wait for an approval besides.
async fn slowest_page(folder: &Path, address: SocketAddr, asked: &[String]) -> pages::Opened {
    let token = patchlab(folder, &["token", "add", "approver", "--role", "approver"]).trim().to_owned();
    let (mut client, mut digest) = (Client::connect(address).await, String::new());
    for patch in asked {
        let path = format!("/api/v1/decisions/{patch}?customer=berta");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        let decision: serde_json::Value = serde_json::from_slice(&client.ask(head.as_bytes()).await).expect("JSON");
        assert_eq!(decision["status"], "pending", "{decision}");
        digest = decision["patch"]["sha256"].as_str().expect("a digest").to_owned();
    }
    let opened = tokio::task::spawn_blocking(move || pages::open(&format!("http://{address}"), &token, &digest)).await.expect("pages");
    for one in &opened {
        eprintln!("{:9.1?} at first, {:9.1?} then  {}", one.first, one.median, one.page);
    }
    opened.into_iter().max_by_key(|one| one.median).expect("a page")
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn command(folder: &Path) -> Command {
    let mut command = command::patchlab(folder.join("lab"), folder.join("state"));
    command.args(["--hypervisor", "sim"]);
    command
}

fn patchlab(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder).args(arguments).output().expect("patchlab starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A lab with a journal that is full. Returns the patches to ask about.
async fn fill(folder: &Path, state: &Path) -> Vec<String> {
    let (lab, shipped) = (folder.join("lab"), Path::new(env!("CARGO_MANIFEST_DIR")));
    std::fs::create_dir_all(lab.join("builds")).expect("a folder");
    for shared in ["images", "test-suites", "builds/hardware"] {
        std::os::unix::fs::symlink(shipped.join(shared), lab.join(shared)).expect("a link");
    }
    for (customer, policy) in [("acme", POLICY), ("berta", OTHER)] {
        let builds = lab.join("builds").join(customer);
        std::fs::create_dir(&builds).expect("a folder");
        std::fs::copy(shipped.join("builds/acme/web.toml"), builds.join("web.toml")).expect("copied");
        std::fs::write(builds.join("customer.toml"), policy).expect("written");
    }
    let sample = shipped.join("tests/patches/good-motd");
    let manifest = std::fs::read_to_string(sample.join("patch.toml")).expect("a manifest");
    let candidate = folder.join("candidate");
    std::fs::create_dir(&candidate).expect("a folder");
    let store = PatchStore::open(state).expect("a store");
    let (mut ids, mut stored) = (Vec::new(), std::collections::BTreeMap::new());
    for number in 0..STORED {
        let id = format!("bench-{number}");
        std::fs::write(candidate.join("patch.toml"), manifest.replace("good-motd", &id)).expect("written");
        std::fs::copy(sample.join("motd"), candidate.join("motd")).expect("copied");
        stored.insert(id.clone(), store.add(&candidate).unwrap_or_else(|problems| panic!("{problems}")).sha256);
        ids.push(id);
    }
    patchlab(folder, &["run", &ids[0], "--customer", "acme", "--hardware", "virtio-bios"]);
    repeat(&state.join("journal.sqlite"), &ids, &stored).await;
    waive(&state.join("journal.sqlite"), &stored[&ids[0]]).await;
    ids.truncate(ASKED);
    ids
}

/// Puts waivers on record.
async fn waive(path: &Path, patch: &Digest) {
    let journal = Journal::open(path).await.expect("a journal");
    let now = jiff::Timestamp::now();
    let expires = now.checked_add(jiff::SignedDuration::from_hours(24)).expect("a moment");
    let waiver = |number: u128| Waiver {
        patch: *patch,
        customer: "berta".parse().expect("a name"),
        case: format!("web-server/case-{number}"),
        hardware: None,
        fingerprint: Digest::of(number.to_le_bytes()),
        expires,
        reason: "it is known and harmless".to_owned(),
    };
    let id = uuid::Uuid::from_u128;
    let proposed = |number| Record::WaiverProposed { id: id(number), waiver: waiver(number), by: "somebody".to_owned() };
    journal.append_with(None, now, (1..=WAIVERS).map(proposed).collect(), Vec::new()).await.expect("written");
}

/// Writes the one run that the journal has again and again, of other patches.
async fn repeat(path: &Path, ids: &[String], stored: &std::collections::BTreeMap<String, Digest>) {
    let journal = Journal::open(path).await.expect("a journal");
    let run = journal.runs().await.expect("runs")[0];
    let entries = journal.entries(run).await.expect("entries");
    let results = entries.iter().filter(|entry| matches!(entry.event, Event::CaseObserved { .. })).count() as u64;
    let mut seq = journal.head().await.expect("a head");
    drop(journal);
    let mut raw = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.expect("the file");
    sqlx::raw_sql("pragma synchronous = off").execute(&mut raw).await.expect("set");
    let (last,): (String,) =
        sqlx::query_as("select hash from entries order by seq desc limit 1").fetch_one(&mut raw).await.expect("a hash");
    let mut previous: Digest = last.parse().expect("a digest");
    // Results that one run does not have are those of passes that were done again.
    let passes = RESULTS.div_ceil(RUNS * results).max(1);
    let texts: Vec<String> = entries.iter().map(|entry| serde_json::to_string(&entry.event).expect("JSON")).collect();
    let started = Instant::now();
    let mut writing = raw.begin().await.expect("a transaction");
    for number in 1..RUNS {
        let run = RunId::from_parts(entries[0].at.as_millisecond().unsigned_abs() + number, [number as u8; 10]);
        let patch = number % PATCHES;
        let id = ids.get(patch as usize);
        let planned = planned(&entries[0], id, id.map_or_else(|| Digest::of(patch.to_le_bytes()), |id| stored[id]));
        for (at, entry) in entries.iter().enumerate() {
            let text = if at == 0 { &planned } else { &texts[at] };
            let kept = matches!(entry.event, Event::PassEnded { .. }) && number % (RUNS / KEEPERS) == 0;
            let text = &if kept { text.replace("\"kept\":false", "\"kept\":true") } else { text.clone() };
            let again = if matches!(entry.event, Event::CaseObserved { .. }) { passes } else { 1 };
            for _ in 0..again {
                seq += 1;
                let hash = Digest::of(format!("[{seq},{},\"{}\",\"{run}\",{text},\"{previous}\"]", entry.version, entry.at));
                let query = sqlx::query("insert into entries (seq, version, at, run, event, previous, hash) values (?, ?, ?, ?, ?, ?, ?)");
                let query = query.bind(seq as i64).bind(entry.version).bind(entry.at.to_string()).bind(run.to_string()).bind(text);
                query.bind(previous.to_string()).bind(hash.to_string()).execute(&mut *writing).await.expect("written");
                previous = hash;
            }
        }
        if number % BATCH == 0 {
            writing.commit().await.expect("committed");
            writing = raw.begin().await.expect("a transaction");
        }
    }
    writing.commit().await.expect("committed");
    raw.close().await.expect("closed");
    let total = RUNS * results * passes;
    eprintln!("{RUNS} runs, {total} case results, {seq} entries, filled in {:.0} s", started.elapsed().as_secs_f64());
    assert!(total >= RESULTS, "the journal is not full");
    // What was written by hand is what the journal would have written.
    let journal = Journal::open(path).await.expect("a journal");
    let newest = journal.runs().await.expect("runs")[0];
    assert!(journal.state(newest).await.expect("a sound history").is_some_and(|state| state.is_finished()));
}

/// The entry that a run of another patch begins with.
fn planned(entry: &Entry, id: Option<&String>, patch: Digest) -> String {
    let Event::RunPlanned { plan, by, .. } = &entry.event else { panic!("a run begins with its plan") };
    let mut plan = plan.clone();
    plan.patch.sha256 = patch;
    plan.patch.manifest.id = id.map_or("another", String::as_str).parse().expect("a name");
    let event = Event::RunPlanned { plan_digest: plan.digest(), plan, by: by.clone(), bundle: None };
    serde_json::to_string(&event).expect("JSON")
}

/// A process that serves.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("UTF-8"), 0, "it ended before it served");
            if let Some((_, address)) = line.trim().rsplit_once("on http://") {
                break address.parse().expect("an address");
            }
        };
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most memory that a server ever had, in MB.
fn memory(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1000.0
}

/// One connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Self { stream, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Asks and reads the whole answer, which must be good.
    async fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let (at, end) = timeout(PATIENCE, self.exchange(request)).await.expect("an answer in time");
        self.buffer[at..end].to_vec()
    }

    async fn exchange(&mut self, request: &[u8]) -> (usize, usize) {
        self.stream.write_all(request).await.expect("sent");
        self.buffer.clear();
        loop {
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.expect("read"), 0, "the server closed");
            let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..at]).expect("text");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let (body, end) = (at + 4, at + 4 + length.parse::<usize>().expect("a number"));
            while self.buffer.len() < end {
                assert_ne!(self.stream.read_buf(&mut self.buffer).await.expect("read"), 0, "the server closed");
            }
            return (body, end);
        }
    }
}

/// Requests per second when everybody asks again at once.
async fn rate(address: SocketAddr, requests: &[Vec<u8>]) -> f64 {
    let started = Instant::now();
    let end = started + ROUND;
    let clients = (0..CONNECTIONS).map(|at| {
        let requests = requests.to_vec();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut count = 0_u64;
            for request in requests.iter().cycle().skip(at) {
                client.exchange(request).await;
                count += 1;
                if Instant::now() >= end {
                    break;
                }
            }
            count
        })
    });
    let mut total = 0;
    for client in clients.collect::<Vec<_>>() {
        total += client.await.expect("a count");
    }
    total as f64 / started.elapsed().as_secs_f64()
}

/// The 99th percentile of the seconds from when a request was due until it was answered, at a steady rate.
async fn paced(address: SocketAddr, requests: &[Vec<u8>], rate: f64) -> f64 {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
    let started = Instant::now();
    let clients = (0..CONNECTIONS).map(|at| {
        let requests = requests.to_vec();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let (mut due, mut times) = (started + interval.mul_f64(at as f64 / CONNECTIONS as f64), Vec::new());
            for request in requests.iter().cycle().skip(at) {
                if due >= started + PACED {
                    break;
                }
                // The timer's ticks are a millisecond, so that it is late by up to one: what is due is done then, and counts from when it was due.
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                client.exchange(request).await;
                times.push(due.elapsed());
                due += interval;
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("times"));
    }
    times.sort();
    times[times.len() * 99 / 100].as_secs_f64()
}

/// How many decisions the gate has made.
async fn made(address: SocketAddr, token: &str) -> u64 {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    let text = String::from_utf8(Client::connect(address).await.ask(request.as_bytes()).await).expect("UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix("patchlab_decision_answers_total{from=\"gate\"} "));
    line.expect("the metric").trim().parse().expect("a number")
}
