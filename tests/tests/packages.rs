//! Packages on a real kernel: images that it mounts, and programs that run from them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Packages, Runtime, needs, until};

const DENY: &str = env!("CARGO_BIN_EXE_deny");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn root_a_package_runs_and_leaves_nothing() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    packages.pack(
        "echo $NORTHSTAR_CONTAINER; busybox id -u; busybox touch /x; busybox touch /tmp/x /keep/x && echo written; exit 7",
        "mounts:\n  /tmp: {type: tmpfs, size: 1M}\n  /keep: {type: persist}\n  /proc: {type: proc}\nseccomp: {profile: default}\n",
    );
    let output = packages.run(&["--key", "k.pub", "--check"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((out.as_str(), output.status.code()), ("a:1.2.3\n1000\nwritten\n", Some(7)), "{err}");
    assert!(err.contains("/x: Read-only file system"), "{err}");
    let kept = packages.path("data/a/x").metadata().expect("what persists");
    assert_eq!((kept.uid(), kept.gid()), (1000, 1000));
    assert_gone(&packages);
}

/// What the killed one has left, its container included, goes before the next is made.
#[test]
fn root_a_killed_run_does_not_keep_its_id() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    packages.pack("echo up; exec busybox sleep 1000", "");
    let mut killed = Command::new(Packages::program())
        .args(["run", "a.npk", "--id", &packages.id, "--state", "state"])
        .current_dir(packages.path(""))
        .stdout(Stdio::piped())
        .spawn()
        .expect("run cofferctl");
    let mut lines = BufReader::new(killed.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "up");
    killed.kill().and_then(|()| killed.wait()).expect("kill cofferctl");
    packages.pack("echo again", "");
    let output = packages.run(&["--key", "k.pub", "--check"]);
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("again\n", Some(0)),
        "{}",
        text(&output.stderr)
    );
    assert!(lines.next().is_none(), "the first program has ended");
    assert_gone(&packages);
}

#[test]
fn root_a_package_of_others_or_changed_since_does_not_run() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    packages.pack("echo ran", "");
    packages.expect(&["gen-key", "other", "--out", "."]);
    let run = ["run", "a.npk", "--id", &packages.id, "--state", "state", "--check", "--key"];
    let with = |key| [run.as_slice(), &[key]].concat();
    packages.refuse(&with("other.pub"), "the signature is not by this key, or not over this text");
    let mut bytes = fs::read(packages.path("a.npk")).expect("a package");
    bytes[4096 + 5000] ^= 1;
    fs::write(packages.path("a.npk"), bytes).expect("a package");
    if !Path::new("/dev/mapper/control").exists() {
        packages.refuse(&with("k.pub"), "block 1 of the image and its hash in the tree differ");
    }
    packages
        .refuse(&["verify", "a.npk", "-k", "k.pub"], "block 1 of the image and its hash in the tree differ");
    assert_gone(&packages);
}

/// A kernel before 5.8 has no one call for a loop device, and answers what it does not know with either of these.
#[test]
fn root_a_loop_device_is_the_same_by_two_calls() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    let file = packages.path("a.npk").display().to_string();
    let tell = format!(
        "cd /sys/block; for each in loop*/loop; do \
             busybox grep -qx {file} $each/backing_file && echo $(busybox cat $each/offset $each/sizelimit $each/autoclear \
             $each/../ro); done; exit 0"
    );
    packages.pack(&tell, "mounts:\n  /sys: {type: sysfs}\n");
    let one = packages.run(&[]);
    let (told, err) = (text(&one.stdout), text(&one.stderr));
    assert!(told.starts_with("4096 ") && told.ends_with(" 1 1\n"), "{told}{err}");
    for errno in ["EINVAL", "ENOTTY"] {
        let two = packages.run_by(&[DENY, errno, "ioctl-loop-configure", "--"], &[]);
        assert_eq!(text(&two.stdout), told, "{errno}: {}", text(&two.stderr));
        assert_gone(&packages);
    }
    let none = packages.run_by(&[DENY, "EPERM", "ioctl-loop-configure", "--"], &[]);
    assert!(text(&none.stderr).contains("LOOP_CONFIGURE): "), "{}", text(&none.stderr));
    assert_gone(&packages);
}

