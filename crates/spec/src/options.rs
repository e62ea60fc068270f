//! Mount options by name: one table for whoever compiles mounts and for the features document.
//!
//! Options are applied in the order of the document, and a later one takes back what an earlier one said: `set`
//! bits are added to what is asked for and taken from what is cleared, `clear` bits the other way round.

/// What a mount option means. A name that [`option`] does not know belongs to the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountOption {
    /// `defaults`: says nothing.
    Nothing,
    /// A property of this mount or of its file system.
    Flag(Flag),
    /// A property of this mount and of all below it: `mount_setattr(2)` with `AT_RECURSIVE`.
    Recursive {
        /// `MOUNT_ATTR_*` bits to set.
        set: u64,
        /// `MOUNT_ATTR_*` bits to clear first.
        clear: u64,
    },
    /// How mounts made below travel between namespaces; applied after the mount.
    Propagation {
        /// One of [`MS_SHARED`], [`MS_SLAVE`], [`MS_PRIVATE`], [`MS_UNBINDABLE`].
        kind: u64,
        /// Whether all mounts below are meant as well.
        recursive: bool,
    },
    /// The mount shows a directory or file that exists elsewhere.
    Bind {
        /// Whether the mounts below come along.
        recursive: bool,
    },
    /// The mount that is there already gets new properties.
    Remount,
    /// User and group ids are mapped as the mount or its user namespace says.
    Idmap {
        /// Whether the mounts below are mapped too.
        recursive: bool,
    },
    /// `tmpcopyup`: a tmpfs begins with what lay under it.
    CopyUp,
    /// What happens where a bind mount meets a symbolic link; words of crun's.
    Link(Link),
}

/// A bind mount and symbolic links, which it follows otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// `copy-symlink`: a source that is a link is made again in the container, and nothing is mounted.
    Copied,
    /// `src-nofollow`: a source that is a link is itself mounted.
    Source,
    /// `dest-nofollow`: a destination that is a link is itself covered.
    Target,
}

/// One property in the words of both kernel interfaces.
///
/// Both `attr` masks are empty for what belongs to the file system (`sync`, `dirsync`, `mand`, `lazytime`,
/// `iversion`, `silent`); with `fsconfig(2)` such an option goes by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flag {
    /// `MOUNT_ATTR_*` bits to set, for `mount_setattr(2)` and `fsmount(2)`.
    pub attr_set: u64,
    /// `MOUNT_ATTR_*` bits to clear first; with any access time bit it is the whole field, as the kernel demands.
    pub attr_clear: u64,
    /// `MS_*` bits to set, for `mount(2)`.
    pub flags_set: u64,
    /// `MS_*` bits to clear.
    pub flags_clear: u64,
}

/// What a name means; none if it belongs to the file system.
pub fn option(name: &str) -> Option<MountOption> {
    let at = OPTIONS.binary_search_by_key(&name, |(known, _)| known).ok()?;
    OPTIONS.get(at).map(|(_, meaning)| *meaning)
}

/// All names, sorted, with their meaning.
pub fn options() -> &'static [(&'static str, MountOption)] {
    OPTIONS
}

/// What `linux.rootfsPropagation` means; none if it is no kind of propagation.
pub fn propagation(name: &str) -> Option<(u64, bool)> {
    match option(name) {
        Some(MountOption::Propagation { kind, recursive }) => Some((kind, recursive)),
        _ => None,
    }
}

const fn on(attr: u64, flag: u64) -> MountOption {
    MountOption::Flag(Flag { attr_set: attr, attr_clear: 0, flags_set: flag, flags_clear: 0 })
}

const fn off(attr: u64, flag: u64) -> MountOption {
    MountOption::Flag(Flag { attr_set: 0, attr_clear: attr, flags_set: 0, flags_clear: flag })
}

const fn atime(attr: u64, flag: u64) -> MountOption {
    MountOption::Flag(Flag { attr_set: attr, attr_clear: MOUNT_ATTR__ATIME, flags_set: flag, flags_clear: 0 })
}

const fn all_on(set: u64) -> MountOption {
    MountOption::Recursive { set, clear: 0 }
}

const fn all_off(clear: u64) -> MountOption {
    MountOption::Recursive { set: 0, clear }
}

const fn all_atime(set: u64) -> MountOption {
    MountOption::Recursive { set, clear: MOUNT_ATTR__ATIME }
}

const fn spread(kind: u64, recursive: bool) -> MountOption {
    MountOption::Propagation { kind, recursive }
}

