//! A root file system from what the host has: its programs, read-only, and a little of its /etc, copied.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use spec::Mount;
use sys::Failed;

use super::document::bind;

/// Directories of its own, with the mode of each.
const OWN: [(&str, u32); 16] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// What programs read below /etc: the loader's and the name service's files, users and groups, the links by which
/// Debian chooses programs, certificates, and what su and shells want. Missing ones are not missed.
const COPIED: [&str; 28] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "environment",
    "group",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld-musl-x86_64.path",
    "ld-musl-aarch64.path",
    "localtime",
    "login.defs",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pam.d",
    "passwd",
    "pki/ca-trust",
    "pki/tls/certs",
    "profile",
    "protocols",
    "security",
    "services",
    "shells",
    "ssl/certs",
];

/// Fills an empty directory; the mounts that belong on top.
pub(super) fn build(rootfs: &Path, hostname: &str) -> Result<Vec<Mount>, Failed> {
    for (name, mode) in OWN {
        make(&rootfs.join(name), mode)?;
    }
    let mut mounts = if Path::new("/usr").is_dir() { read_only("/usr", "/usr")? } else { Vec::new() };
    for name in programs()? {
        let path = Path::new("/").join(&name);
        let kind = told(&path, "lstat", fs::symlink_metadata(&path))?;
        if kind.is_symlink() {
            let to = told(&path, "readlink", fs::read_link(&path))?;
            link(&to, &rootfs.join(&name))?;
        } else if kind.is_dir() {
            make(&rootfs.join(&name), 0o755)?;
            mounts.extend(read_only(&path.display().to_string(), &path.display().to_string())?);
        }
    }
    let etc = rootfs.join("etc");
    for name in COPIED {
        copy(&Path::new("/etc").join(name), &etc.join(name))?;
    }
    let hosts = format!("127.0.0.1 localhost {hostname}\n::1 localhost\n");
    for (name, text) in [("hostname", format!("{hostname}\n")), ("hosts", hosts)] {
        write(&etc.join(name), text.as_bytes(), 0o644)?;
    }
    // Passwords stay where they are; that nobody has one here is what su and passwd are told.
    let passwd = fs::read_to_string(etc.join("passwd")).unwrap_or_default();
    let shadow: String = passwd.lines().filter_map(|line| line.split(':').next()).map(locked).collect();
    write(&etc.join("shadow"), shadow.as_bytes(), 0o600)?;
    Ok(mounts)
}

fn locked(user: &str) -> String {
    format!("{user}:*:::::::\n")
}

/// Where programs and libraries are beside /usr: `bin`, `sbin`, `lib`, `lib64` and their kin.
fn programs() -> Result<Vec<String>, Failed> {
    let root = Path::new("/");
    let mut names = Vec::new();
    for entry in told(root, "open", fs::read_dir(root))? {
        let Ok(name) = told(root, "getdents", entry)?.file_name().into_string() else { continue };
        if name == "bin" || name == "sbin" || name.starts_with("lib") && name != "libexec" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A path of the host and each mount below it, all read-only. One recursive bind would leave those below as they are:
/// writable.
pub(super) fn read_only(source: &str, target: &str) -> Result<Vec<Mount>, Failed> {
    let table = probe::read_text("/proc/self/mountinfo")?;
    let mut below: Vec<String> = path::mount_points(&table)
        .filter_map(|point| String::from_utf8(point).ok())
        .filter(|point| point.strip_prefix(source).is_some_and(|rest| rest.starts_with('/')))
        .collect();
    // Parents come before their children, and of two on one point only the upper is seen.
    below.sort();
    below.dedup();
    let whole = std::iter::once(source.to_owned()).chain(below);
    let options = ["bind", "ro", "nodev", "rprivate"];
    Ok(whole
        .map(|point| {
            let place = format!("{target}{}", point.strip_prefix(source).unwrap_or_default());
            bind(&point, &place, &options)
        })
        .collect())
}

/// Copies what everybody on the host may read, and nothing else: no key, no password.
fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    let Some(kind) = found(from, fs::metadata(from))? else { return Ok(()) };
    if let Some(above) = to.parent() {
        make_all(above)?;
    }
    if kind.is_dir() { copy_tree(from, to, &kind) } else { copy_file(from, to, &kind) }
}

fn copy_tree(from: &Path, to: &Path, kind: &Metadata) -> Result<(), Failed> {
    if kind.permissions().mode() & 0o005 != 0o005 {
        return Ok(());
    }
    make_all(to)?;
    for entry in told(from, "open", fs::read_dir(from))? {
        let name = told(from, "getdents", entry)?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        let Some(kind) = found(&from, fs::symlink_metadata(&from))? else { continue };
        if kind.is_symlink() {
            link(&told(&from, "readlink", fs::read_link(&from))?, &to)?;
        } else if kind.is_dir() {
            copy_tree(&from, &to, &kind)?;
        } else {
            copy_file(&from, &to, &kind)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, kind: &Metadata) -> Result<(), Failed> {
    let mode = kind.permissions().mode();
    if !kind.is_file() || mode & 0o004 == 0 {
        return Ok(());
    }
    let Some(bytes) = found(from, fs::read(from))? else { return Ok(()) };
    write(to, &bytes, mode & 0o755)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failed> {
    told(path, "write", fs::write(path, bytes))?;
    told(path, "chmod", fs::set_permissions(path, Permissions::from_mode(mode)))
}

/// The mode is set apart: our own mask is not the container's.
fn make(path: &Path, mode: u32) -> Result<(), Failed> {
    told(path, "mkdir", fs::create_dir(path))?;
    told(path, "chmod", fs::set_permissions(path, Permissions::from_mode(mode)))
}

fn make_all(path: &Path) -> Result<(), Failed> {
    told(path, "mkdir", DirBuilder::new().recursive(true).mode(0o755).create(path))
}

fn link(to: &Path, path: &Path) -> Result<(), Failed> {
    told(path, "symlink", symlink(to, path))
}

/// What is not there is no error.
fn found<T>(path: &Path, outcome: std::io::Result<T>) -> Result<Option<T>, Failed> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        outcome => told(path, "open", outcome).map(Some),
    }
}

fn told<T>(path: &Path, call: &str, outcome: std::io::Result<T>) -> Result<T, Failed> {
    outcome.map_err(|error| Failed::refused(format!("try: {call}(\"{}\"): {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_directory_is_one_mount() {
        let mounts = read_only("/nowhere/at/all", "/b").map(|mounts| mounts.len());
        assert_eq!(mounts, Ok(1));
    }
}
