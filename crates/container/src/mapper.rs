//! Maps for an ordinary user: his own ids by himself, others by the programs that hand them out.

use init::{Manner, run_hook};
use path::Procfs;
use plan::{Hook, Maps, map};
use spec::{IdMapping, State};
use sys::{Doing, Failed, Mask};

/// Who maps the ids of a child.
pub(crate) struct Mapper<'a> {
    pub(crate) pid: i32,
    /// What a program is told that is run for it.
    pub(crate) state: &'a State,
    /// The signal mask of such a program.
    pub(crate) mask: &'a Mask,
}

/// One of the two maps.
struct Kind {
    file: &'static str,
    program: &'static str,
    field: &'static str,
    grants: &'static str,
}

const USERS: Kind =
    Kind { file: "uid_map", program: "newuidmap", field: "linux.uidMappings", grants: "/etc/subuid" };

const GROUPS: Kind =
    Kind { file: "gid_map", program: "newgidmap", field: "linux.gidMappings", grants: "/etc/subgid" };

/// A program that looks up its caller somewhere far away may take long, but not for ever.
const PATIENCE: u64 = 60;

impl Mapper<'_> {
    pub(crate) fn map(&self, maps: &Maps, own_user: bool, own_group: bool) -> Result<(), Failed> {
        if own_user {
            self.write(&USERS, &maps.users)?;
        } else {
            self.ask(&USERS, &maps.users)?;
        }
        if own_group {
            // The kernel lets nobody map a group who could then leave one that is denied something.
            let proc = Procfs::host()?;
            proc.write(&format!("{}/setgroups", self.pid), "deny").doing(|| GROUPS.field)?;
            self.write(&GROUPS, &maps.groups)
        } else {
            self.ask(&GROUPS, &maps.groups)
        }
    }

    fn write(&self, kind: &Kind, map: &[IdMapping]) -> Result<(), Failed> {
        let path = format!("{}/{}", self.pid, kind.file);
        Procfs::host()?.write(&path, &map::lines(map)).doing(|| kind.field)
    }

    /// Runs the program by its absolute path, with no environment.
    fn ask(&self, kind: &Kind, map: &[IdMapping]) -> Result<(), Failed> {
        let Kind { program, field, grants, .. } = kind;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = probe::find(program, &path).and_then(|found| found.into_os_string().into_string().ok());
        let Some(path) = found else {
            let why = format!(
                "{field}: maps more than the caller's own id, and {program} is not in PATH; install uidmap (shadow-utils on Fedora and its kin), or map one id"
            );
            return Err(Failed::refused(why));
        };
        let mut args = vec![(*program).to_owned(), self.pid.to_string()];
        for IdMapping { container_id, host_id, size } in map {
            args.extend([container_id, host_id, size].map(ToString::to_string));
        }
        let hook =
            Hook { field: (*field).to_owned(), path, args, env: Some(Vec::new()), timeout: Some(PATIENCE) };
        run_hook(&hook, self.state, Manner { mask: Some(self.mask), ..Manner::default() })
            .map_err(|failed| Failed::refused(format!("{failed} ({grants} tells what the caller may map)")))
    }
}
