//! Paths that read as empty, and paths that cannot be written.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Stat, fstat, major, minor};
use spec::MOUNT_ATTR_RDONLY;
use sys::{Called, Doing, Errno, Failed};

use crate::Rootfs;
use crate::attach::{self, Change, Fresh};

impl Rootfs {
    /// Covers a path: a directory with an empty one, anything else with the null device. Nothing happens where
    /// nothing is.
    ///
    /// The mask is mounted on a handle, not on a name: a container that may write to the parent could otherwise move
    /// what is to be masked aside between our look and our mount.
    pub fn mask(&mut self, path: &str) -> Result<(), Failed> {
        self.either_way(|rootfs| rootfs.cover(path)).doing(|| format!("mask {path}"))
    }

    fn cover(&mut self, path: &str) -> Result<(), Failed> {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let mode = fstat(&place).called(|| "fstat()")?.st_mode;
        let is_old = self.stage.is_some();
        let is_directory = FileType::from_raw_mode(mode) == FileType::Directory;
        let cover = if is_directory {
            self.empty_directory()?
        } else {
            attach::clone_handle(self.null_device()?, false, is_old)?
        };
        let handle = cover.attach(&place, self.stage.as_ref())?;
        self.spent.push(place);
        if is_directory && self.empty.is_none() {
            self.empty = Some(handle);
        } else {
            self.spent.push(handle);
        }
        Ok(())
    }

    /// Gives the directories that masks are of an SELinux label.
    pub fn label_masks(&mut self, label: &str) {
        self.mask_label = Some(label.to_owned());
    }

    /// Makes a path read-only, by a mount of itself. Nothing happens where nothing is.
    pub fn protect(&mut self, path: &str) -> Result<(), Failed> {
        self.either_way(|rootfs| rootfs.freeze_path(path)).doing(|| format!("protect {path}"))
    }

    fn freeze_path(&mut self, path: &str) -> Result<(), Failed> {
        let Some(place) = self.existing(path)? else { return Ok(()) };
        let mut tree = attach::clone_handle(&place, true, self.stage.is_some())?;
        tree.change(Change::READ_ONLY)?;
        let handle = tree.attach(&place, self.stage.as_ref())?;
        self.spent.extend([place, handle]);
        Ok(())
    }

    fn existing(&self, path: &str) -> Result<Option<OwnedFd>, Failed> {
        match self.root.resolve(path) {
            Ok(place) => Ok(Some(place)),
            // A part of the path that is no directory means the same: what was to be covered is not there.
            Err(failed) if matches!(failed.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// The container's null device, proven to be one (CVE-2025-31133: a /dev/null that is a link makes its target
    /// writable where the mask should be).
    fn null_device(&mut self) -> Result<&OwnedFd, Failed> {
        let null = if let Some(null) = self.null.take() {
            null
        } else {
            let null = self.root.resolve_link("/dev/null")?;
            let stat = fstat(&null).called(|| "fstat(\"/dev/null\")")?;
            if !is_null(&stat) {
                return Err(Failed::refused("/dev/null is not character device 1:3"));
            }
            null
        };
        Ok(self.null.insert(null))
    }

    /// An empty read-only directory. One superblock serves all: each further one is a copy of the first mount.
    fn empty_directory(&mut self) -> Result<attach::Tree, Failed> {
        let is_old = self.stage.is_some();
        if let Some(first) = &self.empty {
            return attach::clone_handle(first, false, is_old);
        }
        let label = self.mask_label.as_deref().map(|label| ("context", label));
        let data: Vec<_> = [("nr_blocks", "1"), ("nr_inodes", "1")]
            .into_iter()
            .chain(label)
            .map(|(key, value)| (key.to_owned(), Some(value.to_owned())))
            .collect();
        let fresh = Fresh { kind: "tmpfs", name: "tmpfs", flags: &[], data: &data, set: MOUNT_ATTR_RDONLY };
        fresh.make(&mut self.spent, is_old)
    }
}

/// Whether this is the null device, character device 1:3.
pub fn is_null(stat: &Stat) -> bool {
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
}
