//! Signatures of deliveries, as the Standard Webhooks specification (v1, symmetric) has them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::Digest;

/// How a secret begins.
const PREFIX: &str = "whsec_";

/// The secrets of one webhook: the one in use, and during a change the other.
pub struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// # Errors
    /// What is wrong with the file.
    pub fn read(file: &Path) -> Result<Self, String> {
        let told = |found: &dyn std::fmt::Display| format!("the secret {}: {found}", file.display());
        let mode = std::fs::metadata(file).map_err(|error| told(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(told(&format_args!("others than its owner may read or write it; chmod 600 {}", file.display())));
        }
        let text = std::fs::read_to_string(file).map_err(|error| told(&error))?;
        let secret = |line: &str| {
            let bytes = line.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
            bytes.filter(|bytes| (24..=64).contains(&bytes.len()))
        };
        let secrets: Option<Vec<_>> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(secret).collect();
        match secrets {
            Some(secrets) if !secrets.is_empty() => Ok(Self(secrets)),
            _ => Err(told(&"expected whsec_ and the base64 of 24 to 64 bytes; make one: echo whsec_$(head -c 32 /dev/urandom | base64)")),
        }
    }

    /// The header `webhook-signature`.
    pub fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let sign = |secret: &Vec<u8>| {
            // HMAC takes a key of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.0.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
    }
}

/// The header `webhook-id`: the same however often a message is sent.
pub fn message_id(target: &str, body: &str) -> String {
    let hex = Digest::of(format!("{target}\n{body}")).hex();
    format!("msg_{}", hex.get(..32).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's reference libraries.
        let secrets = Secrets(vec![STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64")]);
        let signature = secrets.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        let write = |text: &str, mode: u32| {
            // One that may only be read cannot be written again.
            let _ = std::fs::remove_file(&file);
            std::fs::write(&file, text).expect("written");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
        };
        let good = format!("whsec_{}\n", STANDARD.encode([7; 32]));
        write(&good, 0o600);
        assert!(Secrets::read(&file).is_ok());
        write(&format!("{good}{good}"), 0o400);
        assert_eq!(Secrets::read(&file).map(|secrets| secrets.signature("a", 1, "b").split(' ').count()), Ok(2));
        for (text, mode) in [(good.as_str(), 0o640), ("", 0o600), ("whsec_", 0o600), ("whsec_AAAA", 0o600), ("secret", 0o600)] {
            write(text, mode);
            assert!(Secrets::read(&file).is_err(), "{text:?} {mode:o}");
        }
        assert!(Secrets::read(&folder.path().join("none")).is_err());
    }
}
