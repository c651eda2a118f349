//! The golden images that tests boot.

use std::path::PathBuf;

use patchlab::lab::images::{Store, unwatched};

/// The sealed disk of an image in the state folder that `PATCHLAB_TEST_STATE` names.
pub async fn image(name: &str) -> PathBuf {
    let state = std::env::var_os("PATCHLAB_TEST_STATE").map(PathBuf::from);
    let state = state.expect("not run: PATCHLAB_TEST_STATE must name a state folder with golden images; scripts/test makes one");
    let name = name.parse().expect("a name");
    let sealed = Store::open(&state).expect("a store").verify(&name, &unwatched()).await;
    sealed.unwrap_or_else(|error| panic!("{error}; hint: {}", error.hint())).path
}
