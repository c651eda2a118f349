//! Who types.

/// The user that this process runs as; the person behind sudo where that is root. Nobody else may say that he is somebody else.
pub fn user() -> String {
    let uid = nix::unistd::getuid();
    let named = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let behind = uid.is_root().then(|| std::env::var("SUDO_USER").ok()).flatten().filter(|name| !name.trim().is_empty());
    behind.or_else(named).unwrap_or_else(|| format!("uid {uid}"))
}
