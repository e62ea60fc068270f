//! Images that Docker and Podman have made, or nobody's engine, as packages: the same files as they show, and the same program
//! that runs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{lgetxattr, llistxattr};
use tests::{Docker, Packages, Podman, Runtime, debian, needs, until};

/// Building and saving take longer than most of what is tested.
const LONG: Duration = Duration::from_mins(3);

/// One of each kind, and more names than one block of a listing has. The files of a bundle are below.
const FILES: &str = r"
    mkdir -p opt/dir/deep opt/kept many srv etc bin && chmod 1777 many
    seq -f 'many/file-%g' 10000 | xargs touch -d @1000000000
    echo 7 > many/file-7 && echo one > opt/dir/one && echo gone > opt/gone && echo kept > opt/kept/kept
    ln many/file-7 many/hard && ln opt/gone opt/stays && ln -s ../many/file-7 opt/link && ln -s /opt/kept opt/away
    head -c 300000 /dev/urandom > opt/noise && head -c 500000 /dev/zero > opt/zeros && : > opt/empty
    mknod opt/null c 1 3 && mknod opt/far b 259 70000 && mkfifo opt/pipe
    cp /bin/busybox opt/capable && chmod 4711 opt/capable
    setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 opt/capable
    chown -R 33:33 opt/kept && chown 1234:4321 opt/empty && chown 100000:100000 opt/zeros
    ln -s opt/kept lib-by-link
    touch -d @1234567890 opt/noise
";

/// What later layers take away, replace and change, and what a shell finds the program by.
const DOCKERFILE: &str = r#"
FROM box
ADD files.tar /
RUN rm -r /opt/gone /opt/dir && mkdir /opt/dir && echo new > /opt/dir/new && chmod 700 /opt/kept && ln /many/file-8 /many/again && rm /many/file-9 && echo more >> /many/file-7 && rm -r /root && touch /root
RUN rm -r /opt/kept && ln -s dir /opt/kept && chown 5:6 /many/file-10 && mkdir -p /data /opt/new/new && chown 33:33 /data
ENV COLOUR=blue
USER 33:33
WORKDIR /opt/dir
VOLUME /data
ENTRYPOINT ["sh", "-c"]
CMD ["echo $COLOUR $PWD $(id -u):$(id -g) $(cat new /many/file-7); echo kept > /data/kept; exit 7"]
"#;

fn docker(name: &str) -> Docker {
    Docker::with(&Runtime::under_test(), name)
}

/// Runs a line of the shell in a directory.
#[track_caller]
fn shell(line: &str, directory: &Path) {
    let status = Command::new("sh").args(["-ec", line]).current_dir(directory).status();
    assert!(status.expect("run a shell").success(), "{line}");
}

/// All that there is to a file.
#[derive(Debug, PartialEq)]
struct Shown {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    device: u64,
    /// A directory's changes with whatever is made in it.
    time: i64,
    target: OsString,
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of the names that it has.
    first: PathBuf,
}

/// Every file below a directory but those that a container gets anew: devices, and what tells it of its network.
fn shown(root: &Path) -> BTreeMap<PathBuf, Shown> {
    const OWN: [&str; 9] = [
        "dev",
        "proc",
        "sys",
        "run",
        ".dockerenv",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
    ];
    let (mut all, mut firsts) = (BTreeMap::new(), BTreeMap::new());
    let mut open = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            if OWN.iter().any(|own| entry.path() == root.join(own)) {
                continue;
            }
            if entry.file_type().expect("a file").is_dir() {
                open.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).expect("it is below").to_owned();
        let stat = path.symlink_metadata().expect("a file");
        let is_directory = stat.is_dir();
        let first = firsts.entry(stat.ino()).or_insert_with(|| name.clone()).clone();
        let kind = match stat.mode() & libc::S_IFMT {
            libc::S_IFDIR => "directory",
            libc::S_IFREG => "file",
            libc::S_IFLNK => "link",
            libc::S_IFCHR => "character device",
            libc::S_IFBLK => "block device",
            libc::S_IFIFO => "pipe",
            _ => "socket",
        };
        let shown = Shown {
            kind,
            mode: if kind == "link" { 0 } else { stat.mode() & 0o7777 },
            owner: (stat.uid(), stat.gid()),
            links: if is_directory { 0 } else { stat.nlink() },
            device: stat.rdev(),
            time: if is_directory { 0 } else { stat.mtime() },
            target: if kind == "link" {
                fs::read_link(&path).expect("a link").into()
            } else {
                OsString::new()
            },
            content: if kind == "file" { fs::read(&path).expect("a file") } else { Vec::new() },
            attributes: attributes(&path),
            first,
        };
        all.insert(name, shown);
    }
    all
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let count = llistxattr(path, names.as_mut_slice()).expect("list attributes");
    let names = names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let count = lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()).expect("an attribute");
        value[..count].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

