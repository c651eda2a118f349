//! Ctrl-C: once tears down and says inconclusive, twice leaves at once and says what was left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::error::Exit;
use crate::hypervisor::Hypervisor;

/// Whether someone interrupted.
#[derive(Clone, Debug, Default)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Watches for SIGINT and SIGTERM from now on.
pub fn watch(cancel: watch::Sender<bool>, hypervisor: Arc<dyn Hypervisor>) -> Interrupted {
    let interrupted = Interrupted::default();
    let flag = interrupted.clone();
    tokio::spawn(async move {
        let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
        let mut next = async || tokio::select! { _ = int.recv() => (), _ = term.recv() => () };
        next().await;
        flag.0.store(true, Ordering::Relaxed);
        cancel.send_replace(true);
        super::say(format_args!("interrupted: removing the machines; once more leaves them behind"));
        next().await;
        let left = hypervisor.owned().await.unwrap_or_default();
        for one in &left {
            super::say(format_args!("left behind: {} ({} MiB)", one.machine, one.bytes >> 20));
        }
        super::say(format_args!("`patchlab gc --remove` removes what was left; the same command takes the run up where it was"));
        std::process::exit(Exit::Interrupted.code().into());
    });
    interrupted
}
