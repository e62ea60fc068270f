//! What is mounted on a bundle's `rootfs`: layers of an image, as a caller lists them.
//!
//! The words are mount(8)'s, and mean what they mean in a config.json; what they do not know belongs to the file system, and
//! goes to it as it stands.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use path::{Root, open_host};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, mkdirat, statx};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount as mount_file_system, mount_bind,
    mount_bind_recursive, mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, fchdir};
use spec::{MountOption, option};
use sys::{Called, Doing, Errno, Failed};

/// One mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// The file system: `overlay`, `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where, below the rootfs; the rootfs itself where it is empty.
    pub target: String,
    /// The words of mount(8).
    pub options: Vec<String>,
}

/// What the words mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Meaning {
    flags: u64,
    /// Whether it shows a directory that exists elsewhere, with the mounts below it or without.
    bind: Option<bool>,
    /// How mounts below travel, and whether all of them are meant.
    propagation: Vec<(u64, bool)>,
    /// What belongs to the file system.
    data: Vec<String>,
}

/// mount(2) takes a page of data; its end is the kernel's.
const PAGE: usize = 4096 - 512;

/// Mounts all of them, in order, or none.
pub(crate) fn mount(rootfs: &str, layers: &[Layer]) -> Result<(), Failed> {
    if layers.is_empty() {
        return Ok(());
    }
    match mkdirat(CWD, rootfs, Mode::from_raw_mode(0o711)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failed::call(format!("mkdir({rootfs:?})"), errno)),
    }
    layers.iter().try_for_each(|layer| {
        layer.mount(rootfs).doing(|| format!("mount {} on {rootfs}", layer.kind)).map_err(|failed| {
            match detach(rootfs) {
                Ok(()) => failed,
                Err(second) => failed.while_doing(&format!("{second}; before that")),
            }
        })
    })
}

/// Whether something is mounted there.
pub fn is_mounted(rootfs: &str) -> Result<bool, Failed> {
    match statx(CWD, rootfs, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        told => told
            .map(|told| told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
            .called(|| format!("statx({rootfs:?})")),
    }
}

/// Takes away whatever is mounted there, with all below it, also while it is in use.
pub fn detach(rootfs: &str) -> Result<(), Failed> {
    loop {
        match unmount(rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing more is mounted there, or there is no such place.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Failed::call(format!("umount2({rootfs:?}, MNT_DETACH)"), errno)),
        }
    }
}

