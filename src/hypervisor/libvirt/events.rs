//! libvirt's events as [`MachineEvent`]s: the event loop, the callbacks, and their undoing.
//!
//! ```text
//!  libvirt event loop (own thread, one a process) -> extern "C" callback -> broadcast channel -> whoever waits
//! ```
//!
//! Invariants: the loop is registered before the first connection is opened and runs for ever; a callback neither blocks nor panics
//! nor calls back into libvirt but for the machine's name; dropping [`Callbacks`] takes every callback off its connection.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::broadcast::Sender;
use virt::connect::Connect;
use virt::error::{Error, clear_error_callback};
use virt::event::{event_register_default_impl, event_run_default_impl};
use virt_sys as sys;

use crate::hypervisor::{MachineEvent, MachineEventKind};

/// Sets up what must exist before the first connection: a quiet error handler and the event loop.
pub fn ensure_loop() -> Result<(), String> {
    static LOOP: OnceLock<Result<(), String>> = OnceLock::new();
    LOOP.get_or_init(|| {
        clear_error_callback();
        event_register_default_impl().map_err(|error| error.to_string())?;
        let run = || {
            while event_run_default_impl().is_ok() {}
            tracing::error!("libvirt event loop ended");
        };
        std::thread::Builder::new().name("libvirt-events".to_owned()).spawn(run).map(drop).map_err(|error| error.to_string())
    })
    .clone()
}

/// What a callback needs; each holds its own copy, freed by libvirt when the callback is taken off.
struct Target {
    events: Sender<MachineEvent>,
    lost: Arc<AtomicBool>,
}

/// The callbacks on one connection.
pub struct Callbacks {
    connection: Connect,
    ids: Vec<c_int>,
    close: bool,
}

impl Callbacks {
    /// Asks for every event that the port knows. Drivers that lack some of them (`test:///`) give what they have.
    pub fn register(connection: &Connect, events: &Sender<MachineEvent>, lost: &Arc<AtomicBool>) -> Self {
        let target = || Target { events: events.clone(), lost: Arc::clone(lost) };
        let mut callbacks = Self { connection: connection.clone(), ids: Vec::new(), close: false };
        type Lifecycle = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
        type State = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
        type Reason =
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *const c_char, c_int, *const c_char, *mut c_void);
        type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
        // SAFETY: libvirt's API takes callbacks of every kind as the generic kind and calls each with the signature that its event id
        // stands for (VIR_DOMAIN_EVENT_CALLBACK does the same cast in C). The four signatures are those of libvirt-domain.h.
        let (lifecycle, agent, io_error) = unsafe {
            (
                std::mem::transmute::<Lifecycle, Generic>(on_lifecycle),
                std::mem::transmute::<State, Generic>(on_agent),
                std::mem::transmute::<Reason, Generic>(on_io_error),
            )
        };
        callbacks.add(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, target());
        callbacks.add(sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot, target());
        callbacks.add(sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, io_error, target());
        callbacks.add(sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent, target());
        callbacks.add_close(target());
        callbacks
    }

    fn add(
        &mut self,
        event: sys::virDomainEventID,
        callback: unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        target: Target,
    ) {
        let opaque = Box::into_raw(Box::new(target)).cast::<c_void>();
        // SAFETY: the connection is alive as long as `self` holds it; `opaque` is a live `Target` that libvirt gives back to
        // `free_target` exactly once, when the callback is removed.
        let id = unsafe {
            let connection = self.connection.as_ptr();
            sys::virConnectDomainEventRegisterAny(
                connection,
                std::ptr::null_mut(),
                event as c_int,
                Some(callback),
                opaque,
                Some(free_target),
            )
        };
        if id >= 0 {
            self.ids.push(id);
        } else {
            tracing::debug!(event, error = %Error::last_error(), "libvirt event not available");
            // SAFETY: a refused registration leaves `opaque` with its maker, and nothing else holds it.
            unsafe { free_target(opaque) };
        }
    }

    fn add_close(&mut self, target: Target) {
        let opaque = Box::into_raw(Box::new(target)).cast::<c_void>();
        // SAFETY: as in `add`.
        let done = unsafe { sys::virConnectRegisterCloseCallback(self.connection.as_ptr(), Some(on_close), opaque, Some(free_target)) };
        self.close = done >= 0;
        if !self.close {
            // SAFETY: as in `add`.
            unsafe { free_target(opaque) };
        }
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        for id in &self.ids {
            // SAFETY: the id came from this connection, which `self` still holds. A failure leaves the callback where it is: harmless.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), *id) };
        }
        if self.close {
            // SAFETY: `on_close` was registered on this connection, which `self` still holds.
            unsafe { sys::virConnectUnregisterCloseCallback(self.connection.as_ptr(), Some(on_close)) };
        }
    }
}