/// Sorted by name. `acl` and `noacl` are not here: `MS_POSIXACL` is the kernel's own, and file systems that know
/// these words want to see them.
const OPTIONS: &[(&str, MountOption)] = &[
    ("async", off(0, MS_SYNCHRONOUS)),
    ("atime", off(MOUNT_ATTR__ATIME, MS_NOATIME)),
    ("bind", MountOption::Bind { recursive: false }),
    ("copy-symlink", MountOption::Link(Link::Copied)),
    ("defaults", MountOption::Nothing),
    ("dest-nofollow", MountOption::Link(Link::Target)),
    ("dev", off(MOUNT_ATTR_NODEV, MS_NODEV)),
    ("diratime", off(MOUNT_ATTR_NODIRATIME, MS_NODIRATIME)),
    ("dirsync", on(0, MS_DIRSYNC)),
    ("exec", off(MOUNT_ATTR_NOEXEC, MS_NOEXEC)),
    ("idmap", MountOption::Idmap { recursive: false }),
    ("iversion", on(0, MS_I_VERSION)),
    ("lazytime", on(0, MS_LAZYTIME)),
    ("loud", off(0, MS_SILENT)),
    ("mand", on(0, MS_MANDLOCK)),
    ("noatime", atime(MOUNT_ATTR_NOATIME, MS_NOATIME)),
    ("nodev", on(MOUNT_ATTR_NODEV, MS_NODEV)),
    ("nodiratime", on(MOUNT_ATTR_NODIRATIME, MS_NODIRATIME)),
    ("noexec", on(MOUNT_ATTR_NOEXEC, MS_NOEXEC)),
    ("noiversion", off(0, MS_I_VERSION)),
    ("nolazytime", off(0, MS_LAZYTIME)),
    ("nomand", off(0, MS_MANDLOCK)),
    // The kernel's relatime is the absence of the two others, so taking it back leaves it.
    ("norelatime", off(0, MS_RELATIME)),
    ("nostrictatime", off(MOUNT_ATTR__ATIME, MS_STRICTATIME)),
    ("nosuid", on(MOUNT_ATTR_NOSUID, MS_NOSUID)),
    ("nosymfollow", on(MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW)),
    ("private", spread(MS_PRIVATE, false)),
    ("ratime", all_off(MOUNT_ATTR__ATIME)),
    ("rbind", MountOption::Bind { recursive: true }),
    ("rdev", all_off(MOUNT_ATTR_NODEV)),
    ("rdiratime", all_off(MOUNT_ATTR_NODIRATIME)),
    ("relatime", atime(MOUNT_ATTR_RELATIME, MS_RELATIME)),
    ("remount", MountOption::Remount),
    ("rexec", all_off(MOUNT_ATTR_NOEXEC)),
    ("ridmap", MountOption::Idmap { recursive: true }),
    ("rnoatime", all_atime(MOUNT_ATTR_NOATIME)),
    ("rnodev", all_on(MOUNT_ATTR_NODEV)),
    ("rnodiratime", all_on(MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", all_on(MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", all_off(0)),
    ("rnostrictatime", all_off(MOUNT_ATTR__ATIME)),
    ("rnosuid", all_on(MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", all_on(MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", on(MOUNT_ATTR_RDONLY, MS_RDONLY)),
    ("rprivate", spread(MS_PRIVATE, true)),
    ("rrelatime", all_atime(MOUNT_ATTR_RELATIME)),
    ("rro", all_on(MOUNT_ATTR_RDONLY)),
    ("rrw", all_off(MOUNT_ATTR_RDONLY)),
    ("rshared", spread(MS_SHARED, true)),
    ("rslave", spread(MS_SLAVE, true)),
    ("rstrictatime", all_atime(MOUNT_ATTR_STRICTATIME)),
    ("rsuid", all_off(MOUNT_ATTR_NOSUID)),
    ("rsymfollow", all_off(MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", spread(MS_UNBINDABLE, true)),
    ("rw", off(MOUNT_ATTR_RDONLY, MS_RDONLY)),
    ("shared", spread(MS_SHARED, false)),
    ("silent", on(0, MS_SILENT)),
    ("slave", spread(MS_SLAVE, false)),
    ("src-nofollow", MountOption::Link(Link::Source)),
    ("strictatime", atime(MOUNT_ATTR_STRICTATIME, MS_STRICTATIME)),
    ("suid", off(MOUNT_ATTR_NOSUID, MS_NOSUID)),
    ("symfollow", off(MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW)),
    ("sync", on(0, MS_SYNCHRONOUS)),
    ("tmpcopyup", MountOption::CopyUp),
    ("unbindable", spread(MS_UNBINDABLE, false)),
];

// Numbers of the kernel's user interface, <linux/mount.h>. They are repeated here because this room knows no
// kernel library, and they cannot change.

/// `MOUNT_ATTR_RDONLY`: nothing is written through this mount.
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`: set-user-ID bits and file capabilities have no effect.
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`: device nodes cannot be opened.
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`: programs cannot be executed.
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR__ATIME`: the field that holds one of the three access time modes.
#[allow(non_upper_case_globals, reason = "the kernel's name has two underscores")]
pub const MOUNT_ATTR__ATIME: u64 = 0x70;
/// `MOUNT_ATTR_RELATIME`: access times are updated when they are older than a change or a day.
pub const MOUNT_ATTR_RELATIME: u64 = 0;
/// `MOUNT_ATTR_NOATIME`: access times are not updated.
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`: access times are always updated.
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`: access times of directories are not updated.
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR_NOSYMFOLLOW`: symbolic links are not followed.
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// `MS_RDONLY`.
pub const MS_RDONLY: u64 = 1;
/// `MS_NOSUID`.
pub const MS_NOSUID: u64 = 1 << 1;
/// `MS_NODEV`.
pub const MS_NODEV: u64 = 1 << 2;
/// `MS_NOEXEC`.
pub const MS_NOEXEC: u64 = 1 << 3;
/// `MS_SYNCHRONOUS`: writes are synced at once.
pub const MS_SYNCHRONOUS: u64 = 1 << 4;
/// `MS_MANDLOCK`: mandatory locks; without effect since Linux 5.15.
pub const MS_MANDLOCK: u64 = 1 << 6;
/// `MS_DIRSYNC`: changes of directories are synced at once.
pub const MS_DIRSYNC: u64 = 1 << 7;
/// `MS_NOSYMFOLLOW`.
pub const MS_NOSYMFOLLOW: u64 = 1 << 8;
/// `MS_NOATIME`.
pub const MS_NOATIME: u64 = 1 << 10;
/// `MS_NODIRATIME`.
pub const MS_NODIRATIME: u64 = 1 << 11;
/// `MS_SILENT`: the kernel log stays quiet about some errors.
pub const MS_SILENT: u64 = 1 << 15;
/// `MS_UNBINDABLE`: cannot be bound elsewhere.
pub const MS_UNBINDABLE: u64 = 1 << 17;
/// `MS_PRIVATE`: mounts below travel neither in nor out.
pub const MS_PRIVATE: u64 = 1 << 18;
/// `MS_SLAVE`: mounts below travel in.
pub const MS_SLAVE: u64 = 1 << 19;
/// `MS_SHARED`: mounts below travel in and out.
pub const MS_SHARED: u64 = 1 << 20;
/// `MS_RELATIME`.
pub const MS_RELATIME: u64 = 1 << 21;
/// `MS_I_VERSION`: the file system counts changes of inodes.
pub const MS_I_VERSION: u64 = 1 << 23;
/// `MS_STRICTATIME`.
pub const MS_STRICTATIME: u64 = 1 << 24;
/// `MS_LAZYTIME`: times are kept in memory and written now and then.
pub const MS_LAZYTIME: u64 = 1 << 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_name_is_found() {
        assert!(OPTIONS.is_sorted_by(|one, next| one.0 < next.0));
        for (name, meaning) in OPTIONS {
            assert_eq!(option(name), Some(*meaning), "{name}");
        }
        assert_eq!(option("size=65536k"), None);
        assert_eq!(option("acl"), None);
    }

    /// A word and its opposite speak of the same bits, or the second could not take back the first.
    #[test]
    fn each_word_has_an_opposite_that_takes_it_back() {
        let pairs = [
            ("sync", "async"),
            ("nodev", "dev"),
            ("nodiratime", "diratime"),
            ("noexec", "exec"),
            ("iversion", "noiversion"),
            ("lazytime", "nolazytime"),
            ("silent", "loud"),
            ("mand", "nomand"),
            ("noatime", "atime"),
            ("relatime", "norelatime"),
            ("strictatime", "nostrictatime"),
            ("nosuid", "suid"),
            ("nosymfollow", "symfollow"),
            ("ro", "rw"),
        ];
        for (word, opposite) in pairs {
            let (Some(MountOption::Flag(on)), Some(MountOption::Flag(off))) =
                (option(word), option(opposite))
            else {
                unreachable!("{word} and {opposite} are flags");
            };
            assert_eq!(on.flags_set, off.flags_clear, "{word}");
            assert_eq!(on.attr_set & !off.attr_clear, 0, "{word}");
            assert_eq!((on.flags_clear, off.flags_set, off.attr_set), (0, 0, 0), "{word}");
            // The recursive form says the same of the attributes.
            if let (Some(MountOption::Recursive { set, clear }), true) =
                (option(&format!("r{word}")), on.attr_set != 0)
            {
                assert_eq!((set, clear), (on.attr_set, on.attr_clear), "r{word}");
            }
        }
    }

    #[test]
    fn only_the_access_time_field_is_cleared_as_a_whole() {
        for (name, meaning) in OPTIONS {
            if let MountOption::Flag(Flag { attr_set: set, attr_clear: clear, .. })
            | MountOption::Recursive { set, clear } = meaning
            {
                let time = (set | clear) & MOUNT_ATTR__ATIME != 0;
                assert!(!time || clear & MOUNT_ATTR__ATIME == MOUNT_ATTR__ATIME, "{name}");
            }
        }
    }
}
