//! `make install` and `make uninstall`, into a directory of the test's.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Device, Packages, Runtime, Shim, needs};

/// A directory that goes with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the test's directory");
    }
}

/// Runs `make` for a verb of installation, with the programs under test in place of new builds.
fn make(verb: &str, to: &Path) {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("make")
        .args(["--no-print-directory", "--old-file=build", verb, "PREFIX=/usr"])
        .arg(format!("BIN={}", Runtime::under_test().program().display()))
        .arg(format!("SHIM={}", Shim::under_test().program().display()))
        .arg(format!("CTL={}", Packages::program().display()))
        .arg(format!("DAEMON={}", Device::program().display()))
        .arg(format!("DESTDIR={}", to.display()))
        // Flags of the make that runs this test are not for this one.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .current_dir(tree)
        .output()
        .expect("make starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "make {verb}: {}\n{out}\n{err}", output.status);
}

/// All files below a directory, with their modes.
fn files(below: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![below.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("read a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(below).expect("it is below").display();
            let mode = path.metadata().expect("stat a file").permissions().mode() & 0o7777;
            found.push(format!("{mode:o} {name}"));
        }
    }
    found.sort();
    found
}

#[test]
fn root_what_is_installed_is_removed_again() {
    needs!(Bash, Make, Shim, Cofferctl, Cofferdamd);
    let scratch = Scratch(std::env::temp_dir().join(format!("cdt-{}-install", std::process::id())));
    let root = &scratch.0;
    // Somebody else's, in a directory that we use too.
    let other = "usr/share/man/man1/other.1";
    fs::create_dir_all(root.join(other).parent().expect("it has one")).expect("make a directory");
    fs::write(root.join(other), "").expect("write a file");

    make("install", root);
    let mut expected: Vec<String> = [
        "755 usr/bin/cofferctl",
        "755 usr/bin/cofferdam",
        "755 usr/bin/cofferdamd",
        "755 usr/bin/containerd-shim-cofferdam-v2",
        "644 usr/share/bash-completion/completions/cofferctl",
        "644 usr/share/bash-completion/completions/cofferdam",
        "644 usr/lib/systemd/system/cofferdamd.service",
        "644 usr/share/doc/cofferdam/LICENSE",
        "644 usr/share/doc/cofferdam/cofferdamd.toml",
        "644 usr/share/fish/vendor_completions.d/cofferctl.fish",
        "644 usr/share/fish/vendor_completions.d/cofferdam.fish",
        "644 usr/share/man/man1/cofferctl.1",
        "644 usr/share/man/man8/cofferdamd.8",
        "644 usr/share/man/man1/other.1",
        "644 usr/share/zsh/site-functions/_cofferctl",
        "644 usr/share/zsh/site-functions/_cofferdam",
    ]
    .map(str::to_owned)
    .to_vec();
    // A page for the program and one for each command that it tells of.
    let program = root.join("usr/bin/cofferdam");
    let help = Command::new(&program).arg("--help").output().expect("what was installed runs").stdout;
    let help = String::from_utf8(help).expect("help is text");
    let commands = help.lines().skip_while(|line| *line != "Commands:").take_while(|line| *line != "Flags:");
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    expected.extend(names.map(|name| format!("644 usr/share/man/man1/cofferdam-{name}.1")));
    expected.push("644 usr/share/man/man1/cofferdam.1".to_owned());
    expected.sort();
    assert_eq!(files(root), expected);

    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/cofferdamd.service")).expect("the unit");
    assert!(unit.contains("ExecStart=/usr/bin/cofferdamd\n"), "{unit}");

    make("uninstall", root);
    assert_eq!(files(root), [format!("644 {other}")]);
    assert!(!root.join("usr/share/doc/cofferdam").exists());
    // There is nothing to remove, and that is no error.
    make("uninstall", root);
}
