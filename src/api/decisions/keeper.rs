//! Keeps the board: follows the journal, the time and the catalog, so that decisions are made, and told, also when nobody asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use super::board::Board;

/// How often it is looked whether another process has written to the journal, or time has made a decision another.
const LOOK: Duration = Duration::from_millis(250);
/// How old what is known of the catalog may get.
const REFRESH: Duration = Duration::from_secs(10);
/// How long at once patches are held to a new catalog, between two looks.
const SLICE: Duration = Duration::from_millis(100);
/// Entries that come within it are looked at together.
const TOGETHER: Duration = Duration::from_millis(30);

/// Why it is looked at the board.
enum Woken {
    Catalog,
    Time,
    Journal,
}

impl Board {
    /// Works until told to stop.
    pub async fn keep(self: Arc<Self>, refresh: Arc<Notify>, mut stopping: watch::Receiver<bool>) {
        let mut entries = self.journal.watch();
        let (mut look, mut again) = (tokio::time::interval(LOOK), tokio::time::interval(REFRESH));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let woken = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                _ = again.tick() => Woken::Catalog,
                () = refresh.notified() => Woken::Catalog,
                _ = look.tick() => Woken::Time,
                entry = entries.recv() => match entry {
                    Err(RecvError::Closed) => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => Woken::Journal,
                },
            };
            match woken {
                Woken::Catalog => self.refresh().await,
                Woken::Time => self.look_again(),
                Woken::Journal => {
                    tokio::time::sleep(TOGETHER).await;
                    while !matches!(entries.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
                }
            }
            if let Err(error) = self.settle().await {
                tracing::error!(%error, "the journal can't be followed");
            }
            self.adapt(SLICE).await;
        }
    }

    /// Reads the catalog again.
    pub async fn refresh(&self) {
        if self.grounds.refresh(&self.desk).await {
            self.stir();
        }
    }
}
