//! Mounts: what the options of the document become, as the kernel shows it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tests::{Bundle, Container, Output, Runtime, Snapshot, needs};

const DENY: &str = env!("CARGO_BIN_EXE_deny");

/// All of the calls that mount by handle.
const CALLS: &str = "fsopen,fsmount,fspick,open_tree,move_mount,mount_setattr";

/// A volume with a mount of its own below it, in a mount namespace of the runtime's: both shared, none of the host's.
const VOLUME: &str = r#"cd "$1" && mkdir -p volume && mount -t tmpfs -o nosuid,relatime top volume &&
    mkdir volume/below && mount -t tmpfs -o nodev,relatime below volume/below && mount --make-rshared volume &&
    shift && exec "$@""#;

fn with_volume<'a>(bundle: &Bundle, deny: &'a [&'a str]) -> Vec<String> {
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", VOLUME, "sh"];
    let dir = bundle.dir().to_str().expect("ASCII");
    words.iter().chain([&dir]).chain(deny).map(|word| (*word).to_owned()).collect()
}

fn volume(name: &str, options: &[&str]) -> Bundle {
    let bundle = Bundle::new(name);
    let source = bundle.dir().join("volume").display().to_string();
    bundle.mount("/mnt", "bind", &source, options).shell("grep ' /mnt' /proc/self/mountinfo")
}

/// The options of the mount and of the one below it, and how they spread, without numbers.
fn shown(output: &Output) -> [String; 2] {
    let line = |place: &str| {
        let line = output.stdout.lines().find(|line| line.split(' ').nth(4) == Some(place));
        let line = line.unwrap_or_else(|| panic!("no {place}: {output}"));
        let words: Vec<&str> = line.split(" - ").next().expect("a mount").split(' ').skip(5).collect();
        let plain = words.iter().map(|word| word.split(':').next().unwrap_or(word));
        plain.collect::<Vec<_>>().join(" ")
    };
    [line("/mnt"), line("/mnt/below")]
}

fn run_with_volume(bundle: &Bundle, deny: &[&str]) -> Output {
    let container = bundle.another(&Runtime::under_test());
    let launcher = with_volume(bundle, deny);
    container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run()
}

#[test]
fn root_attributes_reach_all_mounts_below() {
    needs!(Root, Busybox);
    let rows: &[(&[&str], &str, &str)] = &[
        (&["rbind"], "rw,nosuid,relatime", "rw,nodev,relatime"),
        (&["rbind", "ro"], "ro,relatime", "rw,nodev,relatime"),
        (&["rbind", "rro"], "ro,nosuid,relatime", "ro,nodev,relatime"),
        (&["rbind", "rro", "rrw"], "rw,nosuid,relatime", "rw,nodev,relatime"),
        (&["rbind", "rro", "rw"], "ro,relatime", "ro,nodev,relatime"),
        (&["bind", "rnosuid", "rbind"], "rw,nosuid,relatime", "rw,nosuid,nodev,relatime"),
        (&["rbind", "rsuid"], "rw,relatime", "rw,nodev,relatime"),
        (&["rbind", "rnodev"], "rw,nosuid,nodev,relatime", "rw,nodev,relatime"),
        (&["rbind", "rdev"], "rw,nosuid,relatime", "rw,relatime"),
        (&["rbind", "rnoexec"], "rw,nosuid,noexec,relatime", "rw,nodev,noexec,relatime"),
        (&["rbind", "noexec", "rexec"], "rw,relatime", "rw,nodev,relatime"),
        (&["rbind", "rnoatime"], "rw,nosuid,noatime", "rw,nodev,noatime"),
        (&["rbind", "rstrictatime"], "rw,nosuid", "rw,nodev"),
        (&["rbind", "rnoatime", "rrelatime"], "rw,nosuid,relatime", "rw,nodev,relatime"),
        (&["rbind", "noatime", "ratime"], "rw,relatime", "rw,nodev,relatime"),
        (&["rbind", "rnodiratime"], "rw,nosuid,nodiratime,relatime", "rw,nodev,nodiratime,relatime"),
        (&["rbind", "nodiratime", "rdiratime"], "rw,relatime", "rw,nodev,relatime"),
        (&["rbind", "rnosymfollow"], "rw,nosuid,relatime,nosymfollow", "rw,nodev,relatime,nosymfollow"),
        (&["rbind", "nosymfollow", "rsymfollow"], "rw,relatime", "rw,nodev,relatime"),
    ];
    for (options, top, below) in rows {
        let bundle = volume("recursive", &[options, &["rprivate"][..]].concat());
        let output = run_with_volume(&bundle, &[]);
        assert_eq!(shown(output.success()), [*top, *below], "{options:?}");
    }
}

