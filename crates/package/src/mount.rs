//! A package's image as a mount: by a loop device, and by dm-verity where it was verified.
//!
//! What was verified is what is mounted: the same descriptor is read, and given to the loop device. Later changes of the
//! file are seen by dm-verity as each block is read. Without a device mapper nobody sees them; whoever wants that asks
//! for it, and has the image read whole before.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use sys::{Called as _, Doing as _, Failed, LoopDevice, Mapped};

use crate::erofs;
use crate::error::Error;
use crate::npk::{Package, Verity};
use crate::source::hex;
use crate::verity::BLOCK;

/// How long to try for a loop device, where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// An image that is mounted, and attached nowhere yet. Its devices go with the last mount of it.
#[derive(Debug)]
pub struct Mounted {
    /// The mount, detached.
    pub mount: OwnedFd,
}

/// Mounts a package's image, read-only and without set-user-id. With `verity`, as [`Package::verify`] found it, every
/// block is checked by the kernel as it is read.
pub fn mount(package: &Package<File>, verity: Option<&Verity>) -> Result<Mounted, Error> {
    mount_as("cofferdam-", PATIENCE, package, verity)
}

/// The same; the name of the mapped device, should there be one, begins with `prefix`. Who is killed half-way leaves it
/// behind: [`remove_left`] finds it by that. A loop device is tried for as long as `patience`.
pub fn mount_as(
    prefix: &str,
    patience: Duration,
    package: &Package<File>,
    verity: Option<&Verity>,
) -> Result<Mounted, Error> {
    let image = package.whole_image();
    let data = package.image()?;
    let device = LoopDevice::attach(package.file().as_fd(), image.start, image.end - image.start, patience)?;
    let kind = if erofs::is_one(package.file(), &data)? { "erofs" } else { "squashfs" };
    let Some(verity) = verity else {
        return Ok(Mounted { mount: image_on(device.path(), kind)? });
    };
    let blocks = (data.end - data.start) / BLOCK;
    let mapped = Mapped::create(
        &name(prefix)?,
        "verity",
        blocks * (BLOCK / 512),
        &table(device.path(), blocks, verity),
    )
    .doing(|| "set up dm-verity")?;
    let mount = image_on(&mapped.path(), kind)?;
    // The mount has it open: it goes with that.
    mapped.remove()?;
    Ok(Mounted { mount })
}

/// Removes every mapped device whose name begins with `prefix`, at once or, where somebody has it open, when that ends:
/// their names. Nobody else must be mounting with that prefix.
pub fn remove_left(prefix: &str) -> Result<Vec<String>, Error> {
    let mut names = Mapped::names()?;
    names.retain(|name| name.starts_with(prefix));
    for name in &names {
        Mapped::remove_named(name)?;
    }
    Ok(names)
}

/// The line that dm-verity is told: version, both devices, both sizes of blocks, where the tree begins, and what it is
/// made with.
fn table(device: &str, blocks: u64, verity: &Verity) -> String {
    let salt = if verity.superblock.salt.is_empty() { "-".to_owned() } else { hex(&verity.superblock.salt) };
    let root = hex(&verity.root);
    format!("1 {device} {device} {BLOCK} {BLOCK} {blocks} {} sha256 {root} {salt}", blocks + 1)
}

fn name(prefix: &str) -> Result<String, Error> {
    let mut random = [0; 8];
    crate::key::fill_random(&mut random)?;
    Ok(format!("{prefix}{}", hex(&random)))
}

fn image_on(device: &str, kind: &str) -> Result<OwnedFd, Failed> {
    let mount = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).called(|| format!("fsopen({kind:?})"))?;
        let context = context.as_fd();
        fsconfig_set_string(context, "source", device).called(|| format!("fsconfig(source, {device:?})"))?;
        fsconfig_set_flag(context, "ro").called(|| "fsconfig(ro)")?;
        fsconfig_create(context).called(|| "fsconfig(FSCONFIG_CMD_CREATE)")?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).called(|| "fsmount()")
    };
    mount().doing(|| format!("mount {kind} from {device}"))
}
