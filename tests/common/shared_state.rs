//! State folders of tests' own on golden images that they share.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

/// One that shares images and templates with the folder that `PATCHLAB_TEST_STATE` names.
pub fn shared_state() -> tempfile::TempDir {
    let shared = std::env::var_os("PATCHLAB_TEST_STATE").map(PathBuf::from);
    let shared = shared.expect("not run: PATCHLAB_TEST_STATE must name a state folder with golden images; scripts/test makes one");
    // Templates are shared by links of their files, so the states lie on one file system.
    let state = tempfile::Builder::new().prefix("state-").tempdir_in(&shared).expect("a folder");
    std::fs::set_permissions(state.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
    for folder in ["images", "templates"] {
        std::fs::create_dir_all(shared.join(folder)).expect("a folder");
        symlink(shared.join(folder), state.path().join(folder)).expect("a link");
    }
    state
}
