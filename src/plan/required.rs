//! From a policy to the plan that the gate wants.

use std::collections::BTreeMap;

use super::build::{NoPlan, Request, SealedImage, plan};
use super::{Plan, PlannedPatch};
use crate::catalog::policy::Require;
use crate::catalog::{Catalog, CustomerEntry};
use crate::id::Name;

/// The cells that must pass for a customer.
///
/// # Errors
/// As for any plan; and that nothing is required.
pub fn required(
    require: &Require,
    customer: &Name,
    catalog: &Catalog,
    images: &BTreeMap<Name, SealedImage>,
    patch: &PlannedPatch,
) -> Result<Plan, Vec<NoPlan>> {
    let request = catalog.customers.get(customer).and_then(|entry| request(require, customer, entry));
    let request = request.ok_or_else(|| vec![NoPlan::Nothing { excluded: Vec::new() }])?;
    plan(&request, catalog, images, patch)
}

/// What a policy asks for; `None` for nothing. A key left out means all that the customer has; in a request it may mean none.
fn request(require: &Require, customer: &Name, entry: &CustomerEntry) -> Option<Request> {
    let builds = require.builds.clone().unwrap_or_else(|| entry.builds.keys().cloned().collect());
    let environments = require.environments.clone().unwrap_or_else(|| entry.environments.keys().cloned().collect());
    (!builds.is_empty() || !environments.is_empty()).then(|| Request {
        customers: vec![customer.clone()],
        builds,
        environments,
        levels: require.levels.clone().unwrap_or_default(),
        hardware: require.hardware.clone().unwrap_or_default(),
        suites: require.suites.clone().unwrap_or_default(),
    })
}
