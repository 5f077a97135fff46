use std::collections::BTreeMap;

use super::StageTime;

/// When something was at work: in one go, or now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stint {
    /// Microseconds since 1970, UTC.
    pub began_us: i64,
    pub ended_us: i64,
    /// What of the time between it was at work; all of it where several threads were.
    pub busy_us: i64,
    /// In how many goes.
    pub times: u64,
}

impl Stint {
    /// In one go. A clock that was set back meanwhile makes none of a negative time.
    #[must_use]
    pub fn new(began_us: i64, ended_us: i64) -> Self {
        let ended_us = ended_us.max(began_us);
        Self { began_us, ended_us, busy_us: ended_us - began_us, times: 1 }
    }

    /// One more go, or several.
    pub fn join(&mut self, other: Self) {
        self.began_us = self.began_us.min(other.began_us);
        self.ended_us = self.ended_us.max(other.ended_us);
        self.busy_us += other.busy_us;
        self.times += other.times;
    }
}

/// The stages of something, by name, and when each was at work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline(BTreeMap<&'static str, Stint>);

impl Timeline {
    /// A stage was at work in one go more.
    pub fn took(&mut self, stage: &'static str, began_us: i64, ended_us: i64) {
        self.join(stage, Stint::new(began_us, ended_us));
    }

    /// A stage was at work once more, or several times.
    pub fn join(&mut self, stage: &'static str, stint: Stint) {
        self.0.entry(stage).and_modify(|known| known.join(stint)).or_insert(stint);
    }

    #[must_use]
    pub fn get(&self, stage: &str) -> Option<Stint> {
        self.0.get(stage).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Stint)> {
        self.0.iter().map(|(stage, stint)| (*stage, *stint))
    }

    /// How long each was at work.
    pub fn times(&self) -> impl Iterator<Item = StageTime> {
        self.iter().map(|(stage, stint)| StageTime { stage, micros: stint.busy_us })
    }
}
