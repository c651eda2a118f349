//! `patchlab check`.

use std::path::Path;

use super::args::{Check, Format};
use super::error::{Exit, Failure};
use super::print;
use crate::catalog::load::load;
use crate::catalog::schema;
use crate::report::text::count;

/// Reads the whole catalog and reports every mistake in it.
pub fn check(lab: &Path, verb: &Check) -> Result<Exit, Failure> {
    if let Some(folder) = &verb.write_schemas {
        for (name, text) in schema::all() {
            super::output::write(&folder.join(name), &text)?;
        }
        return Ok(Exit::Pass);
    }
    if !lab.is_dir() {
        return Err(Failure::usage(format!("the lab's folder {} is not there; name it with --lab", lab.display())));
    }
    let loading = load(lab);
    match verb.answer.format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&loading.diagnostics).map_err(Failure::lab)?))?,
        Format::Human => {
            for diagnostic in &loading.diagnostics {
                print(&format!("{diagnostic}\n\n"))?;
            }
            if let Some(catalog) = &loading.catalog {
                let customers = || catalog.customers.values();
                let parts = [
                    count(catalog.customers.len(), "customer"),
                    count(customers().map(|customer| customer.builds.len()).sum(), "build"),
                    count(customers().map(|customer| customer.environments.len()).sum(), "environment"),
                    count(catalog.hardware.len(), "hardware profile"),
                    count(catalog.images.len(), "image"),
                    count(catalog.suites.len(), "suite"),
                ];
                print(&format!("the catalog is sound: {}\n", parts.join(", ")))?;
            }
        }
    }
    let mistakes = loading.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    if mistakes == 0 {
        Ok(Exit::Pass)
    } else {
        Err(Failure::usage(format!("{mistakes} {} in the catalog", if mistakes == 1 { "mistake" } else { "mistakes" })))
    }
}
