//! The port on libvirt; the only place that names `virt`, and the only one with `unsafe`.
//!
//! ```text
//!  mod      the port: deadlines, what leaves nothing behind, whose is what
//!  session  one connection and its blocking calls       events   libvirt's events, from its own thread
//!  domain   the typed definition of a machine, pure     xml      how it is written
//!  folder   a machine's folder                          screen   PPM to PNG, pure
//!  embed    libvirt inside the process                  facts    accelerator, UEFI code, ports, versions
//!  networks a pass's network, here or at libvirt    pool     images, templates and machines' files on a host with none in common
//!  thaw     templates: freezing and thawing        saved    libvirt's file of a saved machine
//! ```
//!
//! Invariants:
//! - Every call into libvirt runs on a thread that may block, under a deadline. A call that outlives it goes on alone; its effect is
//!   found by `owned`, and `destroy` mends it.
//! - The folder with its tag comes first and goes last, so that whatever is left halfway has a name and an owner.
//! - A machine without this lab's tag is never changed.
//!
//! Not `qemu:///embed` or `test:///`: the same code, tried less. Without a storage pool, the machine's folder and the images must be the same paths on
//! the libvirt host, so that one elsewhere needs a shared file system. NVMe needs QEMU to get at the overlay without libvirt's help.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use virt::error::Error;

use super::segments::{Fault, NetworkSpec};
use super::{
    AgentError, Hypervisor, HypervisorError, HypervisorErrorKind, MachineEvent, MachineEventKind, MachineSpec, OnTemplate, Owned, Sent,
    Tag, Vitals, WireReport,
};
use crate::catalog::hardware::{DiskBus, Hardware};
use crate::catalog::settings::is_embedded;
use crate::id::Digest;
use crate::journal::HostReport;

mod accelerator;
pub mod domain;
mod embed;
mod error;
mod events;
mod facts;
mod folder;
mod networks;
pub mod overlay;
mod pool;
mod saved;
mod session;
mod thaw;
pub mod xml;

use accelerator::Accelerator;
use domain::Files;
pub use embed::{overprivileged, quiet};
use error::{agent_refused, failure, file, refused};
pub use facts::{Lack, lacking};
use networks::PassNetwork;
use pool::Pool;
use session::Session;

/// Deadlines of calls, by what they do.
const LOOK: Duration = Duration::from_secs(60);
const CHANGE: Duration = Duration::from_secs(120);
const START: Duration = Duration::from_secs(300);
/// An image on its way to another host. A connection that breaks is seen long before.
const SEND: Duration = Duration::from_secs(4 * 3600);
/// How long a capture may take to get to the disk.
const FLUSH: Duration = Duration::from_secs(10);
/// What an agent command may take beyond its own time: libvirt counts in seconds and has locks to wait for.
const AGENT_GRACE: Duration = Duration::from_secs(3);
/// The longest answer of a guest agent that is handed on.
const AGENT_ANSWER: usize = 8 << 20;
/// Events that a slow receiver may be behind.
const EVENTS: usize = 1024;
/// With less room than this, a machine whose disk libvirt does not know is stopped before it could see an error.
const ROOM: u64 = 64 << 20;
const MISTAKE: &str = "this is a mistake in patchlab: please report it";

/// The port on libvirt.
pub struct Libvirt {
    inner: Arc<Inner>,
}

struct Inner {
    /// The address as libvirt is given it.
    uri: String,
    machines: PathBuf,
    lab: String,
    events: broadcast::Sender<MachineEvent>,
    accelerator: Accelerator,
    /// Who runs QEMU, where that is known.
    runner: Option<embed::Runner>,
    /// Where its machines' files are; the state folder when there is none.
    pool: Option<Pool>,
    session: Mutex<Arc<Session>>,
    /// The networks of passes, by name. They live as long as this process.
    networks: Mutex<BTreeMap<String, PassNetwork>>,
}

