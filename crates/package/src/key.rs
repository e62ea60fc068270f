//! Keys: 32 bytes in a file, the public one beside the secret one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rustix::fs::Mode;
use rustix::rand::{GetRandomFlags, getrandom};
use sys::{Called as _, ENDING, Held};

use crate::directory::{Directory, Draft};
use crate::error::{Error, shown};

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
    let [secret_name, public_name] = ["key", "pub"].map(|kind| format!("{name}.{kind}"));
    let place = Arc::new(Directory::open(directory)?);
    let public_half = write(&place, 0o644, secret.0.verifying_key().as_bytes())?;
    let secret_half = write(&place, 0o600, secret.0.as_bytes())?;
    // Both are whole before there is a name. The secret one comes last: whoever is killed between the two, by force alone,
    // leaves no secret that nobody knows of.
    let _held = Held::take(ENDING)?;
    let identity = public_half.publish(public_name.as_ref())?;
    if let Err(error) = secret_half.publish(secret_name.as_ref()) {
        return Err(match place.remove(public_name.as_ref(), &identity) {
            Ok(()) => error,
            Err(left) => Error::new(error.kind(), format!("{error}; then {left}")),
        });
    }
    Ok((directory.join(secret_name), directory.join(public_name)))
}

fn write(place: &Arc<Directory>, mode: u32, bytes: &[u8]) -> Result<Draft, Error> {
    let mut draft = Draft::unnamed(place, Mode::from(mode))?;
    let written = draft.file.write_all(bytes).and_then(|()| draft.file.sync_all());
    match written {
        Ok(()) => Ok(draft),
        Err(error) => Err(draft.discard(Error::io("write(key)", &error))),
    }
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