/// mount(2) changes one mount at a time: where `mount_setattr(2)` is denied, that is said, and nothing is done by halves.
#[test]
fn root_attributes_of_all_mounts_below_need_a_newer_kernel() {
    needs!(Root, Busybox);
    let bundle = volume("older", &["rbind", "rro"]);
    for (errno, told) in [("ENOSYS", "(needs Linux 5.12): mount_setattr("), ("EPERM", ": mount_setattr(")] {
        for calls in ["mount_setattr", CALLS] {
            let output = run_with_volume(&bundle, &[DENY, errno, calls, "--"]);
            output.code(1);
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            assert!(output.stderr.contains("change all mounts below"), "{output}");
            assert!(output.stderr.contains(told), "{output}");
            assert_eq!(output.stdout, "", "{output}");
            bundle.assert_nothing_left();
        }
    }
}

#[test]
fn root_mounts_spread_as_asked() {
    needs!(Root, Busybox);
    // The host's mounts become slaves, so a copy of a shared one is a slave.
    let rows: &[(&[&str], &str, &str)] = &[
        (&[], "master", "master"),
        (&["private"], "", "master"),
        (&["rprivate"], "", ""),
        (&["slave"], "master", "master"),
        (&["rslave"], "master", "master"),
        (&["shared"], "shared master", "master"),
        (&["rshared"], "shared master", "shared master"),
        (&["unbindable"], "unbindable", "master"),
        (&["runbindable"], "unbindable", "unbindable"),
        (&["rprivate", "shared"], "shared", ""),
        (&["rshared", "private"], "", "shared master"),
    ];
    for errno in [None, Some("ENOSYS")] {
        for (options, top, below) in rows {
            let bundle = volume("spread", &[&["rbind"][..], options].concat());
            let deny: &[&str] = errno.map_or(&[], |_| &[DENY, "ENOSYS", CALLS, "--"]);
            let spread = shown(run_with_volume(&bundle, deny).success());
            let spread = spread.map(|words| words.split_once(' ').map_or("", |(_, rest)| rest).to_owned());
            assert_eq!(spread, [*top, *below], "{options:?}, {errno:?}");
        }
    }
}

#[test]
fn root_links_are_not_followed_where_that_is_asked() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("symfollow");
    let host = bundle.dir().join("host");
    fs::create_dir(&host).expect("make a volume");
    fs::write(host.join("file"), "read\n").expect("write a file");
    symlink("file", host.join("link")).expect("make a link");
    let source = host.display().to_string();
    let bundle = bundle
        .mount("/var", "bind", &source, &["bind", "nosymfollow"])
        .mount("/tmp", "bind", &source, &["bind", "nosymfollow", "symfollow"])
        .shell("cat /var/file /tmp/link; cat /var/link 2>&1");
    let output = bundle.container(&Runtime::under_test()).run();
    assert_eq!(
        output.stdout, "read\nread\ncat: can't open '/var/link': Too many levels of symbolic links\n",
        "{output}"
    );
}

