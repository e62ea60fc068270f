//! `run`: one package in the foreground, on the engine and without a daemon.
//!
//! The image and the bundle lie in a mount namespace of this process alone: the host never sees them, and the kernel
//! takes them and their devices away when we end, however we end.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use container::{Containers, Order, Throwaway, plan_bundle};
use package::mount::{Mounted, mount as mount_image};
use package::{Manifest, Mount, Package, Places, PublicKey};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::geteuid;
use sys::{Called as _, Failed};

use crate::command;
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
    let places = places(&manifest, given)?;
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
    if let Some(missing) = missing(&places.rootfs) {
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

fn missing(rootfs: &str) -> Option<&'static str> {
    (!Path::new(rootfs).join("dev").is_dir()).then_some("/dev")
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

/// What this host has of what the manifest names.
fn places(manifest: &Manifest, given: &Given) -> Result<Places, String> {
    let mut places = Places { groups: groups()?, ..Places::default() };
    for mount in manifest.mounts.values() {
        match mount {
            Mount::Bind { host, .. } if Path::new(host).exists() => places.present.push(host.clone()),
            Mount::Persist => {
                if let Some(directory) = given.value("data") {
                    places.data = Some(data(Path::new(directory), manifest)?);
                }
            }
            _ => {}
        }
    }
    Ok(places)
}

/// The directory that persists: the package's own, and nobody else's.
fn data(directory: &Path, manifest: &Manifest) -> Result<String, String> {
    let path = std::path::absolute(directory.join(&manifest.name)).map_err(told)?;
    let in_path = |error: std::io::Error| format!("--data: {}: {error}", path.display());
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.map_err(in_path)?,
    }
    if !path.symlink_metadata().map_err(in_path)?.is_dir() {
        return Err(format!("--data: {}: is no directory", path.display()));
    }
    std::os::unix::fs::lchown(&path, Some(manifest.uid.into()), Some(manifest.gid.into()))
        .map_err(in_path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(in_path)?;
    Ok(path.display().to_string())
}

/// The host's groups by name.
fn groups() -> Result<BTreeMap<String, u32>, String> {
    let text = match std::fs::read_to_string("/etc/group") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.map_err(|error| format!("/etc/group: {error}"))?,
    };
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// Puts the image into its place.
fn attach(image: &Mounted, rootfs: &str) -> Result<(), Failed> {
    move_mount(image.mount.as_fd(), "", CWD, rootfs, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .called(|| format!("move_mount(image, {rootfs:?})"))
}

#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
