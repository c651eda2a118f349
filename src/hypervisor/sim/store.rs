//! The folder in which a world outlives its controller: `machines/<name>/` with `tag.json`, `sim.json` and `console.log`, and how many
//! clones each cell had in `sim-clones.json`.
//!
//! Invariants: the tag is the first file that comes and the last that goes, so that whatever a crash leaves can be told. Each file is
//! replaced as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::machine::Record;
use crate::hypervisor::Tag;

#[derive(Debug)]
pub struct Store {
    state: PathBuf,
}

/// A machine's folder as it was found.
pub struct Found {
    pub name: String,
    pub tag: Option<Tag>,
    pub record: Option<Record>,
    pub console: String,
    pub bytes: u64,
}

impl Store {
    pub fn open(state: &Path) -> io::Result<Self> {
        fs::create_dir_all(state.join("machines"))?;
        Ok(Self { state: state.to_owned() })
    }

    /// Makes a machine's folder. On error nothing is left.
    pub fn create(&self, name: &str, tag: &Tag, record: &Record) -> io::Result<()> {
        let folder = self.folder(name);
        fs::create_dir(&folder)?;
        let written = replace(&folder, "tag.json", tag).and_then(|()| replace(&folder, "sim.json", record));
        written.inspect_err(|_| drop(fs::remove_dir_all(&folder)))
    }

    pub fn save(&self, name: &str, record: &Record, console: &str) -> io::Result<()> {
        let folder = self.folder(name);
        fs::write(folder.join("console.log"), console)?;
        replace(&folder, "sim.json", record)
    }

    /// Removes a machine's folder. No error when there is none.
    pub fn destroy(&self, name: &str) -> io::Result<()> {
        let folder = self.folder(name);
        let gone = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
        for file in ["sim.json", "console.log", "tag.json"] {
            fs::remove_file(folder.join(file)).or_else(gone)?;
        }
        fs::remove_dir_all(folder).or_else(gone)
    }

    pub fn exists(&self, name: &str) -> bool {
        self.folder(name).exists()
    }

    /// Every folder, readable or not, by name.
    pub fn found(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.state.join("machines"))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let folder = entry.path();
                found.push(Found {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    tag: read(&folder.join("tag.json")),
                    record: read(&folder.join("sim.json")),
                    console: fs::read_to_string(folder.join("console.log")).unwrap_or_default(),
                    bytes: size(&folder)?,
                });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    pub fn clones(&self) -> BTreeMap<String, u32> {
        read(&self.state.join("sim-clones.json")).unwrap_or_default()
    }

    pub fn save_clones(&self, clones: &BTreeMap<String, u32>) -> io::Result<()> {
        replace(&self.state, "sim-clones.json", clones)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.state.join("machines").join(name)
    }
}

fn size(folder: &Path) -> io::Result<u64> {
    let sizes = fs::read_dir(folder)?.map(|entry| entry.and_then(|entry| entry.metadata()).map(|data| data.len()));
    sizes.sum()
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Option<T> {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

fn replace(folder: &Path, name: &str, value: &impl serde::Serialize) -> io::Result<()> {
    let half = folder.join(format!("{name}.new"));
    fs::write(&half, serde_json::to_vec(value).map_err(io::Error::other)?)?;
    fs::rename(half, folder.join(name))
}
