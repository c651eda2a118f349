//! What the lab holds, read from `builds/`, `test-suites/` and `images/`. Pure but for loading.

pub mod build;
pub mod hardware;
pub mod image;
pub mod patch;
pub mod suite;
pub mod text;
