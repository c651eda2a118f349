//! What the lab knows of Linux guests, as data and small scripts.

pub mod apply;
pub mod judge;
