//! What the lab holds, read from `builds/`, `test-suites/` and `images/`. Pure but for loading.

pub mod autopkgtest;
pub mod build;
mod check;
pub mod diagnostic;
pub mod environment;
pub mod hardware;
pub mod image;
pub mod inside;
pub mod inventory;
pub mod lists;
pub mod load;
pub mod patch;
pub mod policy;
pub mod schema;
pub mod settings;
pub mod source;
pub mod step;
mod structure;
pub mod suite;
pub mod text;
pub mod tree;
pub mod webhook;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::id::{Digest, Name};

/// Everything the lab holds, valid as a whole: no dangling name, no impossible hardware.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub images: BTreeMap<Name, ImageEntry>,
    pub hardware: BTreeMap<Name, hardware::Hardware>,
    pub customers: BTreeMap<Name, CustomerEntry>,
    pub suites: BTreeMap<Name, SuiteEntry>,
}

#[derive(Clone, Debug)]
pub struct ImageEntry {
    pub image: image::Image,
    /// The folder with its recipe.
    pub folder: PathBuf,
}

#[derive(Clone, Debug)]
pub struct CustomerEntry {
    pub customer: build::Customer,
    pub builds: BTreeMap<Name, build::Build>,
    pub environments: BTreeMap<Name, environment::Environment>,
}

#[derive(Clone, Debug)]
pub struct SuiteEntry {
    pub suite: suite::Suite,
    pub folder: PathBuf,
    /// Over every file of the folder.
    pub sha256: Digest,
}
