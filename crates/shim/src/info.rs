//! `-v` and `-info`: who we are, and what we can.

use std::collections::HashMap;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use rustix::io::write;
use sys::read_whole;

const NAME: &str = "containerd-shim-cofferdam-v2";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The type of a features document, whose value is JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

pub(crate) fn version() -> Result<(), String> {
    tell(format!("{NAME}:\n  Version:  {VERSION}\n  Revision: \n").as_bytes())
}

pub(crate) fn info() -> Result<(), String> {
    let stdin = rustix::stdio::stdin();
    let input = if rustix::termios::isatty(stdin) {
        Vec::new()
    } else {
        read_whole(stdin, "standard input", 4096, 10 << 20).map_err(|failed| failed.to_string())?
    };
    // What is asked with is told back, whatever it is.
    let options = Any::parse_from_bytes(&input).ok().filter(|any| !any.type_url.is_empty());
    let features =
        Any { type_url: FEATURES.to_owned(), value: engine::features().into_bytes(), ..Any::default() };
    let version = RuntimeVersion { version: VERSION.to_owned(), ..RuntimeVersion::default() };
    let info = RuntimeInfo {
        name: "io.containerd.cofferdam.v2".to_owned(),
        version: MessageField::some(version),
        options: options.map_or_else(MessageField::none, MessageField::some),
        features: MessageField::some(features),
        annotations: HashMap::new(),
        ..RuntimeInfo::default()
    };
    tell(&info.write_to_bytes().map_err(|why| why.to_string())?)
}

pub(crate) fn tell(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written =
            write(rustix::stdio::stdout(), rest).map_err(|errno| format!("write(stdout): {errno}"))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}
