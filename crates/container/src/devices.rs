//! Network devices of the host's, in a container.

use net::{Moved, Namespace};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::{Called, Failed};

/// Two network namespaces, and what was moved from one into the other. While it lives, so does the container's.
#[derive(Debug)]
pub(crate) struct Devices {
    host: Namespace,
    inside: Namespace,
    moved: Vec<Moved>,
}

impl Devices {
    /// The namespace at a path, or init's own.
    pub(crate) fn reach(init: i32, namespace: Option<&str>) -> Result<Self, Failed> {
        let path = namespace.map_or_else(|| format!("/proc/{init}/ns/net"), str::to_owned);
        let handle = openat(CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        let host = Namespace::own()?;
        let inside = Namespace::of(handle, &host)?;
        Ok(Self { host, inside, moved: Vec::new() })
    }

    pub(crate) fn attach(&mut self, name: &str, wanted: &str) -> Result<(), Failed> {
        let moved = net::attach(&self.host, &self.inside, name, wanted)?;
        self.moved.push(moved);
        Ok(())
    }

    /// Moves all of them back, the last one first; what could not be.
    pub(crate) fn back(self) -> Vec<Failed> {
        let Self { host, inside, moved } = self;
        moved.iter().rev().filter_map(|device| device.back(&host, &inside).err()).collect()
    }
}
