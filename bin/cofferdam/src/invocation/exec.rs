//! What `exec` needs: a process, by document or by flags.

use std::ffi::OsString;
use std::path::PathBuf;

use super::attempt::{variable, whole};
use super::preserved;
use crate::flags::{Given, Misuse, text};

/// What `exec` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The container.
    pub id: String,
    /// The document that the process is in; the bundle's config.json where there is none.
    pub process: Option<PathBuf>,
    /// Program and arguments; those of the document where there are none.
    pub command: Vec<String>,
    /// Do not wait for the process.
    pub detach: bool,
    /// The working directory.
    pub cwd: Option<String>,
    /// More variables.
    pub env: Vec<String>,
    /// The user.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// The AppArmor profile.
    pub apparmor: Option<String>,
    /// The SELinux label.
    pub process_label: Option<String>,
    /// More capabilities.
    pub capabilities: Vec<String>,
    /// No gain of privileges, or the contrary.
    pub no_new_privileges: Option<bool>,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors are handed on.
    pub preserve_fds: u32,
    /// Control groups below the container's.
    pub cgroups: Vec<String>,
    /// Also in a paused container.
    pub ignore_paused: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Who is sent the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// Who is sent a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
}

impl Exec {
    pub(super) fn of(
        given: &Given,
        id: String,
        words: impl Iterator<Item = OsString>,
    ) -> Result<Self, Misuse> {
        let (uid, gid) = given.text("user").map(user).transpose()?.unwrap_or_default();
        let exec = Self {
            id,
            process: given.path("process"),
            command: words.map(text).collect::<Result<_, _>>()?,
            detach: given.is_on("detach"),
            cwd: given.text("cwd").filter(|cwd| !cwd.is_empty()).map(absolute).transpose()?,
            env: given.texts("env").map(variable).collect::<Result<_, _>>()?,
            uid,
            gid,
            additional_gids: given.numbers("additional-gids").map(group).collect::<Result<_, _>>()?,
            apparmor: given.text("apparmor").map(str::to_owned),
            process_label: given.text("process-label").map(str::to_owned),
            capabilities: given.texts("cap").map(str::to_owned).collect(),
            no_new_privileges: given.switch("no-new-privs"),
            pid_file: given.path("pid-file"),
            preserve_fds: preserved(given)?,
            cgroups: given.texts("cgroup").map(str::to_owned).collect(),
            ignore_paused: given.is_on("ignore-paused"),
            tty: given.is_on("tty"),
            console_socket: given.path("console-socket"),
            pidfd_socket: given.path("pidfd-socket"),
        };
        if exec.process.is_none() && exec.command.is_empty() {
            return Err(Misuse::new("process args cannot be empty"));
        }
        Ok(exec)
    }
}

/// Numbers, whole: a name, a sign or a blank would make somebody else of it (CVE-2026-30892).
fn user(who: &str) -> Result<(Option<u32>, Option<u32>), Misuse> {
    let refused = || Misuse::new(format!("--user: {who:?} is not UID[:GID], in numbers"));
    // The highest number is the kernel's "no change".
    let id =
        |text: &str| whole::<u32>(text).filter(|id| !text.is_empty() && *id != u32::MAX).ok_or_else(refused);
    match who.split_once(':') {
        Some((user, group)) => Ok((Some(id(user)?), Some(id(group)?))),
        None => Ok((Some(id(who)?), None)),
    }
}

fn group(gid: i64) -> Result<u32, Misuse> {
    let gid_told = || Misuse::new(format!("--additional-gids: {gid} is no group"));
    u32::try_from(gid).ok().filter(|gid| *gid != u32::MAX).ok_or_else(gid_told)
}

fn absolute(cwd: &str) -> Result<String, Misuse> {
    if cwd.starts_with('/') {
        Ok(cwd.to_owned())
    } else {
        Err(Misuse::new(format!("--cwd: {cwd:?} is not absolute")))
    }
}

#[cfg(test)]
mod tests {
    use super::{group, user};

    #[test]
    fn a_user_is_whole_numbers_or_refused() {
        assert_eq!(user("33"), Ok((Some(33), None)));
        assert_eq!(user("0:5"), Ok((Some(0), Some(5))));
        for typed in ["", "web", "1:", ":1", "1:2:3", "-1", "+1", " 1", "1 ", "0x1", "1a", "4294967295"] {
            assert!(user(typed).is_err(), "{typed:?}");
        }
        assert!(group(-1).is_err() && group(1 << 32).is_err());
    }
}
