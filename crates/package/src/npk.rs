//! A package as a file: read, checked, and written.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;

use crate::error::{Doing as _, Error};
use crate::key::{PublicKey, SecretKey};
use crate::signature::{Hashes, Signature, sha256};
use crate::source::Source;
use crate::verity::{self, BLOCK, Sums, Superblock, Tree};
use crate::yaml::{Node, Value};
use crate::zip::{ALIGNMENT, Directory, Header, LEAST_PADDING, directory, plain_size};

/// The version of the format that we write, as the archive's comment.
const COMMENT: &str = "version: 0.9.2\n";
/// The oldest that we read: those before it have another manifest.
const OLDEST: (u64, u64) = (0, 9);
const LARGEST_MANIFEST: u64 = 1 << 20;
const LARGEST_SIGNATURE: u64 = 16 << 10;

/// A package whose outside has been read: the archive, the manifest's bytes, what the signature says. The image has not
/// been looked at, and none of it is to be believed unless [`Package::verify`] says so.
#[derive(Clone, Debug)]
pub struct Package<S> {
    file: S,
    version: String,
    comment: Vec<u8>,
    manifest: Vec<u8>,
    signature: Option<Signature>,
    image: Range<u64>,
    crc: u32,
}

/// What dm-verity is to be told of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// The root hash that was signed.
    pub root: verity::Hash,
    /// The head of the tree.
    pub superblock: Superblock,
}

impl<S: Source> Package<S> {
    /// Reads what is around the image.
    pub fn read(file: S) -> Result<Self, Error> {
        let directory = Directory::read(&file)?;
        let version = version(&directory.comment).doing(|| "the archive's comment")?;
        let manifest = whole(&file, &directory, "manifest.yaml", LARGEST_MANIFEST)?;
        let signature = match directory.find("signature.yaml") {
            Some(_) => {
                let text = whole(&file, &directory, "signature.yaml", LARGEST_SIGNATURE)?;
                Some(Signature::read(&text).doing(|| "signature.yaml")?)
            }
            None => None,
        };
        let image = directory.require("fs.img")?;
        let (range, crc) = (image.content.clone(), image.crc);
        if range.start % BLOCK != 0 {
            return Err(Error::damaged(format!(
                "fs.img begins at byte {}, no multiple of {BLOCK}",
                range.start
            )));
        }
        let package =
            Self { file, version, comment: directory.comment, manifest, signature, image: range, crc };
        package.image()?;
        Ok(package)
    }

    /// The version of the format, as the package tells it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The manifest's bytes.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The hashes that stand in the signature, whoever made it; none without a signature.
    pub fn hashes(&self) -> Option<&Hashes> {
        self.signature.as_ref().map(|signature| &signature.hashes)
    }

    /// Where it is read from.
    pub fn file(&self) -> &S {
        &self.file
    }

    /// Where the image with its tree lies in the file.
    pub fn whole_image(&self) -> Range<u64> {
        self.image.clone()
    }

    /// Where the image lies in the file, without the hash tree behind it.
    pub fn image(&self) -> Result<Range<u64>, Error> {
        let size = self.image.end - self.image.start;
        let pure = self.hashes().map_or(size, |hashes| hashes.image_size);
        if pure == 0 || pure > size || self.signature.is_some() && !pure.is_multiple_of(BLOCK) {
            return Err(Error::damaged(format!("an image of {pure} bytes in an entry of {size}")));
        }
        Ok(self.image.start..self.image.start + pure)
    }

    /// Checks that the owner of this key signed the version, the manifest and the root hash, and reads the head of the hash
    /// tree. The image itself is then checked by the kernel, block by block as it is read, or by [`Package::check`].
    pub fn verify(&self, key: &PublicKey) -> Result<Verity, Error> {
        let signature = self.signature.as_ref().ok_or_else(|| Error::untrusted("is not signed"))?;
        signature.verify(key).doing(|| "signature.yaml")?;
        self.check_hashes(signature)?;
        self.verity()
    }