/// Words of crun's: a link at either end of a bind mount is followed unless they are there.
#[test]
fn root_links_at_either_end_of_a_mount() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("links");
    let root = bundle.rootfs();
    let host = bundle.dir().join("host");
    fs::create_dir(&host).expect("make a volume");
    fs::write(host.join("file"), "host's file\n").expect("write a file");
    symlink("file", host.join("link")).expect("make a link");
    symlink("/nowhere/at/all", host.join("dangling")).expect("make a link");
    for name in ["target", "other"] {
        fs::write(root.join("etc").join(name), "container's\n").expect("write a file");
    }
    symlink("target", root.join("etc/covered")).expect("make a link");
    symlink("other", root.join("etc/followed")).expect("make a link");
    symlink("file", root.join("etc/same")).expect("make a link");
    let at = |name: &str| host.join(name).display().to_string();
    let bundle = bundle
        .mount("/etc/copied", "bind", &at("dangling"), &["bind", "copy-symlink"])
        .mount("/etc/same", "bind", &at("link"), &["bind", "copy-symlink"])
        .mount("/etc/plain", "bind", &at("file"), &["bind", "copy-symlink", "ro"])
        .mount("/etc/itself", "bind", &at("dangling"), &["bind", "src-nofollow"])
        .mount("/etc/covered", "bind", &at("file"), &["bind", "dest-nofollow"])
        .mount("/etc/followed", "bind", &at("file"), &["bind"])
        .mount("/etc/new", "bind", &at("file"), &["bind", "dest-nofollow"])
        .shell(
            "cd /etc; for link in copied same itself; do readlink $link; done; \
             cat plain covered target other new; grep -c ' /etc/' /proc/self/mountinfo",
        );
    let expected = "/nowhere/at/all\nfile\n/nowhere/at/all\nhost's file\nhost's file\ncontainer's\nhost's file\n\
                    host's file\n5\n";
    for deny in [&[][..], &[DENY, "ENOSYS", CALLS, "--"], &[DENY, "EPERM", CALLS, "--"]] {
        let container = bundle.another(&Runtime::under_test());
        let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(deny).run();
        assert_eq!(output.success().stdout, expected, "{deny:?}: {output}");
    }
    fs::remove_file(root.join("etc/same")).expect("remove a link");
    symlink("elsewhere", root.join("etc/same")).expect("make a link");
    let output = bundle.container(&Runtime::under_test()).run();
    output.code(1);
    let told = "on /etc/same: something else than a link to \"file\" is there already\n";
    assert!(output.stderr.ends_with(told), "{output}");
}

