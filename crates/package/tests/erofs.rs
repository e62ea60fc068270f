//! Images of erofs that are read again, here and with every byte of them changed.
#![allow(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test states what it expects, and which it skips"
)]

mod hold;
mod images;

use std::path::Path;
use std::process::Command;

use images::{Told, everything, noise, of_tree, replaced, what_may_be_made};
use package::Limits;
use package::erofs::{Image, write};
use package::squashfs::{self, Compression};
use package::tree::{Content, Kind, Node, Tree};
use package::unpack::unpack;

/// An image of a tree.
fn image(tree: &Tree) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    write(tree, file.as_file(), 0, &mut |_| ()).expect("it is written");
    std::fs::read(file.path()).expect("all of it")
}

fn opened(bytes: &[u8]) -> Result<Image<&[u8]>, package::Error> {
    Image::read(bytes, 0..bytes.len() as u64)
}

fn read(bytes: &[u8]) -> Result<Told, package::Error> {
    images::read(&mut opened(bytes)?)
}

fn unpack_to(bytes: &[u8], to: &Path) -> Result<(), package::Error> {
    unpack(&mut opened(bytes)?, to, Limits::default(), &mut |_| Ok(()))
}

#[test]
fn what_was_written_is_read() {
    let tree = everything(true);
    let told = read(&image(&tree)).expect("it is whole");
    assert!(told.len() > 610, "{}", told.len());
    assert_eq!(told, of_tree(&tree));
}

/// An image, unpacked and packed again, is the same: what the first says, the second was made of.
#[test]
fn what_is_unpacked_can_be_packed_to_the_same_bytes() {
    let mut tree = what_may_be_made();
    for node in tree.nodes_mut() {
        node.mtime = 0;
    }
    let first = image(&tree);
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("to");
    unpack_to(&first, &to).expect("it is unpacked");
    assert!(image(&Tree::of_directory(&to).expect("a tree")) == first, "another image");
}

/// A small image with one of each.
fn small() -> Vec<u8> {
    let mut tree = Tree::default();
    let file = Node::new(Kind::File(Content::Bytes(noise(5000))), 0o644);
    let directory = tree.directories(b"a/b", &Node::directory(0o755)).expect("directories");
    let id = tree.add(directory, b"file", file).expect("a file");
    tree.link(Tree::ROOT, b"hard", id).expect("a name");
    tree.node_mut(id).xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
    tree.node_mut(id).xattrs.insert(b"user.b".to_vec(), b"other".to_vec());
    tree.add(Tree::ROOT, b"link", Node::new(Kind::Link(b"a".to_vec()), 0o777)).expect("a link");
    tree.add(Tree::ROOT, b"null", Node::new(Kind::Char(1, 3), 0o666)).expect("a device");
    image(&tree)
}

#[test]
fn every_flipped_byte_is_refused_or_read_to_the_end() {
    let good = small();
    let mut refused = 0;
    for at in 1024..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            hold::erofs(&bytes);
            refused += u32::from(read(&bytes).is_err());
        }
    }
    assert!(refused > 300, "{refused} flips were seen");
    for length in (0..good.len()).step_by(7) {
        assert!(read(&good[..length]).is_err(), "{length}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (from, to, told) in [
        (b"...file".as_slice(), b"...../e".as_slice(), "\"/a/b/\": \"../e\" is no name for a file"),
        (b"...file", b"...fi\0e", "\"/a/b/\": \"fi\\0e\" is no name for a file"),
        (b"hardlink", b"hardhard", "\"/\": \"hard\" comes twice"),
        (b"hardlink", b"hardabcd", "\"/\": \"abcd\" stands out of order"),
        (b"hardlink", b"hardnull", "\"/\": \"null\" comes twice"),
    ] {
        let refused = read(&replaced(small(), from, to)).expect_err("it is refused");
        assert_eq!(refused.to_string(), told);
    }
}

