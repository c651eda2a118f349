//! Segments: the network of a cell whose machines run on this host, switched inside the controller.
//!
//! ```text
//!  machine --- wire --- port \                       / port --- wire --- machine
//!                             Switch: table, faults ->
//!  machine --- wire --- port /        |              \ port --- wire --- machine
//!                                  Recorder -> <segment>.pcap
//! ```
//!
//! A [`Network`] belongs to one cell and has any number of segments. Each NIC is one end of a wire (`wire`): a pair of UDP ports on 127.0.0.1,
//! one datagram a frame, as QEMU's `udp` interface has it. The switch (`switch`) is a function of time, port and frame without clock or
//! sockets; the pump (`pump`) is the one thread a network that has both. [`Fault`]s are verbs done to a NIC's link or to a segment.
//!
//! Isolation needs no check, for there is nothing to check: a segment owns its sockets, its table, its queues and its capture; the switch
//! answers with port numbers that mean something in this segment alone; a socket is connected to its one machine, binds nothing but
//! loopback, and a datagram from anyone else is dropped and counted (`wire` says who can hold which port when).
//!
//! Invariants: every queue is bounded, and what does not fit is dropped and counted by reason; a guest can neither grow the table beyond
//! its port's share nor the capture beyond its cap; the same seed and the same frames in the same order meet the same faults.
//!
//! What it is not: a guest does not lose its carrier by [`Verb::LinkDown`]; and a process on this host that knows QEMU's port can send to QEMU
//! itself, past any switch.

mod capture;
mod fault;
mod held;
mod line;
mod mac;
mod network;
mod pump;
mod stats;
mod switch;
mod table;
mod wire;

pub use capture::CaptureStats;
pub use fault::{Fault, LONGEST_DELAY, Verb};
pub use line::Chance;
pub use mac::{LONGEST, Mac};
pub use network::{Happening, LinkEvent, Network, NetworkReport, NetworkSpec, NicSpec, Plug, SegmentSpec};
pub use stats::{PortStats, Reason, SegmentStats};
pub use wire::Ends;

#[cfg(test)]
mod tests;
