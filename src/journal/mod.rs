//! The journal: an append-only, hash-chained log of events and records; the fold from events to state; the store and its lists.

pub mod event;
pub mod fold;
pub mod news;
pub mod outbox;
pub mod projection;
pub mod record;
mod standing;
pub mod store;
mod writer;

pub use event::{Controller, Entry, Event, HostReport, Placed};
pub use fold::{CalledOff, CellRecord, PassRecord, RunState, StageRecord};
pub use projection::{Message, RunRow};
pub use record::Record;
pub use store::{Chain, Journal, JournalError};
