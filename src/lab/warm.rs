//! How a machine of a pass comes up: from a template where there is one or can be, else by its firmware and boot loader.
//!
//! ```text
//! template of this image, hardware and host?  --no--> boot, bare and unconnected --> freeze --> template
//!         | yes                                                                                    |
//!         v                                                                                        v
//! clone on it --> thaw --> renew: random numbers, machine-id, keys, NICs, clock --> fit? --yes--> go on
//!                   \______________________ any trouble ____________________________/ no --> destroy, boot cold
//! ```
//! Invariants: nothing starts on a clone that was not checked; what goes wrong with a template costs time, never a verdict: the machine
//! is made anew and booted cold, and the journal says why.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checkpoint::Checkpoint;
use super::network::nowhere;
use super::runner::{CellRunner, Stop, no_pass};
use super::session::{Budget, Session, lab_trouble};
use super::stages::Memory;
use super::templates::{Key, Record, Template, Templates};
use crate::cell::identity::{Identity, Start, unfit, unfit_as_template};
use crate::cell::{Cause, Stage, Trouble};
use crate::guest::Renewal;
use crate::guest::linux::family;
use crate::hypervisor::segments::Mac;
use crate::hypervisor::{Copied, HypervisorError, MachineNic, MachineSpec, OnTemplate, Tag};
use crate::id::Digest;
use crate::journal::Event;
use crate::plan::PlannedMachine;

/// How long a thawed guest may take to answer, and to finish what its new clock set off.
const WAKING: Budget = Budget { total: Duration::from_secs(90), quiet: Duration::from_secs(30) };
/// How long one cell waits for the template that another makes, beyond the time that a boot may take.
const MAKING: Duration = Duration::from_secs(300);
const SEED: usize = 64;

/// Whether a machine is to begin on a template.
pub(super) enum Offer {
    /// On this one, or on this checkpoint.
    Ready(Box<Template>),
    /// On one that is still to be made.
    Wanted(Key),
    /// On none; with the reason where that is worth telling.
    None(Option<String>),
}

impl CellRunner {
    /// Makes the machines, switched off; those whose template is still to be made are made when they are started.
    pub(super) async fn clone_machines(&mut self) -> Result<crate::cell::StageOutcome, Stop> {
        let Some(pass) = &self.pass else { return Err(no_pass().into()) };
        let (names, network) = (self.cell.machine_names(&pass.name), pass.name.clone());
        self.open_network(&network).await?;
        for (at, name) in names.iter().enumerate() {
            let mut offer = match self.checkpoint() {
                Some(checkpoint) => Offer::Ready(Box::new(checkpoint.clone())),
                None => self.offer(at).await?,
            };
            if let Offer::Ready(template) = &offer {
                match self.make(at, name, Some(template)).await {
                    Err(Stop::Trouble(trouble)) => {
                        if template.behind.is_some() {
                            self.checkpoint = Checkpoint::GivenUp;
                        }
                        offer = Offer::None(Some(trouble.message));
                    }
                    made => made?,
                }
            }
            if let Offer::None(_) = &offer {
                self.make(at, name, None).await?;
            }
            let session = Session::new(&self.lab, name, self.planned(at)?.os);
            if let Some(pass) = &mut self.pass {
                pass.machines.push(super::runner::MachineState { session, memory: Memory::default(), offer });
            }
        }
        Ok(crate::cell::StageOutcome::Passed)
    }

    /// Brings a machine up and puts the job runner in place.
    pub(super) async fn come_up(&mut self, at: usize) -> Result<(), Stop> {
        let offer = std::mem::replace(&mut self.machine(at)?.offer, Offer::None(None));
        let why = match offer {
            Offer::None(why) => why,
            Offer::Ready(template) => match self.thaw(at, &template).await? {
                Ok(()) => {
                    self.memory(at)?.begin_behind(template.behind);
                    return Ok(());
                }
                Err(why) => Some(self.anew(at, Some(&template.record.key).filter(|_| template.behind.is_none()), why).await?),
            },
            Offer::Wanted(key) => match self.on_new_template(at, &key).await? {
                Ok(()) => return Ok(()),
                Err(why) => Some(self.anew(at, Some(&key), why).await?),
            },
        };
        if let Some(why) = why {
            self.started(at, Start::Cold { why }).await?;
        }
        let budget = Budget::from_usual(self.lab.history.usual(&self.cell, Stage::Boot));
        let tell = self.teller(Stage::Boot);
        Ok(self.session(at)?.start(budget, tell).await?)
    }