#[test]
fn root_a_host_without_device_mapper_says_so() {
    needs!(Root, Busybox, Cofferctl);
    if Path::new("/dev/mapper/control").exists() {
        return;
    }
    let packages = Packages::new();
    packages.pack("echo ran", "");
    packages.refuse(
        &["run", "a.npk", "--id", &packages.id, "--state", "state", "--key", "k.pub"],
        "set up dm-verity: open(\"/dev/mapper/control\"): no such file or directory (os error 2); with --check the whole \
         image is read once instead",
    );
    assert_gone(&packages);
}

/// Every file with its kind, mode, links, device, target and content, as two passes over the tree tell it. A directory's
/// links are counted otherwise by every file system.
const TOLD: &str = "cd TREE && find . -mindepth 1 ! -path ./dev ! -path './dev/*' \\( -type d -printf '%p %y %m\n' -o -printf \
    '%p %y %m %n %l\n' \\) | sort && find . \\( -type b -o -type c \\) ! -path './dev/*' -exec stat -c '%n %t:%T' {} + | sort && \
    find . -type f -exec cksum {} + | sort && \
    if command -v getfattr > /dev/null; then getfattr --recursive --physical --no-dereference --dump --match=. . | sort; fi";

#[test]
fn root_the_kernel_reads_what_was_packed() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    let root = packages.path("root");
    // More names than one block of a directory's listing has, contents at and around the size of a block, holes.
    fs::create_dir_all(root.join("many/deep/er")).expect("directories");
    for index in 0..10_000 {
        fs::write(root.join(format!("many/file-{index}")), format!("{index}\n")).expect("a file");
    }
    for size in [0, 1, 4096, 131_071, 131_072, 131_073, 400_000] {
        let content: Vec<u8> =
            (0..size).map(|at: usize| u8::try_from(at * at % 251).unwrap_or_default()).collect();
        fs::write(root.join(format!("size-{size}")), content).expect("a file");
    }
    fs::write(root.join("zeros"), vec![0; 1_000_000]).expect("a file");
    fs::write(root.join("n".repeat(255)), "long").expect("a file");
    fs::hard_link(root.join("size-4096"), root.join("many/hard")).expect("a link");
    symlink("../bin/busybox", root.join("many/link")).expect("a link");
    let script = "mknod null c 1 3 && mknod far b 259 70000 && mkfifo pipe && chmod 4711 size-1 && chmod 1777 many/deep && \
        if command -v setfattr > /dev/null; then \
            setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 bin/busybox; \
            setfattr -n user.large -v $(head -c 3900 /dev/zero | tr '\\0' x) size-131073; \
            setfattr -n user.small -v y many/deep; \
        fi";
    let made = Command::new("sh").args(["-c", script]).current_dir(&root).status();
    assert!(made.expect("run a shell").success());
    for (kind, compression) in [("squashfs", "gzip"), ("squashfs", "none"), ("erofs", "none")] {
        packages.pack("true", "");
        let pack = ["pack", "-m", "a.yaml", "-r", "root", "-c", compression, "--image", kind, "-o", "b.npk"];
        packages.expect(&pack);
        packages.expect(&["verify", "b.npk"]);
        let tell = |tree: &str| TOLD.replace("TREE", tree);
        let script = format!(
            "mkdir mnt && mount -t {kind} -o ro,loop,offset=4096 b.npk mnt && ({}) > image; status=$?; umount mnt; rmdir mnt; \
             ({}) > directory; exit $status",
            tell("mnt"),
            tell("root")
        );
        let shell = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .current_dir(packages.path(""))
            .output();
        let shell = shell.expect("run a shell");
        assert!(shell.status.success(), "{kind}, {compression}: {}", text(&shell.stderr));
        let [image, directory] = ["image", "directory"]
            .map(|name| fs::read_to_string(packages.path(name)).expect("what was told"));
        assert!(image.lines().count() > 20_000, "{image}");
        if image != directory {
            let differ = image.lines().zip(directory.lines()).find(|(one, other)| one != other);
            panic!("{kind}, {compression}: {differ:?}");
        }
    }
    assert_gone(&packages);
}

