//! The engine as the doors see it: a task, and what can be asked of it.
//!
//! Touches: through the rooms below, what they touch; and mounts on a bundle's `rootfs`.
//! Never:   waits: what may block is done by a worker, a fork of its caller's process that executes nothing and has one
//!          thread, and is heard through a descriptor.
//! Begin with [`Task`].
//!
//! Who calls has one thread, or the fork is refused (`sys::fork`), and blocks all signals. Its worker's children are its
//! own: it hears of their exit by the pidfd that comes with [`Word::Born`], and reaps them.

mod error;
mod here;
mod layers;
mod task;
mod work;

pub use container::{Event, Events, Statistics, Strain, Watched, metrics};
pub use error::{Error, Kind};
pub use here::Here;
pub use layers::{Layer, detach as detach_rootfs, is_mounted};
pub use task::{Create, Exec, Streams, Task};
pub use work::{Bench, Word, Work};

use rustix::fs::{AtFlags, CWD, Mode, mkdirat, unlinkat};
use sys::{Errno, Failed};

/// The ids of all containers below a state root, in order; those too that nobody has finished making.
pub fn containers(root: &str) -> Result<Vec<String>, Error> {
    let all = container::Containers::under(root).all()?;
    Ok(all.into_iter().map(|(id, ..)| id).collect())
}

/// Makes a control group that a door wants above its containers', in every hierarchy. Where that cannot be, a container is
/// made all the same, or says why not.
pub fn provide_group(path: &str) -> Result<(), Failed> {
    for group in groups_called(path)? {
        match mkdirat(CWD, group.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST | Errno::NOENT | Errno::PERM | Errno::ACCESS | Errno::ROFS) => {}
            Err(errno) => return Err(Failed::call(format!("mkdir({group:?})"), errno)),
        }
    }
    Ok(())
}

/// Its directory in every hierarchy.
fn groups_called(path: &str) -> Result<Vec<String>, Failed> {
    let cgroups = probe::host()?.cgroups;
    let mounts = cgroups.hierarchies.iter().map(|hierarchy| &hierarchy.mount);
    let mounts = mounts.chain(cgroups.unified.as_ref().map(|unified| &unified.mount));
    Ok(mounts.map(|mount| format!("{mount}/{}", path.trim_matches('/'))).collect())
}

/// Removes a control group that a door had above its containers', in every hierarchy, where nobody uses it any more.
pub fn remove_group(path: &str) -> Result<(), Failed> {
    for group in groups_called(path)? {
        match unlinkat(CWD, group.as_str(), AtFlags::REMOVEDIR) {
            // Somebody else has put something there, or nobody was ever there.
            Ok(()) | Err(Errno::BUSY | Errno::NOTEMPTY | Errno::NOENT) => {}
            Err(errno) => return Err(Failed::call(format!("rmdir({group:?})"), errno)),
        }
    }
    Ok(())
}

/// The features document of this build on this kernel, JSON.
pub fn features() -> String {
    probe::features().to_pretty()
}
