//! Whether the hosts are paused, or one of them: nothing new starts there then. It stays so until somebody says otherwise, whichever process works meanwhile.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::Name;

/// Who paused the host, when, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pause {
    pub by: String,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Pause {
    /// `the host is paused by ann since 2026-01-02 03:04 UTC: its disk is changed`
    pub fn told(&self) -> String {
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("the host is paused by {} since {}{reason}", self.by, self.since.strftime("%F %H:%M UTC"))
    }
}

/// The file for all hosts, or for one.
fn file(host: Option<&Name>) -> String {
    host.map_or_else(|| "paused.json".to_owned(), |host| format!("paused-{host}.json"))
}

/// The pause that is kept in a state folder, of all hosts or of one. One that can't be read is one all the same.
///
/// # Errors
/// The disk's.
pub fn read(state: &Path, host: Option<&Name>) -> io::Result<Option<Pause>> {
    let path = state.join(file(host));
    match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|bad| Pause {
            by: "somebody".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            reason: Some(format!("{} can't be read ({bad}); `patchlab resume` removes it, of one host with --host", path.display())),
        }))),
    }
}

/// Keeps a pause in a state folder, or takes it away.
///
/// # Errors
/// The disk's.
pub fn write(state: &Path, host: Option<&Name>, pause: Option<&Pause>) -> io::Result<()> {
    let path = state.join(file(host));
    let Some(pause) = pause else {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let mut file = tempfile::NamedTempFile::new_in(state)?;
    file.write_all(&serde_json::to_vec_pretty(pause)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_kept_until_it_is_taken_away_and_one_that_cannot_be_read_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(folder.path(), None).expect("readable"), None);
        let pause = Pause { by: "ann".to_owned(), since: Timestamp::UNIX_EPOCH, reason: Some("a new disk".to_owned()) };
        write(folder.path(), None, Some(&pause)).expect("written");
        assert_eq!(read(folder.path(), None).expect("readable"), Some(pause.clone()));
        let host: Name = "alpha".parse().expect("a name");
        assert_eq!(read(folder.path(), Some(&host)).expect("readable"), None, "one host's is another");
        assert_eq!(pause.told(), "the host is paused by ann since 1970-01-01 00:00 UTC: a new disk");
        std::fs::write(folder.path().join(file(None)), "{").expect("written");
        assert!(read(folder.path(), None).expect("readable").expect("a pause").told().contains("patchlab resume"));
        write(folder.path(), None, None).expect("taken away");
        write(folder.path(), None, None).expect("nothing to take away");
        assert_eq!(read(folder.path(), None).expect("readable"), None);
    }
}