#[test]
fn root_overlays_are_mounted_from_their_data() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("overlay");
    let dir = bundle.dir().join("layers");
    for name in ["lower", "upper", "work"] {
        fs::create_dir_all(dir.join(name)).expect("make a layer");
    }
    fs::write(dir.join("lower/below"), "below\n").expect("write a file");
    let at = |name: &str| dir.join(name).display().to_string();
    // More than 255 bytes, which fsconfig(2) does not take.
    let long: Vec<String> = (0..12).map(|number| at(&format!("layer-number-{number}"))).collect();
    for (number, layer) in long.iter().enumerate() {
        fs::create_dir(layer).expect("make a layer");
        fs::write(format!("{layer}/{number}"), "").expect("write a file");
    }
    let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
    let short = format!("lowerdir={lower}");
    let (upper, work) = (format!("upperdir={upper}"), format!("workdir={work}"));
    let bundle = bundle
        .mount("/mnt", "overlay", "overlay", &[&short, &upper, &work, "nodev"])
        .mount("/var", "overlay", "overlay", &[&format!("lowerdir={}", long.join(":"))])
        .shell("cat /mnt/below; echo above > /mnt/above; ls /var | sort -n | tr '\n' ' '; grep -c overlay /proc/mounts");
    for deny in [&[][..], &[DENY, "ENOSYS", CALLS, "--"]] {
        let container = bundle.another(&Runtime::under_test());
        let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(deny).run();
        assert_eq!(output.success().stdout, "below\n0 1 2 3 4 5 6 7 8 9 10 11 2\n", "{output}");
        assert_eq!(fs::read_to_string(dir.join("upper/above")).expect("it was written"), "above\n");
    }
    let bundle = bundle.edit(|config| {
        config["mounts"].as_array_mut().expect("a list").retain(|mount| mount["destination"] != "/var");
        let last = config["mounts"].as_array_mut().expect("a list").last_mut().expect("a mount");
        last["options"] = json!(["lowerdir=/no/such/directory"]);
    });
    let output = bundle.container(&Runtime::under_test()).run();
    output.code(1);
    assert!(output.stderr.contains("mount overlay on /mnt: "), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

/// One file of a tree, without what a copy cannot keep.
#[derive(Debug, PartialEq)]
struct File {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    links: u64,
    size: u64,
    changed: (i64, i64),
    says: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn picture(root: &Path) -> BTreeMap<String, File> {
    let mut files = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let shown = fs::symlink_metadata(&path).expect("a file");
        let kind = shown.file_type();
        let is_plain = kind.is_file() || kind.is_dir();
        let says = if kind.is_symlink() {
            fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            fs::read(&path).expect("a file")
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            todo.extend(
                fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()),
            );
        }
        let name = path.strip_prefix(root).expect("below it").display().to_string();
        let is_device = kind.is_char_device() || kind.is_block_device();
        let file = File {
            mode: shown.mode(),
            owner: (shown.uid(), shown.gid()),
            device: if is_device { shown.rdev() } else { 0 },
            links: if kind.is_dir() { 0 } else { shown.nlink() },
            size: if kind.is_dir() { 0 } else { shown.size() },
            changed: (shown.mtime(), shown.mtime_nsec()),
            says,
            attributes: if is_plain { attributes(&path) } else { BTreeMap::new() },
        };
        files.insert(name, file);
    }
    files
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).expect("names");
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).expect("a value");
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// A directory with one of everything.
fn furnish(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).expect("make directories");
    fs::write(root.join("plain"), "text\n").expect("write a file");
    fs::write(root.join("deep/er/program"), vec![7; 200_000]).expect("write a file");
    let hole = fs::File::create(root.join("hole")).expect("make a file");
    hole.set_len(3 << 20).expect("make a hole");
    std::os::unix::fs::FileExt::write_all_at(&hole, b"end", 2 << 20).expect("write into it");
    fs::hard_link(root.join("plain"), root.join("deep/plain")).expect("make a link");
    symlink("/etc/passwd", root.join("absolute")).expect("make a link");
    symlink("../../../../../etc/passwd", root.join("relative")).expect("make a link");
    symlink("/", root.join("deep/root")).expect("make a link");
    let node = |name: &str, kind, mode, device| {
        let mode = rustix::fs::Mode::from_raw_mode(mode);
        rustix::fs::mknodat(rustix::fs::CWD, root.join(name), kind, mode, device).expect("make a node");
    };
    node("null", rustix::fs::FileType::CharacterDevice, 0o620, rustix::fs::makedev(1, 3));
    node("pipe", rustix::fs::FileType::Fifo, 0o604, 0);
    node("socket", rustix::fs::FileType::Socket, 0o640, 0);
    let value = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let anew = rustix::fs::XattrFlags::empty();
    for (name, owner, mode) in [
        ("plain", (7, 8), 0o6755),
        ("deep", (9, 10), 0o2751),
        ("deep/er", (0, 0), 0o1777),
        ("hole", (1, 2), 0),
    ] {
        chown(root.join(name), Some(owner.0), Some(owner.1)).expect("give it away");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("set its mode");
    }
    lchown(root.join("absolute"), Some(11), Some(12)).expect("give it away");
    rustix::fs::setxattr(root.join("deep/er/program"), "security.capability", value, anew).expect("set it");
    rustix::fs::setxattr(root.join("deep"), "trusted.mark", b"seen", anew).expect("set it");
    chown(root, Some(13), Some(14)).expect("give it away");
    fs::set_permissions(root, fs::Permissions::from_mode(0o3751)).expect("set its mode");
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["plain", "hole", "deep/er/program"] {
        let file = fs::File::open(root.join(name)).expect("open it");
        file.set_modified(time).expect("set its time");
    }
}