    fn check_hashes(&self, signature: &Signature) -> Result<(), Error> {
        if sha256(&self.comment) != signature.hashes.meta {
            return Err(Error::untrusted("the version of the format is another than the signed one"));
        }
        if sha256(&self.manifest) != signature.hashes.manifest {
            return Err(Error::untrusted("the manifest is another than the signed one"));
        }
        Ok(())
    }

    /// The head of the hash tree, checked against the image's size and the room behind it.
    fn verity(&self) -> Result<Verity, Error> {
        let hashes = self.hashes().ok_or_else(|| Error::untrusted("is not signed"))?;
        let image = self.image()?;
        let mut block = [0; verity::BLOCK_SIZE];
        if self.image.end - image.end < BLOCK {
            return Err(Error::damaged("fs.img has no room for a verity superblock"));
        }
        self.file.read_at(&mut block, image.end)?;
        let superblock = Superblock::parse(&block, (image.end - image.start) / BLOCK)?;
        let room = self.image.end - image.end - BLOCK;
        if room != superblock.tree_size() {
            return Err(Error::damaged(format!(
                "{room} bytes behind the verity superblock, where a tree of {} is due",
                superblock.tree_size()
            )));
        }
        Ok(Verity { root: hashes.image, superblock })
    }

    /// Reads the whole image and checks it: against the signed hashes where there are some, and against the archive's
    /// checksum. A signature says nothing here of who made it: that is [`Package::verify`].
    ///
    /// `each` hears how many bytes have been read since it heard last.
    pub fn check(&self, mut each: impl FnMut(u64)) -> Result<(), Error> {
        let mut crc = crc32fast::Hasher::new();
        let image = self.image()?;
        let mut see = |piece: &[u8]| {
            crc.update(piece);
            each(piece.len() as u64);
        };
        if let Some(signature) = &self.signature {
            self.check_hashes(signature)?;
            let Verity { root, superblock } = self.verity()?;
            verity::check(&self.file, image.clone(), image.end + BLOCK, &superblock.salt, &root, &mut see)?;
        } else {
            verity::pieces(&self.file, image.clone(), |piece| {
                see(piece);
                Ok(())
            })?;
        }
        verity::pieces(&self.file, image.end..self.image.end, |piece| {
            see(piece);
            Ok(())
        })?;
        if crc.finalize() != self.crc {
            return Err(Error::damaged("fs.img is not what its checksum tells"));
        }
        Ok(())
    }
}

