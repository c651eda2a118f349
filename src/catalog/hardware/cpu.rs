//! What is known of QEMU's CPU models by their names.

/// Who makes a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Intel,
    Amd,
    Hygon,
}

impl Vendor {
    /// As the processor itself says it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Intel => "GenuineIntel",
            Self::Amd => "AuthenticAMD",
            Self::Hygon => "HygonGenuine",
        }
    }
}

/// Models whose names stand for a maker, by the beginnings of their names.
const MAKERS: [(&str, Vendor); 26] = [
    ("486", Vendor::Intel),
    ("Broadwell", Vendor::Intel),
    ("Cascadelake", Vendor::Intel),
    ("Conroe", Vendor::Intel),
    ("Cooperlake", Vendor::Intel),
    ("Denverton", Vendor::Intel),
    ("Haswell", Vendor::Intel),
    ("Icelake", Vendor::Intel),
    ("IvyBridge", Vendor::Intel),
    ("KnightsMill", Vendor::Intel),
    ("Nehalem", Vendor::Intel),
    ("Penryn", Vendor::Intel),
    ("SandyBridge", Vendor::Intel),
    ("SapphireRapids", Vendor::Intel),
    ("Skylake", Vendor::Intel),
    ("Snowridge", Vendor::Intel),
    ("Westmere", Vendor::Intel),
    ("core2duo", Vendor::Intel),
    ("coreduo", Vendor::Intel),
    ("n270", Vendor::Intel),
    ("pentium", Vendor::Intel),
    ("EPYC", Vendor::Amd),
    ("Opteron", Vendor::Amd),
    ("athlon", Vendor::Amd),
    ("phenom", Vendor::Amd),
    ("Dhyana", Vendor::Hygon),
];

/// Models that have no 64-bit mode.
const NARROW: [&str; 10] = ["486", "athlon", "coreduo", "kvm32", "n270", "pentium", "pentium2", "pentium3", "pentiumpro", "qemu32"];

/// Who makes this model. `None` for one whose name says nothing, such as `max`.
pub fn vendor(model: &str) -> Option<Vendor> {
    MAKERS.iter().find(|(start, _)| model.starts_with(start)).map(|(_, vendor)| *vendor)
}

/// Whether the model has a 64-bit mode. One that is not known here is taken to have it.
pub fn is_wide(model: &str) -> bool {
    !NARROW.contains(&model)
}
