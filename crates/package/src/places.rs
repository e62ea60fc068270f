//! What this host has of what a manifest names, found out or made.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use crate::error::{Error, Kind, shown};
use crate::manifest::{Manifest, Mount, Places};

/// The host's groups, and which of the paths that are bound it has. With `data`, the directory where containers keep
/// theirs, that of this one is made there if it keeps something.
///
/// The rest of [`Places`] is for the caller to know: where the image is, what others lend, which descriptors there are.
pub fn survey(manifest: &Manifest, data: Option<&Path>) -> Result<Places, Error> {
    let mut places = Places { is_spared: is_spared()?, ..Places::default() };
    if !manifest.suppl_groups.is_empty() {
        places.groups = groups()?;
    }
    for mount in manifest.mounts.values() {
        match mount {
            Mount::Bind { host, .. } if Path::new(host).exists() => places.present.push(host.clone()),
            Mount::Persist => places.data = data.map(|data| keep(data, manifest)).transpose()?,
            _ => {}
        }
    }
    Ok(places)
}

/// What every image must have, because every container has its devices there: the directory that this one lacks.
pub fn lacking(rootfs: &Path) -> Option<&'static str> {
    (!rootfs.join("dev").is_dir()).then_some("/dev")
}

/// The directory that outlives the container: for all versions of its name, and for nobody else.
fn keep(data: &Path, manifest: &Manifest) -> Result<String, Error> {
    let absolute = std::path::absolute(data.join(&manifest.name));
    let path = absolute.map_err(|error| Error::on_path("absolute", data, &error))?;
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.map_err(|error| Error::on_path("mkdir", &path, &error))?,
    }
    let told = path.symlink_metadata().map_err(|error| Error::on_path("lstat", &path, &error))?;
    if !told.is_dir() {
        return Err(Error::invalid(format!("{}: is no directory", shown(&path))));
    }
    lchown(&path, Some(manifest.uid.into()), Some(manifest.gid.into()))
        .map_err(|error| Error::on_path("lchown", &path, &error))?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o700))
        .map_err(|error| Error::on_path("chmod", &path, &error))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::new(Kind::Invalid, format!("{}: is not UTF-8", shown(Path::new(&path)))))
}

/// Whether the kernel spares us when memory runs out, as service managers have it spare daemons.
fn is_spared() -> Result<bool, Error> {
    let file = Path::new("/proc/self/oom_score_adj");
    let text = std::fs::read_to_string(file).map_err(|error| Error::on_path("read", file, &error))?;
    Ok(text.starts_with('-'))
}

/// The host's groups by name.
fn groups() -> Result<BTreeMap<String, u32>, Error> {
    let file = Path::new("/etc/group");
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.map_err(|error| Error::on_path("read", file, &error))?,
    };
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    Ok(text.lines().filter_map(entry).collect())
}