impl Layer {
    fn mount(&self, rootfs: &str) -> Result<(), Failed> {
        if self.kind.starts_with("fuse.") || self.kind.starts_with("fuse3.") {
            return Err(Failed::refused(
                "a file system that a helper mounts: not done yet on a container's root",
            ));
        }
        let meaning = understood(&self.options)?;
        let place = self.place(rootfs)?;
        // A descriptor's name: nobody can put something else under it. Mounts on it cover the place itself.
        let place = place
            .as_ref()
            .map_or_else(|| rootfs.to_owned(), |fd| format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let bind =
            meaning.bind.or(matches!(self.kind.as_str(), "bind" | "rbind").then_some(self.kind == "rbind"));
        match bind {
            Some(recursive) => self.bind(&place, recursive, meaning.flags)?,
            None => self.make(&place, &meaning)?,
        }
        for (kind, recursive) in meaning.propagation {
            let deep = if recursive { MountPropagationFlags::REC } else { MountPropagationFlags::empty() };
            let how = MountPropagationFlags::from_bits_retain(bits(kind)) | deep;
            mount_change(place.as_str(), how).called(|| format!("mount({place:?}, {kind:#x})"))?;
        }
        Ok(())
    }

    /// Where it is mounted if that is below the rootfs: found inside it, whatever links are there.
    fn place(&self, rootfs: &str) -> Result<Option<OwnedFd>, Failed> {
        if self.target.trim_matches('/').is_empty() {
            return Ok(None);
        }
        let root = Root::from(open_host(rootfs, OFlags::PATH | OFlags::DIRECTORY)?);
        root.resolve(&self.target).map(Some)
    }

    fn bind(&self, place: &str, recursive: bool, flags: u64) -> Result<(), Failed> {
        let source = self.source.as_str();
        let bind = if recursive { mount_bind_recursive } else { mount_bind };
        bind(source, place).called(|| format!("mount({source:?}, {place:?}, MS_BIND)"))?;
        if flags == 0 {
            return Ok(());
        }
        // A bind mount takes its flags by a second call alone.
        let flags = MountFlags::from_bits_retain(bits(flags)) | MountFlags::BIND;
        mount_remount(place, flags, c"").called(|| format!("mount({place:?}, MS_REMOUNT | MS_BIND)"))
    }

    fn make(&self, place: &str, meaning: &Meaning) -> Result<(), Failed> {
        let data = meaning.data.join(",");
        let Some((common, data)) = shortened(&data) else { return self.call(place, meaning, &data) };
        // Relative names are shorter: the layers are told from the directory that they share.
        let here = open_host(".", OFlags::PATH | OFlags::DIRECTORY)?;
        chdir(common.as_str()).called(|| format!("chdir({common:?})"))?;
        let made = self.call(place, meaning, &data);
        fchdir(&here).called(|| "fchdir()")?;
        made
    }

    fn call(&self, place: &str, meaning: &Meaning, data: &str) -> Result<(), Failed> {
        if data.len() > PAGE {
            return Err(Failed::refused(format!("its options have {} bytes, more than {PAGE}", data.len())));
        }
        let flags = MountFlags::from_bits_retain(bits(meaning.flags));
        let text = CString::new(data).map_err(|_| Failed::refused("an option holds a NUL byte"))?;
        mount_file_system(self.source.as_str(), place, self.kind.as_str(), flags, text.as_c_str())
            .called(|| format!("mount({:?}, {place:?}, {:?}, {data:?})", self.source, self.kind))
    }
}

fn bits(flags: u64) -> u32 {
    u32::try_from(flags).unwrap_or(u32::MAX)
}

fn understood(words: &[String]) -> Result<Meaning, Failed> {
    let mut meaning = Meaning::default();
    for word in words {
        let refused = |why: &str| Err(Failed::refused(format!("{word}: {why}")));
        match option(word) {
            _ if word == "loop" || word.starts_with("uidmap=") || word.starts_with("gidmap=") => {
                return refused("not done yet on a container's root");
            }
            None => meaning.data.push(word.clone()),
            Some(MountOption::Nothing) => {}
            Some(MountOption::Flag(flag)) => {
                meaning.flags = (meaning.flags & !flag.flags_clear) | flag.flags_set;
            }
            Some(MountOption::Bind { recursive }) => meaning.bind = Some(recursive),
            Some(MountOption::Propagation { kind, recursive }) => meaning.propagation.push((kind, recursive)),
            Some(_) => return refused("is no option of a container's root"),
        }
    }
    Ok(meaning)
}

/// The directory that all layers of an overlay share, and the options with names as they are from there; none where they
/// are short enough, or share none.
fn shortened(data: &str) -> Option<(String, String)> {
    if data.len() <= PAGE {
        return None;
    }
    let lower = data.split(',').find_map(|word| word.strip_prefix("lowerdir="))?;
    let layers: Vec<&str> = lower.split(':').collect();
    let first = layers.first()?.rsplit_once('/')?.0;
    let common = layers.iter().fold(first, |common, layer| shared(common, layer));
    if common.is_empty() || common == "/" || !common.starts_with('/') {
        return None;
    }
    let prefix = format!("{common}/");
    let short: Option<Vec<&str>> = layers.iter().map(|layer| layer.strip_prefix(&prefix)).collect();
    let words = data.split(',').map(|word| match (word.starts_with("lowerdir="), &short) {
        (true, Some(short)) => format!("lowerdir={}", short.join(":")),
        _ => word.to_owned(),
    });
    Some((common.to_owned(), words.collect::<Vec<_>>().join(",")))
}

/// The longest directory that holds both.
fn shared<'a>(directory: &'a str, path: &str) -> &'a str {
    let mut shared = directory;
    while !path.strip_prefix(shared).is_some_and(|rest| rest.starts_with('/')) {
        shared = shared.rsplit_once('/').map_or("", |(above, _)| above);
        if shared.is_empty() {
            break;
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_later_word_takes_back_an_earlier_one() -> Result<(), Failed> {
        let meaning = understood(&words(&["ro", "nodev", "rw", "rbind", "rslave", "lowerdir=/a:/b"]))?;
        assert_eq!(meaning.flags, spec::MS_NODEV);
        assert_eq!(meaning.bind, Some(true));
        assert_eq!(meaning.propagation, [(spec::MS_SLAVE, true)]);
        assert_eq!(meaning.data, ["lowerdir=/a:/b"]);
        Ok(())
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for word in ["loop", "uidmap=0:1:2", "tmpcopyup", "remount"] {
            let refused = understood(&words(&[word])).map(drop);
            assert!(refused.is_err_and(|failed| failed.to_string().starts_with(word)), "{word}");
        }
    }

    #[test]
    fn many_layers_are_told_from_the_directory_that_they_share() {
        let layers: Vec<String> = (0..200).map(|n| format!("/var/lib/containerd/snapshots/{n}/fs")).collect();
        let data = format!("workdir=/w,upperdir=/u,lowerdir={}", layers.join(":"));
        let (common, short) = shortened(&data).unwrap_or_default();
        assert_eq!(common, "/var/lib/containerd/snapshots");
        assert!(short.starts_with("workdir=/w,upperdir=/u,lowerdir=0/fs:1/fs:"), "{short}");
        assert!(short.len() < PAGE);
        assert_eq!(shortened("lowerdir=/a/b:/a/c"), None);
    }

    #[test]
    fn what_is_shared_ends_at_a_slash() {
        assert_eq!(shared("/a/b", "/a/b/c"), "/a/b");
        assert_eq!(shared("/a/b", "/a/bc/d"), "/a");
        assert_eq!(shared("/a/b", "/c/d"), "");
    }
}