    /// What is there for a machine to begin on.
    async fn offer(&self, at: usize) -> Result<Offer, Stop> {
        let Some(templates) = self.lab.templates.clone() else { return Ok(Offer::None(None)) };
        let machine = self.planned(at)?;
        if self.lab.settings.cold {
            return Ok(Offer::None(Some("it was asked for".to_owned())));
        }
        if let Some(why) = self.lab.hypervisor.unfreezable(&machine.hardware.profile) {
            return Ok(Offer::None(Some(why)));
        }
        let key = self.key(at).await?;
        Ok(match self.find(&templates, &key).await {
            Some(template) => Offer::Ready(Box::new(template)),
            None => templates.given_up(&key).map_or(Offer::Wanted(key), |why| Offer::None(Some(why))),
        })
    }

    /// What a template of this machine depends on.
    pub(super) async fn key(&self, at: usize) -> Result<Key, Stop> {
        let machine = self.planned(at)?;
        let host = self.lab.hypervisor.host().await.map_err(lab_trouble)?;
        let runner = Digest::of(family(machine.os).runner);
        let key = Key::new(machine.image.sha256, machine.hardware.sha256, runner, machine.nics.len().max(1), &host);
        Ok(key.in_pool(self.lab.hypervisor.pool()))
    }

    async fn find(&self, templates: &std::sync::Arc<Templates>, key: &Key) -> Option<Template> {
        let (key, now) = (key.clone(), self.lab.clock.now());
        let found = blocking(templates, move |templates| templates.find(&key, now)).await;
        found.inspect_err(|why| tracing::warn!(why, "templates cannot be read")).unwrap_or_default()
    }

    /// Begins on a template that this cell makes, or waits for and takes another's. The inner error says why that can't be.
    async fn on_new_template(&mut self, at: usize, key: &Key) -> Result<Result<(), String>, Stop> {
        let Some(templates) = self.lab.templates.clone() else { return Ok(Err("there are no templates".to_owned())) };
        self.tell(Stage::Boot, "waiting for a template of its kind");
        let budget = Budget::from_usual(self.lab.history.usual(&self.cell, Stage::Boot));
        let Ok(gate) = tokio::time::timeout(budget.total + MAKING, templates.gate(key)).await else {
            return Ok(Err("another cell did not get its template made".to_owned()));
        };
        let template = match self.find(&templates, key).await {
            Some(template) => template,
            None => match templates.given_up(key) {
                Some(why) => return Ok(Err(why)),
                None => match self.freeze(at, key, budget).await? {
                    Ok(template) => template,
                    Err(why) => return Ok(Err(why)),
                },
            },
        };
        drop(gate);
        let name = self.session(at)?.machine.clone();
        match self.make(at, &name, Some(&template)).await {
            Ok(()) => self.thaw(at, &template).await,
            Err(Stop::Trouble(trouble)) => Ok(Err(trouble.message)),
            Err(stop) => Err(stop),
        }
    }