#[track_caller]
fn assert_same(one: &BTreeMap<PathBuf, Shown>, other: &BTreeMap<PathBuf, Shown>) {
    for (path, shown) in one {
        let found = other.get(path);
        // Contents are long.
        assert!(found == Some(shown), "{}: {}", path.display(), told(shown, found));
    }
    let more: Vec<_> = other.keys().filter(|path| !one.contains_key(*path)).collect();
    assert!(more.is_empty(), "{more:?}");
}

fn told(one: &Shown, other: Option<&Shown>) -> String {
    let told = |shown: &Shown| {
        format!(
            "{} {:o} {:?} links {} device {} time {} -> {} {} bytes {:?} {}",
            shown.kind,
            shown.mode,
            shown.owner,
            shown.links,
            shown.device,
            shown.time,
            shown.target.display(),
            shown.content.len(),
            shown.attributes,
            shown.first.display()
        )
    };
    format!("{} and {}", told(one), other.map_or("nothing".to_owned(), told))
}

/// What docker shows of an image: the files of a container that was never started.
fn exported(docker: &Docker, image: &str) -> PathBuf {
    let (archive, to) = (docker.dir().join("export.tar"), docker.dir().join("export"));
    docker.call(&["create", "--name", "shown", image]).success();
    let path = archive.display().to_string();
    docker.command(&["export", "--output", &path, "shown"]).within(LONG).run().success();
    docker.call(&["rm", "--volumes", "shown"]).success();
    fs::create_dir(&to).expect("a directory");
    let line =
        "tar --extract --xattrs --xattrs-include='*' --numeric-owner --same-permissions --file ../export.tar";
    shell(line, &to);
    to
}

fn save(docker: &Docker, image: &str, packages: &Packages) {
    let path = packages.path("image.tar").display().to_string();
    docker.command(&["save", "--output", &path, image]).within(LONG).run().success();
}

