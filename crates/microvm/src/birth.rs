//! A monitor, or a helper, that is born in its groups: what it touches first is charged there.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use cgroup::{Cgroup, Paths, Systemd, join_self};
use plan::systemd::Held;
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::{Birth, Called, Errno, Failed, Mask, Pidfd, Side, Strings, fork_into, restore_mask};

use crate::{Error, Kind};

/// A program to be executed.
#[derive(Debug)]
pub struct Program {
    /// Its file.
    pub file: CString,
    /// Its arguments, its name first.
    pub arguments: Strings,
    /// Its environment.
    pub environment: Strings,
}

/// A child of ours that waits in its groups to become the program.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: i32,
    pub(crate) process: Pidfd,
    go: OwnedFd,
    said: OwnedFd,
}

/// What the child says first. What it says then is why there is no program.
const JOINED: u8 = b'+';
const REFUSED: u8 = b'-';

/// Bears a child in these groups. Where clone3(2) cannot bear it in its group of the unified tree, it is moved there while it
/// waits, before it is the program: what that touches is charged to its own group all the same.
pub(crate) fn bear(
    places: &Paths,
    unit: Option<&Held>,
    program: &Program,
    mask: &Mask,
) -> Result<Born, Failed> {
    let groups = Cgroup::open(places)?;
    let doors = groups.join_handles()?;
    let unified = groups.unified_dir()?;
    let (waits, go) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
    let (said, says) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
    let birth = |cgroup| fork_into(&Birth { namespaces: 0, cgroup, sibling: false });
    let (side, is_moved) = match birth(unified.as_ref().map(AsFd::as_fd)) {
        Err(failed) if unified.is_some() && may_be_moved(&failed, unit) => (birth(None)?, true),
        born => (born?, false),
    };
    let (pid, process) = match side {
        Side::Child(_) => {
            // Our ends would keep it waiting for itself.
            drop((go, said));
            sys::leave(turn_into(program, doors, &waits, &says, mask))
        }
        Side::Parent(pid, process) => (pid, process),
    };
    drop((waits, says, doors));
    let born = Born { pid, process, go, said };
    let place = || or_by_manager(groups.join_unified(pid), places, unit, pid);
    match born.joined().and_then(|()| if is_moved { place() } else { Ok(()) }) {
        Ok(()) => Ok(born),
        Err(failed) => Err(match born.end() {
            Ok(()) => failed,
            Err(second) => failed.while_doing(&format!("{second}; before that")),
        }),
    }
}

/// The kernel, or a filter around us, does not know birth into a group; or there is no way for a user from here to where his
/// manager has its units.
fn may_be_moved(failed: &Failed, unit: Option<&Held>) -> bool {
    Birth::cgroup_unknown(failed) || (unit.is_some() && failed.errno() == Some(Errno::ACCESS))
}

/// A process that a user could not move into his manager's unit himself is moved by the manager.
pub(crate) fn or_by_manager(
    moved: Result<(), Failed>,
    places: &Paths,
    unit: Option<&Held>,
    pid: i32,
) -> Result<(), Failed> {
    match (moved, unit) {
        (Err(failed), Some(held)) if failed.errno() == Some(Errno::ACCESS) => {
            let below = places.groups.iter().find_map(|group| group.path.split_once(&held.unit));
            let below = below.map(|(_, below)| below).unwrap_or_default();
            Systemd::reach(&held.bus)?.attach(&held.unit, below, pid)
        }
        (moved, _) => moved,
    }
}

/// The child's part: into the groups of v1, which nobody waits for; then it waits for us; then it is the program.
fn turn_into(
    program: &Program,
    doors: Vec<cgroup::Join>,
    waits: &OwnedFd,
    says: &OwnedFd,
    mask: &Mask,
) -> u8 {
    let say = |first: u8, told: &str| {
        let mut text = vec![first];
        text.extend_from_slice(told.as_bytes());
        write(says, &text).is_ok_and(|count| count == text.len())
    };
    if let Err(failed) = join_self(doors) {
        return u8::from(!say(REFUSED, &failed.to_string()));
    }
    if !say(JOINED, "") || !is_let_go(waits) {
        return 1;
    }
    if let Err(failed) = restore_mask(mask) {
        return u8::from(!say(REFUSED, &failed.to_string()));
    }
    let errno = sys::execute(&program.file, &program.arguments, &program.environment);
    u8::from(!say(REFUSED, &Failed::call(format!("execve({:?})", program.file), errno).to_string()))
}

/// Whether the word came, and not the end of whom it should come from.
fn is_let_go(waits: &OwnedFd) -> bool {
    let mut word = [0; 1];
    loop {
        match read(waits, &mut word) {
            Err(Errno::INTR) => {}
            told => return told == Ok(1),
        }
    }
}

impl Born {
    /// Waits until it is in its v1 groups.
    fn joined(&self) -> Result<(), Failed> {
        match self.listen()? {
            None => Err(Failed::refused("it was killed before it was in its groups")),
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(Failed::refused(why)),
        }
    }

    /// Lets it become the program; comes back when it is, or says why it is not.
    pub(crate) fn execute(&self) -> Result<(), Error> {
        match write(&self.go, b"g") {
            Ok(_) | Err(Errno::PIPE) => {}
            Err(errno) => return Err(Failed::call("write(go)", errno).into()),
        }
        match self.listen()? {
            Some(Err(why)) => Err(Error::new(Kind::Program, why)),
            Some(Ok(())) => Err(Failed::refused("the child says twice that it has joined").into()),
            // Closed by execve(2), or by its end, which whoever looks for it finds.
            None => Ok(()),
        }
    }

    /// Kills and reaps it.
    pub(crate) fn end(&self) -> Result<(), Failed> {
        self.process.end()
    }

    /// Its next word; none where it has closed its end.
    fn listen(&self) -> Result<Option<Result<(), String>>, Failed> {
        let mut word = [0; 1024];
        let length = loop {
            match read(&self.said, &mut word) {
                Err(Errno::INTR) => {}
                told => break told.called(|| "read(child)")?,
            }
        };
        Ok(match word.get(..length) {
            Some([JOINED]) => Some(Ok(())),
            Some([REFUSED, why @ ..]) => Some(Err(String::from_utf8_lossy(why).into_owned())),
            _ => None,
        })
    }
}