#[test]
fn what_is_no_image_of_ours_is_told_by_name() {
    let with = |at: usize, bytes: &[u8]| {
        let mut image = small();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        read(&image).expect_err("it is refused").to_string()
    };
    for (at, bytes, told) in [
        (1024, b"hsqs".as_slice(), "is no erofs image"),
        (1024 + 80, &[1], "is an erofs with features 0x1: one that is not packed is read"),
        (1024 + 12, &[9], "blocks of 2 to the power of 9 bytes: 4096 are read"),
        (1024 + 36, &[0xff; 4], "17592186040320 bytes are used of 12288"),
        (1024 + 36, &[0; 4], "0 bytes are used of 12288"),
        (1024 + 40, &[1], "inodes from block 1 on"),
        (1024 + 8, &[3], "the superblock is not what its checksum tells"),
        (1024 + 14, &[0xff; 2], "an inode 65535, which is nowhere"),
        // The root's own inode: its layout, and where its listing lies.
        (4096, &[3], "is stored in the layout 1: packed or in chunks"),
        (4096, &[9], "is stored in the layout 4: packed or in chunks"),
        (4096 + 4, &[0, 0x80], "the root is no directory"),
        (4096 + 4, &[0, 0], "an inode of the mode 0"),
    ] {
        assert_eq!(with(at, bytes), told);
    }
}

/// Of one inode: where it lies, told by what no other has.
fn inode_of(bytes: &[u8], mode: u16) -> usize {
    let at = (4096..bytes.len()).step_by(32).find(|at| bytes[at + 4..at + 6] == mode.to_le_bytes());
    at.expect("an inode of this mode")
}

#[test]
fn what_says_that_it_is_elsewhere_is_refused() {
    let good = small();
    let with = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        read(&image).expect_err("it is refused").to_string()
    };
    let file = inode_of(&good, 0o100_644);
    let link = inode_of(&good, 0o120_777);
    for (at, bytes, told) in [
        (file + 8, [0xff; 8].as_slice(), "bytes from block 2 on, beyond the image"),
        (file + 16, &[0xff; 4], "5000 bytes from block 4294967295 on, beyond the image"),
        (file + 8, &[0xff, 0x1f], "4095 bytes behind an inode, which lead out of its block"),
        (file + 2, &[0xff; 2], "behind an inode, which lead out of its block"),
        (file + 2, &[2, 0], "an attribute that leads out of its place"),
        (file + 64 + 4, &[1], "an attribute that leads out of its place"),
        (file + 64 + 4, &[200], "more shared attributes than there is room for"),
        (file + 64 + 12, &[0], "an attribute with a name of 0 bytes"),
        (file + 64 + 13, &[2], "a list of who may do what (a POSIX ACL)"),
        (file + 64 + 13, &[9], "an attribute of the kind 9"),
        (file + 64 + 24, b"\x01\x01\x05\x00a", "two attributes \"user.a\""),
        (file + 24, &[0xff; 4], "an owner 4294967295:0"),
        (link + 8, &[0; 8], "a link to 0 bytes"),
        (link + 8, &[0xff, 0x0f], "bytes behind an inode, which lead out of its block"),
        (link + 64, &[0], "a link to a name with a zero in it"),
    ] {
        let error = with(at, bytes);
        assert!(error.ends_with(told), "{at}: {error}, and not {told}");
    }
}

/// A directory that is in itself, or tells of another above it than the one that it is in.
#[test]
fn a_directory_is_entered_once() {
    let mut tree = Tree::default();
    tree.directories(b"a/b", &Node::directory(0o755)).expect("directories");
    let good = image(&tree);
    // The root's listing lies behind its inode: ., .. and a; then that of a, with . and .. and b.
    let [root, a] = [4096, 4096 + 128].map(|inode: usize| inode + 64);
    let with = |to: usize, from: &[u8]| {
        let mut image = good.clone();
        image[to..to + from.len()].copy_from_slice(from);
        read(&image).expect_err("it is refused").to_string()
    };
    let number = |at: usize| good[at..at + 8].to_vec();
    assert_eq!(with(a + 24, &number(root + 24)), "\"/a/b\": is a directory in a second place");
    assert_eq!(with(a + 24, &number(root)), "\"/a/b\": is a directory in a second place");
    assert_eq!(with(a + 12, &number(a)), "\"/a/\": a directory whose . or .. leads elsewhere");
    assert_eq!(with(a, &number(root)), "\"/a/\": a directory whose . or .. leads elsewhere");
    assert_eq!(with(a + 24 + 10, &[1]), "\"/a/b\": its listing tells of another file");
    assert_eq!(with(a + 24 + 10, &[9]), "\"/a/\": a name of a file of the kind Some(9)");
    assert_eq!(with(a + 8, &[0, 0]), "\"/a/\": a block of a listing with names from byte 0 on");
    let told = with(a + 8, &[12, 0]);
    assert!(told.starts_with("\"/a/\": ") && told.ends_with("...b\" is no name for a file"), "{told}");
    assert_eq!(with(a + 12 + 8, &[0xff; 2]), "\"/a/\": a name from byte 36 to 65535 of a block");
}

