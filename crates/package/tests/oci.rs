//! Images as they come, and as they are made to deceive.
#![allow(clippy::expect_used, reason = "a test states what it expects")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use package::oci::{Image, Wishes, read};
use package::tree::{Id, Kind, Tree};
use package::{Limits, Manifest};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A layer that is being written.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(0);
        header.set_mtime(77);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    fn file(mut self, path: &str, content: &str) -> Self {
        let mut header = Self::header(EntryType::Regular, 0o644);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content.as_bytes()).expect("a file");
        self
    }

    /// A name that the library would not write.
    fn raw(mut self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Regular, 0o644);
        header.as_gnu_mut().expect("it is GNU's").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.0.append(&header, std::io::empty()).expect("a file");
        self
    }

    fn directory(mut self, path: &str, mode: u32) -> Self {
        let mut header = Self::header(EntryType::Directory, mode);
        self.0.append_data(&mut header, path, std::io::empty()).expect("a directory");
        self
    }

    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        self.0.append_link(&mut Self::header(kind, 0o777), path, target).expect("a link");
        self
    }

    fn device(mut self, path: &str) -> Self {
        let mut header = Self::header(EntryType::Char, 0o600);
        header.set_device_major(4).expect("GNU's headers have it");
        header.set_device_minor(300).expect("GNU's headers have it");
        self.0.append_data(&mut header, path, std::io::empty()).expect("a device");
        self
    }

    fn attribute(mut self, name: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(name, value)]).expect("an attribute");
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("a layer")
    }
}

/// An image layout in a directory.
fn layout(directory: &Path, config: &str, layers: Vec<Layer>) {
    layout_of(directory, config, layers.into_iter().map(Layer::bytes).collect());
}

/// The same of layers that are written already.
fn layout_of(directory: &Path, config: &str, layers: Vec<Vec<u8>>) {
    fs::create_dir_all(directory.join("blobs/sha256")).expect("directories");
    let blob = |bytes: &[u8]| {
        fs::write(directory.join("blobs/sha256").join(digest(bytes)), bytes).expect("a blob");
        format!("{{\"digest\": \"sha256:{}\", \"size\": {}}}", digest(bytes), bytes.len())
    };
    let mut described = Vec::new();
    let mut digests = Vec::new();
    for (index, plain) in layers.into_iter().enumerate() {
        digests.push(format!("\"sha256:{}\"", digest(&plain)));
        // Every other layer is packed.
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain).expect("memory");
        described.push(blob(&if index % 2 == 0 { packed.finish().expect("memory") } else { plain }));
    }
    let config = format!("{{\"config\": {config}, \"rootfs\": {{\"diff_ids\": [{}]}}}}", digests.join(","));
    let manifest =
        format!("{{\"config\": {}, \"layers\": [{}]}}", blob(config.as_bytes()), described.join(","));
    let described = blob(manifest.as_bytes());
    let named =
        described.replace('}', ", \"annotations\": {\"org.opencontainers.image.ref.name\": \"web:1.2.3\"}}");
    fs::write(directory.join("index.json"), format!("{{\"manifests\": [{named}]}}")).expect("an index");
}

fn image(config: &str, layers: Vec<Layer>) -> Result<Image, String> {
    let directory = tempfile::tempdir().expect("a directory");
    layout(directory.path(), config, layers);
    read(directory.path(), directory.path(), Limits::default(), &mut |_| ())
        .map_err(|error| error.to_string())
}

/// Every path of a tree, with what is there.
fn paths(tree: &Tree) -> BTreeMap<String, Id> {
    let mut all = BTreeMap::new();
    let mut open = vec![(String::new(), Tree::ROOT)];
    while let Some((path, id)) = open.pop() {
        if let Kind::Directory(names) = &tree.node(id).kind {
            for (name, below) in names {
                open.push((format!("{path}/{}", String::from_utf8_lossy(name)), *below));
            }
        }
        all.insert(path, id);
    }
    all
}

