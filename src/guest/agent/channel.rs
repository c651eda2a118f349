//! The QEMU guest agent's commands, typed. What comes back is the guest's word: sizes, kinds and encodings are checked here, and
//! nothing above sees an answer that was not.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::guest::GuestError;
use crate::hypervisor::{AgentError, Hypervisor};

/// Bytes of one answer, as text: a read of [`CHUNK`] bytes fits with room to spare.
const ANSWER_CAP: usize = 4 << 20;

/// Bytes asked for in one read. In base64 it makes 1 MiB.
const CHUNK: usize = 768 << 10;

/// Prints the file `$1` from byte `$2` (counted from 1), at most `$3` bytes. Exits 66 when there is none.
const PRINT_PART: &str = r#"[ -e "$1" ] || exit 66; exec <"$1"; tail -c "+$2" | head -c "$3""#;

/// Bytes kept of what a command printed.
const PRINTED_CAP: usize = 4 << 10;

/// The first and the longest pause between two looks at a command.
const PAUSE: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(120));

/// How long an answer may take that needs no work.
pub const QUICK: Duration = Duration::from_secs(10);

/// How long a command in the guest may take.
pub const PATIENT: Duration = Duration::from_secs(30);

/// The way to one machine's agent.
pub struct Channel {
    hypervisor: Arc<dyn Hypervisor>,
    machine: String,
}

/// How a command in the guest ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i64>,
    pub output: Vec<u8>,
    errors: Vec<u8>,
}

impl Ended {
    /// The end of what it printed, for people.
    pub fn printed(&self) -> String {
        let all = [self.output.as_slice(), &self.errors].concat();
        String::from_utf8_lossy(&all[all.len().saturating_sub(PRINTED_CAP)..]).trim().to_owned()
    }
}

impl Channel {
    pub fn new(hypervisor: Arc<dyn Hypervisor>, machine: &str) -> Self {
        Self { hypervisor, machine: machine.to_owned() }
    }

    /// One command and its `return`.
    pub async fn command(&self, tried: &str, name: &str, arguments: Value, within: Duration) -> Result<Value, GuestError> {
        let mut command = json!({ "execute": name });
        if !arguments.is_null() {
            command["arguments"] = arguments;
        }
        let command = command.to_string();
        // The adapter keeps the deadline; the margin is for one that does not.
        let asked = self.hypervisor.agent(&self.machine, &command, within);
        let answer = match timeout(within + Duration::from_secs(5), asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(guest_error(tried, error)),
            Err(_) => return Err(GuestError::Unresponsive { tried: tried.into(), found: format!("no answer to {name} in {within:?}") }),
        };
        if answer.len() > ANSWER_CAP {
            return Err(failed(tried, format!("an answer of {} bytes to {name}", answer.len())));
        }
        match serde_json::from_str::<Value>(&answer) {
            Ok(Value::Object(mut members)) => match members.remove("return") {
                Some(value) => Ok(value),
                None => Err(failed(tried, format!("{name} is refused: {}", excerpt(&answer)))),
            },
            _ => Err(failed(tried, format!("the answer to {name} is no JSON object: {}", excerpt(&answer)))),
        }
    }

    /// Starts a command, with bytes for its standard input, and returns its number.
    pub async fn launch(&self, tried: &str, arguments: &[&str], input: Option<&[u8]>) -> Result<i64, GuestError> {
        let (path, rest) = arguments.split_first().ok_or_else(|| failed(tried, "there is no command"))?;
        let mut asked = json!({ "path": path, "arg": rest, "capture-output": true });
        if let Some(input) = input {
            asked["input-data"] = STANDARD.encode(input).into();
        }
        let answer = self.command(tried, "guest-exec", asked, PATIENT).await?;
        answer["pid"].as_i64().ok_or_else(|| nonsense(tried, "guest-exec", &answer))
    }

    /// Waits for the end of a command that was launched.
    pub async fn ended(&self, tried: &str, pid: i64, within: Duration) -> Result<Ended, GuestError> {
        let deadline = Instant::now() + within;
        let mut pause = PAUSE.0;
        loop {
            sleep(pause).await;
            let answer = self.command(tried, "guest-exec-status", json!({ "pid": pid }), QUICK).await?;
            match answer["exited"].as_bool() {
                Some(true) => {
                    let [output, errors] = [&answer["out-data"], &answer["err-data"]].map(decoded);
                    let code = answer["exitcode"].as_i64();
                    return match (output, errors) {
                        (Some(output), Some(errors)) => Ok(Ended { code, output, errors }),
                        _ => Err(nonsense(tried, "guest-exec-status", &answer)),
                    };
                }
                Some(false) if Instant::now() < deadline => pause = (pause * 5 / 4).min(PAUSE.1),
                Some(false) => return Err(failed(tried, format!("it has not ended after {within:?}"))),
                None => return Err(nonsense(tried, "guest-exec-status", &answer)),
            }
        }
    }

