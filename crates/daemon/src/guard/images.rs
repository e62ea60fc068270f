//! What takes its time with packages and images: done by workers.

use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use engine::{Error, Kind, Work};
use package::Manifest;
use package::mount::mount_as;
use package::repository::{Install, Repository};
use path::{Root, open_host};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Advice, CWD, FileType, Mode, OFlags, fadvise, fstat, mkdirat};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use sys::{Called as _, Errno, Failed, Mask};

use super::house::{House, remove_directory};

/// What comes through a pipe is written by pieces of so much.
const PIECE: usize = 1 << 20;

/// How long who reads ahead may take to die, in milliseconds.
const PATIENCE: u32 = 1000;

/// So much of a program is read ahead: what is small whole, of what is large the part that runs first.
const AHEAD: Option<NonZeroU64> = NonZeroU64::new(1 << 20);

/// Verifies a package and mounts its image. A program that is about to run is read from it while its container is made:
/// blocks are unpacked one after the other as somebody waits for them, and meanwhile another processor can.
pub(super) fn mount(
    mask: &Mask,
    house: &House,
    store: &Repository,
    container: &str,
    is_to_run: bool,
) -> Result<Work, Error> {
    let (place, mut kept) = (house.image(container), store.handles(container));
    kept.push(house.lock());
    Work::run_then(mask, &kept, |_| {
        let opened = store.package(container).map_err(refused)?;
        check_label(&opened.manifest)?;
        let mounted = mount_as(&house.devices, house.loops, &opened.package, opened.verity.as_ref());
        let mounted = mounted.map_err(refused)?;
        attach(mounted.mount.as_fd(), &place)?;
        let program = opened.manifest.init.filter(|_| is_to_run);
        Ok((Vec::new(), move || program.map_or(Ok(()), |program| read_ahead(&place, &program))))
    })
}

/// Has the kernel read the beginning of a file of an image. What is no file there is not opened.
fn read_ahead(image: &str, program: &str) -> Result<(), Failed> {
    let root = Root::from(open_host(image, OFlags::PATH | OFlags::DIRECTORY)?);
    let found = root.open(program, OFlags::PATH)?;
    let mode = fstat(&found).called(|| format!("fstat({program:?})"))?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Ok(());
    }
    let file = root.open(program, OFlags::RDONLY)?;
    fadvise(&file, 0, AHEAD, Advice::WillNeed).called(|| format!("posix_fadvise({program:?})"))
}

fn attach(mount: BorrowedFd<'_>, place: &str) -> Result<(), Failed> {
    match mkdirat(CWD, place, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failed::call(format!("mkdir({place:?})"), errno)),
    }
    let moved = move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    moved.called(|| format!("move_mount(image, {place:?})")).map_err(|failed| match remove_directory(place) {
        Ok(()) => failed,
        Err(second) => failed.while_doing(&format!("{second}; before that")),
    })
}

/// A label for all files of an image says something on hosts with SELinux alone, and there it is not done yet.
fn check_label(manifest: &Manifest) -> Result<(), Error> {
    let is_labelled = manifest.selinux.as_ref().is_some_and(|labels| labels.mount_context.is_some());
    if is_labelled && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Error::new(Kind::Invalid, "selinux.mount_context: not done yet on a host with SELinux"));
    }
    Ok(())
}

/// Takes an image's mount away, which nobody of ours uses but who may read ahead.
pub(super) fn umount(
    mask: &Mask,
    house: &House,
    container: &str,
    reader: Option<&Work>,
) -> Result<Work, Error> {
    let place = house.image(container);
    let kept: Vec<BorrowedFd<'_>> = reader.map(|work| work.process().as_fd()).into_iter().collect();
    Work::run(mask, &[&kept[..], &[house.lock()]].concat(), |_| {
        if let Some(reader) = reader {
            reader.end();
            // Killed, it has at most a block to wait for. If that takes longer, the mount is in use still.
            reader.process().wait_exit(Some(PATIENCE))?;
        }
        unmount(place.as_str(), UnmountFlags::NOFOLLOW).called(|| format!("umount({place:?})"))?;
        // It is unmounted, whatever becomes of the place.
        Ok(remove_directory(&place).err().map(|failed| failed.to_string()).into_iter().collect())
    })
}

/// Writes what comes through a pipe, and checks it whole. `install` is then for [`Install::close_forked`].
pub(super) fn receive(mask: &Mask, pipe: &OwnedFd, install: &Install) -> Result<Work, Error> {
    let mut kept = install.handles();
    kept.push(pipe.as_fd());
    Work::run(mask, &kept, |_| {
        let mut install = install.in_fork().map_err(refused)?;
        let mut piece = vec![0; PIECE];
        loop {
            match rustix::io::read(pipe, &mut piece) {
                Ok(0) => break,
                Ok(count) => install.write(piece.get(..count).unwrap_or_default()).map_err(refused)?,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(pipe, PollFlags::IN)], None).called(|| "poll(pipe)")?;
                }
                Err(errno) => return Err(Failed::call("read(pipe)", errno).into()),
            }
        }
        // What is ready now becomes an entry by the one that we work for: it must not go with our copy of it.
        std::mem::forget(install.close(|_| ()).map_err(refused)?);
        Ok(Vec::new())
    })
}

/// A package's failure as a worker tells it.
#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
pub(super) fn refused(error: package::Error) -> Error {
    let kind = match error.kind() {
        package::Kind::Exists => Kind::Exists,
        package::Kind::NotFound => Kind::NotFound,
        package::Kind::Damaged | package::Kind::Invalid | package::Kind::Untrusted => Kind::Invalid,
        _ => Kind::Other,
    };
    Error::new(kind, error.to_string())
}
