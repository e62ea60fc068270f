//! `run`: one package in the foreground, on the engine and without a daemon.
//!
//! The image and the bundle lie in a mount namespace of this process alone: the host never sees them, and the kernel
//! takes them and their devices away when we end, however we end.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use container::{Containers, Order, Throwaway, plan_bundle};
use package::mount::{Mounted, mount as mount_image};
use package::places::{lacking, survey};
use package::{Manifest, Package, Places, PublicKey};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::geteuid;
use sys::{Called as _, Failed};

use crate::{command, told};
use cofferctl::flags::Given;

/// What the directory of a bundle begins with.
const PREFIX: &str = ".package-";

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

    let containers = Containers::under(state.as_str());
    containers.sweep_throwaways(PREFIX).iter().for_each(|warning| crate::warn(warning));
    let place = containers.throwaway(PREFIX, &id).map_err(told)?;
    let outcome = live(&place, &manifest, places, &image, &containers, &id);
    match (outcome, place.remove()) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(failed)) => Err(failed.to_string()),
        (Err(first), Err(failed)) => Err(format!("{first}; then {failed}")),
    }
}

/// From the mounted image to the program's end.
fn live(
    place: &Throwaway,
    manifest: &Manifest,
    mut places: Places,
    image: &Mounted,
    containers: &Containers,
    id: &str,
) -> Result<u8, String> {
    places.rootfs = place.rootfs().to_string_lossy().into_owned();
    attach(image, &places.rootfs).map_err(told)?;
    if let Some(missing) = lacking(Path::new(&places.rootfs)) {
        return Err(format!(
            "{}: the image has no directory {missing}, where every container has its devices",
            manifest.container()
        ));
    }
    let spec = manifest.to_spec(&places).map_err(told)?;
    place.write_config(&spec).map_err(told)?;
    containers.adopt_orphans().map_err(told)?;
    let order = Order { id: id.to_owned(), bundle: Some(place.path().to_owned()), ..Order::default() };
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

/// Puts the image into its place.
fn attach(image: &Mounted, rootfs: &str) -> Result<(), Failed> {
    move_mount(image.mount.as_fd(), "", CWD, rootfs, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .called(|| format!("move_mount(image, {rootfs:?})"))
}