unsafe extern "C" fn free_target(opaque: *mut c_void) {
    // SAFETY: `opaque` was made by `Box::into_raw` of a `Target`, and libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<Target>()) });
}

/// Sends one event about the machine behind `domain`.
///
/// # Safety
/// `domain` is null or a live domain; `opaque` is a live [`Target`].
unsafe fn send(domain: sys::virDomainPtr, opaque: *mut c_void, kind: MachineEventKind) {
    // SAFETY: the caller's promise.
    let (name, target) = unsafe {
        let name = if domain.is_null() { std::ptr::null() } else { sys::virDomainGetName(domain) };
        let name = if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() };
        (name, &*opaque.cast::<Target>())
    };
    tracing::debug!(machine = name, ?kind, "machine event");
    // No receiver: nobody waits, nothing is lost.
    let _ = target.events.send(MachineEvent { machine: name, kind });
}

/// What a lifecycle event means here; `None` for what nobody waits for.
fn lifecycle(event: c_int, detail: c_int) -> Option<MachineEventKind> {
    let (Ok(event), Ok(detail)) = (u32::try_from(event), u32::try_from(detail)) else { return None };
    match (event, detail) {
        (sys::VIR_DOMAIN_EVENT_STARTED, _) => Some(MachineEventKind::Started),
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED | sys::VIR_DOMAIN_EVENT_STOPPED_FAILED) => {
            Some(MachineEventKind::Crashed)
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, _) => Some(MachineEventKind::Stopped),
        (sys::VIR_DOMAIN_EVENT_CRASHED, _) => Some(MachineEventKind::Panicked),
        _ => None,
    }
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    if let Some(kind) = lifecycle(event, detail) {
        // SAFETY: libvirt passes the domain and the `Target` that was registered.
        unsafe { send(domain, opaque, kind) };
    }
    0
}

unsafe extern "C" fn on_reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: as in `on_lifecycle`.
    unsafe { send(domain, opaque, MachineEventKind::Rebooted) };
}

unsafe extern "C" fn on_agent(_: sys::virConnectPtr, domain: sys::virDomainPtr, state: c_int, reason: c_int, opaque: *mut c_void) {
    let kind = match (u32::try_from(state), u32::try_from(reason)) {
        (Ok(sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED), _) => MachineEventKind::AgentConnected,
        // A machine that has just been started: nothing was connected before.
        (_, Ok(sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_DOMAIN_STARTED)) => return,
        _ => MachineEventKind::AgentDisconnected,
    };
    // SAFETY: as in `on_lifecycle`.
    unsafe { send(domain, opaque, kind) };
}

unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _source: *const c_char,
    _device: *const c_char,
    _action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt passes a NUL-terminated text or null, the domain, and the `Target` that was registered.
    unsafe {
        let nospace = !reason.is_null() && CStr::from_ptr(reason).to_bytes() == b"enospc";
        send(domain, opaque, MachineEventKind::DiskError { nospace });
    }
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    if u32::try_from(reason) == Ok(sys::VIR_CONNECT_CLOSE_REASON_CLIENT) {
        return;
    }
    // SAFETY: `opaque` is the `Target` that was registered; a null domain is allowed.
    unsafe {
        (*opaque.cast::<Target>()).lost.store(true, Ordering::Release);
        send(std::ptr::null_mut(), opaque, MachineEventKind::ConnectionLost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_events_are_told_apart() {
        let table = [
            (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_BOOTED, Some(MachineEventKind::Started)),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, Some(MachineEventKind::Stopped)),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED, Some(MachineEventKind::Stopped)),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED, Some(MachineEventKind::Crashed)),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED, Some(MachineEventKind::Crashed)),
            (sys::VIR_DOMAIN_EVENT_CRASHED, sys::VIR_DOMAIN_EVENT_CRASHED_PANICKED, Some(MachineEventKind::Panicked)),
            (sys::VIR_DOMAIN_EVENT_SHUTDOWN, sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST, None),
            (sys::VIR_DOMAIN_EVENT_DEFINED, sys::VIR_DOMAIN_EVENT_DEFINED_ADDED, None),
        ];
        for (event, detail, expected) in table {
            assert_eq!(lifecycle(event as c_int, detail as c_int), expected, "{event}/{detail}");
        }
        assert_eq!(lifecycle(-1, 0), None);
    }
}
