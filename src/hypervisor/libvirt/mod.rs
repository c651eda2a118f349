//! The port on libvirt; the only place that names `virt`, and the only one with `unsafe`.

pub mod domain;
pub mod xml;
