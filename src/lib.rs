//! patchlab: the controller of a patch testing and validation lab.

pub mod catalog;
pub mod cell;
pub mod cli;
pub mod guest;
pub mod hypervisor;
pub mod id;
pub mod journal;
pub mod lab;
pub mod plan;
pub mod report;
pub mod verdict;
