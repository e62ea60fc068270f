//! A real distribution in a container: Debian's own programs behave as they do on a host.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use tests::{Bundle, Output, Runtime, debian, needs};

/// What Docker gives a container, less what only devices and raw sockets need: apt, dpkg and su change owners and users.
const CAPS: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Runs a shell script in a fresh layer over Debian.
fn debian(name: &str, script: &str) -> Output {
    let bundle = Bundle::over(&debian::rootfs(), name)
        .edit(|config| config["process"]["noNewPrivileges"] = false.into())
        .mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"])
        .args(&["/bin/sh", "-euc", script]);
    let bundle = CAPS.iter().fold(bundle, |bundle, cap| bundle.cap(cap));
    bundle.container(&Runtime::under_test()).run()
}

#[test]
fn root_debian_runs_python() {
    needs!(Root, Debian);
    let output = debian(
        "python",
        r"exec python3 -c 'import os, json; print(json.dumps([os.getpid(), os.uname().nodename]))'",
    );
    assert_eq!(output.success().stdout, "[1, \"cofferdam\"]\n");
}

#[test]
fn root_debian_serves_on_loopback_in_a_network_of_its_own() {
    needs!(Root, Debian);
    // The server prints a line once it listens: that is the event to wait for.
    let script = r#"
        ip -o -4 address show | awk '{print $2, $4}'
        mkdir /tmp/www && echo hello from the server > /tmp/www/index.html
        mkfifo /tmp/up
        python3 -u -m http.server --bind 127.0.0.1 --directory /tmp/www 8000 > /tmp/up 2> /tmp/log &
        server=$!
        exec 3< /tmp/up
        read -r line <&3
        python3 -c 'import urllib.request as web; print(web.urlopen("http://127.0.0.1:8000/").read().decode(), end="")'
        kill "$server"
        wait "$server" || true
    "#;
    assert_eq!(debian("server", script).success().stdout, "lo 127.0.0.1/8\nhello from the server\n");
}

#[test]
fn root_debian_installs_a_package() {
    needs!(Root, Debian);
    let script = r"
        apt-get --version | head -n 1 | cut -d ' ' -f 1
        apt list --installed 2> /tmp/warnings | grep -c ^apt/
        mkdir -p /tmp/hello/DEBIAN /tmp/hello/usr/share/hello
        printf 'Package: hello-cofferdam\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a test\n' \
            > /tmp/hello/DEBIAN/control
        printf '#!/bin/sh\necho configured by $(id -u) > /var/lib/hello-configured\n' > /tmp/hello/DEBIAN/postinst
        chmod 755 /tmp/hello/DEBIAN/postinst
        echo payload > /tmp/hello/usr/share/hello/file
        dpkg-deb --root-owner-group --build /tmp/hello /tmp/hello.deb > /tmp/log
        chmod 644 /tmp/hello.deb
        DEBIAN_FRONTEND=noninteractive apt-get install --yes /tmp/hello.deb > /tmp/log 2>&1 || { cat /tmp/log; exit 1; }
        cat /usr/share/hello/file /var/lib/hello-configured
        dpkg -s hello-cofferdam | grep ^Status
        apt-get remove --yes hello-cofferdam > /tmp/log 2>&1
        test ! -e /usr/share/hello/file
    ";
    let expected = "apt\n1\npayload\nconfigured by 0\nStatus: install ok installed\n";
    assert_eq!(debian("apt", script).success().stdout, expected);
    // It was written into the layer, and the cache is as it was.
    assert!(!debian::rootfs().join("var/lib/hello-configured").exists());
}

#[test]
fn root_debian_changes_users() {
    needs!(Root, Debian);
    let script = r#"
        su nobody -s /bin/sh -c 'id -un; id -gn; cat /etc/shadow 2>&1 | grep -c "Permission denied"'
        su root -c 'id -u'
    "#;
    assert_eq!(debian("su", script).success().stdout, "nobody\nnogroup\n1\n0\n");
}

#[test]
fn root_debian_builds_with_many_processes() {
    needs!(Root, Debian);
    let bundle = Bundle::over(&debian::rootfs(), "build")
        .mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"])
        .args(&["/bin/sh", "-euc", "make -s -j8 -f /makefile && ls /tmp/out | wc -l && cat /tmp/sum"]);
    // Each job forks a pipeline of its own: some three thousand processes in all.
    let makefile = "\
        JOBS := $(shell seq 500)\n\
        /tmp/sum: $(JOBS:%=/tmp/out/%)\n\tcat $^ | awk '{sum += $$1} END {print sum}' > $@\n\
        /tmp/out/%: | /tmp/out\n\techo $* | cat | tr 0-9 0-9 | cat > $@\n\
        /tmp/out:\n\tmkdir $@\n";
    fs::write(bundle.dir().join("upper/makefile"), makefile).expect("write the makefile");
    let output = bundle.container(&Runtime::under_test()).run();
    assert_eq!(output.success().stdout, "500\n125250\n");
}