#[test]
fn root_an_erofs_is_mounted_and_checked_as_a_squashfs_is() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    packages.pack("busybox id -u; busybox sha256sum /bin/busybox", "");
    let run = || text(&packages.run(&["--key", "k.pub", "--check"]).stdout);
    let squashfs = run();
    assert!(squashfs.starts_with("1000\n") && squashfs.lines().count() == 2, "{squashfs}");
    let pack = ["pack", "-m", "a.yaml", "-r", "root", "-k", "k.key", "--image", "erofs"];
    packages.expect(&[&pack[..], &["-o", "a.npk"]].concat());
    packages.expect(&["verify", "a.npk", "-k", "k.pub"]);
    assert_eq!(run(), squashfs);
    packages.refuse(
        &[&pack[..], &["-c", "gzip"]].concat(),
        "--compression: erofs is written as it is, and none of it packed",
    );
    packages.expect(&[&pack[..], &["-o", "b.npk"]].concat());
    let [first, again] = ["a.npk", "b.npk"].map(|name| fs::read(packages.path(name)).expect("a package"));
    assert!(first == again, "another package");
    // Where its own checker is there, it finds nothing.
    if Runtime::find("fsck.erofs").is_some() {
        let script = "tail -c +4097 a.npk > image && fsck.erofs --extract image";
        let checked = Command::new("sh").args(["-c", script]).current_dir(packages.path("")).output();
        let checked = checked.expect("run a shell");
        assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
    }
    assert_gone(&packages);
}

/// Both ways back are one: what the kernel shows of an image, and what is unpacked of it.
#[test]
fn root_what_is_unpacked_is_what_was_packed() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    let root = packages.path("root");
    fs::create_dir_all(root.join("many/deep/er")).expect("directories");
    for index in 0..2_000 {
        fs::write(root.join(format!("many/file-{index}")), format!("{index}\n")).expect("a file");
    }
    fs::write(root.join("zeros"), vec![0; 1_000_000]).expect("a file");
    fs::hard_link(root.join("zeros"), root.join("many/hard")).expect("a link");
    symlink("/etc/passwd", root.join("many/link")).expect("a link");
    let script = "mknod null c 1 3 && mknod far b 259 70000 && mkfifo pipe && chmod 4711 zeros && chmod 1777 many/deep && \
        setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 bin/busybox 2> /dev/null; true";
    let made = Command::new("sh").args(["-c", script]).current_dir(&root).status();
    assert!(made.expect("run a shell").success());
    packages.pack("true", "");
    packages.expect(&["gen-key", "other", "--out", "."]);
    packages.refuse(
        &["unpack", "a.npk", "to", "-k", "other.pub"],
        "the signature is not by this key, or not over this text",
    );
    assert!(!packages.path("to").exists());
    packages.expect(&["unpack", "a.npk", "to", "-k", "k.pub"]);
    let tell = |tree: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &TOLD.replace("TREE", tree)]).current_dir(packages.path(""));
        text(&shell.output().expect("run a shell").stdout)
    };
    packages
        .expect(&["pack", "-m", "a.yaml", "-r", "root", "-k", "k.key", "--image", "erofs", "-o", "e.npk"]);
    packages.expect(&["unpack", "e.npk", "to-by-erofs", "-k", "k.pub"]);
    let from = tell("root");
    assert!(from.lines().count() > 4_000, "{from}");
    for to in ["to", "to-by-erofs"] {
        let to = tell(to);
        if from != to {
            let differ = from.lines().zip(to.lines()).find(|(one, other)| one != other);
            panic!("{differ:?}");
        }
    }
    let owner = packages.path("to/many/file-7").metadata().expect("a file");
    assert_eq!((owner.uid(), owner.gid(), owner.mtime()), (1000, 1000, 0));
    packages.refuse(&["unpack", "a.npk", "to"], "\"to\" is not empty");
    // Packed once more, it is the same package.
    packages.expect(&["pack", "-m", "a.yaml", "-r", "to", "-k", "k.key", "-o", "b.npk"]);
    let [first, again] = ["a.npk", "b.npk"].map(|name| fs::read(packages.path(name)).expect("a package"));
    assert!(first == again, "another package");
}

/// What the manual shows, but for what takes Docker or the device mapper.
#[test]
fn root_the_examples_of_the_page_work() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    fs::rename(packages.path("root"), packages.path("files")).expect("files");
    let manifest = "name: hello\nversion: 0.0.1\ninit: /bin/busybox\nuid: 1000\ngid: 1000\n";
    fs::write(packages.path("hello.yaml"), manifest).expect("a manifest");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/cofferctl/pages/cofferctl.md");
    let page = fs::read_to_string(page).expect("the page's text");
    let lines = page.lines().filter_map(|line| line.strip_prefix("    cofferctl "));
    // What follows that speaks to the daemon, and is a test of the daemon's.
    let lines = lines.take_while(|line| !line.starts_with("install "));
    let lines = lines.filter(|line| !line.starts_with("run ") && !line.contains("--from-oci"));
    let mut count = 0;
    for line in lines {
        let line = line
            .replace("busybox-1.36.1", "hello-0.0.1")
            .replace(" files -k vendor.pub", " to -k vendor.pub");
        packages.expect(&line.split(' ').collect::<Vec<_>>());
        count += 1;
    }
    assert_eq!(count, 5);
    assert!(packages.path("to/bin/busybox").exists());
}

