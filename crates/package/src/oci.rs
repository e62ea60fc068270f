//! Images of Docker and the OCI as packages.
//!
//! Three shapes of the same thing are read: an OCI image layout as a directory, the same as a tar archive, and what
//! `docker save` writes; an archive may be packed as a whole. Blobs are checked against their digests, layers against those in the image's configuration.
//! An image may come from anywhere: paths are resolved in the tree, where no link leads out of it and nothing is ever
//! written on the host.

mod blobs;
mod layer;
mod manifest;
mod packing;
mod records;
mod zstd;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

pub use manifest::Wishes;

use crate::directory::Directory;
use crate::error::{Doing as _, Error};
use crate::limits::Limits;
use crate::tree::Tree;
use blobs::Blobs;

/// An image, unpacked in memory; contents lie in unnamed files below the directory that was given for them.
#[derive(Debug)]
pub struct Image {
    /// Its files.
    pub tree: Tree,
    /// What it is called, where it says so: `debian:12`.
    pub reference: Option<String>,
    config: Value,
}

/// Reads an image from a directory or an archive, as long as it keeps within the limits. Layers, and an archive that is packed
/// as a whole, are unpacked into unnamed files in `spool`. `each` hears how many bytes of them were read since it heard last.
pub fn read(path: &Path, spool: &Path, limits: Limits, each: &mut dyn FnMut(u64)) -> Result<Image, Error> {
    let spool = Arc::new(Directory::open(spool)?);
    let blobs = Blobs::open(path, &spool, limits)?;
    let Found { reference, config, layers } =
        if blobs.has("index.json") { find_in_layout(&blobs)? } else { find_in_archive(&blobs)? };
    let text = blobs.small(&config).doing(|| spec::tame(&config))?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::damaged(format!("the image's configuration: {error}")))?;
    let digests: Vec<&str> = items(&config["rootfs"]["diff_ids"]).filter_map(Value::as_str).collect();
    if digests.len() != layers.len() {
        return Err(Error::damaged(format!(
            "{} layers, where the configuration has {}",
            layers.len(),
            digests.len()
        )));
    }
    let mut tree = Tree::default();
    let mut left = limits.begin();
    for (name, digest) in layers.iter().zip(digests) {
        let unpack = layer::Unpack { blobs: &blobs, name, digest, spool: &spool };
        layer::apply(&mut tree, &unpack, &mut left, each).doing(|| format!("layer {}", spec::tame(name)))?;
    }
    Ok(Image { tree: tree.sorted(), reference, config })
}

/// Where the parts of an image lie.
struct Found {
    reference: Option<String>,
    config: String,
    layers: Vec<String>,
}

/// An OCI image layout: an index, perhaps of indices, and the manifest of an image for this machine.
fn find_in_layout(blobs: &Blobs) -> Result<Found, Error> {
    let mut document = blobs.json("index.json")?;
    let mut reference = None;
    for _ in 0..MOST_INDICES {
        if document["config"].is_object() {
            let layers = items(&document["layers"]).map(|layer| blobs.descriptor(layer));
            let layers = layers.collect::<Result<_, Error>>()?;
            return Ok(Found { reference, config: blobs.descriptor(&document["config"])?, layers });
        }
        let all: Vec<&Value> = items(&document["manifests"]).filter(|one| is_for_us(one)).collect();
        let one = match all.as_slice() {
            [one] => *one,
            [] => return Err(Error::invalid(format!("no image for linux/{ARCHITECTURE} is in it"))),
            _ => {
                return Err(Error::invalid(format!(
                    "{} images are in it, and one becomes a package",
                    all.len()
                )));
            }
        };
        let name = &one["annotations"];
        let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        reference = reference.or_else(|| names.iter().find_map(|key| name[*key].as_str()).map(str::to_owned));
        document = blobs.json(&blobs.descriptor(one)?)?;
    }
    Err(Error::damaged("indices within indices, and no image"))
}

/// An index of an index has been seen, and no more.
const MOST_INDICES: usize = 4;

/// Whether an image can run here. Attestations say that they are for an unknown machine.
fn is_for_us(descriptor: &Value) -> bool {
    let platform = &descriptor["platform"];
    platform.is_null() || (platform["os"] == "linux" && platform["architecture"] == ARCHITECTURE)
}

const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// What `docker save` wrote before it knew layouts.
fn find_in_archive(blobs: &Blobs) -> Result<Found, Error> {
    if !blobs.has("manifest.json") {
        return Err(Error::invalid("is no image: neither index.json nor manifest.json is in it"));
    }
    let document = blobs.json("manifest.json")?;
    let Some([image]) = document.as_array().map(Vec::as_slice) else {
        return Err(Error::invalid("one image becomes a package, and manifest.json lists none or several"));
    };
    let layers = items(&image["Layers"]).map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>();
    let config = image["Config"].as_str().map(str::to_owned);
    let (Some(layers), Some(config)) = (layers, config) else {
        return Err(Error::damaged("manifest.json names no configuration, or no layers"));
    };
    Ok(Found { reference: image["RepoTags"][0].as_str().map(str::to_owned), config, layers })
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}