#[test]
fn layers_lie_over_each_other() {
    let image = image(
        "{}",
        vec![
            Layer::new()
                .directory("etc", 0o755)
                .file("etc/gone", "a")
                .file("etc/kept", "b")
                .file("opaque/old", "c")
                .file("dir-then-file/x", "d")
                .directory("usr/lib", 0o755)
                .link(EntryType::Symlink, "lib", "/usr/lib"),
            Layer::new()
                .file("opaque/new", "e")
                .file("opaque/.wh..wh..opq", "")
                .file("etc/.wh.gone", "")
                .file("etc/.wh.never-was", "")
                .file("dir-then-file", "f")
                .directory("etc", 0o700)
                // Through a link, as some builders write it; and back under the same name.
                .file("lib/libc.so", "g")
                .link(EntryType::Link, "hard", "etc/kept")
                .attribute("SCHILY.xattr.security.capability", b"\x01\x00")
                .file("capable", "h")
                .device("console")
                .file(&format!("long/{}", "n".repeat(200)), "i"),
        ],
    )
    .expect("it is good");
    let found = paths(&image.tree);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let long = format!("/long/{}", "n".repeat(200));
    assert_eq!(
        names,
        [
            "",
            "/capable",
            "/console",
            "/dir-then-file",
            "/etc",
            "/etc/kept",
            "/hard",
            "/lib",
            "/long",
            &long,
            "/opaque",
            "/opaque/new",
            "/usr",
            "/usr/lib",
            "/usr/lib/libc.so"
        ]
    );
    assert_eq!(found["/hard"], found["/etc/kept"]);
    assert_eq!(image.tree.node(found["/etc"]).mode, 0o700);
    assert!(matches!(image.tree.node(found["/console"]).kind, Kind::Char(4, 300)));
    let capable = image.tree.node(found["/capable"]);
    assert_eq!(capable.xattrs, [(b"security.capability".to_vec(), vec![1, 0])].into());
    assert_eq!(capable.mtime, 77);
}

#[test]
fn what_would_leave_the_image_is_refused() {
    for (layer, told) in [
        (Layer::new().raw("../../etc/passwd"), "\"../../etc/passwd\": leads upwards"),
        (Layer::new().link(EntryType::Link, "a", "../../etc/passwd"), "\"a\": leads upwards"),
        (
            Layer::new().link(EntryType::Link, "a", "etc/shadow"),
            "\"a\": is a hard link to \"etc/shadow\", which is not there",
        ),
        (
            Layer::new()
                .link(EntryType::Symlink, "a", "b")
                .link(EntryType::Symlink, "b", "a")
                .file("a/c", ""),
            "\"a/c\": links lead in a ring",
        ),
        (
            Layer::new().directory("a", 0o755).link(EntryType::Link, "a/b", "a"),
            "\"a/b\": is a directory, which has no second name",
        ),
    ] {
        let error = image("{}", vec![layer]).expect_err(told);
        assert!(error.starts_with("layer blobs/sha256/") && error.ends_with(told), "{error}");
    }
    // A link that leads out leads to the image's own root.
    let inside =
        image("{}", vec![Layer::new().link(EntryType::Symlink, "a", "../../..").file("a/etc/x", "y")]);
    assert!(paths(&inside.expect("it is good").tree).contains_key("/etc/x"));
}

#[test]
fn a_blob_that_is_not_what_its_digest_tells_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let of = |which: &str| {
        layout(directory.path(), "{\"Cmd\": [\"/a\"]}", vec![Layer::new().file("a", "b")]);
        let blobs = fs::read_dir(directory.path().join("blobs/sha256")).expect("blobs");
        for blob in blobs.map(|blob| blob.expect("a blob").path()) {
            let mut bytes = fs::read(&blob).expect("a blob");
            let is_layer = bytes.starts_with(b"\x1f\x8b");
            if is_layer == (which == "layer") {
                // Behind the head of a gzip, or within a text.
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
                fs::write(&blob, bytes).expect("a blob");
            }
        }
        read(directory.path(), directory.path(), Limits::default(), &mut |_| ()).expect_err(which).to_string()
    };
    assert!(of("document").ends_with("is not what its digest tells"));
    let layer = of("layer");
    assert!(
        layer.contains("unpacking: ") || layer.ends_with("is not what the image's configuration tells"),
        "{layer}"
    );
}

