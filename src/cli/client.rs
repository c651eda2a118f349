//! Speaks to a running server: the one of this state folder, or the one that `PATCHLAB_SERVER` names.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::args::SigningKey;
use super::context::Context;
use super::error::{Exit, Failure};
use super::lenient;
use super::output::Output;
use super::show::new_folder;
use super::whereabouts::Whereabouts;
use crate::api::runs::{Released, RunPage, RunRequest, RunRow};
use crate::api::trust::trusting;
use crate::id::RunId;
use crate::journal::{Entry, Event};
use crate::report::archive::{KEPT, MISSING};

const SERVER: &str = "PATCHLAB_SERVER";
const TOKEN: &str = "PATCHLAB_TOKEN";
const CERTIFICATE: &str = "PATCHLAB_CERTIFICATE";

const CONNECT: Duration = Duration::from_secs(10);
/// Until a response begins: a launch waits for those before it to be planned.
const ANSWER: Duration = Duration::from_secs(120);
/// Between two pieces of a response. A stream of events has a heartbeat.
const PIECE: Duration = Duration::from_secs(60);
/// The largest report that is read.
const LARGEST: u64 = 256 << 20;
const LARGEST_ARCHIVE: u64 = 1 << 40;
/// What is read of an archive's list of what is missing.
const LONGEST_LIST: u64 = 1 << 20;
/// How long a server may be away while its run is followed: it is started again, and looks after the runs that it had.
const AWAY: Duration = Duration::from_secs(120);
/// Between two attempts to take up a stream of events that broke off.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a request was not answered well: the problem that the server tells, and what to tell the person.
pub struct Refused {
    kind: String,
    failure: Failure,
    /// Whether it may well be answered a little later.
    pub passing: bool,
}

impl Refused {
    /// Whether it is the problem with this code.
    pub fn is(&self, code: &str) -> bool {
        self.kind.strip_prefix("urn:patchlab:problem:") == Some(code)
    }

