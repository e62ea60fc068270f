//! Images that are read again, here and with every byte of them changed.
#![allow(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test states what it expects, and which it skips"
)]

mod hold;
mod images;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use images::{Told, everything, is_root, noise, of_tree, replaced, what_may_be_made};
use package::Limits;
use package::squashfs::{Compression, Image, write};
use package::tree::{Content, Kind, Node, Tree};
use package::unpack::{survey, unpack};

/// All that an image holds.
fn read(bytes: &[u8]) -> Result<Told, package::Error> {
    images::read(&mut opened(bytes)?)
}

/// An image of a tree.
fn image(tree: &Tree, compression: Compression) -> Vec<u8> {
    let mut file = tempfile::tempfile().expect("a file");
    write(tree, &file, 0, compression, &mut |_| ()).expect("it is written");
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("the start");
    file.read_to_end(&mut bytes).expect("all of it");
    bytes
}

fn opened(bytes: &[u8]) -> Result<Image<&[u8]>, package::Error> {
    Image::read(bytes, 0..bytes.len() as u64)
}

#[test]
fn what_was_written_is_read() {
    let tree = everything(true);
    for compression in [Compression::Gzip, Compression::None] {
        let told = read(&image(&tree, compression)).expect("it is whole");
        assert!(told.len() > 610, "{}", told.len());
        assert_eq!(told, of_tree(&tree), "{compression:?}");
    }
}

/// An image, unpacked and packed again, is the same: what the first says, the second was made of.
#[test]
fn what_is_unpacked_can_be_packed_to_the_same_bytes() {
    let mut tree = what_may_be_made();
    for node in tree.nodes_mut() {
        node.mtime = 0;
    }
    let first = image(&tree, Compression::Gzip);
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("to");
    let mut heard = 0;
    unpack(&mut opened(&first).expect("an image"), &to, Limits::default(), &mut |bytes| {
        heard += bytes;
        Ok(())
    })
    .expect("it is unpacked");
    assert_eq!(heard, tree.size());
    let again = Tree::of_directory(&to).expect("a tree");
    assert!(image(&again, Compression::Gzip) == first, "another image");
    assert_eq!(to.join("bin").metadata().expect("it is there").mtime(), 0);
    let hole = to.join("holes").metadata().expect("it is there");
    assert!(hole.blocks() * 512 < hole.size(), "{hole:?}");
}

fn refusal(bytes: &[u8], to: &Path) -> String {
    let unpacked =
        opened(bytes).and_then(|mut image| unpack(&mut image, to, Limits::default(), &mut |_| Ok(())));
    unpacked.expect_err("it is refused").to_string()
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let (new, there) = (directory.path().join("new"), directory.path().join("there"));
    std::fs::create_dir(&there).expect("a directory");
    // The last file's content, which is found when all others are written, lies in the block of ends.
    let tree = everything(is_root());
    let mut bytes = image(&tree, Compression::Gzip);
    let content = u64::from_le_bytes(bytes[64..72].try_into().expect("eight bytes")) as usize;
    for byte in &mut bytes[content - 40..content - 20] {
        *byte = 0xff;
    }
    for to in [&new, &there] {
        let told = refusal(&bytes, to);
        assert!(told.contains("that zlib does not read"), "{told}");
    }
    assert!(!new.exists());
    assert_eq!(there.read_dir().expect("it is there").count(), 0);

    std::fs::write(there.join("mine"), "").expect("a file");
    assert_eq!(refusal(&image(&tree, Compression::Gzip), &there), format!("{there:?} is not empty"));
    assert_eq!(there.read_dir().expect("it is there").count(), 1);
    let file = directory.path().join("file");
    File::create(&file).expect("a file");
    let told = refusal(&image(&tree, Compression::Gzip), &file);
    assert_eq!(told, format!("open({file:?}): not a directory (os error 20)"));
}

/// A small image with one of each.
fn small(compression: Compression) -> Vec<u8> {
    let mut tree = Tree::default();
    let file = Node::new(Kind::File(Content::Bytes(b"content".to_vec())), 0o644);
    let directory = tree.directories(b"a/b", &Node::directory(0o755)).expect("directories");
    let id = tree.add(directory, b"file", file).expect("a file");
    tree.link(Tree::ROOT, b"hard", id).expect("a name");
    tree.node_mut(id).xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
    tree.add(Tree::ROOT, b"link", Node::new(Kind::Link(b"a".to_vec()), 0o777)).expect("a link");
    tree.add(Tree::ROOT, b"null", Node::new(Kind::Char(1, 3), 0o666)).expect("a device");
    image(&tree, compression)
}

