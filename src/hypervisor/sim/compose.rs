//! Scenarios put together in code, as tests do.

use super::matching::When;
use super::scenario::{Deed, Ends, Facts, Fault, Moment, Scenario, Step, StepName, baseline, no_time};
use super::seed::Seed;
use crate::catalog::text::Span;
use crate::cell::observation::Point;

impl Scenario {
    pub fn seeded(seed: u64) -> Self {
        Self { seed: Seed(seed), ..Self::default() }
    }

    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn facts(mut self, facts: Facts) -> Self {
        self.facts.push(facts);
        self
    }
}

impl Fault {
    pub fn new(on: Moment, does: Deed) -> Self {
        Self { on, when: When::default(), after: no_time(), times: None, does }
    }

    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    pub fn after(self, after: Span) -> Self {
        Self { after, ..self }
    }
}

impl Step {
    pub fn new(on: StepName, ends: Ends) -> Self {
        Self { on, when: When::default(), chance: 100, takes: None, ends, output: None, floods: None, result: None }
    }

    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    pub fn saying(self, output: &str) -> Self {
        Self { output: Some(output.to_owned()), ..self }
    }
}

impl Facts {
    pub fn section(section: &str) -> Self {
        Self {
            section: section.to_owned(),
            when: When::default(),
            from: baseline(),
            until: None,
            read_before: 0,
            text: None,
            drop: None,
            add: None,
        }
    }

    pub fn from(self, from: Point) -> Self {
        Self { from, ..self }
    }

    pub fn adding(self, lines: &str) -> Self {
        Self { add: Some(lines.to_owned()), ..self }
    }
}
