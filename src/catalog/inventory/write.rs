//! A profile as a person would have written it.

use std::fmt::Write;

use toml_edit::Value;

use crate::catalog::hardware::{ClockBase, Hardware, Tpm};

/// The profile's file. What is as by itself is left out.
pub fn toml(hardware: &Hardware) -> String {
    let mut out = String::new();
    let mut say = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{key} = {value}");
    };
    say("title", &text(&hardware.title));
    say("chipset", &word(&hardware.chipset));
    say("firmware", &word(&hardware.firmware));
    if hardware.tpm != Tpm::None {
        say("tpm", &word(&hardware.tpm));
    }
    if let Some(interface) = hardware.tpm_interface {
        say("tpm-interface", &word(&interface));
    }
    say("cpu", &text(&hardware.cpu));
    for (key, number) in [("sockets", hardware.sockets), ("cores", hardware.cores), ("threads", hardware.threads)] {
        if number != 1 {
            say(key, &number);
        }
    }
    say("memory", &text(&hardware.memory.to_string()));
    say("disk", &word(&hardware.disk));
    say("nic", &word(&hardware.nic));
    if hardware.clock != ClockBase::Utc {
        say("clock", &word(&hardware.clock));
    }
    if hardware.second_cold_boot {
        say("second-cold-boot", &true);
    }
    if let Some(smbios) = &hardware.smbios {
        out.push_str("\n[smbios]\n");
        for (key, value) in smbios.texts() {
            let _ = writeln!(out, "{key} = {}", text(value.as_str()));
        }
        if let Some(uuid) = smbios.uuid {
            let _ = writeln!(out, "uuid = \"{uuid}\"");
        }
    }
    for difference in &hardware.differences {
        out.push_str("\n[[differences]]\n");
        for (key, value) in [("device", &difference.device), ("production", &difference.production), ("lab", &difference.lab)] {
            let _ = writeln!(out, "{key} = {}", text(value));
        }
    }
    out
}

fn text(text: &str) -> Value {
    Value::from(text)
}

/// A choice by the word that the files have for it.
fn word(choice: &impl serde::Serialize) -> Value {
    let word = serde_json::to_value(choice).ok();
    Value::from(word.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default())
}
