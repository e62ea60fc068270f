//! The forerunner: joins what is there already, bears init as its own parent's child, and ends.
//!
//! What a user namespace owns must be made by somebody who lives in it, and what others own must be joined by somebody
//! who has rights over it still: for both, one process goes before init.

use plan::Walk;
use sys::{Birth, Doing, Failed, Newborn, Side, fork_into};

use crate::{Child, Inherited, Report, run};

/// Walks the forerunner's part of a plan, and bears init in new namespaces ([`sys::namespace`] bits). Comes back with the
/// exit status: of the forerunner, or of an init that could not become the program.
pub fn forerun(
    before: &Walk<'_>,
    plan: &Walk<'_>,
    namespaces: u64,
    newborn: Newborn,
    inherited: Inherited,
    birth: &Report,
) -> u8 {
    let kept = inherited.keep_only(&newborn, plan.preserve_fds, Some(birth));
    let mut child = Child::new(before, newborn, inherited);
    let borne = kept.and_then(|()| child.walk()).and_then(|()| bear(namespaces, birth));
    match borne {
        Ok(Some(newborn)) => run(plan, newborn, child.inherited),
        Ok(None) => 0,
        Err(failed) => {
            birth.failed(&failed);
            1
        }
    }
}

fn bear(namespaces: u64, birth: &Report) -> Result<Option<Newborn>, Failed> {
    match fork_into(&Birth { namespaces, cgroup: None, sibling: true }).doing(|| "bear init")? {
        Side::Child(newborn) => Ok(Some(newborn)),
        Side::Parent(pid, process) => birth.bore(pid, &process).map(|()| None),
    }
}
