//! What only the virtual machine of `make test-vm` has: everything, and nobody else on it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::Command;

use serde_json::{Value, json};
use tests::{Bundle, Output, Runtime, Snapshot, needs};

/// Every capability that Linux 6.12 knows, in the order of their numbers.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO \
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE \
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF \
    CHECKPOINT_RESTORE";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[track_caller]
fn call(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("run a shell");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

fn run(bundle: &Bundle) -> Output {
    bundle.container(&Runtime::under_test()).call(&["run", "--bundle", "BUNDLE", "ID"])
}

/// The others of this machine rely on each of these.
#[test]
fn vm_the_machine_is_what_it_is_said_to_be() {
    needs!(Vm);
    assert_eq!(read("/proc/1/comm"), "systemd");
    assert_eq!(
        read("/sys/fs/cgroup/cgroup.controllers"),
        "cpuset cpu io memory hugetlb pids rdma misc",
        "version 2 alone"
    );
    assert_eq!(read("/sys/module/apparmor/parameters/enabled"), "Y");
    assert!(read("/proc/pressure/memory").starts_with("some "));
    for bus in ["/run/dbus/system_bus_socket", "/run/user/1000/bus"] {
        assert!(fs::metadata(bus).expect("a bus").file_type().is_socket(), "{bus}");
    }
    assert_eq!(call("systemctl is-system-running"), "running\n");
    assert!(call("modprobe dm-verity && dmsetup targets").contains("verity"));
    assert!(call("criu check 2>&1").contains("Looks good"));
    let (subordinate, links) = (read("/etc/subuid"), read("/proc/net/dev").lines().count() - 2);
    assert_eq!((&*subordinate, links), ("user:100000:65536", 1), "and no way out");
}

/// A profile that is loaded as long as this value lives.
struct Profile {
    name: String,
    file: String,
}

impl Profile {
    /// Everything is allowed but to read one file.
    fn but(bundle: &Bundle, file: &str) -> Self {
        let name = bundle.id().to_owned();
        let path = bundle.dir().join("profile").display().to_string();
        let rules = "file, capability, network, mount, umount, pivot_root, signal, ptrace, dbus, unix,";
        let flags = "flags=(attach_disconnected,mediate_deleted)";
        fs::write(&path, format!("profile {name} {flags} {{\n{rules}\ndeny {file} r,\n}}\n")).expect("write");
        call(&format!("apparmor_parser --add {path}"));
        Self { name, file: path }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let removed = Command::new("apparmor_parser").args(["--remove", &self.file]).status();
        assert!(removed.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn vm_a_profile_of_apparmor_confines_program_and_exec() {
    needs!(Root, Busybox, Vm);
    let look = "cat /proc/self/attr/current; cat /etc/open; cat /etc/secret";
    let mut bundle = Bundle::new("profile").shell(look);
    for (name, text) in [("open", "for all\n"), ("secret", "for nobody\n")] {
        fs::write(bundle.rootfs().join("etc").join(name), text).expect("write a file of the image");
    }
    let profile = Profile::but(&bundle, "/etc/secret");
    let free = run(&bundle);
    assert_eq!(free.success().stdout, "unconfined\nfor all\nfor nobody\n");

    bundle.change(|config| config["process"]["apparmorProfile"] = json!(profile.name));
    let confined = format!("{} (enforce)\nfor all\n", profile.name);
    let denied = run(&bundle);
    assert_eq!(denied.code(1).stdout, confined);
    assert!(denied.stderr.contains("/etc/secret': Permission denied"), "{denied}");

    bundle.change(|config| config["process"]["args"] = json!(["sleep", "1000"]));
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    let inside = container.call(&["exec", "ID", "sh", "-c", look]);
    assert_eq!(inside.code(1).stdout, confined);
    // Another one by name, and none of that name.
    let other = container.call(&["exec", "--apparmor", "unconfined", "ID", "sh", "-c", look]);
    assert_eq!(other.success().stdout, "unconfined\nfor all\nfor nobody\n");
    let missing = container.call(&["exec", "--apparmor", "cdt-none", "ID", "true"]);
    assert!(missing.code(255).stderr.contains("cdt-none"), "{missing}");
    container.delete_force().success();
}

/// A profile that nobody has loaded: the container comes to nothing, and the message has its name.
#[test]
fn vm_a_profile_that_is_not_loaded_is_told_by_its_name() {
    needs!(Root, Busybox, Vm);
    let bundle =
        Bundle::new("lacking").edit(|config| config["process"]["apparmorProfile"] = json!("cdt-none"));
    let before = Snapshot::take(&bundle);
    let output = run(&bundle);
    assert!(output.code(1).stderr.contains("cdt-none"), "{output}");
    before.assert_same();
}

/// As `docker run --privileged` has it, which a machine cannot do whose own root lacks a capability.
#[test]
fn vm_a_container_may_hold_every_capability() {
    needs!(Root, Busybox, Vm);
    let names: Vec<Value> =
        CAPABILITIES.split_whitespace().map(|name| json!(format!("CAP_{name}"))).collect();
    let every = format!("{:016x}", (1_u64 << names.len()) - 1);
    let bundle = Bundle::new("privileged")
        .edit(|config| {
            let process = &mut config["process"];
            process["noNewPrivileges"] = json!(false);
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                process["capabilities"][set] = json!(names);
            }
        })
        .shell("grep ^Cap /proc/self/status; ulimit -Hn 2048 && ulimit -Hn; mount -t tmpfs new /tmp && echo mounted");
    let output = run(&bundle);
    let sets = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}:\t{every}\n")).concat();
    assert_eq!(output.success().stdout, format!("{sets}2048\nmounted\n"));
}
