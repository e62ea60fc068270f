//! Where the parts of an image lie: a directory, or an archive that is read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::packing::{Packed, Packing};
use super::records::entries;
use crate::directory::Directory;
use crate::error::{Doing as _, Error};
use crate::limits::Limits;
use crate::signature::sha256;
use crate::source::hex;
use crate::tree::Content;

/// The parts by their names.
#[derive(Debug)]
pub(super) enum Blobs {
    Directory(PathBuf),
    Archive(BTreeMap<String, Content>),
}

/// A document is no longer.
const LARGEST_DOCUMENT: u64 = 8 << 20;

impl Blobs {
    /// A directory, or an archive. One that is packed as a whole, as `docker save | gzip` does, is unpacked first, into
    /// an unnamed file in `spool`, as long as it keeps within the limits.
    pub(super) fn open(path: &Path, spool: &Arc<Directory>, limits: Limits) -> Result<Self, Error> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let file = File::open(path).map_err(|error| Error::on_path("open", path, &error))?;
        let plain = plain(&file, spool, limits)?;
        let file = Arc::new(plain.unwrap_or(file));
        let mut parts = BTreeMap::new();
        let mut links = Vec::new();
        entries(&file, "is no tar archive, or is damaged", |entry| {
            let name = tidy(&String::from_utf8_lossy(&entry.path_bytes()));
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let (start, size) = (entry.raw_file_position(), entry.size());
                    parts.insert(name, Content::Part { file: Arc::clone(&file), start, size });
                }
                // Old versions of Docker store a layer once, and lead to it.
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let is_hard = entry.header().entry_type() == tar::EntryType::Link;
                    links.push((name, String::from_utf8_lossy(&target).into_owned(), is_hard));
                }
                _ => {}
            }
            Ok(())
        })?;
        for (name, target, is_hard) in links {
            let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            let target = if is_hard { tidy(&target) } else { tidy(&format!("{directory}/{target}")) };
            if let Some(content) = parts.get(&target).cloned() {
                parts.insert(name, content);
            }
        }
        Ok(Self::Archive(parts))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(path) => path.join(name).is_file(),
            Self::Archive(parts) => parts.contains_key(name),
        }
    }

    /// A part by its name, which is the image's own word: it leads nowhere but down.
    pub(super) fn part(&self, name: &str) -> Result<Content, Error> {
        let missing = || Error::damaged(format!("{} is missing", spec::quoted(name)));
        match self {
            Self::Directory(path) => {
                if name.split('/').any(|part| part == ".." || part.is_empty()) {
                    return Err(Error::damaged(format!("{} leads out of the image", spec::quoted(name))));
                }
                let path = path.join(name);
                let stat =
                    path.symlink_metadata().ok().filter(std::fs::Metadata::is_file).ok_or_else(missing)?;
                Ok(Content::At(path, stat.len()))
            }
            Self::Archive(parts) => parts.get(&tidy(name)).cloned().ok_or_else(missing),
        }
    }

    /// A small part, whole; where its name tells a digest it has that one.
    pub(super) fn small(&self, name: &str) -> Result<Vec<u8>, Error> {
        let content = self.part(name)?;
        if content.size() > LARGEST_DOCUMENT {
            let size = content.size();
            return Err(Error::damaged(format!(
                "has {size} bytes, and a document at most {LARGEST_DOCUMENT}"
            )));
        }
        let mut bytes = Vec::new();
        content
            .open()?
            .take(LARGEST_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read(image)", &error))?;
        if let Some(digest) = name.strip_prefix(BLOBS)
            && hex(&sha256(&bytes)) != digest
        {
            return Err(Error::damaged("is not what its digest tells"));
        }
        Ok(bytes)
    }

    pub(super) fn json(&self, name: &str) -> Result<Value, Error> {
        let bytes = self.small(name).doing(|| spec::tame(name))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::damaged(format!("{}: {error}", spec::tame(name))))
    }

    /// The name of the part that a descriptor means.
    #[allow(clippy::unused_self, reason = "it is of this kind of image that a name is asked")]
    pub(super) fn descriptor(&self, descriptor: &Value) -> Result<String, Error> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let hex = digest.strip_prefix("sha256:").filter(|hex| crate::source::unhex(hex).is_some());
        let hex = hex.ok_or_else(|| {
            Error::unsupported(format!("a digest {}; sha256 is read", spec::quoted(digest)))
        })?;
        Ok(format!("{BLOBS}{hex}"))
    }
}

/// An archive without its packing; none where it has none.
fn plain(file: &File, spool: &Arc<Directory>, limits: Limits) -> Result<Option<File>, Error> {
    let packed = Packed::new(Box::new(file))?;
    if packed.packing == Packing::None {
        return Ok(None);
    }
    // What its layers come to is counted anew.
    packed.unpack(spool, &mut limits.begin(), |_| ()).map(Some)
}

const BLOBS: &str = "blobs/sha256/";

/// A name without what says nothing.
fn tidy(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