#[test]
fn a_configuration_becomes_a_manifest() {
    let config = r#"{"Env": ["PATH=/opt/bin:/bin", "A=\"b\" c"], "User": "www:adm", "WorkingDir": "/srv",
        "Entrypoint": ["server"], "Cmd": ["--port", "80"], "Volumes": {"/data": {}}}"#;
    let mut image = image(
        config,
        vec![
            Layer::new()
                .file("bin/server", "")
                .file("etc/passwd", "root:x:0:0::/:\nwww:x:33:34::/:\n")
                .file("etc/group", "adm:x:4:\n"),
        ],
    )
    .expect("it is good");
    let text = image.manifest(&Wishes::default()).expect("it can be told");
    let manifest = Manifest::read("image", text.as_bytes()).expect("it is good");
    assert_eq!(manifest.container(), "web:1.2.3");
    assert_eq!(
        (manifest.init.as_deref(), manifest.args.join(" ").as_str()),
        (Some("/bin/server"), "--port 80")
    );
    assert_eq!((manifest.uid, manifest.gid, manifest.cwd.as_str()), (33, 4, "/srv"));
    assert_eq!(manifest.env["A"], "\"b\" c");
    assert_eq!(manifest.mounts["/data"], package::Mount::Persist);
}

#[test]
fn what_an_image_wants_of_root_is_given_to_somebody_else() {
    let mut image = image("{\"Cmd\": [\"a\"]}", vec![Layer::new().file("bin/a", "")]).expect("it is good");
    let wishes = Wishes { uid: Some(7), ..Wishes::default() };
    let text = image.manifest(&wishes).expect("it can be told");
    let manifest = Manifest::read("image", text.as_bytes()).expect("it is good");
    assert_eq!((manifest.uid, manifest.gid), (7, 1000));
    let found = paths(&image.tree);
    let node = image.tree.node(found["/bin/a"]);
    assert_eq!((node.uid, node.gid), (7, 1000));
}

/// What an image comes to is counted as it comes, whatever it says of itself.
#[test]
fn what_comes_to_more_than_the_limits_is_refused() {
    let zeros = |count: usize| String::from_utf8(vec![b'0'; count]).expect("it is text");
    let read_within = |layers: Vec<Layer>, limits: Limits| {
        let directory = tempfile::tempdir().expect("a directory");
        layout(directory.path(), "{}", layers);
        read(directory.path(), directory.path(), limits, &mut |_| ()).map(drop)
    };
    let layers = || vec![Layer::new().file("a", &zeros(200_000)), Layer::new().file("a", &zeros(100_000))];
    // The first with its head and rest, and the end of an archive: 512 + 200,192 + 1024; the second likewise.
    let whole = 201_728 + 101_888;
    assert_eq!(read_within(layers(), Limits { bytes: whole, files: 2 }), Ok(()));
    let bytes = read_within(layers(), Limits { bytes: whole - 1, files: 2 }).expect_err("too many bytes");
    assert_eq!(bytes.kind(), package::Kind::Limit("max-bytes"));
    let told = format!("comes to more than {} bytes unpacked", whole - 1);
    assert!(
        bytes.to_string().starts_with("layer blobs/sha256/") && bytes.to_string().ends_with(&told),
        "{bytes}"
    );
    let files = read_within(layers(), Limits { bytes: whole, files: 1 }).expect_err("too many files");
    assert_eq!(files.kind(), package::Kind::Limit("max-files"));
    assert!(files.to_string().ends_with("comes to more than 1 files"), "{files}");
}