fn init_of(container: &Container<'_>) -> String {
    format!("/proc/{}/root", container.pid().expect("init waits"))
}

#[test]
fn root_a_tmpfs_begins_with_what_lay_under_it() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("copyup").mount("/run/here", "tmpfs", "tmpfs", &["tmpcopyup", "nosuid"]);
    let source = bundle.rootfs().join("run/here");
    furnish(&source);
    let wanted = picture(&source);
    assert!(wanted["deep/er/program"].attributes.contains_key(&b"security.capability"[..]));
    for deny in [&[][..], &[DENY, "ENOSYS", CALLS, "--"], &[DENY, "EPERM", "fsopen", "--"]] {
        let container = bundle.another(&Runtime::under_test());
        container.command(&["create", "--bundle", "BUNDLE", "ID"]).launched_by(deny).run().success();
        let place = Path::new(&init_of(&container)).join("run/here");
        assert_ne!(
            fs::metadata(&place).expect("a directory").dev(),
            fs::metadata(&source).expect("a directory").dev(),
            "it is a tmpfs"
        );
        assert_eq!(picture(&place), wanted, "{deny:?}");
        // The hole is one still.
        let hole = fs::metadata(place.join("hole")).expect("a file");
        assert!(hole.blocks() * 512 < 1 << 20, "{} blocks", hole.blocks());
        fs::write(place.join("more"), "").expect("it can be written");
        container.delete_force().success();
        assert_eq!(picture(&source), wanted, "the source stays as it is");
    }
}

#[test]
fn root_a_tmpfs_of_somebody_elses_stays_theirs() {
    needs!(Root, Busybox);
    let options = ["tmpcopyup", "uid=55", "gid=66", "mode=0701", "ro"];
    let bundle = Bundle::new("copyup-owner").mount("/run", "tmpfs", "tmpfs", &options);
    fs::write(bundle.rootfs().join("run/file"), "text").expect("write a file");
    let bundle = bundle.mount("/new", "tmpfs", "tmpfs", &["tmpcopyup"]).shell(
        "stat -c '%a %u:%g' /run /run/file /new; touch /run/more 2>/dev/null || echo sealed; ls /new | wc -l",
    );
    let output = bundle.container(&Runtime::under_test()).run();
    assert_eq!(output.success().stdout, "701 55:66\n644 0:0\n1777 0:0\nsealed\n0\n", "{output}");
}

#[test]
fn root_what_cannot_be_copied_is_told() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("copyup-full").mount("/run", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]);
    fs::write(bundle.rootfs().join("run/large"), vec![1; 1 << 20]).expect("write a file");
    let before = Snapshot::take(&bundle);
    for deny in [&[][..], &[DENY, "ENOSYS", CALLS, "--"]] {
        let container = bundle.another(&Runtime::under_test());
        let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(deny).run();
        output.code(1);
        let told = "mount tmpfs on /run: copy up: write(\"/large\"): no space left on device (os error 28)\n";
        assert!(output.stderr.ends_with(told), "{output}");
        before.assert_same();
    }
}

#[test]
fn root_a_link_under_a_tmpfs_leads_nowhere_out() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("copyup-out").mount("/run", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let secret = bundle.dir().join("secret");
    fs::create_dir(&secret).expect("make a directory");
    fs::write(secret.join("file"), "the host's").expect("write a file");
    fs::remove_dir(bundle.rootfs().join("run")).expect("remove a directory");
    // The link leads to the host's directory from outside, and to nothing from inside.
    symlink(&secret, bundle.rootfs().join("run")).expect("make a link");
    let bundle = bundle.shell("ls -A /run/ | wc -l");
    let output = bundle.container(&Runtime::under_test()).run();
    assert_eq!(output.success().stdout, "0\n", "{output}");
    assert_eq!(fs::read_dir(&secret).expect("a directory").count(), 1);
}

