//! DSSE v1: a payload, what it is, and an ed25519 signature over both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{Reason, Refusal, strict};
use crate::id::Digest;

/// What the payload of every envelope is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: String,
    sig: String,
}

/// The pre-authentication encoding: what is signed.
pub fn pae(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The name of a public key: the sha256 of its SubjectPublicKeyInfo in DER, as `openssl pkey -pubin -outform DER | sha256sum` gives it.
///
/// # Panics
/// Never: 32 bytes always have such a form.
pub fn key_id(key: &VerifyingKey) -> Digest {
    Digest::of(key.to_public_key_der().expect("a public key has a DER form").as_bytes())
}

/// A signed payload as one line, without its end.
pub fn seal(payload: &[u8], key: &SigningKey) -> String {
    write(payload, PAYLOAD_TYPE, key)
}

pub(super) fn write(payload: &[u8], kind: &str, key: &SigningKey) -> String {
    let signature = key.sign(&pae(kind, payload));
    spell(&Envelope {
        payload: STANDARD.encode(payload),
        payload_type: kind.to_owned(),
        signatures: vec![Signed { keyid: key_id(&key.verifying_key()).to_string(), sig: STANDARD.encode(signature.to_bytes()) }],
    })
}

fn spell(envelope: &Envelope) -> String {
    serde_json::to_string(envelope).expect("texts always serialize")
}

/// The payload of a line that this key signed.
///
/// # Errors
/// For everything that is not exactly as [`seal`] writes it.
pub fn open(line: &str, key: &VerifyingKey) -> Result<String, Refusal> {
    let bad = |bad: serde_json::Error| Refusal::new(Reason::Envelope, bad.to_string());
    let envelope: Envelope = serde_json::from_value(strict::parse(line)?).map_err(bad)?;
    let [signed] = envelope.signatures.as_slice() else {
        let found = envelope.signatures.len();
        return Err(Refusal::new(Reason::Envelope, format!("expected one signature, found {found}")));
    };
    let payload = decode("the payload", &envelope.payload)?;
    let signature = decode("the signature", &signed.sig)?;
    if spell(&envelope) != line {
        return Err(Refusal::new(Reason::Envelope, "it is spelled in another way than patchlab does (blanks, escapes or order of keys)"));
    }
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Refusal::new(Reason::PayloadType, format!("expected {PAYLOAD_TYPE:?}, found {:?}", envelope.payload_type)));
    }
    let expected = key_id(key).to_string();
    if signed.keyid != expected {
        return Err(Refusal::new(Reason::UnknownKey, format!("expected the key {expected}, found {:?}", signed.keyid)));
    }
    let wrong = |found: &str| Refusal::new(Reason::Signature, format!("{found}: the line was altered, or signed by another key"));
    let signature = Signature::from_slice(&signature).map_err(|_| wrong("the signature is not 64 bytes"))?;
    let signed = pae(&envelope.payload_type, &payload);
    key.verify_strict(&signed, &signature).map_err(|_| wrong("the signature is not this key's for this payload"))?;
    String::from_utf8(payload).map_err(|bad| Refusal::new(Reason::Encoding, format!("the payload: {bad}")))
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text).map_err(|bad| Refusal::new(Reason::Base64, format!("{what} is not canonical standard base64: {bad}")))
}
