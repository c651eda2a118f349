//! Ctrl-C: once tears down, twice leaves at once and says what was left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::error::Exit;

/// Whether someone interrupted.
#[derive(Clone, Debug, Default)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Watches for SIGINT and SIGTERM from now on. The first says `first` and cancels; at the second `farewell` has the last word.
pub fn watch(cancel: watch::Sender<bool>, first: &'static str, farewell: impl Future<Output = ()> + Send + 'static) -> Interrupted {
    let interrupted = Interrupted::default();
    let flag = interrupted.clone();
    tokio::spawn(async move {
        let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
        let mut next = async || tokio::select! { _ = int.recv() => (), _ = term.recv() => () };
        next().await;
        flag.0.store(true, Ordering::Relaxed);
        cancel.send_replace(true);
        super::say(first);
        next().await;
        farewell.await;
        std::process::exit(Exit::Interrupted.code().into());
    });
    interrupted
}
