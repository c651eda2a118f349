//! What decisions are asked about: the catalog and the images as they are now, and the candidates by their names.
//!
//! Invariant: the catalog is read in the background and by people who act, never by whoever asks for a decision; one with mistakes opens
//! nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use crate::api::Problem;
use crate::api::stamp::{Stamp, Watched};
use crate::catalog::Catalog;
use crate::catalog::diagnostic::Diagnostic;
use crate::catalog::load::load;
use crate::id::{Digest, Name};
use crate::lab::desk::Desk;
use crate::lab::patches::{Listing, PatchStore};
use crate::plan::{PlannedPatch, SealedImage};

/// Candidates that are remembered.
const MOST: usize = 256;

/// A sound catalog, and what the store has of its images.
pub struct Ground {
    pub catalog: Catalog,
    pub images: BTreeMap<Name, SealedImage>,
    /// Another one whenever anything in it is another.
    pub generation: u64,
    digest: Digest,
}

/// The newest ground.
#[derive(Default)]
pub struct Grounds {
    newest: Mutex<Newest>,
    /// Who reads at a time: what was read first never takes the place of what was read last.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Newest {
    ground: Option<Arc<Ground>>,
    /// What is wrong with the catalog.
    wrong: Option<String>,
    generation: u64,
}

impl Grounds {
    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ground to stand on.
    ///
    /// # Errors
    /// When the catalog has mistakes.
    pub fn get(&self) -> Result<Arc<Ground>, Problem> {
        let newest = self.newest();
        newest.ground.clone().ok_or_else(|| {
            let wrong = newest.wrong.as_deref().unwrap_or("it was not read yet");
            let detail = format!("the catalog has mistakes, so the gate stays closed; see: patchlab check\n{wrong}");
            Problem::conflict("no-sound-catalog", detail)
        })
    }

    /// The number of the newest ground; `None` while there is none.
    pub fn generation(&self) -> Option<u64> {
        self.newest().ground.as_ref().map(|ground| ground.generation)
    }

    /// Reads the catalog and the images again. Returns whether anything has changed.
    pub async fn refresh(&self, desk: &Arc<Desk>) -> bool {
        let _one_at_a_time = self.reading.lock().await;
        let desk = desk.clone();
        let read = tokio::task::spawn_blocking(move || {
            let loading = load(&desk.folder);
            let mistakes = || {
                let errors = loading.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
                errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
            };
            let catalog = loading.catalog.ok_or_else(mistakes)?;
            let images = desk.sealed(&catalog).map_err(|error| error.to_string())?;
            Ok::<_, String>((catalog, images))
        });
        let read = read.await.unwrap_or_else(|ended| Err(ended.to_string()));
        let mut newest = self.newest();
        match read {
            Ok((catalog, images)) => {
                let digest = Digest::of(format!("{catalog:?}{images:?}"));
                if newest.ground.as_ref().is_some_and(|ground| ground.digest == digest) {
                    return false;
                }
                newest.generation += 1;
                let generation = newest.generation;
                newest.ground = Some(Arc::new(Ground { catalog, images, generation, digest }));
                newest.wrong = None;
                true
            }
            Err(wrong) => {
                if newest.wrong.as_ref() != Some(&wrong) {
                    tracing::error!(wrong, "the catalog has mistakes: no decision is given");
                }
                newest.wrong = Some(wrong);
                newest.ground.take().is_some()
            }
        }
    }
}

/// The candidates of the store, remembered as long as its folder is not written to.
pub struct Candidates {
    state: PathBuf,
    pub(super) folder: Watched,
    planned: Mutex<BTreeMap<Digest, Arc<PlannedPatch>>>,
    known: Mutex<Option<(Stamp, Arc<Known>)>>,
}

/// What the store holds.
#[derive(Default)]
struct Known {
    listing: Arc<Listing>,
    ids: HashMap<String, Vec<Digest>>,
    all: BTreeSet<Digest>,
}

