//! Labs with policies of their own, and with those who are told of decisions.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::receiver::Receiver;
use crate::server::Lab;
pub use crate::server::POLICY;

pub const NO_APPROVAL: &str = "[[policy.approval]]\nrole = \"approver\"\ncount = 1\n";
/// What messages are signed with.
pub const SECRET: &[u8; 32] = b"thirty-two bytes make a good key";

/// A lab of its own with webhooks and their secret.
pub fn lab(policy: &str, settings: &str) -> Lab {
    let lab = Lab::with_policy(policy);
    if !settings.is_empty() {
        std::fs::write(lab.folder.join("patchlab.toml"), settings).expect("written");
    }
    let secret = lab.state.path().join("hook.secret");
    std::fs::write(&secret, format!("whsec_{}\n", STANDARD.encode(SECRET))).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    lab
}

pub fn hook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("[[webhook]]\nname = \"{name}\"\nurl = \"{}\"\nsecret-file = \"hook.secret\"\n{more}\n", receiver.url)
}
