//! The verbs of signed evidence.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Answer;
use crate::catalog::text::Span;
use crate::id::Digest;

const VERIFY_CODES: &str = "Exit codes: 0 verified, and the patch passed; 1 not verified, or verified and the patch failed; 2 usage; \
                            3 verified, and the run was inconclusive.";

#[derive(Debug, Args)]
pub struct SigningKey {
    /// An ed25519 private key in PKCS#8 PEM [default: the lab's own in the state folder, made at first use]. A server signs with the one
    /// that it was started with: whoever asks it leaves this out.
    #[arg(long, value_name = "FILE", env = "PATCHLAB_SIGNING_KEY")]
    pub signing_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Attest {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    /// Where to write it; usually named *.intoto.jsonl [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub key: SigningKey,
}

#[derive(Debug, Args)]
#[command(after_help = VERIFY_CODES)]
pub struct Verify {
    /// Signed statements, as `attest` writes them.
    pub file: PathBuf,
    /// The public key to trust, as PEM: what `key show` printed in the lab.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The patch that they have to be about.
    #[arg(long, value_name = "DIGEST")]
    pub patch: Option<Digest>,
    /// What the run has to be judged against: the digest of the customer's policy (`digests.policy` of `gate --format json`), or the
    /// plan's where no policy is named.
    #[arg(long, value_name = "DIGEST")]
    pub policy: Option<Digest>,
    /// The plan that the run has to be of.
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<Digest>,
    /// How long ago the run may have ended: `14d`.
    #[arg(long, value_name = "DURATION")]
    pub max_age: Option<Span>,
    /// Simulated machines will do.
    #[arg(long)]
    pub simulated: bool,
    #[command(flatten)]
    pub answer: Answer,
}

#[derive(Debug, Args)]
pub struct Evidence {
    /// A run id, the start or end of one, or `last`.
    pub run: String,
    /// Where to write it: a .tar.gz.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub key: SigningKey,
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Print the public key as PEM: what those who verify need.
    Show {
        #[command(flatten)]
        key: SigningKey,
        #[command(flatten)]
        answer: Answer,
    },
}