    /// Boots a machine with nothing in its drive and its wires leading nowhere, and freezes it. A machine that does not come up is told
    /// as any that does not.
    async fn freeze(&mut self, at: usize, key: &Key, budget: Budget) -> Result<Result<Template, String>, Stop> {
        let Some(templates) = self.lab.templates.clone() else { return Ok(Err("there are no templates".to_owned())) };
        let name = self.session(at)?.machine.clone();
        let mut spec = self.spec(at, &name)?;
        spec.media = None;
        let planned = self.planned(at)?;
        let macs: Vec<Mac> = (0..key.nics).map(|nic| nowhere(planned, nic)).collect();
        spec.nics = macs.iter().map(|mac| MachineNic { mac: *mac, at: None }).collect();
        self.create(&spec).await?;
        let tell = self.teller(Stage::Boot);
        self.session(at)?.start_bare(budget, tell).await?;
        self.tell(Stage::Boot, "making a template of it");
        let boot = self.session(at)?.boot_took.unwrap_or_default();
        let guest = self.session(at)?.guest.clone();
        self.session(at)?.patiently(|| guest.install()).await?;
        self.session(at)?.rehearse().await?;
        let identity = self.session(at)?.patiently(|| guest.identity()).await?;
        let unfit = unfit_as_template(&identity);
        let (draft, now) = (key.clone(), self.lab.clock.now());
        let memory = spec.hardware.memory.0;
        let room = match unfit {
            Some(why) => Err(why),
            None => blocking(&templates, move |templates| templates.draft(&draft.digest().short(), memory)).await,
        };
        let frozen = match room {
            Ok(draft) => match self.lab.hypervisor.freeze(&name, &draft).await {
                Ok(()) => {
                    let boot_ms = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
                    let record = Record { key: key.clone(), frozen: now, boot_ms, identity, macs, files: BTreeMap::new() };
                    blocking(&templates, move |templates| templates.publish(&draft, record)).await
                }
                Err(error) => {
                    let _ = std::fs::remove_dir_all(&draft);
                    Err(error.to_string())
                }
            },
            Err(why) => Err(why),
        };
        // Its end is no news to the machine that comes after it.
        self.session(at)?.cut_power().await?;
        self.lab.hypervisor.destroy(&name).await.map_err(lab_trouble)?;
        if self.lab.hypervisor.pool().is_some() {
            self.discard_copies(&templates).await;
        }
        Ok(frozen.map_err(|why| format!("no template could be made: {why}")))
    }

    /// Removes from where the machines are what was sent of templates that are gone.
    async fn discard_copies(&self, templates: &std::sync::Arc<Templates>) {
        let held = match blocking(templates, Templates::held).await {
            Ok(held) => held,
            Err(why) => return tracing::warn!(why, "templates cannot be read"),
        };
        let hypervisor = &self.lab.hypervisor;
        let discarded: Result<(), HypervisorError> = async {
            for one in hypervisor.sent().await? {
                if one.what == Copied::Template && !held.contains(&one.digest) {
                    hypervisor.discard(one.digest).await?;
                }
            }
            Ok(())
        }
        .await;
        if let Err(error) = discarded {
            tracing::warn!(%error, "what was sent of templates that are gone is left; `patchlab gc` names it");
        }
    }

    /// Lets a machine that was made on a template go on, as one of its own. The inner error says why it is not fit.
    pub(super) async fn thaw(&mut self, at: usize, template: &Template) -> Result<Result<(), String>, Stop> {
        self.tell(Stage::Boot, "thawing");
        let thawed = match self.session(at)?.thaw(WAKING, Duration::from_millis(template.record.boot_ms)).await {
            Ok(()) => self.renew(at, template).await,
            Err(trouble) => Err(trouble.into()),
        };
        let identity = match thawed {
            Ok(Ok(identity)) => identity,
            Ok(Err(why)) => return Ok(Err(why)),
            Err(Stop::Trouble(trouble)) if trouble.cause != Cause::Cancelled => return Ok(Err(trouble.message)),
            Err(stop) => return Err(stop),
        };
        let start = Start::Warm {
            template: template.digest,
            frozen: template.record.frozen,
            identity: Box::new(identity),
            behind: template.behind,
        };
        self.started(at, start).await?;
        Ok(Ok(()))
    }

