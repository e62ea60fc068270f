//! `signature.yaml`: the hashes of all that is in a package, and a signature over them.

use base64ct::{Base64, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::error::{Doing as _, Error};
use crate::key::{PublicKey, SecretKey};
use crate::source::{hex, unhex};
use crate::verity::Hash;
use crate::yaml::{Node, Value};

/// What a signature says of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256 of the archive's comment.
    pub meta: Hash,
    /// SHA-256 of the manifest.
    pub manifest: Hash,
    /// The root of the image's hash tree.
    pub image: Hash,
    /// The bytes of the image without its tree: where the tree's superblock lies.
    pub image_size: u64,
}

/// The entry, taken apart. Nothing in it is believed before [`Signature::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) hashes: Hashes,
    signed: Vec<u8>,
    proof: [u8; 64],
}

/// Between what is signed and the signature.
const LINE: &str = "---";

impl Signature {
    /// Takes the text apart. What is signed ends at the first `---`, wherever it stands: so the reference has it.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(text).map_err(|_| Error::damaged("is not UTF-8"))?;
        let (signed, rest) = text.split_once(LINE).ok_or_else(|| Error::damaged("holds no signature"))?;
        if rest.contains(LINE) {
            return Err(Error::damaged("holds more than hashes and a signature"));
        }
        let damaged = |error: Error| Error::damaged(error.to_string());
        let hashes = Node::parse(signed.as_bytes()).and_then(|node| Hashes::read(&node)).map_err(damaged)?;
        let node = Node::parse(rest.as_bytes()).map_err(damaged)?;
        let encoded = word(&node, &["signature"])?;
        let mut signature = [0; 64];
        let decoded = Base64::decode(encoded, &mut signature)
            .map_err(|_| Error::damaged("signature: is not base64"))?;
        if decoded.len() != 64 {
            return Err(Error::damaged(format!("signature: has {} bytes, not 64", decoded.len())));
        }
        Ok(Self { hashes, signed: signed.as_bytes().to_vec(), proof: signature })
    }

    /// Whether the owner of this key has signed the hashes.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), Error> {
        key.verify(&self.signed, &self.proof)
    }

    /// The text of the entry, signed.
    pub(crate) fn write(hashes: &Hashes, key: &SecretKey) -> String {
        let signed = hashes.write();
        let signature = Base64::encode_string(&key.sign(signed.as_bytes()));
        format!("{signed}{LINE}\nsignature: {signature}")
    }

    /// The most bytes that [`Signature::write`] makes.
    pub(crate) fn largest() -> u64 {
        let hashes = Hashes { meta: [0; 32], manifest: [0; 32], image: [0; 32], image_size: u64::MAX };
        (hashes.write().len() + LINE.len() + "\nsignature: ".len() + 88) as u64
    }
}

impl Hashes {
    /// The root of the image's hash tree, in hexadecimal.
    pub fn root(&self) -> String {
        hex(&self.image)
    }

    fn read(node: &Node) -> Result<Self, Error> {
        let hash = |path: &[&str]| {
            word(node, path)
                .and_then(|text| unhex(text).ok_or_else(|| Error::damaged("is no SHA-256")))
                .doing(|| path.join("."))
        };
        let offset = word(node, &["fs.img", "verity-offset"])?;
        let is_number = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
        let image_size = offset.parse().ok().filter(|_| is_number);
        Ok(Self {
            meta: hash(&["meta", "hash"])?,
            manifest: hash(&["manifest.yaml", "hash"])?,
            image: hash(&["fs.img", "verity-hash"])?,
            image_size: image_size.ok_or_else(|| Error::damaged("fs.img.verity-offset: is no number"))?,
        })
    }

    /// The text that is signed: the reference's keys in the reference's order.
    fn write(&self) -> String {
        format!(
            "meta:\n  hash: {}\nmanifest.yaml:\n  hash: {}\nfs.img:\n  verity-hash: {}\n  verity-offset: {}\n",
            hex(&self.meta),
            hex(&self.manifest),
            hex(&self.image),
            self.image_size
        )
    }
}

/// The text at a path of keys.
fn word<'a>(node: &'a Node, path: &[&str]) -> Result<&'a str, Error> {
    let mut here = node;
    for key in path {
        let Value::Map(map) = &here.value else {
            return Err(Error::damaged(format!("{}: is missing", path.join("."))));
        };
        let found = map.iter().find(|(known, _)| known.text() == Some(key));
        here = &found.ok_or_else(|| Error::damaged(format!("{}: is missing", path.join("."))))?.1;
    }
    here.text().ok_or_else(|| Error::damaged(format!("{}: is no text", path.join("."))))
}

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}