    /// Runs a short command to its end.
    pub async fn run(&self, tried: &str, arguments: &[&str], input: Option<&[u8]>, within: Duration) -> Result<Ended, GuestError> {
        let pid = self.launch(tried, arguments, input).await?;
        self.ended(tried, pid, within).await
    }

    /// A file's bytes from `offset` on, `cap` at the most, and whether there were more. `None` when there is no such file.
    ///
    /// The agent opens no file while it can't write its own state, which it does below `/run`: then a command reads it.
    pub async fn read(&self, tried: &str, path: &str, offset: u64, cap: usize) -> Result<Option<(Vec<u8>, bool)>, GuestError> {
        let bytes = match self.command(tried, "guest-file-open", json!({ "path": path, "mode": "r" }), QUICK).await {
            Ok(answer) => {
                let handle = answer.as_i64().ok_or_else(|| nonsense(tried, "guest-file-open", &answer))?;
                let bytes = self.read_open(tried, handle, offset, cap).await;
                let closed = self.command(tried, "guest-file-close", json!({ "handle": handle }), QUICK).await;
                let bytes = bytes?;
                closed?;
                Some(bytes)
            }
            Err(GuestError::Refused { .. }) => self.read_by_command(tried, path, offset, cap).await?,
            Err(error) => return Err(error),
        };
        Ok(bytes.map(|mut bytes| {
            let more = bytes.len() > cap;
            bytes.truncate(cap);
            (bytes, more)
        }))
    }

    /// Like [`Self::read_open`], with a command for each chunk.
    async fn read_by_command(&self, tried: &str, path: &str, offset: u64, cap: usize) -> Result<Option<Vec<u8>>, GuestError> {
        let wanted = cap.saturating_add(1);
        let mut bytes = Vec::new();
        while bytes.len() < wanted {
            let count = CHUNK.min(wanted - bytes.len());
            let from = (offset + bytes.len() as u64 + 1).to_string();
            let command = ["/bin/sh", "-c", PRINT_PART, "sh", path, &from, &count.to_string()];
            let ended = self.run(tried, &command, None, PATIENT).await?;
            match ended.code {
                Some(0) if ended.output.len() > count => {
                    return Err(failed(tried, format!("{} bytes came where {count} were asked for", ended.output.len())));
                }
                Some(0) => bytes.extend_from_slice(&ended.output),
                Some(66) => return Ok(None),
                _ => return Err(failed(tried, format!("exit code {:?}: {}", ended.code, ended.printed()))),
            }
            if ended.output.len() < count {
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// Reads one byte more than `cap` where there is one.
    async fn read_open(&self, tried: &str, handle: i64, offset: u64, cap: usize) -> Result<Vec<u8>, GuestError> {
        if offset > 0 {
            let asked = json!({ "handle": handle, "offset": offset, "whence": "set" });
            self.command(tried, "guest-file-seek", asked, QUICK).await?;
        }
        let wanted = cap.saturating_add(1);
        let mut bytes = Vec::new();
        while bytes.len() < wanted {
            let count = CHUNK.min(wanted - bytes.len());
            let answer = self.command(tried, "guest-file-read", json!({ "handle": handle, "count": count }), QUICK).await?;
            let chunk = answer["buf-b64"].as_str().and_then(|text| STANDARD.decode(text).ok());
            let (Some(chunk), Some(eof)) = (chunk, answer["eof"].as_bool()) else {
                return Err(nonsense(tried, "guest-file-read", &answer));
            };
            if chunk.len() > count {
                return Err(failed(tried, format!("{} bytes came where {count} were asked for", chunk.len())));
            }
            bytes.extend_from_slice(&chunk);
            if eof || chunk.is_empty() {
                break;
            }
        }
        Ok(bytes)
    }
}

pub fn failed(tried: &str, found: impl Into<String>) -> GuestError {
    GuestError::Failed { tried: tried.into(), found: found.into() }
}

fn nonsense(tried: &str, name: &str, answer: &Value) -> GuestError {
    failed(tried, format!("the answer to {name} makes no sense: {}", excerpt(&answer.to_string())))
}

fn guest_error(tried: &str, error: AgentError) -> GuestError {
    let tried = tried.to_owned();
    match error {
        AgentError::Unresponsive(found) => GuestError::Unresponsive { tried, found },
        AgentError::Refused(found) => GuestError::Refused { tried, found: excerpt(&found) },
        AgentError::NotRunning(found) => GuestError::NotRunning { tried, found },
        AgentError::Hypervisor(error) => GuestError::Hypervisor(error),
    }
}

/// The start of something that the guest said.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a command printed: absent when it printed nothing. `None` when it is no base64.
fn decoded(data: &Value) -> Option<Vec<u8>> {
    match data {
        Value::Null => Some(Vec::new()),
        Value::String(text) => STANDARD.decode(text).ok(),
        _ => None,
    }
}