#[test]
fn every_flipped_byte_is_refused_or_read_to_the_end() {
    let mut refused = 0;
    for compression in [Compression::Gzip, Compression::None] {
        let good = small(compression);
        let used = u64::from_le_bytes(good[40..48].try_into().expect("eight bytes")) as usize;
        for at in 0..used {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                hold::squashfs(&bytes);
                refused += u32::from(read(&bytes).is_err());
            }
        }
        for length in 0..used {
            assert!(read(&good[..length]).is_err(), "{length}");
        }
    }
    assert!(refused > 500, "{refused} flips were seen");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (from, to, told) in [
        (b"file", b"../e", "\"/a/b/\": \"../e\" is no name for a file"),
        (b"file", b"fi\0e", "\"/a/b/\": \"fi\\0e\" is no name for a file"),
        (b"link", b"hard", "\"/\": \"hard\" comes twice"),
        (b"link", b"b\0\0\0", "\"/\": \"b\\0\\0\\0\" is no name for a file"),
        (b"link", b"abcd", "\"/\": \"abcd\" stands out of order"),
    ] {
        let refused = read(&replaced(small(Compression::None), from, to)).expect_err("it is refused");
        assert_eq!(refused.to_string(), told);
    }
}

#[test]
fn what_is_no_image_of_ours_is_told_by_name() {
    let with = |at: usize, bytes: &[u8]| {
        let mut image = small(Compression::Gzip);
        image[at..at + bytes.len()].copy_from_slice(bytes);
        read(&image).expect_err("it is refused").to_string()
    };
    for (at, bytes, told) in [
        (0, b"hsqz".as_slice(), "is no squashfs image"),
        (20, &[6, 0], "is compressed by zstd: gzip and none are read"),
        (20, &[9, 0], "is compressed by number 9: gzip and none are read"),
        (28, &[3, 0], "squashfs 3.0: 4.0 is read"),
        (22, &[30, 0], "blocks of 131072 bytes, 2 to the power of 30"),
        (40, &[0xff; 8], "18446744073709551615 bytes are used of 4096"),
        (32, &[0xff; 8], "a reference 0xffffffffffffffff to nowhere"),
        (64, &[0xff; 8], "the tables do not lie behind each other"),
    ] {
        assert_eq!(with(at, bytes), told);
    }
}

/// A directory that is in itself: the listing of the inner one is made to tell of the outer one.
#[test]
fn a_directory_is_entered_once() {
    let mut tree = Tree::default();
    tree.directories(b"a/b", &Node::directory(0o755)).expect("directories");
    let mut inner = image(&tree, Compression::None);
    let listings = u64::from_le_bytes(inner[72..80].try_into().expect("eight bytes")) as usize + 2;
    // The deepest listing stands first: of "b" in "a", with b's inode; let it tell of a's.
    let outer = inner[listings + 12 + 9..].to_vec();
    inner[listings..listings + 12].copy_from_slice(&outer[..12]);
    inner[listings + 12..listings + 16].copy_from_slice(&outer[12..16]);
    let told = read(&inner).expect_err("it is refused").to_string();
    assert_eq!(told, "\"/a/b\": is a directory in a second place");
}

