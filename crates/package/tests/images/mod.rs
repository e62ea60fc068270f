//! A tree with one of each, and what is told of all that an image holds.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "each test takes what it needs, and states what it expects"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use package::image::{FileSystem, Inode, Piece, Step, Walk};
use package::tree::{Content, Kind, Node, Tree};

/// Bytes that do not become smaller.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// One of each, whose owner is the one who runs the test.
pub fn everything(with_devices: bool) -> Tree {
    let own = tempfile::tempfile().and_then(|file| file.metadata()).expect("a file");
    let mut tree = Tree::default();
    let mut add = |path: &str, kind: Kind, mode: u16| {
        let mut node = Node::new(kind, mode);
        (node.uid, node.gid, node.mtime) = (own.uid(), own.gid(), 1_000_000 + u32::from(mode));
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let above = tree.directories(above.as_bytes(), &Node::directory(0o755)).expect("directories");
        tree.add(above, name.as_bytes(), node).expect("a file")
    };
    let bytes = |bytes: &[u8]| Kind::File(Content::Bytes(bytes.to_vec()));
    add("empty", bytes(b""), 0o600);
    let first = add("bin/first", bytes(b"content"), 0o755);
    add("bin/plain", bytes(&noise(300_000)), 0o4755);
    add("bin/soft", bytes(&b"0123456789".repeat(40_000)), 0o444);
    add("holes", bytes(&[vec![0; 262_144], noise(5)].concat()), 0o640);
    add("ends-with-a-hole", bytes(&[noise(131_072), vec![0; 131_072]].concat()), 0o640);
    add("link", Kind::Link(b"../../etc/passwd".to_vec()), 0o777);
    add("pipe", Kind::Fifo, 0o620);
    add("socket", Kind::Socket, 0o700);
    add("shut/inside", bytes(b"inside"), 0o000);
    if with_devices {
        add("null", Kind::Char(1, 3), 0o666);
        add("far", Kind::Block(259, 70_000), 0o660);
    }
    for index in 0..600 {
        add(&format!("many/{index:04}"), bytes(format!("{index}").as_bytes()), 0o644);
    }
    let again = tree.directories(b"again", &Node::directory(0o2711)).expect("a directory");
    tree.link(again, b"second", first).expect("a name");
    tree.node_mut(first).xattrs.insert(b"user.one".to_vec(), b"1".to_vec());
    tree.node_mut(again).xattrs.insert(b"user.two".to_vec(), noise(3000));
    let shut = tree.find(Tree::ROOT, b"shut").expect("it is there");
    tree.node_mut(shut).mode = 0o000;
    for node in tree.nodes_mut() {
        (node.uid, node.gid) = (own.uid(), own.gid());
    }
    tree
}

/// What is told of each file but its number.
pub type Told = BTreeMap<String, String>;

fn of_inode<L, S>(told: &str, inode: &Inode<L, S>) -> String {
    format!("{told} {:o} {}:{} {}", inode.mode, inode.uid, inode.gid, inode.mtime)
}

/// All that an image holds.
pub fn read<F: FileSystem>(image: &mut F) -> Result<Told, package::Error> {
    let root = image.root()?;
    let mut walk = Walk::from(image, &root)?;
    let (mut told, mut path) = (Told::new(), Vec::new());
    while let Some(step) = walk.next(image)? {
        let (name, inode) = match step {
            Step::Leave => {
                path.pop();
                continue;
            }
            Step::Enter(name, inode) => {
                path.push(String::from_utf8_lossy(&name).into_owned());
                (String::new(), inode)
            }
            Step::Meet(name, inode) | Step::Again(name, inode) => {
                (format!("/{}", String::from_utf8_lossy(&name)), inode)
            }
        };
        let kind = match &inode.kind {
            Kind::Directory(_) => "directory".to_owned(),
            Kind::File(stored) => {
                let mut crc = crc32fast::Hasher::new();
                image.content(stored, &mut |piece| {
                    match piece {
                        Piece::Bytes(bytes) => crc.update(bytes),
                        Piece::Hole(count) => crc.update(&vec![0; count as usize]),
                    }
                    Ok(())
                })?;
                format!("file {} {:x} {}", F::size(stored), crc.finalize(), inode.links)
            }
            other => format!("{other:?}"),
        };
        let xattrs = image.xattrs(&inode)?;
        let attributes: Vec<String> = xattrs
            .iter()
            .map(|(name, value)| format!(" {}={:x}", String::from_utf8_lossy(name), crc32fast::hash(value)))
            .collect();
        told.insert(path.join("/") + &name, of_inode(&kind, &inode) + &attributes.concat());
    }
    Ok(told)
}

/// The same of the tree that the image was made of.
pub fn of_tree(tree: &Tree) -> Told {
    let mut told = Told::new();
    let mut open = vec![(String::new(), Tree::ROOT)];
    while let Some((path, directory)) = open.pop() {
        let Kind::Directory(names) = &tree.node(directory).kind else { continue };
        for (name, id) in names {
            let node = tree.node(*id);
            let separator = if path.is_empty() { "" } else { "/" };
            let path = format!("{path}{separator}{}", String::from_utf8_lossy(name));
            let is_directory = matches!(node.kind, Kind::Directory(_));
            let kind = match &node.kind {
                Kind::Directory(_) => "directory".to_owned(),
                Kind::File(Content::Bytes(bytes)) => {
                    let links = if bytes == b"content" { 2 } else { 1 };
                    format!("file {} {:x} {links}", bytes.len(), crc32fast::hash(bytes))
                }
                other => format!("{other:?}"),
            };
            let attributes: Vec<String> = node
                .xattrs
                .iter()
                .map(|(name, value)| {
                    format!(" {}={:x}", String::from_utf8_lossy(name), crc32fast::hash(value))
                })
                .collect();
            let line = format!("{kind} {:o} {}:{} {}", node.mode, node.uid, node.gid, node.mtime);
            if is_directory {
                open.push((path.clone(), *id));
            }
            let path = if is_directory || path.contains('/') { path } else { format!("/{path}") };
            told.insert(path, line + &attributes.concat());
        }
    }
    told
}

/// Whether whoever runs the test may give files to others, and make devices.
pub fn is_root() -> bool {
    tempfile::tempfile().and_then(|file| file.metadata()).expect("a file").uid() == 0
}

/// What whoever runs the test can make, and read again.
pub fn what_may_be_made() -> Tree {
    let mut tree = everything(is_root());
    if !is_root() {
        let shut = tree.find(Tree::ROOT, b"shut").expect("it is there");
        tree.node_mut(shut).mode = 0o700;
        let inside = tree.find(shut, b"inside").expect("it is there");
        tree.node_mut(inside).mode = 0o600;
    }
    tree
}

/// An image in which one piece was replaced by another of the same size.
pub fn replaced(mut image: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = image.windows(from.len()).position(|window| window == from).expect("it is there");
    image[at..at + to.len()].copy_from_slice(to);
    image
}