/// What is written is read, and what cannot be read is not written.
#[test]
fn as_many_directories_as_are_read_are_written() {
    let tree = |depth: usize| {
        let mut tree = Tree::default();
        tree.directories("d/".repeat(depth).as_bytes(), &Node::directory(0o755)).expect("directories");
        tree
    };
    let deep = tree(256);
    assert_eq!(read(&image(&deep)).expect("it is read").len(), 256);
    let file = tempfile::NamedTempFile::new().expect("a file");
    squashfs::write(&deep, file.as_file(), 0, Compression::None, &mut |_| ()).expect("it is written");
    let bytes = std::fs::read(file.path()).expect("an image");
    let mut squashfs_image =
        squashfs::Image::read(bytes.as_slice(), 0..bytes.len() as u64).expect("an image");
    assert_eq!(images::read(&mut squashfs_image).expect("it is read").len(), 256);
    let deeper = tree(257);
    let by_erofs = write(&deeper, file.as_file(), 0, &mut |_| ());
    let by_squashfs = squashfs::write(&deeper, file.as_file(), 0, Compression::None, &mut |_| ());
    for refused in [by_erofs, by_squashfs] {
        let told = refused.expect_err("it is too deep").to_string();
        assert!(told.ends_with("more than 256 directories within directories"), "{told}");
    }
    let name = [b'n'; 256];
    assert!(Tree::default().add(Tree::ROOT, &name[1..], Node::new(Kind::Fifo, 0o600)).is_ok());
    let told =
        Tree::default().add(Tree::ROOT, &name, Node::new(Kind::Fifo, 0o600)).expect_err("it is too long");
    assert!(told.to_string().ends_with("is no name for a file"), "{told}");
}

/// What others write is read: the same files, with attributes that several share, and short inodes.
#[test]
fn images_of_mkfs_are_read() {
    let is_there = Command::new("mkfs.erofs").arg("--help").output().is_ok();
    if !is_there {
        eprintln!("skipped: images_of_mkfs_are_read: mkfs.erofs is missing");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let mut tree = what_may_be_made();
    for number in 0..9 {
        let mut node = Node::new(Kind::File(Content::Bytes(noise(number * 1000))), 0o600);
        node.xattrs.insert(b"user.shared".to_vec(), noise(700));
        (node.uid, node.gid) = (tree.node(Tree::ROOT).uid, tree.node(Tree::ROOT).gid);
        tree.add(Tree::ROOT, format!("shares-{number}").as_bytes(), node).expect("a file");
    }
    unpack_to(&image(&tree), &from).expect("it is unpacked");
    for (flags, has_times) in
        [(&[] as &[&str], true), (&["-x0"], true), (&["-Eforce-inode-compact", "-T77"], false)]
    {
        let path = directory.path().join("image");
        let output =
            Command::new("mkfs.erofs").args(flags).arg(&path).arg(&from).output().expect("mkfs.erofs runs");
        assert!(output.status.success(), "{output:?}");
        let bytes = std::fs::read(path).expect("an image");
        let told = read(&bytes).expect("it is whole");
        if has_times {
            assert_eq!(told, of_tree(&tree), "{flags:?}");
        } else {
            assert!(told.values().all(|told| told.contains(" 77")), "{told:?}");
        }
        unpack_to(&bytes, &to).expect("it is unpacked");
        let [one, other] = [&from, &to].map(|path| Tree::of_directory(path).expect("a tree"));
        assert!(image(&one) == image(&other), "{flags:?}");
        std::fs::remove_dir_all(&to).expect("it goes");
    }
    let path = directory.path().join("packed");
    let output =
        Command::new("mkfs.erofs").arg("-zlz4").arg(&path).arg(&from).output().expect("mkfs.erofs runs");
    if output.status.success() {
        let told = read(&std::fs::read(path).expect("an image")).expect_err("it is refused").to_string();
        assert!(told.starts_with("is an erofs with features"), "{told}");
    }
}