/// A few bytes that say they are very many: the end of a table comes before the end of memory or of the day.
#[test]
fn what_says_that_it_is_endless_ends() {
    let mut tree = Tree::default();
    let zeros = Kind::File(Content::Bytes(vec![0; 262_144]));
    tree.add(Tree::ROOT, b"zeros", Node::new(zeros, 0o644)).expect("a file");
    let bytes = image(&tree, Compression::None);
    let size = 262_144u32.to_le_bytes();
    let at = bytes.windows(4).position(|window| window == size).expect("the file's size");
    let mut longer = bytes.clone();
    longer[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let told = read(&longer).expect_err("it is refused").to_string();
    // What stands behind the sizes of its blocks is another inode.
    assert!(told.starts_with("a block of data of "), "{told}");

    let mut tree = Tree::default();
    let file = tree.add(Tree::ROOT, b"file", Node::new(Kind::Fifo, 0o644)).expect("a file");
    for index in 0..17u8 {
        tree.node_mut(file).xattrs.insert([b"user.".as_slice(), &[b'a' + index]].concat(), vec![0; 64 << 10]);
    }
    let told = read(&image(&tree, Compression::Gzip)).expect_err("it is refused").to_string();
    assert_eq!(told, "more than 1048576 bytes of attributes");

    let mut tree = Tree::default();
    tree.directories("d/".repeat(250).as_bytes(), &Node::directory(0o755)).expect("directories");
    assert_eq!(read(&image(&tree, Compression::Gzip)).expect("as deep as is written").len(), 250);
}

/// What others write is read: the same files, with compressions of zlib and none, without and with ends in blocks of their own.
#[test]
fn images_of_mksquashfs_are_read() {
    if Command::new("mksquashfs").arg("-version").output().is_err() {
        eprintln!("skipped: images_of_mksquashfs_are_read: mksquashfs is missing");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let tree = what_may_be_made();
    unpack(
        &mut opened(&image(&tree, Compression::Gzip)).expect("an image"),
        &from,
        Limits::default(),
        &mut |_| Ok(()),
    )
    .expect("it is unpacked");
    let made = |flags: &[&str]| {
        let path = directory.path().join("image");
        let output = Command::new("mksquashfs")
            .args([from.as_path(), path.as_path()])
            .args(["-noappend", "-no-progress"])
            .args(flags)
            .output()
            .expect("mksquashfs runs");
        assert!(output.status.success(), "{output:?}");
        std::fs::read(path).expect("an image")
    };
    for flags in [
        &[] as &[&str],
        &["-noI", "-noD", "-noF", "-noX", "-no-fragments"],
        &["-b", "4096"],
        &["-b", "1M", "-always-use-fragments", "-nopad"],
        &["-no-duplicates", "-Xcompression-level", "1"],
    ] {
        let bytes = made(flags);
        assert_eq!(read(&bytes).expect("it is whole"), of_tree(&tree), "{flags:?}");
        unpack(&mut opened(&bytes).expect("an image"), &to, Limits::default(), &mut |_| Ok(()))
            .expect("it is unpacked");
        let [one, other] = [&from, &to].map(|path| Tree::of_directory(path).expect("a tree"));
        assert!(image(&one, Compression::None) == image(&other, Compression::None), "{flags:?}");
        std::fs::remove_dir_all(&to).expect("it goes");
    }
    let told = read(&made(&["-comp", "xz"])).expect_err("it is refused").to_string();
    assert_eq!(told, "is compressed by xz: gzip and none are read");
}

#[test]
fn what_comes_to_more_than_the_limits_leaves_nothing() {
    let mut tree = Tree::default();
    for name in ["a", "b", "c"] {
        let mut node = Node::new(Kind::File(Content::Bytes(vec![0; 300_000])), 0o644);
        // Stored once, and written three times.
        node.xattrs.insert(b"user.large".to_vec(), noise(50_000));
        let id = tree.add(Tree::ROOT, name.as_bytes(), node).expect("a file");
        tree.link(Tree::ROOT, format!("again-{name}").as_bytes(), id).expect("a name");
    }
    let bytes = image(&tree, Compression::Gzip);
    let whole = 3 * 350_000;
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("to");
    let unpacked = |limits| unpack(&mut opened(&bytes).expect("an image"), &to, limits, &mut |_| Ok(()));
    for (limits, kind, told) in [
        (Limits { bytes: whole - 1, files: 6 }, "max-bytes", "comes to more than 1049999 bytes unpacked"),
        (Limits { bytes: whole, files: 5 }, "max-files", "comes to more than 5 files"),
    ] {
        let error = unpacked(limits).expect_err(told);
        assert_eq!((error.kind(), error.to_string().as_str()), (package::Kind::Limit(kind), told));
        assert!(!to.exists());
    }
    let image = survey(&mut opened(&bytes).expect("an image"), Limits { bytes: whole, files: 6 });
    assert_eq!(image, Ok(900_000));
}
