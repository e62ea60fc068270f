//! How much may come out of what somebody else has packed.
//!
//! Packing is lopsided: a megabyte that somebody sends can be a terabyte once it is unpacked, or ten million empty files.
//! What is counted here is what it comes to, as it comes, and not what it says of itself.

use crate::error::{Error, Kind};

/// The most that an image may come to, be it Docker's or a package's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes: of all layers, unpacked; or of all contents and attributes of a package.
    pub bytes: u64,
    /// Files of every kind, by each of their names; one that a later layer takes away counts too.
    pub files: u64,
}

impl Default for Limits {
    /// 16 GiB and a million files: beyond any image that a device is to hold, and far from what fills a disk by surprise.
    fn default() -> Self {
        Self { bytes: 16 << 30, files: 1_000_000 }
    }
}

impl Limits {
    pub(crate) fn begin(self) -> Left {
        Left { limits: self, left: self }
    }
}

/// What is left of them.
#[derive(Debug)]
pub(crate) struct Left {
    limits: Limits,
    left: Limits,
}

impl Left {
    /// So many bytes more.
    pub(crate) fn bytes(&mut self, count: u64) -> Result<(), Error> {
        let most = self.limits.bytes;
        let left = self.left.bytes.checked_sub(count);
        let told =
            || Error::new(Kind::Limit("max-bytes"), format!("comes to more than {most} bytes unpacked"));
        self.left.bytes = left.ok_or_else(told)?;
        Ok(())
    }

    /// One file more.
    pub(crate) fn file(&mut self) -> Result<(), Error> {
        let most = self.limits.files;
        let left = self.left.files.checked_sub(1);
        let told = || Error::new(Kind::Limit("max-files"), format!("comes to more than {most} files"));
        self.left.files = left.ok_or_else(told)?;
        Ok(())
    }
}
