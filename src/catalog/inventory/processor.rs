//! Which of QEMU's CPU models stands for a processor.

use super::Processors;
use crate::catalog::hardware::cpu::Vendor;

/// Flags that software asks for and that no model in a virtual machine of the lab shows.
const BARE: [&str; 18] = [
    "vmx", "svm", "sgx", "sgx_lc", "amx_tile", "amx_int8", "amx_bf16", "intel_pt", "sev", "sev_es", "sme", "tme", "hwp", "epb", "cqm",
    "cat_l3", "rdt_a", "smx",
];

/// Who makes a processor, by what it or its seller says.
pub fn vendor(text: &str) -> Option<Vendor> {
    let text = text.to_lowercase();
    let says = |word: &str| text.contains(word);
    match () {
        () if says("hygon") => Some(Vendor::Hygon),
        () if says("authenticamd") || says("advanced micro devices") || says("amd") => Some(Vendor::Amd),
        () if says("intel") => Some(Vendor::Intel),
        () => None,
    }
}

/// The nearest of QEMU's models that is not newer, and whether it is of the very generation. `None` where nothing is known.
pub fn nearest(processors: &Processors) -> Option<(&'static str, bool)> {
    let vendor = processors.vendor?;
    let Some((family, model, stepping)) = processors.signature else { return by_name(vendor, &processors.name) };
    match vendor {
        Vendor::Intel => intel(family, model, stepping),
        Vendor::Amd => amd(family, model),
        Vendor::Hygon => Some(("Dhyana", family == 24)),
    }
}

/// By the name on the box, for inventories that have no numbers.
fn by_name(vendor: Vendor, name: &str) -> Option<(&'static str, bool)> {
    let words: Vec<&str> = name.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    // The first word with a number of at least three digits in it, such as `7402P`, `E5-2630` or `i7-8750H`.
    let digits = |word: &str| {
        word.rsplit('-')
            .next()
            .unwrap_or(word)
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    };
    let (word, number) = words.iter().map(|word| (*word, digits(word))).find(|(_, number)| number.len() >= 3)?;
    let digit = |at: usize| number.as_bytes().get(at).copied().unwrap_or_default();
    let model = match vendor {
        Vendor::Hygon => "Dhyana",
        Vendor::Amd if name.contains("EPYC") => match (digit(0), number.as_bytes().last()) {
            (b'7', Some(b'1')) => "EPYC",
            (b'7', Some(b'2')) => "EPYC-Rome",
            (b'7', Some(b'3')) => "EPYC-Milan",
            _ => return Some(("EPYC-Milan", false)),
        },
        Vendor::Amd if name.contains("Opteron") => match digit(0) {
            b'6' if digit(1) == b'3' => "Opteron_G5",
            b'6' if digit(1) == b'2' => "Opteron_G4",
            _ => "Opteron_G3",
        },
        Vendor::Amd if name.contains("Ryzen") => match digit(0) {
            b'1' | b'2' => "EPYC",
            b'3' | b'4' => "EPYC-Rome",
            b'5' => "EPYC-Milan",
            _ => return Some(("EPYC-Milan", false)),
        },
        Vendor::Amd => return None,
        Vendor::Intel if ["Gold", "Silver", "Platinum", "Bronze"].iter().any(|metal| has(metal)) => match digit(1) {
            b'1' => "Skylake-Server",
            b'2' => "Cascadelake-Server",
            b'3' => "Icelake-Server",
            _ => return Some(("Icelake-Server", false)),
        },
        Vendor::Intel if ["E3-", "E5-", "E7-"].iter().any(|series| word.starts_with(series)) => match () {
            () if has("v5") || has("v6") => "Skylake-Client",
            () if has("v4") => "Broadwell",
            () if has("v3") => "Haswell",
            () if has("v2") => "IvyBridge",
            () => "SandyBridge",
        },
        Vendor::Intel if ["i3-", "i5-", "i7-", "i9-"].iter().any(|series| word.starts_with(series)) => match (number.len(), digit(0)) {
            (3, _) => "Nehalem",
            (4, b'2') => "SandyBridge",
            (4, b'3') => "IvyBridge",
            (4, b'4') => "Haswell",
            (4, b'5') => "Broadwell",
            (4, b'6'..=b'9') | (5, b'1') if number.len() == 4 || digit(1) == b'0' => "Skylake-Client",
            _ => return Some(("Skylake-Client-noTSX-IBRS", false)),
        },
        Vendor::Intel if name.contains("Xeon") && number.len() == 4 => match (digit(0), digit(1)) {
            (b'5', b'6') => "Westmere",
            (b'5', b'5') => "Nehalem",
            (b'5', b'4') => "Penryn",
            _ => return None,
        },
        Vendor::Intel => return None,
    };
    Some((model, true))
}