impl Libvirt {
    /// Connects to the libvirt at `uri`, for the lab `lab` whose state is in `state`. Where a storage pool is named, images and machines'
    /// files are in it, and libvirt's host need have no files in common with this one. Blocks; see also [`quiet`].
    ///
    /// # Errors
    /// The root of an embedded libvirt is held by another process (which is named), libvirt does not open, or the pool can't be used.
    pub fn open(uri: &str, pool: Option<&str>, state: &Path, lab: &str) -> Result<Self, HypervisorError> {
        let tried = "open libvirt";
        let state = std::path::absolute(state).map_err(|error| file(tried, &error))?;
        if state.to_str().is_none() {
            let found = format!("the path {} is not UTF-8", state.display());
            return Err(failure(HypervisorErrorKind::Refused, tried, &found, "use another --state folder"));
        }
        events::ensure_loop().map_err(|found| failure(HypervisorErrorKind::Refused, tried, &found, "`patchlab doctor` checks libvirt"))?;
        let (uri, runner, embedded) = if is_embedded(uri) {
            let embedded = embed::set_up(uri, &state)?;
            (embedded.uri.clone(), Some(embedded.runner.clone()), Some(Arc::new(embedded)))
        } else {
            (uri.to_owned(), facts::is_local(uri).then(|| embed::runner(&state)), None)
        };
        let (events, _) = broadcast::channel(EVENTS);
        let session = Session::open(&uri, embedded, &events).map_err(|error| refused(&format!("open {uri}"), &error))?;
        let accelerator = Accelerator::of(&uri, &session.connection, runner.as_ref());
        let pool = pool.map(|name| Pool::new(name, lab));
        pool.as_ref().map_or(Ok(()), |pool| pool.check(&session))?;
        let inner = Inner {
            uri,
            machines: state.join("machines"),
            lab: lab.to_owned(),
            events,
            accelerator,
            runner,
            pool,
            session: Mutex::new(Arc::new(session)),
            networks: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a call into libvirt on a thread that may block.
    async fn call<T: Send + 'static>(
        &self,
        tried: String,
        within: Duration,
        work: impl FnOnce(&Session) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        self.blocking(tried, within, |inner, tried| work(&*inner.session()?).map_err(|error| refused(tried, &error))).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        tried: String,
        within: Duration,
        work: impl FnOnce(&Inner, &str) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let (inner, name) = (Arc::clone(&self.inner), tried.clone());
        match tokio::time::timeout(within, tokio::task::spawn_blocking(move || work(&inner, &name))).await {
            Ok(Ok(result)) => result,
            // A handle's `Drop` panics when libvirt will not let it go.
            Ok(Err(error)) => Err(failure(HypervisorErrorKind::Gone, &tried, &error.to_string(), "start the command again")),
            Err(_) => {
                let found = format!("no answer within {} s", within.as_secs());
                Err(failure(HypervisorErrorKind::TimedOut, &tried, &found, "the host may be overloaded: run fewer machines at once"))
            }
        }
    }

    /// The overlay: what the guest will change, on top of the image.
    async fn overlay(&self, spec: &MachineSpec, folder: &Path) -> Result<(), HypervisorError> {
        let tried = format!("make the overlay of {} on image {}", spec.name, spec.image_digest.short());
        let Files { overlay, template, .. } = Files::of(folder);
        let below = if spec.template.is_some() { template } else { spec.image.clone() };
        overlay::make(&below, &overlay, &tried, CHANGE).await
    }

    /// The steps of `create` that leave something behind.
    async fn build(&self, spec: &MachineSpec, uefi: Option<(PathBuf, PathBuf)>) -> Result<String, HypervisorError> {
        let (uefi_code, variables) = uefi.unzip();
        if self.inner.pool.is_none() {
            self.lay_out(spec, variables).await?;
            let folder = folder::of(&self.inner.machines, &spec.name);
            return self.define(spec, Files { below: folder::below(&folder), ..Files::of(&folder) }, uefi_code, None).await;
        }
        let wanted = spec.clone();
        let send = move |inner: &Inner, tried: &str| {
            let refuse = |found, hint| failure(HypervisorErrorKind::Refused, tried, found, hint);
            let (pool, session) = (inner.pool.as_ref().ok_or_else(|| refuse("no pool", MISTAKE))?, inner.session()?);
            let image = pool.image(&session, &wanted.image, wanted.image_digest)?;
            let folder = folder::of(&inner.machines, &wanted.name);
            let linked = |template: &OnTemplate| {
                folder::link_memory(&folder, &template.folder).map_err(|error| no_template(tried, template, &error))?;
                pool.template(&session, template)
            };
            let frozen = wanted.template.as_ref().map(linked).transpose()?;
            // That may have taken long, and whoever waited for it may have given up.
            if !folder.is_dir() {
                return Err(refuse("it was removed before its image had arrived", "the image is there now: ask again"));
            }
            pool.furnish(&session, &wanted, image, frozen.as_ref(), tried)
        };
        let (there, files) = self.blocking(format!("send what {} needs", spec.name), SEND, send).await?;
        self.define(&there, files, uefi_code, variables.filter(|_| spec.template.is_none())).await
    }

    /// A machine's files, in its folder.
    async fn lay_out(&self, spec: &MachineSpec, fresh_variables: Option<PathBuf>) -> Result<(), HypervisorError> {
        let folder = folder::of(&self.inner.machines, &spec.name);
        if let Some(template) = &spec.template {
            let tried = format!("make {} on a template", spec.name);
            folder::link_template(&folder, &template.folder).map_err(|error| no_template(&tried, template, &error))?;
        }
        self.overlay(spec, &folder).await?;
        let of_template = |name| spec.template.as_ref().map(|template| template.folder.join(name));
        let variables = fresh_variables.map(|fresh| of_template(folder::VARIABLES).unwrap_or(fresh));
        let console = of_template(folder::CONSOLE);
        let furnish = move |inner: &Inner, tried: &str| {
            let furnished = folder::furnish(&folder, variables.as_deref(), console.as_deref(), inner.runner.as_ref());
            furnished.map_err(|error| file(tried, &error))
        };
        self.blocking(format!("furnish {}", spec.name), CHANGE, furnish).await
    }

    async fn define(
        &self,
        spec: &MachineSpec,
        files: Files,
        uefi_code: Option<PathBuf>,
        fresh_variables: Option<PathBuf>,
    ) -> Result<String, HypervisorError> {
        let spec = spec.clone();
        self.blocking(format!("define {}", spec.name), CHANGE, move |inner, tried| {
            let nics = inner.nics(&spec, tried)?;
            let site = domain::Site {
                kind: inner.accelerator.kind,
                files,
                uefi_code: uefi_code.unwrap_or_default(),
                fresh_variables,
                nics,
                gives_files: facts::is_privileged(&inner.uri),
                opens_files: is_embedded(&inner.uri),
            };
            let machine = domain::domain(&spec, &site);
            let xml = machine.to_xml().map_err(|error| file(tried, &error))?;
            if let Some(template) = &spec.template {
                let folder = folder::of(&inner.machines, &spec.name);
                thaw::prepare(&machine, template, &folder).map_err(|error| file(tried, &error))?;
            }
            let session = inner.session()?;
            let defined = session.connection.define_domain_xml(&xml).and_then(|domain| domain.xml_desc(0));
            defined.map_err(|error| refused(tried, &error))
        })
        .await
    }
}

/// A template that a machine was to be made on can't be had.
fn no_template(tried: &str, template: &OnTemplate, error: &std::io::Error) -> HypervisorError {
    if error.kind() != std::io::ErrorKind::NotFound {
        return file(tried, error);
    }
    let found = format!("there is no template in {}", template.folder.display());
    failure(HypervisorErrorKind::Refused, tried, &found, "`patchlab gc --templates` removes the templates, for others to be made")
}

impl Inner {
    /// The connection, opened anew when it was lost.
    fn session(&self) -> Result<Arc<Session>, HypervisorError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.is_lost() {
            let again = Session::open(&self.uri, None, &self.events);
            *session = Arc::new(again.map_err(|error| HypervisorError {
                kind: HypervisorErrorKind::Gone,
                ..refused(&format!("open {} again", self.uri), &error)
            })?);
        }
        Ok(Arc::clone(&session))
    }

