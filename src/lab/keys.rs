//! The key that evidence is signed with: ed25519 in PKCS#8 PEM, the lab's own in the state folder or one that is given.
//!
//! Invariant: a private key that others than its owner can read is not used. Whoever has it can sign anything in the lab's name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{SigningKey, VerifyingKey};
use thiserror::Error;

/// The lab's own key in the state folder.
pub const FILE: &str = "signing-key.pem";

/// Bytes of a key file that are read.
const CAP: u64 = 64 * 1024;

/// A key could not be used.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("could not {tried} the key {}: {source}", path.display())]
    File { tried: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the signing key {} has mode {mode:04o}: others can read it, so it is not used; if nobody has: chmod 600 {}, else make a new one",
        path.display(), path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{} is no {expected}: {found}", path.display())]
    Form { path: PathBuf, expected: &'static str, found: String },
    #[error("the host gave no random bytes for a key: {0}")]
    Random(#[from] getrandom::Error),
}

/// The lab's own key, made at first use.
///
/// # Errors
/// When it cannot be read or made, or others can read it.
pub fn own(state: &Path) -> Result<SigningKey, KeyError> {
    let path = state.join(FILE);
    match signing(&path) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        known => return known,
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let failed = |source| KeyError::File { tried: "make", path: path.clone(), source };
    // Version 1 of PKCS#8, without the public half: OpenSSL reads no other.
    let pair = KeypairBytes { secret_key: secret, public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(|bad| failed(io::Error::other(bad)))?;
    // Such a file can be read by its owner alone from the start.
    let mut file = tempfile::NamedTempFile::new_in(state).map_err(failed)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    // Two first uses at once: the one that is there wins.
    match file.persist_noclobber(&path) {
        Ok(_) => {}
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(lost) => return Err(failed(lost.error)),
    }
    File::open(state).and_then(|folder| folder.sync_all()).map_err(failed)?;
    signing(&path)
}

/// A private key in a file.
///
/// # Errors
/// When it cannot be read, is no such key, or others can read it.
pub fn signing(path: &Path) -> Result<SigningKey, KeyError> {
    let (text, mode) = read(path)?;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let form = |found: String| KeyError::Form { path: path.to_owned(), expected: "ed25519 private key in PKCS#8 PEM", found };
    SigningKey::from_pkcs8_pem(&text).map_err(|bad| form(bad.to_string()))
}

/// A public key in a file.
///
/// # Errors
/// When it cannot be read or is no such key.
pub fn public(path: &Path) -> Result<VerifyingKey, KeyError> {
    let form = |found: String| KeyError::Form { path: path.to_owned(), expected: "ed25519 public key in PEM", found };
    let (text, _) = read(path)?;
    let key = VerifyingKey::from_public_key_pem(&text).map_err(|bad| form(bad.to_string()))?;
    if key.is_weak() { Err(form("it is one of the few keys for which anybody can sign".to_owned())) } else { Ok(key) }
}

/// A public key as PEM.
///
/// # Errors
/// Never for a key that was read or made here.
pub fn pem(key: &VerifyingKey) -> io::Result<String> {
    key.to_public_key_pem(LineEnding::LF).map_err(io::Error::other)
}

/// A file's text and mode, both of the very same file.
fn read(path: &Path) -> Result<(String, u32), KeyError> {
    let failed = |source| KeyError::File { tried: "read", path: path.to_owned(), source };
    // A pipe without a writer would be waited for without an end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    let mut text = String::new();
    file.take(CAP).read_to_string(&mut text).map_err(failed)?;
    Ok((text, mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_lab_makes_its_key_once_and_for_itself_alone() {
        let state = tempfile::tempdir().expect("a folder");
        let made = own(state.path()).expect("a key");
        let path = state.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).expect("the file").mode() & 0o7777, 0o600);
        assert_eq!(own(state.path()).expect("the same key"), made);
        let other = tempfile::tempdir().expect("a folder");
        assert_ne!(own(other.path()).expect("another key"), made);
        assert_eq!(std::fs::read_dir(state.path()).expect("the folder").count(), 1, "no draft is left");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let state = tempfile::tempdir().expect("a folder");
        own(state.path()).expect("a key");
        let path = state.path().join(FILE);
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("opened");
            let refused = own(state.path()).expect_err("refused");
            assert!(matches!(refused, KeyError::Open { .. }) && refused.to_string().contains("chmod 600"), "{mode:o}: {refused}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("closed");
        own(state.path()).expect("readable by its owner");
    }

    #[test]
    fn what_is_no_key_is_neither_used_nor_replaced() {
        let state = tempfile::tempdir().expect("a folder");
        let path = state.path().join(FILE);
        let own_public = pem(&SigningKey::from_bytes(&[7; 32]).verifying_key()).expect("PEM");
        for text in ["", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n", &own_public] {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("closed");
            assert!(matches!(own(state.path()), Err(KeyError::Form { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).expect("the file"), text);
        }
        assert!(matches!(public(state.path()), Err(KeyError::File { .. })), "a folder");
        std::fs::write(&path, own_public).expect("written");
        assert_eq!(public(&path).expect("a public key"), SigningKey::from_bytes(&[7; 32]).verifying_key());
        // The neutral point: everyone can sign for it.
        let weak = pem(&VerifyingKey::from_bytes(&{
            let mut one = [0; 32];
            one[0] = 1;
            one
        })
        .expect("a point"))
        .expect("PEM");
        std::fs::write(&path, weak).expect("written");
        assert!(matches!(public(&path), Err(KeyError::Form { .. })));
    }
}