/// A gigabyte in a megabyte is not unpacked to its end first.
#[test]
fn a_bomb_takes_no_more_room_than_its_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    layout(directory.path(), "{}", vec![Layer::new().file("a", "b")]);
    let blobs = fs::read_dir(directory.path().join("blobs/sha256")).expect("blobs");
    let layer = blobs
        .map(|blob| blob.expect("a blob").path())
        .find(|blob| fs::read(blob).is_ok_and(|bytes| bytes.starts_with(b"\x1f\x8b")));
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1024 {
        bomb.write_all(&vec![0; 1 << 20]).expect("memory");
    }
    let bomb = bomb.finish().expect("memory");
    assert!(bomb.len() < 8 << 20, "{}", bomb.len());
    fs::write(layer.expect("a layer"), bomb).expect("a blob");
    let (limits, mut heard) = (Limits { bytes: 3 << 20, files: 10 }, 0);
    let refused = read(directory.path(), directory.path(), limits, &mut |bytes| heard += bytes);
    assert_eq!(refused.expect_err("it is too large").kind(), package::Kind::Limit("max-bytes"));
    assert!(heard <= limits.bytes, "{heard}");
}

/// Names and attributes of one file are held in memory, and a layer of a few bytes can have a gigabyte of them.
#[test]
fn one_file_is_not_told_of_by_megabytes() {
    let mut long = Builder::new(Vec::new());
    let mut header = Layer::header(EntryType::GNULongName, 0o644);
    header.set_size(2 << 20);
    long.append_data(&mut header, "././@LongLink", vec![b'n'; 2 << 20].as_slice()).expect("a name");
    let long = Layer(long).file("a", "b");
    let many = Layer::new().attribute("SCHILY.xattr.user.a", &vec![b'v'; 2 << 20]).file("a", "b");
    for layer in [long, many] {
        let error = image("{}", vec![layer]).expect_err("it is too much");
        assert!(
            error.ends_with("breaks off or is damaged: more than 1048576 bytes tell of one file"),
            "{error}"
        );
    }
    let deep = "d/".repeat(300);
    let error = image("{}", vec![Layer::new().directory(&deep, 0o755)]).expect_err("it is too deep");
    assert!(error.ends_with("more than 256 directories within directories"), "{error}");
}

/// Contents are stepped over, and not read: that they are there is checked all the same.
#[test]
fn a_layer_that_ends_within_a_file_is_refused() {
    let mut cut = Layer::new().file("a", &"b".repeat(5000)).bytes();
    cut.truncate(3000);
    let directory = tempfile::tempdir().expect("a directory");
    layout_of(directory.path(), "{}", vec![cut]);
    let error =
        read(directory.path(), directory.path(), Limits::default(), &mut |_| ()).expect_err("it breaks off");
    let told = "breaks off or is damaged: ends within a file of 5000 bytes";
    assert!(error.to_string().ends_with(told), "{error}");
}

/// What an image calls its parts, or writes where a number is due, is told on one line, and commands no terminal.
#[test]
fn what_an_image_says_is_told_on_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "[{\"Config\": \"c\\nd\\u001b[2J\", \"Layers\": []}]";
    fs::write(directory.path().join("manifest.json"), text).expect("a manifest");
    let read = || read(directory.path(), directory.path(), Limits::default(), &mut |_| ());
    let error = read().expect_err("it is missing").to_string();
    assert_eq!(error, "c\\nd\\u{1b}[2J: \"c\\nd\\u{1b}[2J\" is missing");
    let mut header = Layer::header(EntryType::Regular, 0o644);
    header.as_mut_bytes()[124..135].copy_from_slice(b"12\n\x1b[2J3456");
    header.set_cksum();
    let torn = [header.as_bytes().as_slice(), &[0; 1024]].concat();
    fs::remove_file(directory.path().join("manifest.json")).expect("a file");
    layout_of(directory.path(), "{}", vec![torn]);
    let error = read().expect_err("it is no number").to_string();
    assert!(error.contains("breaks off or is damaged: ") && !error.contains(char::is_control), "{error:?}");
}