    /// What the machine needs and can't do without, looked at before anything is made.
    fn check(&self, spec: &MachineSpec) -> Result<Option<(PathBuf, PathBuf)>, HypervisorError> {
        let tried = format!("create {}", spec.name);
        let refuse = |found: &str, hint: &str| Err(failure(HypervisorErrorKind::Refused, &tried, found, hint));
        let in_pool = self.pool.is_some();
        if in_pool && spec.hardware.disk == DiskBus::Nvme {
            return refuse("QEMU's NVMe disk can't be given a file of a storage pool", "validate this profile on a host without `pool`");
        }
        if !folder::good_name(&spec.name) {
            return refuse("the name is not a plain file name of 1 to 60 bytes", "name the machine otherwise");
        }
        if spec.tag.lab != self.lab {
            return refuse("its tag is another lab's", MISTAKE);
        }
        for needed in std::iter::once(&spec.image).chain(&spec.media) {
            if !needed.is_absolute() || needed.to_str().is_none() {
                return refuse(&format!("{} is not an absolute path in UTF-8", needed.display()), "use another --state folder");
            }
            if (in_pool || facts::is_local(&self.uri)) && !needed.is_file() {
                return refuse(&format!("there is no file {}", needed.display()), "`patchlab image verify` checks the images");
            }
            if let Some(runner) = self.runner.as_ref().filter(|runner| !in_pool && !runner.reads(needed)) {
                let found = format!("the user {}, who runs QEMU, can't read {}", runner.name, needed.display());
                return refuse(&found, "make it readable for all, and the folders above it passable");
            }
        }
        let session = self.session()?;
        match session.find(&spec.name) {
            Ok(None) => {}
            Ok(Some(_)) => return refuse("libvirt has a machine of that name", "`patchlab gc` shows and removes what is left over"),
            Err(error) => return Err(refused(&tried, &error)),
        }
        let cpu = &spec.hardware.cpu;
        // Else libvirt would say so only at the start.
        if cpu != "max" && session.connection.cpu_models_names("x86_64", 0).is_ok_and(|known| !known.contains(cpu)) {
            return refuse(&format!("libvirt knows no CPU model {cpu:?}"), "use \"max\" or a name from `virsh cpu-models x86_64`");
        }
        if let Some(lack) = facts::lacking(&spec.hardware).first().filter(|_| self.accelerator.kind != domain::Kind::Test) {
            return refuse(&format!("this host has no {}", lack.what), &format!("apt-get install {}", lack.packages));
        }
        Ok(facts::uefi(spec.hardware.firmware))
    }