#[test]
fn root_the_same_directory_is_the_same_package() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    packages.pack("true", "");
    let first = fs::read(packages.path("a.npk")).expect("a package");
    // Another order of names in the directory, and other times.
    fs::rename(packages.path("root"), packages.path("old")).expect("a directory");
    let copied = Command::new("cp")
        .args(["-r", "--no-preserve=timestamps", "old", "root"])
        .current_dir(packages.path(""))
        .status();
    assert!(copied.expect("run cp").success());
    packages.pack("true", "");
    assert_eq!(first, fs::read(packages.path("a.npk")).expect("a package"));
}

/// A device of the device mapper that nobody has open any more is removed by a worker of the kernel's, which tells nobody
/// when; the loop device below it goes with it.
#[track_caller]
fn assert_gone(packages: &Packages) {
    until(|| packages.left().is_empty(), || format!("nothing left, but {:?}", packages.left()));
}

#[test]
fn vm_the_kernel_checks_each_block_as_it_is_read() {
    needs!(Vm, Cofferctl);
    checks_each_block("squashfs");
}

#[test]
fn vm_the_kernel_checks_each_block_of_an_erofs_as_it_is_read() {
    needs!(Vm, Cofferctl);
    checks_each_block("erofs");
}

#[track_caller]
fn checks_each_block(kind: &str) {
    let loaded = Command::new("modprobe").args(["-a", "loop", kind, "dm-verity"]).status();
    assert!(loaded.expect("run modprobe").success());
    let packages = Packages::new();
    // Not compressed, so that it lies in the image as it is; as large as two blocks of a squashfs.
    let content: Vec<u8> = (0..262_144u32).flat_map(u32::to_le_bytes).take(262_144).collect();
    fs::write(packages.path("root/content"), &content).expect("a file");
    packages.pack("busybox cat /content > /dev/null && echo read", "");
    let pack =
        ["pack", "-m", "a.yaml", "-r", "root", "-c", "none", "--image", kind, "-k", "k.key", "-o", "a.npk"];
    packages.expect(&pack);
    let run = || {
        let output = packages.run(&["--key", "k.pub"]);
        (text(&output.stdout), output.status.code(), text(&output.stderr))
    };
    let (out, code, err) = run();
    assert_eq!((out.as_str(), code), ("read\n", Some(0)), "{err}");
    assert_gone(&packages);
    // What veritysetup(8) says of it is the oracle.
    let inspected = packages.expect(&["inspect", "a.npk"]);
    let field = |name: &str| {
        let line = inspected.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().last().expect("a word").to_owned()
    };
    let size: u64 = inspected
        .lines()
        .find_map(|line| line.strip_prefix("image")?.trim().strip_suffix(" bytes")?.parse().ok())
        .expect("a size");
    let script = format!(
        "tail -c +4097 a.npk > image && veritysetup verify --hash-offset={size} image image {}",
        field("root hash")
    );
    let shell = Command::new("sh")
        .args(["-c", &script])
        .current_dir(packages.path(""))
        .output()
        .expect("run a shell");
    assert!(shell.status.success(), "{}", text(&shell.stderr));

    // One bit: of a content, whose reader fails; of the superblock, and there is no mount.
    let good = fs::read(packages.path("a.npk")).expect("a package");
    let needle = &content[150_000..150_064];
    let of_content = good.windows(needle.len()).position(|window| window == needle).expect("the content");
    // The number of inodes, which says nothing of itself that could be wrong.
    let of_head = 4096 + if kind == "erofs" { 1024 + 16 } else { 4 };
    for (at, told) in [(of_content, "Input/output error"), (of_head, "os error 5")] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(packages.path("a.npk"), bytes).expect("a package");
        let (out, code, err) = run();
        assert!(
            out.is_empty() && code == Some(1) && err.contains(told),
            "{kind}, byte {at}: {code:?} {out}{err}"
        );
        assert_gone(&packages);
    }
    // Other tests may have one for a while.
    let devices = || text(&Command::new("dmsetup").arg("ls").output().expect("run dmsetup").stdout);
    until(|| devices().trim() == "No devices found", || format!("none left, but {}", devices()));
}