/// A whole image as an archive: what `docker save` makes of a layout. There is more in it than its layers come to.
fn archive() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("note"), vec![b'n'; 300_000]).expect("a file");
    layout(directory.path(), "{\"Cmd\": [\"/a\"]}", vec![Layer::new().file("a", &"b".repeat(200_000))]);
    let mut archive = Builder::new(Vec::new());
    archive.append_dir_all(".", directory.path()).expect("an archive");
    archive.into_inner().expect("memory")
}

fn by_gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

/// What is read of a file with these bytes, and how many files there are beside it then.
fn read_file(bytes: &[u8], limits: Limits) -> (Result<Image, package::Error>, usize) {
    let directory = tempfile::tempdir().expect("a directory");
    // How it is called says nothing.
    let path = directory.path().join("image.bin");
    fs::write(&path, bytes).expect("a file");
    let image = read(&path, directory.path(), limits, &mut |_| ());
    (image, directory.path().read_dir().expect("a directory").count() - 1)
}

#[test]
fn an_archive_may_be_packed_as_a_whole() {
    let plain = archive();
    let zstd =
        ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    let (one, other) = plain.split_at(5000);
    // gzip(1) takes what is put behind each other, as dump programs do, for one.
    let twice = [by_gzip(one), by_gzip(other)].concat();
    for bytes in [&plain, &by_gzip(&plain), &zstd, &twice] {
        let (image, left) = read_file(bytes, Limits::default());
        let image = image.expect("it is good");
        let found = paths(&image.tree);
        assert!(
            matches!(&image.tree.node(found["/a"]).kind, Kind::File(content) if content.size() == 200_000)
        );
        assert_eq!((image.reference.as_deref(), left), (Some("web:1.2.3"), 0));
    }
}

#[test]
fn a_packed_archive_that_is_not_whole_is_refused() {
    let plain = archive();
    let zstd =
        ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    let gzip = by_gzip(&plain);
    for whole in [&gzip, &zstd] {
        for end in [4, 20, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
            let (image, left) = read_file(&whole[..end], Limits::default());
            let error = image.expect_err("it breaks off");
            assert_eq!((error.kind(), left), (package::Kind::Damaged, 0), "{end}: {error}");
            assert!(error.to_string().starts_with("unpacking: "), "{end}: {error}");
        }
    }
    let mut other = gzip.clone();
    let at = other.len() - 6;
    other[at] ^= 1;
    let error = read_file(&other, Limits::default()).0.expect_err("its checksum is another");
    assert!(error.to_string().starts_with("unpacking: "), "{error}");
    for (bytes, told) in [
        (by_gzip(&gzip), "is no tar archive, or is damaged: "),
        (by_gzip(b"no archive"), "is no tar archive, or is damaged: "),
        (by_gzip(b""), "is no image: neither index.json nor manifest.json is in it"),
        (b"\xfd7zXZ\0\0".to_vec(), "is packed by xz; gzip and zstd are read"),
        (b"BZh91AY&SY".to_vec(), "is packed by bzip2; gzip and zstd are read"),
    ] {
        let error = read_file(&bytes, Limits::default()).0.expect_err(told).to_string();
        assert!(error.starts_with(told), "{error}");
    }
}

#[test]
fn a_packed_archive_comes_to_no_more_than_the_limits() {
    let plain = archive();
    let whole = plain.len() as u64;
    let gzip = by_gzip(&plain);
    assert!(read_file(&gzip, Limits { bytes: whole, files: 1 }).0.is_ok());
    let (refused, left) = read_file(&gzip, Limits { bytes: whole - 1, files: 1 });
    let error = refused.expect_err("it is too large");
    assert_eq!((error.kind(), left), (package::Kind::Limit("max-bytes"), 0));
    assert_eq!(error.to_string(), format!("comes to more than {} bytes unpacked", whole - 1));
    // A gigabyte in a megabyte.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1024 {
        bomb.write_all(&vec![0; 1 << 20]).expect("memory");
    }
    let (refused, left) = read_file(&bomb.finish().expect("memory"), Limits { bytes: 3 << 20, files: 10 });
    assert_eq!(
        refused.expect_err("it is too large").to_string(),
        "comes to more than 3145728 bytes unpacked"
    );
    assert_eq!(left, 0);
}
