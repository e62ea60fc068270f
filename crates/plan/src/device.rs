//! Device nodes and links of a container's /dev.

use spec::{Device, DeviceKind, Spec};

use crate::step::{Node, Step};
use crate::{Refused, clean};

const CHAR: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;

/// Nodes that every container has (runtime-spec, "Default Devices").
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has (runtime-spec, "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

pub(crate) fn compile(spec: &Spec, has_kcore: bool, are_bound: bool) -> Result<Vec<Step>, Refused> {
    let mut nodes: Vec<Node> = DEFAULT
        .iter()
        .map(|&(path, major, minor)| Node {
            path: path.to_owned(),
            mode: CHAR | 0o666,
            major,
            minor,
            uid: 0,
            gid: 0,
            is_bound: are_bound,
        })
        .collect();
    for (index, device) in spec.linux.iter().flat_map(|linux| &linux.devices).enumerate() {
        let node = node(index, device, are_bound)?;
        // The multiplexer belongs to the container's devpts: the link below stands for it.
        if node.path == "/dev/ptmx" {
            continue;
        }
        match nodes.iter_mut().find(|known| known.path == node.path) {
            Some(known) => *known = node,
            None => nodes.push(node),
        }
    }
    let link = |path: &str, target: &str, replace| Step::Link {
        path: path.to_owned(),
        target: target.to_owned(),
        replace,
    };
    let nodes = nodes.into_iter().map(Step::Node);
    let ptmx = [link("/dev/ptmx", "pts/ptmx", true)];
    let core = has_kcore.then(|| link("/dev/core", "/proc/kcore", false));
    let links = LINKS.iter().map(|&(path, target)| link(path, target, false));
    Ok(nodes.chain(ptmx).chain(links).chain(core).collect())
}

fn node(index: usize, device: &Device, is_bound: bool) -> Result<Node, Refused> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    let number = |name: &str, value: i64| {
        u32::try_from(value).map_err(|_| Refused::new(field(name), format!("{value} is no device number")))
    };
    let kind = match device.kind {
        DeviceKind::Block => BLOCK,
        DeviceKind::Char | DeviceKind::Unbuffered => CHAR,
        DeviceKind::Fifo => FIFO,
    };
    Ok(Node {
        path: clean::absolute(&device.path),
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        major: number("major", device.major)?,
        minor: number("minor", device.minor)?,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        is_bound: is_bound && kind != FIFO,
    })
}
