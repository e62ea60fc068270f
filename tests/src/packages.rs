//! Packages: the program that makes and runs them, and a directory to do that in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Runtime, copy_program};

/// A directory with a key and the files of a small package, removed in the end.
#[derive(Debug)]
pub struct Packages {
    directory: PathBuf,
    /// The id of containers that are run from here; nobody else's.
    pub id: String,
}

impl Packages {
    /// Makes the directory: `root` with busybox in it, `k.key` and `k.pub`, `state`, `data`.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("cdt-package-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = PathBuf::from("/tmp").join(&id);
        let packages = Self { directory, id };
        fs::create_dir_all(packages.path("root/bin")).expect("directories");
        for name in ["state", "data"] {
            fs::create_dir(packages.path(name)).expect("a directory");
        }
        copy_program("/bin/busybox", packages.path("root/bin/busybox"));
        std::os::unix::fs::symlink("busybox", packages.path("root/bin/sh")).expect("a link");
        packages.expect(&["gen-key", "k", "--out", "."]);
        packages
    }

    /// Where the program is: beside the runtime under test.
    pub fn program() -> PathBuf {
        Runtime::under_test().program().with_file_name("cofferctl")
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs the program in the directory.
    pub fn call(&self, arguments: &[&str]) -> Output {
        self.call_by(&[], arguments)
    }

    /// The same by a program that executes the command line appended to it.
    pub fn call_by(&self, launcher: &[&str], arguments: &[&str]) -> Output {
        let program = Self::program();
        let mut words = launcher.iter().map(Path::new).chain([program.as_path()]);
        let mut command = Command::new(words.next().unwrap_or(Path::new("")));
        command.args(words).args(arguments).current_dir(&self.directory).stdin(Stdio::null());
        command.output().expect("run cofferctl")
    }

    /// The same, which must succeed; what it printed.
    #[track_caller]
    pub fn expect(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cofferctl {arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, which must fail with these words.
    #[track_caller]
    pub fn refuse(&self, arguments: &[&str], told: &str) {
        let output = self.call(arguments);
        let line = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && line.contains(told), "cofferctl {arguments:?}: {line}");
    }

    /// Writes a manifest with a script as the program, and packs it, signed: `a.npk`.
    pub fn pack(&self, script: &str, more: &str) {
        let text = format!(
            "name: a\nversion: 1.2.3\ninit: /bin/sh\nargs: [-c, '{script}']\nenv: {{PATH: /bin}}\nuid: 1000\ngid: 1000\n\
             io: {{stdout: inherit, stderr: inherit}}\n{more}"
        );
        fs::write(self.path("a.yaml"), text).expect("a manifest");
        self.expect(&["pack", "-m", "a.yaml", "-r", "root", "-k", "k.key", "-o", "a.npk"]);
    }

    /// Runs `a.npk` with these flags.
    pub fn run(&self, flags: &[&str]) -> Output {
        self.run_by(&[], flags)
    }

    /// The same by a program that executes the command line appended to it.
    pub fn run_by(&self, launcher: &[&str], flags: &[&str]) -> Output {
        let all = [&["run", "a.npk", "--id", &self.id, "--state", "state", "--data", "data"], flags].concat();
        self.call_by(launcher, &all)
    }

    /// What is left of those that were run: loop devices of files here, entries of the state directory, control groups.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir("/sys/block").expect("block devices").flatten() {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if Path::new(file.trim()).starts_with(&self.directory) {
                left.push(format!("{} of {}", entry.path().display(), file.trim()));
            }
        }
        for entry in fs::read_dir(self.path("state")).expect("the state directory").flatten() {
            if entry.file_name() != ".filters" {
                left.push(entry.path().display().to_string());
            }
        }
        let found =
            Command::new("find").args(["/sys/fs/cgroup", "-name", &self.id]).output().expect("run find");
        left.extend(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned));
        left
    }
}

impl Default for Packages {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Packages {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
    }
}
