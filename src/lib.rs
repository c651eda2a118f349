//! patchlab: the controller of a patch testing and validation lab.

pub mod catalog;
pub mod cell;
pub mod guest;
pub mod hypervisor;
pub mod id;
pub mod journal;
pub mod plan;
pub mod report;
pub mod verdict;