    /// Removes what there is of a machine or network of this lab.
    fn destroy(&self, machine: &str, tried: &str) -> Result<(), HypervisorError> {
        if !folder::good_name(machine) {
            return Ok(());
        }
        let session = self.session()?;
        self.remove_network(machine, &session, tried)?;
        if let Some(domain) = session.find(machine).map_err(|error| refused(tried, &error))? {
            let tag = session::tag(&domain).map_err(|error| refused(tried, &error))?;
            if tag.is_none_or(|tag| tag.lab != self.lab) {
                return Err(failure(
                    HypervisorErrorKind::Refused,
                    tried,
                    "a machine of that name bears another owner's tag, or none",
                    "it is not this lab's to remove",
                ));
            }
            session.undefine(&domain).map_err(|error| refused(tried, &error))?;
        }
        self.pool.as_ref().map_or(Ok(()), |pool| pool.remove(&session, machine, tried))?;
        // Of an embedded libvirt, the emulators' own logs are the lab's to remove too.
        let logs = self.machines.with_file_name("libvirt").join("log");
        for log in [logs.join("qemu").join(format!("{machine}.log")), logs.join("swtpm").join(format!("{machine}-swtpm.log"))] {
            match std::fs::remove_file(&log) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file(tried, &error)),
                _ => {}
            }
        }
        folder::remove(&folder::of(&self.machines, machine)).map_err(|error| file(tried, &error))
    }

    fn owned(&self, tried: &str) -> Result<Vec<Owned>, HypervisorError> {
        let session = self.session()?;
        let tagged = session.tagged().map_err(|error| refused(tried, &error))?;
        let in_pool = |machine: &str| self.pool.as_ref().map_or(0, |pool| pool.bytes(&session, machine));
        let bytes = |machine: &str| folder::bytes(&folder::of(&self.machines, machine)) + in_pool(machine);
        let mine = tagged.into_iter().filter(|(_, tag, _)| tag.lab == self.lab);
        let mut owned: Vec<Owned> =
            mine.map(|(machine, tag, running)| Owned { bytes: bytes(&machine), machine, tag: Some(tag), running }).collect();
        for machine in folder::all(&self.machines).map_err(|error| file(tried, &error))? {
            if !owned.iter().any(|known| known.machine == machine) {
                let tag = folder::tag(&folder::of(&self.machines, &machine));
                owned.push(Owned { bytes: bytes(&machine), machine, tag, running: false });
            }
        }
        if !facts::switches_here(&self.uri) {
            for (_, tag) in session.tagged_networks().map_err(|error| refused(tried, &error))? {
                if tag.lab == self.lab && !owned.iter().any(|known| known.machine == tag.lease) {
                    owned.push(Owned { machine: tag.lease.clone(), tag: Some(tag), running: false, bytes: 0 });
                }
            }
        }
        owned.sort_by(|a, b| a.machine.cmp(&b.machine));
        Ok(owned)
    }

    /// QEMU's NVMe device hands the host's errors to the guest. So the machine is stopped while there is room for what is under way.
    fn guard_room(&self, session: &Session, machine: &str) -> Result<(), Error> {
        let room = nix::sys::statvfs::statvfs(&self.machines).map(|found| found.blocks_available() * found.fragment_size());
        if room.is_ok_and(|room| room < ROOM) {
            session.get(machine)?.suspend()?;
            let kind = MachineEventKind::DiskError { nospace: true };
            let _ = self.events.send(MachineEvent { machine: machine.to_owned(), kind });
        }
        Ok(())
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn host(&self) -> Result<HostReport, HypervisorError> {
        let work = |inner: &Inner, tried: &str| {
            facts::report(&inner.session()?.connection, &inner.uri, &inner.accelerator).map_err(|error| refused(tried, &error))
        };
        self.blocking("ask for the host's facts".to_owned(), LOOK, work).await
    }

    async fn open_network(&self, name: &str, tag: &Tag, spec: &NetworkSpec) -> Result<(), HypervisorError> {
        let (name, tag, spec) = (name.to_owned(), tag.clone(), spec.clone());
        self.blocking(format!("open the network {name}"), CHANGE, move |inner, tried| inner.open_network(&name, &tag, &spec, tried)).await
    }

    async fn disturb(&self, network: &str, fault: &Fault) -> Result<(), HypervisorError> {
        let (name, fault) = (network.to_owned(), fault.clone());
        let work = move |inner: &Inner, tried: &str| inner.disturb(&name, &fault, tried);
        self.blocking(format!("disturb the network {network}"), LOOK, work).await
    }

    async fn wire(&self, network: &str) -> Result<WireReport, HypervisorError> {
        let name = network.to_owned();
        let work = move |inner: &Inner, tried: &str| inner.wire(&name, tried);
        self.blocking(format!("look at the network {network}"), LOOK, work).await
    }

    async fn create(&self, spec: &MachineSpec) -> Result<String, HypervisorError> {
        let wanted = spec.clone();
        let begin = move |inner: &Inner, tried: &str| {
            let uefi = inner.check(&wanted)?;
            folder::make(&folder::of(&inner.machines, &wanted.name), &wanted.tag).map_err(|error| file(tried, &error))?;
            Ok(uefi)
        };
        let uefi = self.blocking(format!("create {}", spec.name), LOOK, begin).await?;
        let built = self.build(spec, uefi).await;
        if built.is_err()
            && let Err(left) = self.destroy(&spec.name).await
        {
            tracing::warn!(machine = spec.name, error = %left, "half-made machine not removed");
        }
        built
    }

    fn freezes(&self) -> bool {
        true
    }

    fn unfreezable(&self, hardware: &Hardware) -> Option<String> {
        thaw::unfreezable(&self.inner.uri, self.inner.pool.is_some(), hardware)
    }

    async fn freeze(&self, machine: &str, into: &Path) -> Result<(), HypervisorError> {
        let tried = format!("freeze {machine}");
        let (name, folder) = (machine.to_owned(), into.to_owned());
        if self.inner.pool.is_some() {
            let fetch = move |inner: &Inner, tried: &str| {
                inner.pool.as_ref().map_or(Ok(()), |pool| pool.freeze(&*inner.session()?, &name, &folder, tried))
            };
            return self.blocking(tried, SEND, fetch).await;
        }
        let folder = self.blocking(tried.clone(), START, move |inner, tried| inner.save(&name, &folder, tried)).await?;
        let Files { overlay, template, .. } = Files::of(&folder);
        if template.exists() {
            overlay::refer(&overlay, folder::BELOW, &tried, CHANGE).await?;
        }
        let into = into.to_owned();
        let moved = move |_: &Inner, tried: &str| folder::into_template(&folder, &into).map_err(|error| file(tried, &error));
        self.blocking(tried, CHANGE, moved).await
    }

    async fn thaw(&self, machine: &str) -> Result<(), HypervisorError> {
        let name = machine.to_owned();
        self.blocking(format!("thaw {machine}"), START, move |inner, tried| inner.thaw(&name, tried)).await
    }

    async fn start(&self, machine: &str) -> Result<(), HypervisorError> {
        let name = machine.to_owned();
        self.call(format!("start {machine}"), START, move |session| session.start(&name)).await
    }

    async fn shutdown(&self, machine: &str) -> Result<(), HypervisorError> {
        let name = machine.to_owned();
        let acpi = virt_sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;
        self.call(format!("shut down {machine}"), CHANGE, move |session| session.get(&name)?.shutdown_flags(acpi)).await
    }

    async fn power_off(&self, machine: &str) -> Result<(), HypervisorError> {
        let name = machine.to_owned();
        self.call(format!("cut the power of {machine}"), CHANGE, move |session| session.power_off(&name)).await
    }

    async fn reset(&self, machine: &str) -> Result<(), HypervisorError> {
        let name = machine.to_owned();
        self.call(format!("reset {machine}"), CHANGE, move |session| session.get(&name)?.reset()).await
    }

    async fn destroy(&self, machine: &str) -> Result<(), HypervisorError> {
        let name = machine.to_owned();
        self.blocking(format!("remove {machine}"), CHANGE, move |inner, tried| inner.destroy(&name, tried)).await
    }

    async fn vitals(&self, machine: &str) -> Result<Vitals, HypervisorError> {
        let name = machine.to_owned();
        let work = move |inner: &Inner, tried: &str| {
            let session = inner.session()?;
            let (running, cpu_ns, disk_bytes, unmanaged) = session.vitals(&name).map_err(|error| refused(tried, &error))?;
            if unmanaged {
                inner.guard_room(&session, &name).map_err(|error| refused(tried, &error))?;
            }
            let console_bytes = match &inner.pool {
                Some(pool) => pool.console_bytes(&session, &name).map_err(|error| refused(tried, &error))?,
                None => folder::console_bytes(&folder::of(&inner.machines, &name)),
            };
            Ok(Vitals { running, cpu_ns, disk_bytes, console_bytes })
        };
        self.blocking(format!("ask for the vitals of {machine}"), LOOK, work).await
    }

    async fn console(&self, machine: &str, offset: u64) -> Result<Vec<u8>, HypervisorError> {
        let name = machine.to_owned();
        let work = move |inner: &Inner, tried: &str| match &inner.pool {
            Some(pool) => pool.console(&*inner.session()?, &name, offset, tried),
            None => folder::console(&folder::of(&inner.machines, &name), offset).map_err(|error| file(tried, &error)),
        };
        self.blocking(format!("read the console of {machine}"), LOOK, work).await
    }

    async fn screenshot(&self, machine: &str) -> Result<Option<Vec<u8>>, HypervisorError> {
        let name = machine.to_owned();
        self.call(format!("take a picture of the screen of {machine}"), LOOK, move |session| session.screenshot(&name)).await
    }

    async fn agent(&self, machine: &str, command: &str, within: Duration) -> Result<String, AgentError> {
        let (name, command) = (machine.to_owned(), command.to_owned());
        // Whole seconds, at least one: zero and below mean something else to libvirt.
        let seconds = i32::try_from(within.as_millis().div_ceil(1000)).unwrap_or(i32::MAX).max(1);
        let work = move |inner: &Inner, _: &str| {
            let session = inner.session()?;
            Ok(session.get(&name).and_then(|domain| domain.qemu_agent_command(&command, seconds, 0)))
        };
        match self.blocking(format!("ask the guest agent of {machine}"), within + AGENT_GRACE, work).await {
            Ok(Ok(answer)) if answer.len() > AGENT_ANSWER => {
                Err(AgentError::Refused(format!("an answer of {} bytes, more than the {AGENT_ANSWER} allowed", answer.len())))
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(agent_refused(&error)),
            Err(error) if error.kind == HypervisorErrorKind::TimedOut => Err(AgentError::Unresponsive(error.found)),
            Err(error) => Err(error.into()),
        }
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.inner.events.subscribe()
    }

    async fn owned(&self) -> Result<Vec<Owned>, HypervisorError> {
        self.blocking("list the lab's machines".to_owned(), LOOK, |inner, tried| inner.owned(tried)).await
    }

    fn pool(&self) -> Option<&str> {
        self.inner.pool.as_ref().map(|pool| pool.name.as_str())
    }

    async fn sent(&self) -> Result<Vec<Sent>, HypervisorError> {
        let work = |inner: &Inner, tried: &str| inner.pool.as_ref().map(|pool| pool.sent(&*inner.session()?, tried)).transpose();
        Ok(self.blocking("list what was sent".to_owned(), LOOK, work).await?.unwrap_or_default())
    }

    async fn discard(&self, sent: Digest) -> Result<(), HypervisorError> {
        let work =
            move |inner: &Inner, tried: &str| inner.pool.as_ref().map_or(Ok(()), |pool| pool.discard(&*inner.session()?, sent, tried));
        self.blocking(format!("remove {} that was sent", sent.short()), CHANGE, work).await
    }

    async fn free(&self) -> Result<Option<u64>, HypervisorError> {
        let work = |inner: &Inner, tried: &str| inner.pool.as_ref().map(|pool| pool.free(&*inner.session()?, tried)).transpose();
        self.blocking("ask what is free for machines".to_owned(), LOOK, work).await
    }
}