#[test]
fn root_a_package_has_the_files_that_docker_shows() {
    needs!(Root, Busybox, Docker, Cofferctl);
    let docker = docker("images");
    let context = docker.dir().join("context");
    fs::create_dir_all(context.join("files")).expect("directories");
    shell(FILES, &context.join("files"));
    shell(
        "tar --create --xattrs --xattrs-include='*' --file files.tar --directory files . && rm -r files",
        &context,
    );
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("a Dockerfile");
    let path = context.display().to_string();
    docker.command(&["build", "--tag", "web:1.2.3", &path]).within(LONG).run().success();

    let packages = Packages::new();
    save(&docker, "web:1.2.3", &packages);
    let printed = packages.expect(&["pack", "--from-oci", "image.tar", "-k", "k.key"]);
    assert_eq!(printed.trim(), "./web-1.2.3.npk");
    fs::rename(packages.path("web-1.2.3.npk"), packages.path("a.npk")).expect("a package");
    // As a whole it is packed by whom it may be; how it is called says nothing.
    shell("gzip -1 < image.tar > by-gzip; zstd -q < image.tar > by-zstd", &packages.path(""));
    for packed in ["by-gzip", "by-zstd"] {
        packages.expect(&["pack", "--from-oci", packed, "-k", "k.key", "-o", "b.npk"]);
        let [first, again] = ["a.npk", "b.npk"].map(|name| fs::read(packages.path(name)).expect("a package"));
        assert!(first == again, "{packed}: another package");
    }
    packages.expect(&["verify", "a.npk", "-k", "k.pub"]);
    packages.expect(&["unpack", "a.npk", "to", "-k", "k.pub"]);
    let (docker_shows, we_show) = (shown(&exported(&docker, "web:1.2.3")), shown(&packages.path("to")));
    assert!(docker_shows.len() > 10_000, "{}", docker_shows.len());
    let capable = &docker_shows[Path::new("opt/capable")];
    assert!(capable.attributes.contains_key(b"security.capability".as_slice()), "{:?}", capable.attributes);
    assert_same(&docker_shows, &we_show);

    let output = packages.run(&["--key", "k.pub", "--check"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let told = "blue /opt/dir 33:33 new 7 more\n";
    assert_eq!((out.as_str(), output.status.code()), (told, Some(7)), "{err}");
    assert_eq!(fs::read_to_string(packages.path("data/web/kept")).expect("what persists"), "kept\n");
    let by_docker = docker.call(&["run", "--rm", "web:1.2.3"]);
    assert_eq!((by_docker.stdout.as_str(), by_docker.code), (told, 7), "{by_docker}");
    until(|| packages.left().is_empty(), || format!("nothing left, but {:?}", packages.left()));
}

#[test]
fn root_debian_is_packed_signed_verified_and_run() {
    needs!(Root, Busybox, Docker, Debian, Cofferctl);
    let docker = docker("images-debian");
    let archive = docker.dir().join("debian.tar").display().to_string();
    let rootfs = debian::rootfs();
    shell(&format!("tar --create --file {archive} ."), &rootfs);
    let program = r#"CMD ["cat", "/etc/debian_version"]"#;
    let import = ["import", "--change", program, "--change", "ENV LANG=C.UTF-8", &archive, "debian:12.0.0"];
    docker.command(&import).within(LONG).run().success();

    let packages = Packages::new();
    save(&docker, "debian:12.0.0", &packages);
    let pack = ["pack", "--from-oci", "image.tar", "-k", "k.key", "--uid", "1", "--gid", "2", "-o", "a.npk"];
    packages.expect(&pack);
    packages.expect(&["verify", "a.npk", "-k", "k.pub"]);
    packages.expect(&["unpack", "a.npk", "to", "-k", "k.pub"]);
    // A package has no root: its files are of whoever takes root's place.
    let mut docker_shows = shown(&rootfs);
    for shown in docker_shows.values_mut() {
        shown.owner.0 = if shown.owner.0 == 0 { 1 } else { shown.owner.0 };
        shown.owner.1 = if shown.owner.1 == 0 { 2 } else { shown.owner.1 };
    }
    assert_same(&docker_shows, &shown(&packages.path("to")));
    let output = packages.run(&["--key", "k.pub", "--check"]);
    let version = fs::read_to_string(rootfs.join("etc/debian_version")).expect("a version");
    assert_eq!((text(&output.stdout), output.status.code()), (version, Some(0)), "{}", text(&output.stderr));
    until(|| packages.left().is_empty(), || format!("nothing left, but {:?}", packages.left()));
}

/// Whatever shape an image is saved in, it is the same package.
#[test]
fn root_every_shape_of_an_image_is_the_same_package() {
    needs!(Root, Busybox, Podman, Cofferctl);
    let podman = Podman::with(&Runtime::under_test(), "images-podman");
    let packages = Packages::new();
    let path = |name: &str| packages.path(name).display().to_string();
    for (format, to) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar"), ("oci-dir", "oci")] {
        podman.call(&["save", "--format", format, "--output", &path(to), "box"]).success();
    }
    for (how, to) in [("gzip", "by-gzip"), ("zstd", "by-zstd")] {
        let place = format!("oci:{}:box:latest", path(to));
        podman.call(&["push", "--format", "oci", "--compression-format", how, "box", &place]).success();
    }
    let is_zstd =
        |blob: PathBuf| fs::read(blob).is_ok_and(|bytes| bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let blobs = fs::read_dir(packages.path("by-zstd/blobs/sha256")).expect("blobs");
    assert_eq!(blobs.flatten().filter(|blob| is_zstd(blob.path())).count(), 1);
    let mut first = None;
    for from in ["docker.tar", "oci.tar", "oci", "by-gzip", "by-zstd"] {
        let manifest = "name: a\nversion: 1.2.3\ninit: /bin/sh\nargs: [-c, 'echo ran']\nuid: 1000\ngid: 1000\n\
            io: {stdout: inherit, stderr: inherit}\n";
        fs::write(packages.path("a.yaml"), manifest).expect("a manifest");
        packages.expect(&["pack", "--from-oci", from, "-m", "a.yaml", "-k", "k.key", "-o", "a.npk"]);
        let bytes = fs::read(packages.path("a.npk")).expect("a package");
        let first = first.get_or_insert_with(|| bytes.clone());
        assert!(*first == bytes, "{from}: another package");
    }
    let pack = ["pack", "--from-oci", "oci", "-m", "a.yaml", "-o", "b.npk"];
    for (flags, told) in [
        (["--max-bytes", "1MiB"], "comes to more than 1048576 bytes unpacked; --max-bytes raises that limit"),
        (["--max-files", "10"], "comes to more than 10 files; --max-files raises that limit"),
        (["--max-bytes", "much"], "--max-bytes: a number of bytes is due, or one such as 20GiB: much"),
    ] {
        packages.refuse(&[&pack[..], &flags].concat(), told);
        assert!(!packages.path("b.npk").exists());
    }
    packages.refuse(
        &["unpack", "a.npk", "to", "--max-files=10"],
        "comes to more than 10 files; --max-files raises that limit",
    );
    assert!(!packages.path("to").exists());
    packages.expect(&["verify", "a.npk", "-k", "k.pub"]);
    let output = packages.run(&["--key", "k.pub", "--check"]);
    assert_eq!(text(&output.stdout), "ran\n", "{}", text(&output.stderr));
    until(|| packages.left().is_empty(), || format!("nothing left, but {:?}", packages.left()));
}

/// An image layout of two layers, made by nobody's engine: `oci`, the same as an archive, and that packed.
const LAYOUT: &str = r#"
    blob() { sum=$(sha256sum < $1 | cut -d ' ' -f 1); mv $1 oci/blobs/sha256/$sum; }
    told() { echo "{\"digest\": \"sha256:$sum\", \"size\": $(stat -c %s oci/blobs/sha256/$sum)}"; }
    mkdir -p oci/blobs/sha256 more/opt more/bin
    mkdir -p root/opt root/many root/tmp && seq -f 'root/many/file-%g' 2000 | xargs touch && echo gone > root/opt/gone
    ln root/many/file-7 root/opt/hard && ln -s ../many root/opt/link && mknod root/opt/null c 1 3 && mkfifo root/opt/pipe
    head -c 300000 /dev/zero > root/opt/zeros && chown 33:34 root/opt/zeros && chmod 4711 root/opt/zeros
    echo new > more/opt/new && chmod 600 more/opt/new && chown 33:33 more/opt/new && touch more/opt/.wh.gone
    tar --create --file one.tar --numeric-owner --mtime @1000000000 --directory root . && one=$(sha256sum < one.tar | cut -d ' ' -f 1)
    tar --create --file two.tar --numeric-owner --mtime @1000000000 --directory more . && two=$(sha256sum < two.tar | cut -d ' ' -f 1)
    gzip -n one.tar && blob one.tar.gz && layers=$(told) && blob two.tar && layers="$layers, $(told)"
    echo "{\"config\": {\"Env\": [\"COLOUR=blue\", \"PATH=/bin\"], \"User\": \"33:33\", \"WorkingDir\": \"/opt\",
        \"Cmd\": [\"/bin/sh\", \"-c\", \"busybox cat new; echo \$COLOUR \$PWD; busybox id -u; exit 7\"]},
        \"rootfs\": {\"diff_ids\": [\"sha256:$one\", \"sha256:$two\"]}}" > config && blob config
    echo "{\"config\": $(told), \"layers\": [$layers]}" > manifest && blob manifest
    echo "{\"manifests\": [$(told)]}" > oci/index.json
    tar --create --file oci.tar --directory oci . && gzip < oci.tar > oci.bin
    rm root/opt/gone && mv more/opt/new root/opt
"#;

#[test]
fn root_a_layout_of_nobody_is_packed_signed_unpacked_and_run() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    shell(LAYOUT, &packages.path(""));
    for from in ["oci", "oci.tar", "oci.bin"] {
        let pack = ["pack", "--from-oci", from, "--name", "web", "-k", "k.key", "-o"];
        packages.expect(&[&pack[..], &[&format!("{from}.npk")]].concat());
    }
    let bytes = |name: &str| fs::read(packages.path(name)).expect("a package");
    assert!(
        bytes("oci.npk") == bytes("oci.tar.npk") && bytes("oci.npk") == bytes("oci.bin.npk"),
        "three packages"
    );
    fs::rename(packages.path("oci.npk"), packages.path("a.npk")).expect("a package");
    packages.expect(&["verify", "a.npk", "-k", "k.pub"]);
    packages.expect(&["unpack", "a.npk", "to", "-k", "k.pub"]);
    let mut put_in = shown(&packages.path("root"));
    assert!(put_in.len() > 2000, "{}", put_in.len());
    for shown in put_in.values_mut() {
        if shown.kind != "directory" {
            shown.time = 1_000_000_000;
        }
    }
    assert_same(&put_in, &shown(&packages.path("to")));
    let output = packages.run(&["--key", "k.pub", "--check"]);
    let told = ("new\nblue /opt\n33\n".to_owned(), Some(7));
    assert_eq!((text(&output.stdout), output.status.code()), told, "{}", text(&output.stderr));
    until(|| packages.left().is_empty(), || format!("nothing left, but {:?}", packages.left()));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
