//! Labs with policies of their own, and with those who are told of decisions.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::receiver::Receiver;
use crate::server::Lab;

pub const POLICY: &str = "title = \"Acme\"\n[policy]\nvalid-for = \"14d\"\n[policy.require]\nbuilds = [\"web\"]\nenvironments = []\n\
                      hardware = [\"virtio-bios\"]\nsuites = [\"web-server\"]\n[[policy.approval]]\nrole = \"approver\"\ncount = 1\n\
                      [policy.waiver]\ncases = [\"*\"]\nlongest = \"30d\"\n";
pub const NO_APPROVAL: &str = "[[policy.approval]]\nrole = \"approver\"\ncount = 1\n";
/// What messages are signed with.
pub const SECRET: &[u8; 32] = b"thirty-two bytes make a good key";

/// A lab whose policy one small run fulfils.
pub fn lab(policy: &str, settings: &str) -> Lab {
    let mut lab = Lab::new();
    let folder = lab.state.path().join("lab");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(folder.join("builds/other")).expect("a folder");
    for shared in ["images", "test-suites", "builds/hardware"] {
        std::os::unix::fs::symlink(shipped.join(shared), folder.join(shared)).expect("a link");
    }
    std::fs::create_dir(folder.join("builds/acme")).expect("a folder");
    for customer in ["acme", "other"] {
        std::fs::copy(shipped.join("builds/acme/web.toml"), folder.join(format!("builds/{customer}/web.toml"))).expect("copied");
    }
    std::fs::write(folder.join("builds/acme/customer.toml"), policy).expect("written");
    std::fs::write(folder.join("builds/other/customer.toml"), "title = \"No policy\"\n").expect("written");
    if !settings.is_empty() {
        std::fs::write(folder.join("patchlab.toml"), settings).expect("written");
    }
    let secret = lab.state.path().join("hook.secret");
    std::fs::write(&secret, format!("whsec_{}\n", STANDARD.encode(SECRET))).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    lab.folder = folder;
    lab
}

pub fn hook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("[[webhook]]\nname = \"{name}\"\nurl = \"{}\"\nsecret-file = \"hook.secret\"\n{more}\n", receiver.url)
}
