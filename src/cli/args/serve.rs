//! The verbs of the server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Answer, SigningKey};
use crate::catalog::policy::Role;
use crate::catalog::text::Span;
use crate::id::Name;

#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen; port 0 takes any that is free.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8400")]
    pub listen: SocketAddr,
    /// A PEM file with the certificate and those that it stands on; makes it HTTPS.
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub private_key: Option<PathBuf>,
    /// Machines at work at once [default: as many as cores and memory bear].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    #[command(flatten)]
    pub key: SigningKey,
}

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token and print it; it is kept as a hash alone.
    Add {
        /// Whose it is; runs and approvals name the person by it.
        name: Name,
        /// `viewer` looks, `engineer` also launches runs and proposes waivers, `approver` also approves, rejects and consents,
        /// `administrator` may do all.
        #[arg(long)]
        role: Role,
        /// Let it expire after this long [default: never].
        #[arg(long, value_name = "DURATION")]
        expires: Option<Span>,
        #[command(flatten)]
        answer: Answer,
    },
    /// List the tokens' names, roles, ends and last uses.
    List(Answer),
    /// Let a name's token open nothing any more, at once.
    Revoke { name: Name },
}
