//! View models: what each page shows, as plain values. Functions of runs, judgements, decisions and lists; no clock, no I/O.
//!
//! Invariant: text from guests and people reaches a page through [`crate::report::text`] or a
//! [`Budget`](crate::report::html::detail::Budget) alone, and no template marks a value as safe.

pub mod approvals;
pub mod board;
pub mod cell;
pub mod decision;
pub mod frame;
pub mod gate;
pub mod lab;
pub mod lane;
pub mod launch;
pub mod lists;
pub mod plain;
pub mod run;
pub mod waivers;

pub use frame::{Frame, May, Notice, Section, Who};
