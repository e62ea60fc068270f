//! The Debian root file system that tests run containers from: made once, outside the repository, never written to.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Its path. Makes it first if it is not there, which takes a minute and the network.
pub fn rootfs() -> PathBuf {
    let output = script(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path_in(&output.stdout)
}

/// Why there can be none on this host; none if there is one, or one can be tried.
pub(crate) fn lacking() -> Option<String> {
    let path = path_in(&script(&["--path"]).stdout);
    let tool = crate::Runtime::find("debootstrap").is_some();
    (!path.is_dir() && !tool)
        .then(|| format!("no Debian root file system at {}, no debootstrap to make it", path.display()))
}

fn script(args: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../script/debian-rootfs");
    Command::new(&script).args(args).output().expect("run script/debian-rootfs")
}

fn path_in(stdout: &[u8]) -> PathBuf {
    let told = String::from_utf8_lossy(stdout);
    PathBuf::from(told.trim_end())
}
