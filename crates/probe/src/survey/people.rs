//! How an ordinary user comes by more ids than his own: /etc/subuid, and the programs that hand them out.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::getxattr;

use crate::read_text;

/// What the caller may have.
#[derive(Clone, Debug, Default)]
pub struct People {
    /// The caller's name in /etc/passwd.
    pub name: Option<String>,
    /// How many ids /etc/subuid gives the caller.
    pub subuids: u64,
    /// How many /etc/subgid gives.
    pub subgids: u64,
    /// `newuidmap`, if it is there.
    pub newuidmap: Option<Mapper>,
    /// `newgidmap`, if it is there.
    pub newgidmap: Option<Mapper>,
}

/// A program that does for its caller what he may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapper {
    /// Where it is.
    pub path: String,
    /// Whether it has the power: set-uid root, or a capability of the file.
    pub has_power: bool,
}

pub(super) fn look(uid: u32, path: &OsStr) -> People {
    let name = name_of(&read_text("/etc/passwd").unwrap_or_default(), uid);
    let ids = |file: &str| granted(&read_text(file).unwrap_or_default(), name.as_deref(), uid);
    People {
        subuids: ids("/etc/subuid"),
        subgids: ids("/etc/subgid"),
        newuidmap: mapper("newuidmap", path),
        newgidmap: mapper("newgidmap", path),
        name,
    }
}

fn mapper(name: &str, path: &OsStr) -> Option<Mapper> {
    let found = super::find(name, path)?;
    Some(Mapper { has_power: has_power(&found), path: found.display().to_string() })
}

fn has_power(program: &Path) -> bool {
    const SET_UID: u32 = 0o4000;
    let is_set_uid = program.metadata().is_ok_and(|file| file.mode() & SET_UID != 0 && file.uid() == 0);
    is_set_uid || getxattr(program, "security.capability", &mut [0_u8; 64]).is_ok()
}

/// passwd(5): the third field is the number.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()))?;
    line.split(':').next().map(str::to_owned)
}

/// subuid(5): "name or number:first:count"; all lines of one user count.
fn granted(text: &str, name: Option<&str>, uid: u32) -> u64 {
    let number = uid.to_string();
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let is_his = Some(owner) == name || owner == number;
        fields.nth(1).filter(|_| is_his)?.parse::<u64>().ok()
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_granted_by_name_and_by_number() {
        let text = "ann:100000:65536\n# a comment\n1000:300000:1000\nbob:165536:65536\nann:x\n";
        assert_eq!(granted(text, Some("ann"), 1000), 66536);
        assert_eq!(granted(text, Some("ann"), 7), 65536);
        assert_eq!(granted(text, None, 1000), 1000);
        assert_eq!(granted(text, Some("an"), 1), 0);
    }

    #[test]
    fn a_user_is_known_by_his_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 1), None);
    }
}
