//! The root: what is mounted below it, in what order, and what of it is hidden.

use std::collections::BTreeSet;

use spec::{Linux, NamespaceKind, Spec};

use super::namespaces::Namespaces;
use super::{Plan, keyring};
use crate::hook::Moments;
use crate::mount::{self, Mount, Propagation, PropagationKind, Source};
use crate::step::Step;
use crate::{Host, Refused, Request, clean, console, device, label, notify};

impl Plan {
    pub(super) fn build_root(
        &mut self,
        spec: &Spec,
        host: &Host,
        request: &Request,
        namespaces: &Namespaces<'_>,
        moments: &Moments,
    ) -> Result<(), Refused> {
        let empty = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&empty);
        let (detach, afterwards) = root_propagation(linux)?;
        // A new sysfs shows a network namespace, and is for those alone who rule it.
        let is_inside = namespaces.users || host.inner.is_some();
        let or_bind = is_inside && !namespaces.fresh(NamespaceKind::Network);
        let notify = request.notify.as_ref().map(|directory| notify::mount(spec, directory));
        let spec = notify.as_ref().unwrap_or(spec);
        let mounts = mount::compile(spec, &request.bundle, (&host.cgroups, &self.cgroup), or_bind)?;
        let steps = &mut self.steps;
        steps.push(Step::Detach(detach));
        let is_mapped = |step: &Step| matches!(step, Step::Mount(Mount { source: Source::Mapped(_), .. }));
        if namespaces.users || mounts.steps.iter().any(is_mapped) {
            steps.push(Step::Await);
        }
        if namespaces.users {
            // What needs the owner of the host's files has been done: from here on they are somebody else's.
            steps.push(Step::Rule);
            steps.extend(self.manner.keyring(keyring(request, true)));
        }
        steps.push(Step::Root(self.rootfs.clone()));
        let label = label::of_mounts(spec, host)?;
        steps.extend(mounts.steps.into_iter().map(|step| match (step, label) {
            (Step::Mount(mut mount), Some(label)) => {
                label::label(&mut mount, label);
                Step::Mount(mount)
            }
            (step, _) => step,
        }));
        if !mounts.dev_is_bound {
            steps.extend(device::compile(spec, host.has_kcore, is_inside)?);
        }
        // Hooks may bind more into the root: it is whole, not sealed yet, and nothing in it is covered.
        if moments.meets() {
            steps.push(Step::Meet);
            steps.extend(moments.before_root.iter().cloned());
        }
        steps.extend(spec.process.as_ref().and_then(|process| console::step(process, true)));
        steps.push(Step::Directory(self.program.cwd.clone()));
        steps.extend(mounts.seals);
        if spec.root.as_ref().is_some_and(|root| root.readonly) {
            steps.push(Step::SealRoot);
        }
        steps.extend(unique(&linux.readonly_paths).map(Step::ReadOnly));
        if let (Some(label), false) = (label, linux.masked_paths.is_empty()) {
            steps.push(Step::LabelMasks(label.to_owned()));
        }
        steps.extend(unique(&linux.masked_paths).map(Step::Mask));
        steps.push(if request.no_pivot { Step::MoveRoot } else { Step::Pivot });
        steps.extend(afterwards.map(Step::Propagate));
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        steps.extend(named(&spec.hostname).map(Step::Hostname));
        steps.extend(named(&spec.domainname).map(Step::Domainname));
        Ok(())
    }
}

/// What the copied host's mounts become, and what `/` becomes inside.
///
/// Nothing that the container mounts reaches the host, unless it was asked for: then the host's mounts stay shared.
fn root_propagation(linux: &Linux) -> Result<(Propagation, Option<Propagation>), Refused> {
    let slave = Propagation { kind: PropagationKind::Slave, recursive: true };
    let Some(name) = linux.rootfs_propagation.as_deref().filter(|name| !name.is_empty()) else {
        return Ok((slave, None));
    };
    let asked = Propagation::named(name).ok_or_else(|| {
        let known = "private, shared, slave or unbindable, or one of these with an r before it";
        Refused::new("linux.rootfsPropagation", format!("{name:?} is not one of {known}"))
    })?;
    let everywhere = Propagation { recursive: true, ..asked };
    Ok(match asked.kind {
        PropagationKind::Slave | PropagationKind::Private => (everywhere, None),
        PropagationKind::Shared => (everywhere, Some(asked)),
        PropagationKind::Unbindable => {
            (Propagation { kind: PropagationKind::Private, recursive: true }, Some(asked))
        }
    })
}

/// Each path once, in the order in which they come. A document may list a million: looking through those before for each
/// would take hours.
fn unique(paths: &[String]) -> impl Iterator<Item = String> {
    let mut seen = BTreeSet::new();
    paths.iter().map(|path| clean::absolute(path)).filter(move |path| seen.insert(path.clone()))
}
