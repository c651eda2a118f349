//! One stretch of wire, and what it does to the frames that cross it.
//!
//! Chance comes from a seed of the line's own, and is drawn only while something is wrong with it: the n-th frame that crosses
//! after a fault began fares the same in every replay, whatever happens on other lines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often something happens, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chance(u32);

impl Chance {
    const WHOLE: u32 = 1_000_000;
    pub const NEVER: Self = Self(0);
    pub const ALWAYS: Self = Self(Self::WHOLE);

    /// `None` unless it is between 0 and 100.
    pub fn percent(percent: f64) -> Option<Self> {
        // The range was checked, so the cast loses only what is below a millionth.
        (0.0..=100.0).contains(&percent).then(|| Self((percent * f64::from(Self::WHOLE / 100)).round() as u32))
    }

    /// Between 0 and 100.
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE / 100)
    }

    fn hits(self, drawn: u64) -> bool {
        drawn % u64::from(Self::WHOLE) < u64::from(self.0)
    }
}

/// A stretch of wire.
#[derive(Clone, Debug)]
pub struct Line {
    pub up: bool,
    pub delay: Duration,
    pub jitter: Duration,
    pub loss: Chance,
    pub duplicate: Chance,
    draw: fastrand::Rng,
}

impl Line {
    pub fn new(seed: u64) -> Self {
        Self {
            up: true,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Chance::NEVER,
            duplicate: Chance::NEVER,
            draw: fastrand::Rng::with_seed(seed),
        }
    }

    /// Makes it as good as new, but for the chances already drawn.
    pub fn clear(&mut self) {
        *self = Self { draw: self.draw.clone(), ..Self::new(0) };
    }

    fn is_clean(&self) -> bool {
        self.delay.is_zero() && self.jitter.is_zero() && self.loss == Chance::NEVER && self.duplicate == Chance::NEVER
    }

    /// When the copies of a frame that enters now come out: none when it is lost, two when it is duplicated.
    pub fn cross(&mut self, at: Duration) -> impl Iterator<Item = Duration> + use<> {
        let times = if self.is_clean() {
            [Some(at), None]
        } else {
            // Four numbers a frame, wanted or not: what one setting does then never depends on another.
            let [loss, duplicate, first, second] = std::array::from_fn(|_| self.draw.u64(..));
            let arrival = |drawn| Some(at.saturating_add(self.delay).saturating_add(part(self.jitter, drawn)));
            match (self.loss.hits(loss), self.duplicate.hits(duplicate)) {
                (true, _) => [None, None],
                (false, false) => [arrival(first), None],
                (false, true) => [arrival(first), arrival(second)],
            }
        };
        times.into_iter().flatten()
    }
}

/// The part of `whole` that a number between nothing and all of `u64` stands for.
fn part(whole: Duration, drawn: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(drawn)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn crossings(line: &mut Line, frames: u32) -> Vec<Vec<Duration>> {
        (0..frames).map(|n| line.cross(MS * n).collect()).collect()
    }

    #[test]
    fn a_clean_line_costs_nothing() {
        assert_eq!(crossings(&mut Line::new(1), 3), [[Duration::ZERO], [MS], [MS * 2]]);
    }

    #[test]
    fn the_same_seed_fares_the_same_and_another_does_not() {
        let line = |seed| Line { loss: Chance(300_000), duplicate: Chance(200_000), jitter: MS * 5, ..Line::new(seed) };
        let first = crossings(&mut line(7), 500);
        assert_eq!(first, crossings(&mut line(7), 500));
        assert_ne!(first, crossings(&mut line(8), 500));
        let lost = first.iter().filter(|copies| copies.is_empty()).count();
        let twice = first.iter().filter(|copies| copies.len() == 2).count();
        assert!((100..200).contains(&lost), "{lost} of 500 lost at 30 in a hundred");
        assert!((30..110).contains(&twice), "{twice} of 500 doubled at 14 in a hundred");
    }

    #[test]
    fn what_is_lost_does_not_depend_on_the_jitter() {
        let lost = |jitter| {
            let mut line = Line { loss: Chance(500_000), jitter, ..Line::new(3) };
            crossings(&mut line, 64).iter().map(Vec::is_empty).collect::<Vec<_>>()
        };
        assert_eq!(lost(Duration::ZERO), lost(MS));
    }

    #[test]
    fn jitter_stays_below_its_bound_and_reaches_near_it() {
        let mut line = Line { delay: MS * 10, jitter: MS * 4, ..Line::new(1) };
        let times: Vec<_> = (0..1000).flat_map(|_| line.cross(MS)).collect();
        let (least, most) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
        assert!(*least >= MS * 11 && *least < MS * 12, "{least:?}");
        assert!(*most < MS * 15 && *most > MS * 14, "{most:?}");
    }

    #[test]
    fn chances_are_between_never_and_always() {
        assert_eq!((Chance::percent(0.0), Chance::percent(100.0)), (Some(Chance::NEVER), Some(Chance::ALWAYS)));
        assert_eq!(Chance::percent(0.25), Some(Chance(2500)));
        for bad in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Chance::percent(bad), None, "{bad}");
        }
        assert!(Chance::ALWAYS.hits(u64::MAX) && Chance::ALWAYS.hits(999_999) && !Chance::NEVER.hits(0));
    }
}