    /// Nothing came of a request on the way there or back.
    fn lost(url: &str, path: &str, error: &ureq::Error) -> Self {
        let passing = match error {
            // What was said is not TLS, or not by whom it should be.
            ureq::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            ureq::Error::Timeout(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        Self { passing, ..Failure::lab(format!("{url}{path}: {error}")).into() }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { kind: String::new(), failure, passing: false }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refused.failure
    }
}

/// Text as a part of a path or a query.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A server, and who asks it.
pub struct Client {
    url: String,
    token: String,
    agent: Agent,
}

impl Client {
    /// The server to ask; `None` where there is none, or none that it could be asked with.
    pub fn find(context: &Context) -> Result<Option<Self>, Failure> {
        match (place(context)?, std::env::var(TOKEN)) {
            (Some(url), Ok(token)) => Self::new(url, token).map(Some),
            // What is elsewhere can't be read in this state folder.
            (Some(url), Err(_)) if std::env::var_os(SERVER).is_some() => {
                Err(Failure::usage(format!("{SERVER} names the server {url}; set {TOKEN} to a token of yours")))
            }
            (Some(_), Err(_)) | (None, _) => Ok(None),
        }
    }

    /// The server that has to be asked, because it holds the lab; `None` where there is none.
    pub fn needed(context: &Context) -> Result<Option<Self>, Failure> {
        match (place(context)?, std::env::var(TOKEN)) {
            (None, _) => Ok(None),
            (Some(url), Ok(token)) => Self::new(url, token).map(Some),
            (Some(url), Err(_)) => {
                let told = format!("the server {url} works with this lab; set {TOKEN} to a token of yours: patchlab token add NAME");
                Err(Failure::usage(told))
            }
        }
    }

    /// The server to ask for what it signs; `None` where there is none.
    pub fn signing(context: &Context, key: &SigningKey) -> Result<Option<Self>, Failure> {
        let found = Self::find(context)?;
        match (&found, &key.signing_key) {
            (Some(client), Some(_)) => Err(Failure::usage(format!(
                "the server {} signs with its own key; leave --signing-key and PATCHLAB_SIGNING_KEY out, or, where its state folder is \
                 here, {TOKEN}",
                client.url
            ))),
            _ => Ok(found),
        }
    }

    fn new(url: String, token: String) -> Result<Self, Failure> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(PIECE))
            .user_agent(concat!("patchlab/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = std::env::var_os(CERTIFICATE) {
            let failed = |found| Failure::usage(format!("{CERTIFICATE}={}: {found}", file.display()));
            config = config.tls_config(trusting(file.as_ref()).map_err(failed)?);
        }
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token, agent: config.build().into() })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    fn asked(&self, path: &str, answered: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Refused> {
        let mut response = answered.map_err(|error| Refused::lost(&self.url, path, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem["detail"].as_str().map_or_else(|| format!("{}{path} answered {status}", self.url), str::to_owned);
        let detail = detail.lines().map(crate::report::printable).collect::<Vec<_>>().join("\n");
        // Too late or too often is nothing that the person has asked for.
        let passing = status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let failure = if passing { Failure::lab(detail) } else { Failure::usage(detail) };
        let refused = Refused { kind: problem["type"].as_str().unwrap_or_default().to_owned(), failure, passing };
        let exit = if refused.is("not-ended") { Exit::Undecided } else { refused.failure.exit };
        Err(Refused { failure: Failure { exit, ..refused.failure }, ..refused })
    }

    fn get(&self, path: &str) -> Result<Response<Body>, Refused> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {}", self.token));
        self.asked(path, request.call())
    }

    fn post(&self, path: &str, key: &str, body: &impl Serialize) -> Result<Response<Body>, Refused> {
        let body = serde_json::to_vec(body).map_err(Failure::lab)?;
        let request = self.agent.post(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {}", self.token));
        let request = request.header("Content-Type", "application/json").header("Idempotency-Key", key);
        self.asked(path, request.send(&body))
    }

    /// An answer to its end.
    fn whole(&self, path: &str, mut response: Response<Body>) -> Result<String, Refused> {
        let body = response.body_mut().with_config().limit(LARGEST);
        body.read_to_string().map_err(|error| Refused::lost(&self.url, path, &error))
    }

    /// What is at a path, as text.
    pub fn text(&self, path: &str) -> Result<String, Refused> {
        self.whole(path, self.get(path)?)
    }

    /// Writes a run's archive as it comes. Returns what it says is missing.
    pub fn archive(&self, run: RunId, output: Output) -> Result<String, Failure> {
        let path = format!("/api/v1/runs/{run}/evidence");
        let from = self.packed(&path)?;
        let left = output.left_by_halves();
        let mut missing = String::new();
        let mut broken = None;
        let written = output.fill(|to| {
            let mut full = None;
            let look = |name: &str, file: &mut dyn Read| if is_list(name) { list(file, &mut missing) } else { Ok(()) };
            let read = unpacked(Copied { from, to, full: &mut full }, look);
            // What could not be written here is not the server's doing.
            full.map_or_else(|| read.inspect_err(|error| broken = Some(error.to_string())), Err)
        });
        match broken {
            Some(found) => Err(Failure::lab(format!("{}{path}: {found}; {left}", self.url))),
            None => written.map(|()| missing),
        }
    }

    /// Writes every file kept with a run into a new folder. Returns how many, and what is missing.
    pub fn kept_files(&self, run: RunId, folder: &Path) -> Result<(usize, String), Failure> {
        let path = format!("/api/v1/runs/{run}/evidence");
        let from = self.packed(&path)?;
        new_folder(folder)?;
        let (mut files, mut missing) = (0, String::new());
        let read = unpacked(from, |name, file| match name.split_once('/') {
            _ if is_list(name) => list(file, &mut missing),
            Some((_, inside)) => match inside.strip_prefix(KEPT) {
                Some(kept) => put(&folder.join(within(kept)?), file).map(|()| files += 1),
                None => Ok(()),
            },
            None => Ok(()),
        });
        read.map_err(|error| Failure::lab(format!("{}{path}: {error}; {} is not whole", self.url, folder.display())))?;
        Ok((files, missing))
    }

    fn packed(&self, path: &str) -> Result<impl Read, Failure> {
        Ok(self.get(path)?.into_body().into_with_config().limit(LARGEST_ARCHIVE).reader())
    }

    fn json<T: DeserializeOwned>(&self, path: &str, text: &str) -> Result<T, Failure> {
        lenient::read(text).map_err(|bad| {
            let url = &self.url;
            Failure::lab(format!(
                "{url}{path} answered what this patchlab can't read: {bad}; where the server is newer, use its version here"
            ))
        })
    }

    /// What is at a path.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        Ok(self.json(path, &self.text(path)?)?)
    }

    /// What comes of a request with a key.
    fn told<T: DeserializeOwned>(&self, path: &str, key: &str, body: &impl Serialize) -> Result<T, Refused> {
        Ok(self.json(path, &self.whole(path, self.post(path, key, body)?)?)?)
    }

    /// Says something to the gate, once.
    pub fn say<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Refused> {
        self.told(path, &uuid::Uuid::now_v7().to_string(), body)
    }

    /// Launches a run. It is safe to ask again with the same key.
    pub fn launch(&self, request: &RunRequest, key: &str) -> Result<RunRow, Failure> {
        Ok(self.told("/api/v1/runs", key, request)?)
    }

    pub fn cancel(&self, run: RunId) -> Result<RunRow, Failure> {
        Ok(self.told(&format!("/api/v1/runs/{run}/cancel"), &run.to_string(), &serde_json::json!({}))?)
    }

    pub fn release(&self, run: RunId) -> Result<Vec<String>, Failure> {
        let told: Released = self.told(&format!("/api/v1/runs/{run}/release"), &run.to_string(), &serde_json::json!({}))?;
        Ok(told.released)
    }

    /// Runs, the newest first, until `enough` says so.
    pub fn runs(&self, mut enough: impl FnMut(&RunRow) -> bool) -> Result<Vec<RunRow>, Failure> {
        let (mut runs, mut cursor) = (Vec::new(), None::<RunId>);
        loop {
            let path = format!("/api/v1/runs?limit=100{}", cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}")));
            let page: RunPage = self.read(&path)?;
            for row in page.runs {
                let last = enough(&row);
                runs.push(row);
                if last {
                    return Ok(runs);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(runs);
            }
        }
    }

    /// The run that a text names: an id, the start or end of one, or `last`.
    pub fn named(&self, text: &str) -> Result<RunRow, Failure> {
        let fits = |row: &RunRow| {
            let id = row.run.to_string();
            text == "last" || (text.len() >= 4 && (id.starts_with(text) || id.ends_with(text)))
        };
        let all = self.runs(|row| text == "last" || row.run.to_string() == text)?;
        let mut named: Vec<RunRow> = all.into_iter().filter(fits).collect();
        match (named.len(), named.pop()) {
            (1, Some(row)) => Ok(row),
            (0, _) | (_, None) => Err(Failure::usage(format!("there is no run {text:?}; list them: patchlab runs"))),
            (several, _) => Err(Failure::usage(format!("{text:?} names {several} runs; give more of the id"))),
        }
    }

    /// Follows a run to its end, over breaks of the connection.
    pub fn follow(&self, run: RunId, mut seen: impl FnMut(&Entry)) -> Result<(), Failure> {
        let (mut last, mut away) = (0, None::<Instant>);
        loop {
            let broke = match self.events(run, &mut last, &mut away, &mut seen) {
                Ok(true) => return Ok(()),
                Ok(false) => "its stream of events broke off".to_owned(),
                Err(refused) if !refused.passing => return Err(refused.into()),
                Err(refused) => refused.failure.message,
            };
            match away {
                None => {
                    super::say(format_args!("the server is away ({broke}); waiting up to {} for it", humantime::format_duration(AWAY)));
                    away = Some(Instant::now());
                }
                Some(since) if since.elapsed() < AWAY => {}
                Some(_) => {
                    return Err(Failure::lab(format!(
                        "{broke}; the server has been away for {}. It takes run {run} up when it is back: patchlab show {run}",
                        humantime::format_duration(AWAY)
                    )));
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns whether the run ended. Whoever says something is not away.
    fn events(&self, run: RunId, last: &mut u64, away: &mut Option<Instant>, seen: &mut impl FnMut(&Entry)) -> Result<bool, Refused> {
        let path = format!("/api/v1/runs/{run}/events");
        let request = self.agent.get(format!("{}{path}", self.url)).header("Authorization", format!("Bearer {}", self.token));
        let response = self.asked(&path, request.header("Last-Event-ID", last.to_string()).call())?;
        let (mut is_entry, mut ended) = (false, false);
        for line in BufReader::new(response.into_body().into_with_config().limit(LARGEST).reader()).lines() {
            let lost = |error| Refused { passing: true, ..Failure::lab(format!("{}{path}: {error}", self.url)).into() };
            let line = line.map_err(lost)?;
            *away = None;
            match line.split_once(": ") {
                Some(("id", _)) => is_entry = true,
                Some(("data", data)) if is_entry => {
                    let entry: Entry = self.json(&path, data)?;
                    *last = entry.seq;
                    ended |= matches!(entry.event, Event::RunEnded { .. });
                    seen(&entry);
                }
                _ if line.is_empty() => is_entry = false,
                _ => {}
            }
        }
        Ok(ended)
    }
}

/// What is read goes into a file as well.
struct Copied<'a, R, W> {
    from: R,
    to: W,
    /// Why it did not.
    full: &'a mut Option<io::Error>,
}

impl<R: Read, W: Write> Read for Copied<'_, R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.to.write_all(&into[..read]).map_err(|error| {
            let kind = error.kind();
            *self.full = Some(error);
            kind
        })?;
        Ok(read)
    }
}

/// Whether the file of this name lists what an archive lacks.
fn is_list(name: &str) -> bool {
    name.split_once('/').is_some_and(|(_, inside)| inside == MISSING)
}

fn list(file: &mut dyn Read, missing: &mut String) -> io::Result<()> {
    file.take(LONGEST_LIST).read_to_string(missing).map(drop)
}

/// A path that leads nowhere but down.
fn within(path: &str) -> io::Result<&Path> {
    let path = Path::new(path);
    let is_down = path.components().all(|part| matches!(part, Component::Normal(_))) && path.file_name().is_some();
    if is_down { Ok(path) } else { Err(io::Error::other(format!("there is a file {:?} in the archive", path.display().to_string()))) }
}

/// Writes a file that is not there yet.
fn put(path: &Path, from: &mut dyn Read) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    io::copy(from, &mut File::create_new(path)?).map(drop)
}

/// Looks at each file of a packed archive, to its very end.
fn unpacked(from: impl Read, mut look: impl FnMut(&str, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(from));
    for file in archive.entries()? {
        let mut file = file?;
        let name = String::from_utf8_lossy(&file.path_bytes()).into_owned();
        look(&name, &mut file)?;
    }
    // The end of the archive is not the end of what was packed, nor that of what was sent.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    io::copy(rest.get_mut(), &mut io::sink())?;
    Ok(())
}

/// Where the server is.
fn place(context: &Context) -> Result<Option<String>, Failure> {
    if let Ok(url) = std::env::var(SERVER) {
        return Ok(Some(url));
    }
    Ok(Whereabouts::find(&context.state.folder)?.map(|about| about.url))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed() -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, text) in [("run/a", "first"), ("run/MISSING.txt", "second\n")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, name, text.as_bytes()).expect("packed");
        }
        archive.into_inner().and_then(GzEncoder::finish).expect("packed")
    }

    #[test]
    fn a_file_of_an_archive_goes_nowhere_but_down() {
        for down in ["a", "a/b.txt", "acme.web@virtio-bios/main/1/console.txt"] {
            assert!(within(down).is_ok(), "{down}");
        }
        for other in ["", "/etc/passwd", "..", "../a", "a/../../b", "./a/..", "a/.."] {
            assert!(within(other).is_err(), "{other}");
        }
    }

    #[test]
    fn an_archive_is_looked_into_while_it_is_copied_and_a_part_of_one_is_none() {
        let whole = packed();
        let (mut copy, mut told) = (Vec::new(), Vec::new());
        let look = |name: &str, file: &mut dyn Read| {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            told.push((name.to_owned(), text));
            Ok(())
        };
        let mut full = None;
        unpacked(Copied { from: whole.as_slice(), to: &mut copy, full: &mut full }, look).expect("a whole archive");
        assert_eq!(told, [("run/a".to_owned(), "first".to_owned()), ("run/MISSING.txt".to_owned(), "second\n".to_owned())]);
        assert!(copy == whole && full.is_none());
        let (mut small, mut full) = ([0; 20], None);
        let cut = unpacked(Copied { from: whole.as_slice(), to: small.as_mut_slice(), full: &mut full }, |_, _| Ok(()));
        assert!(cut.is_err() && full.is_some_and(|error| error.kind() == io::ErrorKind::WriteZero), "it is known where it was cut");
        for end in 0..whole.len() {
            let cut = unpacked(&whole[..end], |_, file| io::copy(file, &mut io::sink()).map(drop));
            assert!(cut.is_err(), "{end} of {} bytes", whole.len());
        }
    }
}
