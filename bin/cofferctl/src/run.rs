//! `run`: one package in the foreground, on the engine and without a daemon.
//!
//! The image and the bundle lie in a mount namespace of this process alone: the host never sees them, and the kernel
//! takes them and their devices away when we end, however we end.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use container::{Containers, Order, plan_bundle};
use package::mount::{Mounted, mount as mount_image};
use package::places::{lacking, survey};
use package::{Manifest, Package, Places, PublicKey};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat};
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};
use rustix::process::{chdir, geteuid};
use state::Store;
use sys::{Called as _, Errno, Failed};

use crate::{command, told};
use cofferctl::flags::Given;

/// Runs; the program's exit status.
pub(crate) fn run(given: &Given) -> Result<u8, String> {
    sys::seal().map_err(told)?;
    if !geteuid().is_root() {
        return Err(
            "loop devices and images are root's to mount; a bundle runs without: cofferdam run".to_owned()
        );
    }
    let (path, package) = command::open(given)?;
    let name = path.display().to_string();
    let manifest = Manifest::read(&format!("{name}: manifest.yaml"), package.manifest()).map_err(told)?;
    let id = given.value("id").map_or(manifest.name.clone(), |id| id.to_string_lossy().into_owned());
    let state = given.value("state").map_or(PathBuf::from("/run/cofferdam"), PathBuf::from);
    let state = std::path::absolute(state).map_err(told)?.to_string_lossy().into_owned();
    let places = survey(&manifest, given.value("data").map(Path::new))
        .map_err(|error| format!("what {} asks of the host: {error}", manifest.container()))?;
    let image = image(given, &package).map_err(|error| format!("{name}: {error}"))?;

    Store::provide(&state, false).map_err(told)?;
    let place = Place::make(&state, &id).map_err(told)?;
    let outcome = live(&place, &manifest, places, &image, &Containers::under(state.as_str()), &id);
    match (outcome, place.remove()) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(failed)) => Err(failed.to_string()),
        (Err(first), Err(failed)) => Err(format!("{first}; then {failed}")),
    }
}

/// From the mounted image to the program's end.
fn live(
    place: &Place,
    manifest: &Manifest,
    mut places: Places,
    image: &Mounted,
    containers: &Containers,
    id: &str,
) -> Result<u8, String> {
    places.rootfs = place.attach(image).map_err(told)?;
    if let Some(missing) = lacking(Path::new(&places.rootfs)) {
        return Err(format!(
            "{}: the image has no directory {missing}, where every container has its devices",
            manifest.container()
        ));
    }
    let spec = manifest.to_spec(&places).map_err(told)?;
    place.write_config(&spec.to_pretty())?;
    containers.adopt_orphans().map_err(told)?;
    let order = Order { id: id.to_owned(), bundle: Some(place.path.clone()), ..Order::default() };
    let plan = plan_bundle(&order).map_err(told)?;
    let mut created = containers.create(&plan).map_err(told)?;
    let exit = containers.supervise(&mut created);
    let removed = containers.delete(id, true);
    let code = exit.map_err(told)?.code();
    removed.map_err(told)?;
    Ok(code)
}

/// The image, mounted as safely as was asked for and this host can.
fn image(given: &Given, package: &Package<File>) -> Result<Mounted, String> {
    let is_checked = given.value("check").is_some();
    let Some(key) = given.value("key") else {
        crate::warn(command::UNASKED);
        if is_checked {
            package.check(|_| ()).map_err(told)?;
        }
        return mount_image(package, None).map_err(told);
    };
    let key = PublicKey::read(Path::new(key)).map_err(told)?;
    let verity = package.verify(&key).map_err(told)?;
    if is_checked && !has_device_mapper() {
        package.check(|_| ()).map_err(told)?;
        return mount_image(package, None).map_err(told);
    }
    mount_image(package, Some(&verity)).map_err(|error| {
        let hint =
            if has_device_mapper() { "" } else { "; with --check the whole image is read once instead" };
        format!("{error}{hint}")
    })
}

fn has_device_mapper() -> bool {
    Path::new("/dev/mapper/control").exists()
}

/// The bundle's directory below the state root, covered by a tmpfs that only this process sees. Its lock is held as long
/// as this lives.
struct Place {
    path: String,
    _lock: OwnedFd,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Place {
    fn make(root: &str, id: &str) -> Result<Self, Failed> {
        if id.contains('/') || id.len() > 200 {
            return Err(Failed::refused(format!("--id: {id:?} is no name for a container")));
        }
        let path = format!("{root}/.package-{id}");
        let place = Self { _lock: claim(&path)?, path };
        match place.cover() {
            Ok(()) => Ok(place),
            Err(failed) => match place.remove() {
                Ok(()) => Err(failed),
                Err(second) => Err(failed.while_doing(&format!("{second}; before that"))),
            },
        }
    }

    fn cover(&self) -> Result<(), Failed> {
        sys::unshare_mounts()?;
        let path = self.path.as_str();
        mount("cofferdam", path, "tmpfs", MountFlags::empty(), c"mode=0700,size=1m")
            .called(|| format!("mount(\"tmpfs\", {path:?})"))
    }

    /// Puts the image into its place; the path.
    fn attach(&self, image: &Mounted) -> Result<String, Failed> {
        let rootfs = format!("{}/rootfs", self.path);
        mkdirat(CWD, rootfs.as_str(), Mode::from_raw_mode(0o755)).called(|| format!("mkdir({rootfs:?})"))?;
        move_mount(image.mount.as_fd(), "", CWD, rootfs.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .called(|| format!("move_mount(image, {rootfs:?})"))?;
        Ok(rootfs)
    }

    fn write_config(&self, text: &str) -> Result<(), String> {
        let path = format!("{}/config.json", self.path);
        std::fs::write(&path, text).map_err(|error| format!("write {path}: {error}"))
    }

    fn remove(self) -> Result<(), Failed> {
        // The plan went into the bundle.
        chdir("/").called(|| "chdir(\"/\")")?;
        match unmount(self.path.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It was never mounted.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Failed::call(format!("umount({:?})", self.path), errno)),
        }
        match unlinkat(CWD, self.path.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Failed::call(format!("rmdir({:?})", self.path), errno)),
        }
    }
}

/// Makes the directory, or takes over one whose maker was killed, and locks it.
fn claim(path: &str) -> Result<OwnedFd, Failed> {
    match mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failed::call(format!("mkdir({path:?})"), errno)),
    }
    let lock = openat(CWD, path, DIRECTORY, Mode::empty()).called(|| format!("open({path:?})"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Failed::refused("a package is being run under this id already")),
        locked => locked.map(|()| lock).called(|| format!("flock({path:?})")),
    }
}