impl Known {
    fn find(&self, wanted: &str) -> Result<Digest, Problem> {
        let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
        let is_start = (6..=64).contains(&hex.len()) && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        let begins = |sha256: &&Digest| is_start && sha256.hex().starts_with(hex);
        let by_digest = || self.all.iter().filter(begins).copied().collect();
        let found: Cow<'_, [Digest]> =
            self.ids.get(wanted).map_or_else(|| Cow::Owned(by_digest()), |found| Cow::Borrowed(found.as_slice()));
        match &*found {
            [only] => Ok(*only),
            [] => Err(Problem::not_found("no-such-patch", format!("there is no patch {wanted:?}; see what there is: patchlab patch list"))),
            several => {
                let digests: Vec<_> = several.iter().map(ToString::to_string).collect();
                let detail =
                    format!("{} candidates are meant by {wanted:?}; name one by its digest: {}", several.len(), digests.join(", "));
                Err(Problem::new(StatusCode::CONFLICT, "several-patches", detail))
            }
        }
    }
}

impl Candidates {
    pub fn of(desk: &Desk) -> Self {
        Self {
            state: desk.state.folder.clone(),
            folder: Watched::new(&desk.state.folder.join("patches")),
            planned: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The candidate with this id, digest, or unique start of a digest.
    ///
    /// # Errors
    /// When there is none such, or several.
    pub async fn find(&self, wanted: &str) -> Result<Digest, Problem> {
        self.all().await?.find(wanted)
    }

    /// The same, if the store was not written to since it was read last; `None` also where there is none such, or several.
    pub(super) fn at_hand(&self, wanted: &str) -> Option<Digest> {
        self.remembered(self.folder.stamp())?.find(wanted).ok()
    }

    /// A candidate as plans have it. What its digest names does not change, so it is read and checked once.
    ///
    /// # Errors
    /// When it is not in the store, or damaged.
    pub async fn planned(&self, desk: &Arc<Desk>, sha256: Digest) -> Result<Arc<PlannedPatch>, Problem> {
        let remembered = || self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(planned) = remembered().get(&sha256) {
            return Ok(planned.clone());
        }
        let desk = desk.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let store = desk.patches().map_err(Problem::fault)?;
            let unknown = |wrong: Box<Diagnostic>| Problem::not_found("no-such-patch", wrong.problem);
            let stored = store.get(&sha256.to_string()).map_err(unknown)?;
            store.verify(&stored).map_err(|damaged| Problem::conflict("damaged-patch", damaged.to_string()))?;
            Ok::<_, Problem>(Arc::new(stored.planned()))
        });
        let planned = stored.await.map_err(Problem::fault)??;
        let mut all = remembered();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(sha256, planned.clone());
        Ok(planned)
    }

    /// Everything in the store, as it was when a candidate came in or went last.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn listing(&self) -> Result<Arc<Listing>, Problem> {
        Ok(self.all().await?.listing.clone())
    }

    fn known(&self) -> MutexGuard<'_, Option<(Stamp, Arc<Known>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn all(&self) -> Result<Arc<Known>, Problem> {
        let now = self.folder.stamp();
        match self.remembered(now) {
            Some(all) => Ok(all),
            None => Box::pin(self.read(now)).await,
        }
    }

    fn remembered(&self, now: Option<Stamp>) -> Option<Arc<Known>> {
        let known = self.known();
        let (stamp, all) = known.as_ref()?;
        (Some(*stamp) == now).then(|| all.clone())
    }

    async fn read(&self, now: Option<Stamp>) -> Result<Arc<Known>, Problem> {
        let state = self.state.clone();
        let listing = tokio::task::spawn_blocking(move || PatchStore::open(&state).map(|store| store.listing()));
        let listing = listing.await.map_err(Problem::fault)?.map_err(Problem::fault)?;
        let mut all = Known { listing: Arc::new(listing), ..Known::default() };
        for one in &all.listing.candidates {
            all.ids.entry(one.manifest.id.to_string()).or_default().push(one.sha256);
            all.all.insert(one.sha256);
        }
        let all = Arc::new(all);
        *self.known() = now.and_then(Stamp::settled).map(|stamp| (stamp, all.clone()));
        Ok(all)
    }
}
