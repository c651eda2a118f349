//! Somebody who answers in a server's place, whatever the test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    Says(u16, Value),
    /// Closes without an answer.
    HangsUp,
}

/// A request: its line, and what came with it.
pub type Asked = (String, Value);

pub struct StandIn {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    /// Answers one request after the other like this, and further ones like the last.
    pub fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            let mut replies = replies.into_iter().peekable();
            for stream in listener.incoming() {
                let next = if replies.len() > 1 { replies.next() } else { replies.peek().cloned() };
                one(stream.expect("a connection"), &next.expect("a reply"), &seen);
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unbroken").clone()
    }
}

fn one(stream: TcpStream, reply: &Reply, seen: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        match line.trim() {
            "" => break,
            line => lines.push(line.to_lowercase()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    seen.lock().expect("unbroken").push((lines.swap_remove(0), serde_json::from_slice(&body).unwrap_or_default()));
    if let Reply::Says(status, value) = reply {
        let text = value.to_string();
        let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", text.len());
        // Whoever asked may have gone.
        let _ = reader.get_mut().write_all((head + &text).as_bytes());
    }
}

pub const SHA256: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// A decision of this status about the simulator's machines.
pub fn decision(status: &str) -> Value {
    json!({
        "patch": { "id": "good-motd", "sha256": SHA256 }, "customer": "acme", "status": status, "summary": status, "requirements": [],
        "digests": { "policy": SHA256, "plan": SHA256, "basis": SHA256, "runs": {} }, "revision": 7, "final": status != "pending",
        "as-of": "2026-11-22T03:00:00Z", "simulated": true,
    })
}
