//! patchlab: the controller of a patch testing and validation lab.
//!
//! # The tour: the path of one request through the rooms
//!
//! Someone types `patchlab run PATCH --customer acme`. What happens, room by room:
//!
//! ```text
//!  images/ builds/ test-suites/             PATCH/patch.toml, payload
//!          |  TOML                                  |
//!          v                                        v
//!     +---------+                           lab::patches, lab::images
//!     | catalog |                                   |  digests
//!     +----+----+                                   |
//!          | Catalog, request                       |
//!          v                                        |
//!     +---------+  <--------------------------------+
//!     |  plan   |   frozen: from here on the catalog is not read again
//!     +----+----+
//!          | Plan
//!          v                 append                      +------------+
//!     +---------+ -------------------------------------> |  journal   |
//!     |   lab   |                                        +-----+------+
//!     | workers |  what next?  +------+     fold             |
//!     | runner  | -----------> | cell | <--------------------+
//!     | stages  | <----------- +------+                      |
//!     +-+-----+-+                                            v
//!       |     |                                        +-----------+
//!       v     v                                        |  verdict  |
//!  hypervisor guest      (ports)                       +-----+-----+
//!   |     |    |    |                                        | Judgement
//! libvirt sim agent sim  (adapters)                          v
//!                                         report: text, HTML, JSON, JUnit, Markdown, signed statements
//! ```
//!
//! The same over HTTP: [`api`] takes the request, the desk plans it, and the server's worker takes it from the queue.
//! [`web`] is the dashboard in front of it.
//!
//! 1. [`cli`] parses the command line and puts the parts together: state folder, stores, and the adapters that `--hypervisor` asks for.
//!    It alone sees all rooms, prints, and turns a verdict into an exit code.
//!    What lies between parsing and printing is done by [`lab::desk`], for the command line and for the server alike.
//! 2. [`catalog`] reads the lab's folder into a [`Catalog`](catalog::Catalog) that is valid as a whole, or says every mistake at once.
//! 3. [`lab::patches`] copies the candidate into its store under the digest of its bytes; what the payload says outranks the manifest.
//!    [`lab::images`] knows the golden images by theirs.
//! 4. [`plan`] makes a [`Plan`](plan::Plan) of all that: cells, cases, exclusions with reasons. It has a digest. An unfinished run of the
//!    same digest is taken up; else a run begins.
//! 5. [`lab::scheduler`] gives the cells of all runs room on the host, in their order. [`lab::runner`] takes one cell through its life: it asks
//!    same digest is taken up; else a run begins. Several patches are a [`Bundle`](plan::Bundle) with a plan for all of them; where its run
//!    fails, [`verdict::bisect`] says which of them are tested together next, from the journal alone.
//! 5. [`lab::scheduler`] runs the cells, as many machines at once as there are slots. [`lab::runner`] takes one cell through its life: it asks
//!    [`cell::next`](fn@cell::next) what comes next, writes to the [`journal`] that it begins, does it through [`lab::stages`], and writes
//!    how it ended. It remembers nothing that a later controller would need.
//! 6. Effects go through two ports. [`hypervisor`] makes, starts and destroys machines; [`guest`] runs jobs in them and reads their state.
//!    Behind each is a real adapter and the simulator.
//! 7. The [`journal`] is append-only and hash-chained. Its fold, a [`RunState`](journal::RunState), is all that anyone reads later.
//! 8. [`verdict`] walks the plan against that fold: health checks, comparison of baseline and patched, findings and faults by the blame
//!    table ([`cell::cause`]), one [`Judgement`](verdict::Judgement).
//! 9. [`report`] tells it in each form. Every form reads the same fold and the same judgement. What leaves the lab is signed
//!    ([`report::statement`], [`lab::keys`]) and can be checked without the lab.
//! 10. [`lab::gate`] asks [`verdict::gate`] whether the patch may go to the customer: a pure function of the customer's
//!     [policy](catalog::policy), the runs' judgements, waivers and approvals. Decisions that differ go into the journal as records.
//!
//! A controller that is killed loses nothing: the next one folds the journal, [`lab::reaper`] ends what was under way as a fault and removes
//! its machine, and step 5 goes on.
//!
//! [`catalog`] (but for loading), [`plan`], [`cell`], [`verdict`] and [`report`] are functions of values: no clock, no I/O, no async.
//! `tests/architecture.rs` holds the `use` lines to the table of who may name whom. Each room's own page says what it is for and what always
//! holds in it; names are parsed once, in [`id`].

pub mod api;
pub mod catalog;
pub mod cell;
pub mod cli;
pub mod guest;
pub mod hypervisor;
pub mod id;
pub mod journal;
pub mod lab;
pub mod plan;
pub mod report;
pub mod verdict;
pub mod web;
