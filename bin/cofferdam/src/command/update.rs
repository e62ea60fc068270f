//! `update`.

use container::{Containers, read_resources};

use super::{Complaint, Outcome, text};
use crate::invocation::{Limits, Update};
use crate::log::Log;

pub(super) fn update(containers: &Containers, update: &Update, log: &mut Log) -> Outcome {
    let document;
    let limits = match &update.limits {
        Limits::Given(limits) => limits,
        Limits::Document(path) => {
            let path = text(path, "--resources")?;
            document = read_resources(&path).map_err(|error| told(update, error))?;
            &document
        }
    };
    let warnings = containers.update(&update.id, limits).map_err(|error| told(update, error))?;
    for warning in &warnings {
        log.warning(warning);
    }
    Ok(0)
}

fn told(update: &Update, error: container::Error) -> Complaint {
    error.while_doing(&format!("update {}", update.id)).into()
}