    /// Makes a thawed clone a machine of its own and looks whether it is one.
    async fn renew(&mut self, at: usize, template: &Template) -> Result<Result<Identity, String>, Stop> {
        let name = self.session(at)?.machine.clone();
        let macs: Vec<String> = self.spec(at, &name)?.nics.iter().map(|nic| nic.mac.to_string()).collect();
        let mut seed = vec![0; SEED];
        getrandom::fill(&mut seed).map_err(|error| {
            let message = format!("the host gave no random numbers: {error}");
            Trouble::new(Cause::Hypervisor, message)
        })?;
        let renewal = Renewal {
            now: self.lab.clock.now(),
            seed,
            macs: template.record.macs.iter().map(Mac::to_string).zip(macs.iter().cloned()).collect(),
            makes_host_keys: template.record.identity.makes_host_keys,
        };
        let tell = self.teller(Stage::Boot);
        let identity = self.session(at)?.renew(&renewal, WAKING, tell).await?;
        let Some(templates) = &self.lab.templates else { return Ok(Err("there are no templates".to_owned())) };
        let admitted = templates.admit(template, &identity, |others| unfit(&identity, &template.record.identity, others, &macs));
        Ok(match admitted {
            Ok(wrong) if wrong.is_empty() => Ok(identity),
            Ok(wrong) => Err(wrong.join("; ")),
            Err(error) => Err(format!("its use could not be noted: {error}")),
        })
    }

    /// Removes what came of a machine that was to begin on the template of this key, or on a checkpoint, and makes it anew, to boot cold.
    /// Gives the reason back.
    async fn anew(&mut self, at: usize, key: Option<&Key>, why: String) -> Result<String, Stop> {
        let name = self.session(at)?.machine.clone();
        tracing::warn!(run = %self.run, cell = %self.cell.id, machine = name, why, "booting cold");
        match (&self.lab.templates, key) {
            (Some(templates), Some(key)) => templates.fail(key, &why),
            _ => self.checkpoint = Checkpoint::GivenUp,
        }
        self.lab.hypervisor.destroy(&name).await.map_err(lab_trouble)?;
        self.make(at, &name, None).await?;
        let os = self.planned(at)?.os;
        let session = Session::new(&self.lab, &name, os);
        self.machine(at)?.session = session;
        Ok(why)
    }

    async fn started(&mut self, at: usize, start: Start) -> Result<(), Stop> {
        let machine = self.session(at)?.machine.clone();
        Ok(self.append(Event::MachineStarted { cell: self.cell.id.clone(), machine, start }).await?)
    }

    pub(super) async fn make(&mut self, at: usize, name: &str, template: Option<&Template>) -> Result<(), Stop> {
        let spec = MachineSpec { template: template.map(on), ..self.spec(at, name)? };
        self.create(&spec).await
    }

    async fn create(&mut self, spec: &MachineSpec) -> Result<(), Stop> {
        let xml = self.lab.hypervisor.create(spec).await.map_err(lab_trouble)?;
        Ok(self.append(Event::MachineDefined { cell: self.cell.id.clone(), machine: spec.name.clone(), xml }).await?)
    }

    pub(super) fn planned(&self, at: usize) -> Result<&PlannedMachine, Stop> {
        self.cell.machines.get(at).ok_or_else(|| no_pass().into())
    }

    /// The machine that boots cold.
    pub(super) fn spec(&self, at: usize, name: &str) -> Result<MachineSpec, Stop> {
        let planned = self.planned(at)?;
        let pass = self.pass.as_ref().map(|pass| pass.name.clone()).unwrap_or_default();
        let image = self.files.images.get(&planned.image.sha256).cloned().ok_or_else(|| {
            let message = format!("image {} ({}) is not in the store", planned.image.name, planned.image.sha256);
            Trouble::new(Cause::ImageDamaged, message)
        })?;
        Ok(MachineSpec {
            name: name.to_owned(),
            tag: Tag { lab: self.lab.id.clone(), run: self.run, cell: self.cell.id.clone(), lease: name.to_owned() },
            hardware: planned.hardware.profile.clone(),
            image,
            image_digest: planned.image.sha256,
            template: None,
            media: self.files.media.clone(),
            nics: self.nics(&pass, planned),
        })
    }
}

fn on(template: &Template) -> OnTemplate {
    let (folder, record) = (template.folder.clone(), &template.record);
    OnTemplate { folder, macs: record.macs.clone(), media: template.behind.is_some(), digests: record.digests() }
}

/// Work on the templates' files, off the threads that must not block.
pub(super) async fn blocking<T: Send + 'static>(
    templates: &std::sync::Arc<Templates>,
    work: impl FnOnce(&Templates) -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let templates = templates.clone();
    let done = tokio::task::spawn_blocking(move || work(&templates)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
