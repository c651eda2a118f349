//! What a build is doing now, for whoever shows it, and whether it is still wanted.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::ImageError;
use crate::id::Name;

/// The parts of making an image, in order. The first six are a recipe's, `Check` and `Convert` an import's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Index,
    Download,
    Unpack,
    Install,
    Setup,
    Disk,
    Read,
    Check,
    Convert,
    Seal,
}

impl Step {
    /// For people: "installing packages".
    pub fn title(self) -> &'static str {
        match self {
            Self::Index => "reading the archive's index",
            Self::Download => "downloading packages",
            Self::Unpack => "unpacking the base",
            Self::Install => "installing packages",
            Self::Setup => "running the recipe's setup",
            Self::Disk => "making the disk",
            Self::Read => "reading the source",
            Self::Check => "checking the source",
            Self::Convert => "converting the disk",
            Self::Seal => "sealing",
        }
    }

    /// Where on the way from 0 to 1 the step begins and ends, as it usually is.
    fn share(self) -> (f64, f64) {
        match self {
            Self::Index => (0.0, 0.05),
            Self::Download => (0.05, 0.10),
            Self::Unpack => (0.10, 0.17),
            Self::Install => (0.17, 0.80),
            Self::Setup => (0.80, 0.86),
            Self::Disk => (0.86, 0.97),
            Self::Read => (0.0, 0.3),
            Self::Check => (0.3, 0.4),
            Self::Convert => (0.4, 0.97),
            Self::Seal => (0.97, 1.0),
        }
    }
}

/// One report. Fractions never fall within one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub image: Name,
    pub step: Step,
    /// Of the whole way, 0 to 1, by the usual length of the steps.
    pub fraction: f64,
    /// What it is busy with, for example a package. May be empty.
    pub detail: String,
}

impl Progress {
    /// `within` is how far the step itself is, 0 to 1.
    pub(super) fn at(image: &Name, step: Step, within: f64, detail: impl Into<String>) -> Self {
        let (start, end) = step.share();
        Self { image: image.clone(), step, fraction: start + (end - start) * within.clamp(0.0, 1.0), detail: detail.into() }
    }
}

/// Whoever waits for images: hears how far they are, and may call the work off.
#[derive(Clone)]
pub struct Watcher {
    hear: Arc<dyn Fn(Progress) + Send + Sync>,
    cancelled: watch::Receiver<bool>,
}

impl Watcher {
    /// `hear` is called from several threads, often; it must return at once. Once `cancelled` holds true, the work ends.
    pub fn new(cancelled: watch::Receiver<bool>, hear: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { hear: Arc::new(hear), cancelled }
    }

    /// # Errors
    /// [`ImageError::Cancelled`] once the work was called off.
    pub(super) fn tell(&self, progress: Progress) -> Result<(), ImageError> {
        let image = progress.image.clone();
        (self.hear)(progress);
        if *self.cancelled.borrow() { Err(ImageError::Cancelled(image)) } else { Ok(()) }
    }

    /// Returns once the work was called off; never if it is not.
    pub(super) async fn cancelled(&self) {
        if self.cancelled.clone().wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// For callers that don't want to know.
pub fn unwatched() -> Watcher {
    Watcher::new(watch::channel(false).1, |_| ())
}