#[test]
fn root_what_is_mounted_can_be_changed() {
    needs!(Root, Busybox);
    let rows: &[(&[&str], &str, &str)] = &[
        (&["bind", "remount", "ro"], "ro,relatime", "size=64k"),
        (&["bind", "remount", "noexec", "nodev"], "rw,nodev,noexec,relatime", "size=64k"),
        (&["bind", "remount", "noatime", "nosymfollow"], "rw,noatime,nosymfollow", "size=64k"),
        (&["bind", "remount"], "rw,relatime", "size=64k"),
        (&["remount", "nosuid", "size=128k"], "rw,nosuid,relatime", "size=128k"),
        (&["remount", "ro"], "ro,relatime", "size=64k"),
    ];
    for deny in [&[][..], &[DENY, "ENOSYS", CALLS, "--"], &[DENY, "EPERM", "fspick", "--"]] {
        for (options, shown, size) in rows {
            let bundle = Bundle::new("remount")
                .mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "size=64k"])
                .mount("/tmp", "tmpfs", "tmpfs", options)
                .shell(r"sed -n 's/.* \/tmp \([^ ]*\) .*- .*\(size=[^,]*\).*/\1 \2/p' /proc/self/mountinfo");
            let container = bundle.container(&Runtime::under_test());
            let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(deny).run();
            assert_eq!(output.success().stdout, format!("{shown} {size}\n"), "{options:?}, {deny:?}");
        }
    }
    let bundle = Bundle::new("remount-what").mount("/tmp", "tmpfs", "tmpfs", &["remount", "bind", "ro"]);
    let output = bundle.container(&Runtime::under_test()).run();
    output.code(1);
    assert!(output.stderr.contains("remount /tmp: ") && output.stderr.contains("os error 22"), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

/// In a user namespace of its own a container has its copies of the host's mounts with what was set, and cannot take it back:
/// what is not named stays, and what is named is told.
#[test]
fn root_what_another_user_namespace_locked_stays() {
    needs!(Root, Busybox);
    let rows: &[(&[&str], Option<&str>)] = &[
        (&["rbind", "ro", "rprivate"], Some("ro,nosuid,relatime")),
        (&["rbind", "rro", "rprivate"], Some("ro,nosuid,relatime")),
        (&["rbind", "noexec", "relatime", "rprivate"], Some("rw,nosuid,noexec,relatime")),
        (&["rbind", "suid"], None),
        (&["rbind", "rsuid"], None),
        (&["rbind", "noatime"], None),
    ];
    for (options, expected) in rows {
        let bundle = volume("locked", options).edit(|config| {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        // The container's root may make nothing in what is the host's root's.
        fs::create_dir(bundle.rootfs().join("mnt")).expect("make a directory");
        let output = run_with_volume(&bundle, &[]);
        if let Some(wanted) = expected {
            assert_eq!(shown(output.success())[0], *wanted, "{options:?}");
        } else {
            output.code(1);
            assert!(output.stderr.contains("os error 1)"), "{options:?}: {output}");
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
        }
    }
}

/// As soon as the options speak of the mount, all that they do not say is taken back, access times apart, which only a
/// word that asks for a way to keep them changes. In a user namespace of its own what is locked and not named stays.
/// The rows are what runc 1.3 does.
#[test]
fn root_a_bind_mount_takes_its_options_and_no_others() {
    type Row<'a> = (&'a str, &'a [&'a str], &'a str, Option<&'a str>);
    const SOURCE: &str = r#"cd "$1" && mkdir -p volume && mount -t tmpfs top volume &&
        mount --bind -o "remount,$2" volume && shift 2 && exec "$@""#;
    needs!(Root, Busybox);
    let all = "ro,noexec,nosuid,nodev,noatime";
    let rows: &[Row<'_>] = &[
        (all, &[], "ro,nosuid,nodev,noexec,noatime", Some("ro,nosuid,nodev,noexec,noatime")),
        (all, &["defaults"], "ro,nosuid,nodev,noexec,noatime", Some("ro,nosuid,nodev,noexec,noatime")),
        (all, &["dev"], "rw,noatime", None),
        (all, &["silent"], "rw,noatime", Some("ro,nosuid,nodev,noexec,noatime")),
        ("ro,noexec", &["nosuid"], "rw,nosuid,relatime", Some("ro,nosuid,noexec,relatime")),
        ("ro", &["rw", "nosuid"], "rw,nosuid,relatime", None),
        ("nosuid,noatime", &["ro", "exec"], "ro,noatime", Some("ro,nosuid,noatime")),
        ("nosymfollow,nodev", &["ro"], "ro,relatime", Some("ro,nodev,relatime")),
        ("noatime", &["atime"], "rw,noatime", Some("rw,noatime")),
        ("noatime", &["norelatime", "diratime"], "rw,noatime", Some("rw,noatime")),
        ("noatime", &["relatime"], "rw,relatime", None),
        ("noatime", &["nodiratime"], "rw,nodiratime,relatime", None),
        ("nodiratime", &["ro"], "ro,nodiratime,relatime", Some("ro,nodiratime,relatime")),
        ("nodiratime", &["strictatime"], "rw", None),
        ("strictatime", &["nostrictatime"], "rw", Some("rw")),
    ];
    for (host, options, plain, mapped) in rows {
        for (with_users, expected) in [(false, Some(*plain)), (true, *mapped)] {
            let bundle = volume("options", &[&["bind"][..], options].concat()).edit(|config| {
                if with_users {
                    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                    config["linux"]["namespaces"]
                        .as_array_mut()
                        .expect("a list")
                        .push(json!({"type": "user"}));
                    config["linux"]["uidMappings"] = map.clone();
                    config["linux"]["gidMappings"] = map;
                }
            });
            fs::create_dir(bundle.rootfs().join("mnt")).expect("make a directory");
            let dir = bundle.dir().to_str().expect("ASCII");
            let launcher =
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", SOURCE, "sh", dir, host];
            let container = bundle.container(&Runtime::under_test());
            let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run();
            let told = format!("{options:?} of {host}, users {with_users}: {run}");
            if let Some(wanted) = expected {
                let line = run.success().stdout.lines().find(|line| line.contains(" /mnt "));
                assert_eq!(line.and_then(|line| line.split(' ').nth(5)), Some(wanted), "{told}");
            } else {
                run.code(1);
                assert!(run.stderr.contains("operation not permitted (os error 1)"), "{told}");
            }
        }
    }
}

/// A user namespace inside may mount a proc without masks where one is in its mount namespace already, seen or not: with
/// `--no-pivot` the host's would be, beneath the root.
#[test]
fn root_no_pivot_leaves_no_bare_proc_beneath() {
    needs!(Root, Busybox);
    for kind in ["proc", "sysfs"] {
        let line = format!(
            "busybox unshare -mrpnf busybox sh -c 'mount -t {kind} none /mnt && echo bare'; echo done"
        );
        let bundle = Bundle::new("bare").cap("CAP_SETFCAP").shell(&line);
        fs::create_dir(bundle.rootfs().join("mnt")).expect("a directory");
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let output = container.command(&["run", "--no-pivot", "--bundle", "BUNDLE", "ID"]).run();
        assert_eq!(output.success().stdout, "done\n", "{kind}: {output}");
        assert!(output.stderr.contains("permission denied"), "{kind}: {output}");
        before.assert_same();
    }
}
