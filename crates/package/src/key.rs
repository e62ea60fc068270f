//! Keys: 32 bytes in a file, the public one beside the secret one.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rustix::rand::{GetRandomFlags, getrandom};
use sys::Called as _;

use crate::error::{Error, Kind, shown};

/// The half that signs.
pub struct SecretKey(SigningKey);

/// The half that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SecretKey {
    /// One that nobody has had before.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = [0; 32];
        fill_random(&mut seed)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Out of a file with the 32 bytes of its seed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self(SigningKey::from_bytes(&read(path)?)))
    }

    /// The half that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).to_bytes()
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("SecretKey")
    }
}

impl PublicKey {
    /// Out of a file with its 32 bytes.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read(path)?;
        Self::from_bytes(&bytes).map_err(|error| error.while_doing(&shown(path)))
    }

    /// Out of its 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| Error::invalid("is no Ed25519 public key"))?;
        // Of some points everybody can make signatures.
        if key.is_weak() {
            return Err(Error::invalid("is a weak Ed25519 public key, which verifies what nobody signed"));
        }
        Ok(Self(key))
    }

    pub(crate) fn verify(&self, text: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        let verified = self.0.verify_strict(text, &signature);
        verified.map_err(|_| Error::untrusted("the signature is not by this key, or not over this text"))
    }
}

/// Makes a pair of keys, `NAME.key` for its owner alone and `NAME.pub`, in a directory. A file that is there already is
/// not touched, and nothing is left of a pair that could not be made.
pub fn generate_pair(directory: &Path, name: &str) -> Result<(PathBuf, PathBuf), Error> {
    if name.is_empty() || name.contains('/') {
        return Err(Error::invalid(format!("{} is no name for a pair of keys", spec::quoted(name))));
    }
    let secret = SecretKey::generate()?;
    let [secret_path, public_path] = ["key", "pub"].map(|kind| directory.join(format!("{name}.{kind}")));
    write_new(&secret_path, 0o600, secret.0.as_bytes())?;
    if let Err(error) = write_new(&public_path, 0o644, secret.0.verifying_key().as_bytes()) {
        std::fs::remove_file(&secret_path).map_err(|error| Error::on_path("unlink", &secret_path, &error))?;
        return Err(error);
    }
    Ok((secret_path, public_path))
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::Exists, format!("{} is there already", shown(path)))
        }
        _ => Error::on_path("open", path, &error),
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| Error::on_path("write", path, &error))
}

fn read(path: &Path) -> Result<[u8; 32], Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| Error::on_path("open", path, &error))?;
    file.take(33).read_to_end(&mut bytes).map_err(|error| Error::on_path("read", path, &error))?;
    let count = bytes.len();
    bytes.try_into().map_err(|_| {
        let told = if count > 32 { "more than 32".to_owned() } else { count.to_string() };
        Error::invalid(format!("{}: a key has 32 bytes, and this file {told}", shown(path)))
    })
}

pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < bytes.len() {
        done += getrandom(&mut bytes[done..], GetRandomFlags::empty()).called(|| "getrandom()")?;
    }
    Ok(())
}