/// A small entry's content, checked against its checksum.
fn whole(file: &impl Source, directory: &Directory, name: &str, largest: u64) -> Result<Vec<u8>, Error> {
    let entry = directory.require(name)?;
    let size = entry.content.end - entry.content.start;
    if size > largest {
        return Err(Error::damaged(format!("{name} has {size} bytes, more than {largest}")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    file.read_at(&mut bytes, entry.content.start)?;
    if crc32fast::hash(&bytes) != entry.crc {
        return Err(Error::damaged(format!("{name} is not what its checksum tells")));
    }
    Ok(bytes)
}

/// The version of the format out of the archive's comment, if it is one that we read.
fn version(comment: &[u8]) -> Result<String, Error> {
    let node = Node::parse(comment).map_err(|error| Error::damaged(error.to_string()))?;
    let version = match &node.value {
        Value::Map(map) => {
            map.iter().find(|(key, _)| key.text() == Some("version")).and_then(|(_, value)| value.text())
        }
        _ => None,
    };
    let version = version.ok_or_else(|| Error::damaged("tells no version of a package"))?;
    let numbers =
        crate::version::Version::parse(version).map_err(|error| Error::damaged(error.to_string()))?;
    if (numbers.major, numbers.minor) < OLDEST {
        return Err(Error::unsupported(format!("format {version}: packages are read from 0.9 on")));
    }
    Ok(numbers.to_string())
}

/// A package that is being written, into an empty file.
#[derive(Debug)]
pub struct Draft {
    file: File,
    manifest: Vec<u8>,
    /// Where the image begins.
    start: u64,
}

/// How an image is protected: by whom it is signed, and what the tree is made with.
#[derive(Debug)]
pub struct Seal<'a> {
    /// Who signs.
    pub key: &'a SecretKey,
    /// The tree's name and salt. Whoever wants the same package twice gives the same.
    pub uuid: [u8; 16],
    /// 32 bytes, as the reference has them.
    pub salt: [u8; 32],
}

impl Draft {
    /// Begins a package. The image is then written into [`Draft::file`] from [`Draft::start`] on.
    pub fn begin(file: File, manifest: Vec<u8>, is_signed: bool) -> Result<Self, Error> {
        if manifest.len() as u64 > LARGEST_MANIFEST {
            return Err(Error::invalid(format!("a manifest has at most {LARGEST_MANIFEST} bytes")));
        }
        let mut head = plain_size("manifest.yaml") + manifest.len() as u64;
        if is_signed {
            head += plain_size("signature.yaml") + Signature::largest();
        }
        let start = (head + plain_size("fs.img") + LEAST_PADDING).next_multiple_of(ALIGNMENT.into());
        Ok(Self { file, manifest, start })
    }

    /// Where the image belongs.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the image begins in the file.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Takes an image of `size` bytes for written, seals it, and writes all that is around it. The file is not
    /// synchronised. `each` hears how many bytes have been read since it heard last.
    pub fn finish(
        mut self,
        size: u64,
        seal: Option<&Seal<'_>>,
        each: impl FnMut(u64),
    ) -> Result<File, Error> {
        if size == 0 || !size.is_multiple_of(BLOCK) {
            return Err(Error::invalid(format!(
                "an image of {size} bytes; its size must be a multiple of {BLOCK}"
            )));
        }
        let data = self.start..self.start + size;
        let salt = seal.map(|seal| seal.salt.as_slice());
        let Sums { mut crc, digests } = verity::sums(&self.file, data.clone(), salt, each)?;
        let mut signature = None;
        let mut end = data.end;
        if let Some(seal) = seal {
            let superblock =
                Superblock { uuid: seal.uuid, data_blocks: size / BLOCK, salt: seal.salt.to_vec() };
            let tree = Tree::above(digests, &seal.salt)?;
            let behind = [superblock.to_bytes().as_slice(), &tree.stored].concat();
            self.put(end, &behind)?;
            crc.update(&behind);
            end += behind.len() as u64;
            let hashes = Hashes {
                meta: sha256(COMMENT.as_bytes()),
                manifest: sha256(&self.manifest),
                image: tree.root,
                image_size: size,
            };
            signature = Some(Signature::write(&hashes, seal.key));
        }
        self.surround(signature.as_deref(), data.start..end, crc.finalize())?;
        Ok(self.file)
    }

    /// Writes the archive around the image.
    fn surround(&mut self, signature: Option<&str>, image: Range<u64>, crc: u32) -> Result<(), Error> {
        let mut head = Vec::new();
        let mut headers = Vec::new();
        let mut add = |name, bytes: &[u8]| {
            let header = Header::new(name, crc32fast::hash(bytes), bytes.len() as u64, head.len() as u64)?;
            head.extend(header.local());
            head.extend(bytes);
            headers.push(header);
            Ok::<_, Error>(())
        };
        add("manifest.yaml", &self.manifest)?;
        if let Some(signature) = signature {
            add("signature.yaml", signature.as_bytes())?;
        }
        let size = image.end - image.start;
        let header = Header::new("fs.img", crc, size, head.len() as u64)?.padded_to(image.start)?;
        head.extend(header.local());
        headers.push(header);
        self.put(0, &head)?;
        self.put(image.end, &directory(&headers, COMMENT, image.end)?)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| Error::io(format!("write(package, {} at {at})", bytes.len()), &error))
    }
}
