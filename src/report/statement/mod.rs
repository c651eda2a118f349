//! Signed evidence: what a run found, as in-toto statements in DSSE envelopes, and how anyone checks them with nothing but a public key.
//!
//! An attestation is an in-toto bundle: JSON lines, an envelope a line. First one test-result statement per cell and suite and one for each
//! cell's stages, in the order of the plan; last one verification summary, which names every line before it by the sha256 of its bytes.
//! A file that lost its end has no summary.
//!
//! Invariants:
//! - pure: the same run, policy and key always give the same bytes; the time of the summary is when the run ended;
//! - an unfinished run has no attestation, and in that of an inconclusive run no statement says PASSED or WARNED;
//! - [`verify`] says yes only to a file that is, byte by byte, as [`attest`] writes it. It is stricter than in-toto asks of consumers (which
//!   skip lines that they do not know, and take them in any order), because what is skipped is what an attacker would add.

mod attest;
mod envelope;
mod form;
mod reason;
mod strict;
mod verify;

#[cfg(test)]
mod tests;

pub use attest::{Nothing, Signer, attest};
pub use envelope::{PAYLOAD_TYPE, key_id, pae};
pub use form::{Outcome, SUMMARY, TEST_RESULT};
pub use reason::{Reason, Refusal};
pub use verify::{Attested, AttestedTest, Expected, MAX_BYTES, verify};

/// The media type of a bundle.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto.bundle";
