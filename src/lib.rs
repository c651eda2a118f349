//! patchlab: the controller of a patch testing and validation lab.

pub mod catalog;
pub mod id;
