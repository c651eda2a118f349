//! What the scenario's faults do to a machine, and when they strike.

use std::time::Duration;

use super::boot;
use super::machine::{Agent, Effects, Happening, Machine, Mood, State, paced};
use super::scenario::{Deed, Fault, Moment, Refusal, Scenario};
use crate::hypervisor::MachineEventKind;

impl Machine {
    /// Whether the scenario has the hypervisor refuse this call.
    pub fn refusal(&mut self, call: &Moment, scenario: &Scenario) -> Option<Refusal> {
        scenario.faults.iter().enumerate().find_map(|(at, fault)| match fault.does {
            Deed::Refuse(refusal) if self.is_struck(at, fault, call) => Some(refusal),
            _ => None,
        })
    }

    /// Strikes with what the scenario has for this moment. Whether the machine is still in the same box of the diagram.
    pub fn strike(&mut self, moment: &Moment, fx: &mut Effects<'_>) -> bool {
        let epoch = self.epoch;
        for (at, fault) in fx.scenario.faults.iter().enumerate() {
            if !matches!(fault.does, Deed::Refuse(_)) && self.epoch == epoch && self.is_struck(at, fault, moment) {
                match fault.after.0 {
                    Duration::ZERO => self.suffer(&fault.does, fx),
                    after => fx.later(after / fx.scenario.pace.speed.max(1), epoch, Happening::Deed(fault.does.clone())),
                }
            }
        }
        self.epoch == epoch
    }

    fn is_struck(&mut self, at: usize, fault: &Fault, moment: &Moment) -> bool {
        let struck = self.record.struck.get(&at).copied().unwrap_or(0);
        let strikes = fault.on.covers(moment) && fault.when.matches(&self.situation()) && fault.times.is_none_or(|times| struck < times);
        if strikes {
            self.record.struck.insert(at, struck.saturating_add(1));
        }
        strikes
    }

    pub fn suffer(&mut self, deed: &Deed, fx: &mut Effects<'_>) {
        if matches!(self.state, State::Off) {
            return;
        }
        let until = |span: Option<Duration>| span.map_or(Duration::MAX, |span| fx.now.saturating_add(paced(&fx.scenario.pace, span)));
        match deed {
            Deed::Refuse(_) => {}
            Deed::LoseConnection(length) => {
                fx.outage = Some(until(length.span.map(|span| span.0)));
                fx.events.push(MachineEventKind::ConnectionLost);
            }
            Deed::Stall(stall) => self.become_(State::Hung { busy: stall.busy }),
            Deed::Panic => {
                self.say(boot::PANIC);
                fx.events.push(MachineEventKind::Panicked);
                self.become_(State::Hung { busy: false });
            }
            Deed::Reboot => self.restart(fx),
            Deed::PowerOff => {
                self.say("reboot: Power down");
                self.go_off(MachineEventKind::Stopped, fx);
            }
            Deed::DiskError(error) => {
                self.say("blk_update_request: I/O error, dev vda, sector 2048 op 0x1:(WRITE)");
                fx.events.push(MachineEventKind::DiskError { nospace: error.nospace });
                self.become_(State::Hung { busy: false });
            }
            Deed::EmulatorCrash => self.go_off(MachineEventKind::Crashed, fx),
            Deed::AgentLost(length) => {
                let until = until(length.span.map(|span| span.0));
                self.drop_agent(fx);
                self.spoil_agent(Agent::Lost { until }, until, fx);
            }
            Deed::AgentNonsense(length) => {
                let until = until(length.span.map(|span| span.0));
                self.spoil_agent(Agent::Nonsense { until }, until, fx);
            }
            Deed::NeverSettles => {
                if let Some(mood) = self.mood() {
                    mood.never_settles = true;
                }
            }
            Deed::Slow(percent) => {
                if let Some(mood) = self.mood() {
                    mood.slow = *percent;
                }
            }
            Deed::FillDisk => {
                self.record.disk_full = true;
                if let State::Up { jobs, .. } = &mut self.state {
                    jobs.run_out_of_room();
                }
            }
        }
    }

    fn spoil_agent(&mut self, agent: Agent, until: Duration, fx: &mut Effects<'_>) {
        if let Some(mood) = self.mood() {
            mood.agent = agent;
        }
        if until != Duration::MAX {
            fx.later(until - fx.now, self.epoch, Happening::AgentReturns);
        }
    }

    pub fn mood(&mut self) -> Option<&mut Mood> {
        match &mut self.state {
            State::Booting { mood, .. } | State::Up { mood, .. } => Some(mood),
            State::Off | State::Hung { .. } => None,
        }
    }
}
