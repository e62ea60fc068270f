//! Documents: the template, the features, the plan.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use container::{Order, plan_bundle};
use spec::Spec;

use super::{Complaint, Outcome, print, text};
use crate::invocation::Global;

pub(super) fn write_template(bundle: Option<&Path>, rootless: bool) -> Outcome {
    let host = probe::host()?;
    let mut spec = Spec::template(host.cgroups.unified_only());
    if rootless {
        spec = spec.rootless(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    }
    let path = bundle.unwrap_or(Path::new("")).join("config.json");
    let told = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Complaint::new(format!("spec: {} exists; remove it first", path.display()))
        }
        _ => Complaint::new(format!("spec: write {}: {error}", path.display())),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(told)?;
    file.write_all(spec.to_pretty().as_bytes()).map_err(told)?;
    Ok(0)
}

pub(super) fn features() -> Outcome {
    print(&(probe::features().to_pretty() + "\n"))
}

pub(super) fn plan(global: &Global, bundle: &Path, id: Option<String>, json: bool) -> Outcome {
    let bundle = text(bundle, "plan")?;
    let order = Order {
        id: id.unwrap_or_else(|| "ID".to_owned()),
        bundle: Some(bundle.clone()),
        gated: true,
        systemd: super::systemd(global)?,
        ..Order::default()
    };
    let plan = plan_bundle(&order).map_err(|error| error.while_doing(&format!("plan {bundle}")))?;
    if json {
        let mut text =
            serde_json::to_string_pretty(&plan).map_err(|error| Complaint::new(error.to_string()))?;
        text.push('\n');
        return print(&text);
    }
    print(&plan.to_string())
}
