//! Room for machines on a host: what a cell needs of it, and what there is.

use std::collections::BTreeMap;

use crate::id::Digest;
use crate::plan::PlannedCell;

/// What the emulator of a machine takes besides the guest's memory.
pub const EMULATOR: u64 = 512 << 20;

/// So much of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room {
    /// One for each machine, however many processors its guest has.
    pub cores: u32,
    /// One for each machine until its first boot is over.
    pub boots: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes: what a machine's overlay takes if its guest writes all of its disk.
    pub disk: u64,
}

impl Room {
    pub const NONE: Self = Self { cores: 0, boots: 0, memory: 0, disk: 0 };

    /// So many machines at once, whatever they need besides.
    pub const fn cores(cores: u32) -> Self {
        Self { cores, boots: cores, memory: u64::MAX, disk: u64::MAX }
    }

    /// What a cell needs in the worst case; `disks` are the sizes that the images' guests see.
    pub fn of(cell: &PlannedCell, disks: &BTreeMap<Digest, u64>) -> Self {
        let machines = u32::try_from(cell.machines.len()).unwrap_or(u32::MAX).max(1);
        let memory = cell.machines.iter().map(|machine| machine.hardware.profile.memory.0.saturating_add(EMULATOR));
        let disk = cell.machines.iter().map(|machine| disks.get(&machine.image.sha256).copied().unwrap_or(0));
        let sum = |one: u64, other| one.saturating_add(other);
        Self { cores: machines, boots: machines, memory: memory.fold(0, sum), disk: disk.fold(0, sum) }
    }

    pub fn fits(self, free: Self) -> bool {
        self.cores <= free.cores && self.boots <= free.boots && self.memory <= free.memory && self.disk <= free.disk
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            cores: self.cores.saturating_add(other.cores),
            boots: self.boots.saturating_add(other.boots),
            memory: self.memory.saturating_add(other.memory),
            disk: self.disk.saturating_add(other.disk),
        }
    }

    pub fn less(self, other: Self) -> Self {
        Self {
            cores: self.cores.saturating_sub(other.cores),
            boots: self.boots.saturating_sub(other.boots),
            memory: self.memory.saturating_sub(other.memory),
            disk: self.disk.saturating_sub(other.disk),
        }
    }

    pub fn least(self, other: Self) -> Self {
        Self {
            cores: self.cores.min(other.cores),
            boots: self.boots.min(other.boots),
            memory: self.memory.min(other.memory),
            disk: self.disk.min(other.disk),
        }
    }

    /// What there is too little of for this, with `free` of `all` left. Without a core nobody boots, so that says nothing more.
    pub fn lacks(self, free: Self, all: Self) -> Vec<Lack> {
        let count = |what, needs: u32, free: u32, all: u32| Lack { what, needs: needs.into(), free: free.into(), all: all.into() };
        let each = [
            count(Kind::Cores, self.cores, free.cores, all.cores),
            count(Kind::Boots, if self.cores > free.cores { 0 } else { self.boots }, free.boots, all.boots),
            Lack { what: Kind::Memory, needs: self.memory, free: free.memory, all: all.memory },
            Lack { what: Kind::Disk, needs: self.disk, free: free.disk, all: all.disk },
        ];
        each.into_iter().filter(|lack| lack.needs > lack.free).collect()
    }
}

/// What room consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cores,
    Boots,
    Memory,
    Disk,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Boots => "boots",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// Something that there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    pub what: Kind,
    pub needs: u64,
    pub free: u64,
    pub all: u64,
}

impl Lack {
    /// What it needs of something that there will never be enough of.
    pub fn never(&self) -> String {
        let kind = self.what.as_str();
        match self.what {
            Kind::Cores | Kind::Boots => format!("{} {kind}, and there are {}", self.needs, self.all),
            Kind::Memory | Kind::Disk => format!("{} of {kind} at once, and there are {}", gib(self.needs), gib(self.all)),
        }
    }
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, needs, free, all } = *self;
        match what {
            Kind::Cores => write!(f, "it needs {needs} of {all} cores, {free} free"),
            Kind::Boots => write!(f, "it boots {needs} of at most {all} machines at once, {free} free"),
            Kind::Memory => write!(f, "it needs {} of memory, {} of {} free", gib(needs), gib(free), gib(all)),
            Kind::Disk => write!(f, "it needs {} of disk, {} of {} free", gib(needs), gib(free), gib(all)),
        }
    }
}

/// `7.5 GiB`; what is needed is not told as less than it is.
pub fn gib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}
