//! An ordinary user: somebody by a number, without a right over the host.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Bundle, Container, Invocation, Output, Runtime, copy_program};

/// Nobody that this host knows.
pub const USER: u32 = 61_001;

/// The ordinary user of the virtual machine, whose service manager runs without a login.
pub const GUEST_USER: u32 = 1000;

/// What runs a command as [`GUEST_USER`].
pub const AS_GUEST_USER: [&str; 6] =
    ["env", "XDG_RUNTIME_DIR=/run/user/1000", "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];

/// A bundle of the user's own, a runtime that he may execute, and a runtime directory.
#[derive(Debug)]
pub struct Home {
    /// The bundle.
    pub bundle: Bundle,
    program: PathBuf,
}

impl Home {
    /// With the default configuration, as `spec --rootless` changes it. `name` is for people.
    pub fn new(name: &str) -> Self {
        Self::of(Bundle::new(name))
    }

    fn of(bundle: Bundle) -> Self {
        let bundle = bundle.given_to(USER).edit(|config| {
            let linux = &mut config["linux"];
            let list = linux["namespaces"].as_array_mut().expect("a list");
            list.retain(|one| one["type"] != "network");
            list.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
            linux.as_object_mut().expect("an object").remove("resources");
            linux.as_object_mut().expect("an object").remove("cgroupsPath");
            for mount in config["mounts"].as_array_mut().expect("a list") {
                if let Some(options) = mount["options"].as_array_mut() {
                    options
                        .retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
                }
            }
        });
        let program = bundle.dir().join("cofferdam");
        copy_program(Runtime::under_test().program(), &program);
        let home = Self { bundle, program };
        for directory in [home.runtime_directory(), home.bundle.state_root()] {
            fs::create_dir(&directory).expect("make a directory");
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("close it");
            chown(&directory, Some(USER), Some(USER)).expect("give it away");
        }
        home
    }

    /// Changes the configuration.
    #[must_use]
    pub fn edit(self, change: impl FnOnce(&mut Value)) -> Self {
        Self { bundle: self.bundle.edit(change), ..self }
    }

    /// A line for the shell to run.
    #[must_use]
    pub fn shell(self, line: &str) -> Self {
        Self { bundle: self.bundle.shell(line), ..self }
    }

    /// The program and its arguments.
    #[must_use]
    pub fn args(self, args: &[&str]) -> Self {
        Self { bundle: self.bundle.args(args), ..self }
    }

    /// The copy of the runtime, which is root's.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// `$XDG_RUNTIME_DIR`.
    pub fn runtime_directory(&self) -> PathBuf {
        self.bundle.dir().join("runtime")
    }

    /// The container, by the copy of the runtime.
    pub fn container(&self) -> Container<'_> {
        self.bundle.container(&Runtime::at(&self.program))
    }

    /// How the user runs something.
    pub fn as_user(&self) -> Vec<String> {
        let runtime = format!("XDG_RUNTIME_DIR={}", self.runtime_directory().display());
        let user = format!("--reuid={USER}");
        let group = format!("--regid={USER}");
        ["env", &runtime, "setpriv", &user, &group, "--clear-groups"].map(str::to_owned).to_vec()
    }

    /// A command that the user runs.
    pub fn command<'a>(&'a self, container: &Container<'a>, words: &[&str]) -> Invocation<'a> {
        container.command(words).launched_by(&self.as_user())
    }

    /// `run` in the foreground.
    pub fn run(&self) -> Output {
        self.command(&self.container(), &["run", "--bundle", "BUNDLE", "ID"]).run()
    }
}

/// What a container's groups are below, made by the test and given to the user, in every hierarchy.
#[derive(Debug)]
pub struct Delegated {
    /// One in each hierarchy, the unified one last.
    pub paths: Vec<PathBuf>,
}

impl Delegated {
    /// Makes them, by this name at the top of each hierarchy.
    pub fn to_user(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let below = fs::read_dir(root).expect("control groups").map(|entry| entry.expect("an entry").path());
        let is_v2 = root.join("cgroup.procs").exists();
        let mut mounts: Vec<PathBuf> = if is_v2 { vec![root.to_owned()] } else { below.collect() };
        mounts.retain(|mount| !mount.is_symlink() && mount.join("cgroup.procs").exists());
        // The unified tree comes last.
        mounts.sort_by_key(|mount| mount.join("cgroup.subtree_control").exists());
        let mut paths = Vec::new();
        for mount in &mounts {
            let path = mount.join(name);
            fs::create_dir_all(path.join("launcher")).expect("make a group");
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read_to_string(mount.join(file)) {
                    fs::write(path.join(file), all.trim()).expect("give it CPUs and memory");
                }
            }
            for entry in ["", "cgroup.procs", "tasks", "cgroup.subtree_control", "launcher/cgroup.procs"] {
                if path.join(entry).exists() {
                    chown(path.join(entry), Some(USER), Some(USER)).expect("give it away");
                }
            }
            paths.push(path);
        }
        Self { paths }
    }

    /// Moves whoever runs what follows into the user's part of the unified tree: nobody goes from one part to another
    /// who may not write where both begin.
    pub fn launcher(&self) -> Vec<String> {
        let unified = self.paths.last().expect("there is a hierarchy").join("launcher/cgroup.procs");
        let script = format!("echo $$ >{} && exec \"$@\"", unified.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for path in &self.paths {
            for path in [path.join("launcher"), path.clone()] {
                // The bundle tells of what is left.
                let _left = fs::remove_dir(path);
            }
        }
    }
}