/// The numbers are those of libvirt's CPU map.
const fn intel(family: u32, model: u32, stepping: u32) -> Option<(&'static str, bool)> {
    Some(match (family, model, stepping) {
        (6, 15 | 22, _) => ("Conroe", true),
        (6, 23 | 29, _) => ("Penryn", true),
        (6, 26 | 30 | 31 | 46, _) => ("Nehalem", true),
        (6, 37 | 44 | 47, _) => ("Westmere", true),
        (6, 42 | 45, _) => ("SandyBridge", true),
        (6, 58 | 62, _) => ("IvyBridge", true),
        (6, 60 | 63 | 69 | 70, _) => ("Haswell", true),
        (6, 61 | 71 | 79 | 86, _) => ("Broadwell", true),
        (6, 78 | 94, _) => ("Skylake-Client", true),
        // Kaby, Coffee, Whiskey and Comet Lake are Skylake's core; later client cores have no model of their own.
        (6, 142 | 158 | 165 | 166, _) => ("Skylake-Client", true),
        (6, 125 | 126 | 140 | 141 | 151 | 154 | 170 | 183 | 186, _) => ("Skylake-Client-noTSX-IBRS", false),
        (6, 85, 0..=4) => ("Skylake-Server", true),
        (6, 85, 5..=9) => ("Cascadelake-Server", true),
        (6, 85, _) => ("Cooperlake", true),
        (6, 106 | 108, _) => ("Icelake-Server", true),
        (6, 143 | 207, _) => ("Icelake-Server", false),
        (6, 134, _) => ("Snowridge", true),
        // QEMU's model bears the numbers of a Pentium 4.
        (15, _, _) => ("kvm64", false),
        (6, 7..=11, _) => ("pentium3", true),
        _ => return None,
    })
}

const fn amd(family: u32, model: u32) -> Option<(&'static str, bool)> {
    Some(match (family, model) {
        (15, _) => ("Opteron_G2", true),
        (16, _) => ("Opteron_G3", true),
        (21, 0 | 1) => ("Opteron_G4", true),
        (21, _) => ("Opteron_G5", true),
        (23, 49 | 71 | 96 | 104 | 113 | 144) => ("EPYC-Rome", true),
        (23, _) => ("EPYC", true),
        (25, 0..=15 | 32..=95) => ("EPYC-Milan", true),
        (25 | 26, _) => ("EPYC-Milan", false),
        _ => return None,
    })
}

/// The flags among these that a guest of the lab does not get to see.
pub fn bare_flags(flags: &[String]) -> Vec<&'static str> {
    BARE.into_iter().filter(|bare| flags.iter().any(|flag| flag.eq_ignore_ascii_case(bare))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_the_same_generation() {
        for (name, signature, model) in [
            ("Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz", (6, 85, 4), "Skylake-Server"),
            ("Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz", (6, 85, 7), "Cascadelake-Server"),
            ("Intel(R) Xeon(R) CPU E5-2630 v4 @ 2.20GHz", (6, 79, 1), "Broadwell"),
            ("Intel(R) Xeon(R) CPU E5-2620 0 @ 2.00GHz", (6, 45, 7), "SandyBridge"),
            ("Intel(R) Xeon(R) CPU           X5650  @ 2.67GHz", (6, 44, 2), "Westmere"),
            ("Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz", (6, 158, 10), "Skylake-Client"),
            ("Intel(R) Core(TM) i5-10210U CPU @ 1.60GHz", (6, 142, 12), "Skylake-Client"),
            ("AMD EPYC 7402P 24-Core Processor", (23, 49, 0), "EPYC-Rome"),
            ("AMD EPYC 7313 16-Core Processor", (25, 1, 1), "EPYC-Milan"),
            ("AMD Ryzen 7 1700 Eight-Core Processor", (23, 1, 1), "EPYC"),
            ("AMD Opteron(tm) Processor 6376", (21, 2, 0), "Opteron_G5"),
        ] {
            let named = Processors { name: name.to_owned(), vendor: vendor(name), ..Processors::default() };
            assert_eq!(nearest(&named), Some((model, true)), "{name}");
            assert_eq!(nearest(&Processors { signature: Some(signature), ..named }), Some((model, true)), "{name}");
        }
        let newer = "12th Gen Intel(R) Core(TM) i7-1260P";
        let named = Processors { name: newer.to_owned(), vendor: vendor(newer), ..Processors::default() };
        assert_eq!(nearest(&named), Some(("Skylake-Client-noTSX-IBRS", false)));
        for nothing in ["", "Common KVM processor", "i7-", "Intel -", "AMD 9é9", "Intel(R) Xeon(R) 99999999999999999999"] {
            let named = Processors { name: nothing.to_owned(), vendor: vendor(nothing), ..Processors::default() };
            assert_eq!(nearest(&named), None, "{nothing}");
        }
    }
}
